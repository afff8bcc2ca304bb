# Sourced by the scripts here: a temporary folder with pinned packages, and a comparison.
#
#   packages NAME==VERSION...   installs them into an environment of its own, removed at the end
#   expect PROGRAM OUTPUT       runs a Python program there; fails where it prints anything else
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

packages() {
    "${PYTHON:-python3}" -m venv env
    env/bin/python -m pip install --quiet --disable-pip-version-check "$@"
    echo "with: $*"
}

expect() {
    local found
    printf '%s\n' "$1" >program.py
    found=$(OMP_NUM_THREADS=1 env/bin/python program.py 2>errors) || { cat errors >&2; exit 1; }
    if [[ $found != "$2" ]]; then
        printf 'changed. Expected:\n%s\nfound:\n%s\n' "$2" "$found" >&2
        exit 1
    fi
    printf 'as before:\n%s\n' "$found"
}
