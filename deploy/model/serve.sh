#!/usr/bin/env bash
# Runs the llama.cpp server that build.sh made, on 127.0.0.1:PORT, in the foreground. Usage: serve.sh PORT [DIR]   (default .model)
# Two slots: two streams run side by side, a third waits for a free slot, which is a real queue to see in Weir's time to first token.
set -euo pipefail
port=${1:?usage: serve.sh PORT [DIR]}
dir=${2:-.model}
[ -x "$dir/bin/llama-server" ] && [ -s "$dir/model.gguf" ] || { echo "no model in $dir: run 'make model' first" >&2; exit 1; }
dir=$(cd "$dir" && pwd)
export LD_LIBRARY_PATH="$dir/bin"
exec "$dir/bin/llama-server" -m "$dir/model.gguf" --host 127.0.0.1 --port "$port" --device none -c 4096 -np 2 -t 2 --metrics --slots --alias smollm2-135m
