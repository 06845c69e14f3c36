#!/usr/bin/env bash
# A real model behind Weir: starts serve.sh's llama.cpp server and `weir serve` in front of it, and ends both together. Usage: run.sh [DIR]
set -euo pipefail
here=$(dirname "$0")
dir=${1:-.model}
export MODEL_PORT=${MODEL_PORT:-9101} WEIR_PORT=${WEIR_PORT:-8080} WEIR_ADMIN_PORT=${WEIR_ADMIN_PORT:-8081}
weir=${WEIR:-.venv/bin/weir}

children=()
finish() {
  trap - EXIT INT TERM
  for child in "${children[@]}"; do kill -TERM "$child" 2>/dev/null || true; done
  wait
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$here/serve.sh" "$MODEL_PORT" "$dir" >"$dir/server.log" 2>&1 &
children+=($!)
for _ in $(seq 100); do
  "$(dirname "$weir")/python" -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$MODEL_PORT/health', timeout=1)" 2>/dev/null && break
  kill -0 "${children[0]}" 2>/dev/null || { echo "the model server ended; its log is $dir/server.log" >&2; tail -n 3 "$dir/server.log" >&2; exit 1; }
  sleep 0.2
done

"$weir" serve -c "$here/routes.yaml" --port "$WEIR_PORT" --admin-port "$WEIR_ADMIN_PORT" &
children+=($!)
echo "base_url http://127.0.0.1:$WEIR_PORT/v1   model smollm2-135m   (llama.cpp on 127.0.0.1:$MODEL_PORT, its log in $dir/server.log)"
wait -n || true
