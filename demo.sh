#!/usr/bin/env bash
# Builds moxie and lets its demo model answer: ./demo.sh ["a question of your own"]
#
# Installs what is missing, builds build/release/moxie, asks the small gpt-oss in models/demo three
# questions and lets it call a tool.
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
ask() {
  printf '\n$ moxie run "%s"%s\n' "$1" "${2:+ ${*:2}}"
  $moxie run demo "$1" --reasoning show "${@:2}"
}

step="asking the demo model"
if [ $# -gt 0 ]; then
  ask "$1"
  exit
fi
cat <<'TEXT'

moxie is built. Its demo model answers now: the architecture, the file format and the chat format of
gpt-oss-20b in 17 million parameters. First comes what it thinks, then what it says.
TEXT
ask "What is 347 + 58?"
ask "How many r's are in strawberry?"
ask "What is 37 * 24?" --effort high

step="letting the demo model call a tool"
cat <<'TEXT'

Told of a tool (models/demo/tools.json), it calls it; the line behind the call is what the tool gave back.

$ moxie chat --tools models/demo/tools.json
TEXT
printf '%s\n' "What is the weather in Oslo?" '{"temperature": 7, "sky": "rainy"}' |
  $moxie chat demo --echo --tools models/demo/tools.json --reasoning show
cat <<TEXT

Try next:
  $moxie chat                            talk with the demo model; /reset after a dozen questions
  $moxie chat openai/gpt-oss-20b         a real model, from your Hugging Face cache or a folder:
                                                        hf download openai/gpt-oss-20b
  $moxie doctor                          what this machine has and what moxie will use
  $moxie bench --like 20b --layers 6     how fast gpt-oss-20b's shapes run here
TEXT
