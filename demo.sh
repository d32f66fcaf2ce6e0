#!/usr/bin/env bash
# Builds moxie and lets a gpt-oss model write: ./demo.sh ["a prompt"]
#
# Installs what is missing, builds build/release/moxie, makes a tiny random model once and runs it.
set -euo pipefail
cd "$(dirname "$0")"
step=starting
trap 'code=$?; [ $code = 0 ] || echo "demo.sh: failed while $step; the lines above say why." >&2' EXIT

step="installing packages"
tools/install-packages build

step="configuring the build"
mkdir -p build
[ -f build/release/build.ninja ] || cmake --preset release >build/release-configure.log 2>&1 || {
  cat build/release-configure.log
  exit 1
}

step="building moxie"
cmake --build --preset release

moxie=build/release/moxie
model=build/demo-model
step="making the tiny model"
[ -f $model/config.json ] || $moxie synth $model --like tiny --seed 1

step="running the model"
cat <<'TEXT'

moxie is built. A tiny gpt-oss with random weights writes now: the real architecture and file
format, about a million parameters, no training. Its words mean nothing.

TEXT
$moxie run $model "${1:-What is 2 + 2?}" --max-tokens 64 --seed 7
cat <<TEXT

Try next:
  $moxie doctor                          what this machine has and what moxie will use
  $moxie bench --like 20b --layers 6     how fast gpt-oss-20b's shapes run here
  $moxie chat openai/gpt-oss-20b         a real model, from your Hugging Face cache or a folder
TEXT
