#!/usr/bin/env bash
# Builds moxie with its tests and runs them: ./test.sh [--with-transformers] [--preset NAME]
#
# Installs what is missing (Debian packages; Python packages into .venv). Prints at the end what
# passed, failed and was skipped, each skipped test by name.
#
#   --with-transformers  also compare live with PyTorch and transformers (installs both into .venv)
#   --preset NAME        build and run the C++ tests of another CMake preset only: clang, asan, tsan
set -euo pipefail
cd "$(dirname "$0")"

preset=dev transformers=no everything=yes
while [ $# -gt 0 ]; do
  case $1 in
    --with-transformers) transformers=yes ;;
    --preset) preset=${2:?--preset needs a name}; everything=no; shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "test.sh: unknown argument '$1'; ./test.sh --help lists them" >&2; exit 2 ;;
  esac
  shift
done

step=starting
trap 'code=$?; [ $code = 0 ] || echo "test.sh: failed while $step; the lines above say why." >&2' EXIT

step="installing packages"
groups="build test"
case $preset in clang | asan) groups="$groups ci" ;; esac
tools/install-packages $groups

step="configuring the build"
mkdir -p build
[ -f "build/$preset/build.ninja" ] || cmake --preset "$preset" >"build/$preset-configure.log" 2>&1 || {
  cat "build/$preset-configure.log"
  exit 1
}
step="building the tests"
cmake --build --preset "$preset"

step="running the tests"
exec python3 tools/run-tests --preset "$preset" \
  $([ $everything = yes ] && echo --oracles --checks) $([ $transformers = yes ] && echo --with-transformers)
