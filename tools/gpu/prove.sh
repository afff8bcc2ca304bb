#!/usr/bin/env bash
# The whole proof on a GPU, in one call of at most nine minutes. Needs no network.
#
#     bash tools/gpu/prove.sh --out DIR [--wheels DIR] [--only speed,memory] [--earlier DIR]
#     bash tools/gpu/prove.sh --out DIR --device cpu --tiny       # anywhere, in a few minutes
#
# --wheels is a folder that tools/gpu/bundle.sh made, for a Python that lacks packages; all other
# options are those of tools.gpu.prove, which says what the stages are. PYTHON names the interpreter.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PYTHON=${PYTHON:-python3}
wheels='' arguments=()
while (($#)); do
    case $1 in
    --wheels)
        if (($# < 2)) || ! compgen -G "$2/*.whl" >/dev/null; then
            echo "error: --wheels ${2-}: expected a folder that tools/gpu/bundle.sh made" >&2
            exit 2
        fi
        wheels=$2
        shift 2
        ;;
    *)
        arguments+=("$1")
        shift
        ;;
    esac
done

export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
if [[ -n $wheels ]]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$PYTHON" -m pip install --disable-pip-version-check --quiet --no-index --no-deps --no-compile \
        --target "$site" "$wheels"/*.whl
    export PYTHONPATH="$root:$site${PYTHONPATH#"$root"}"
fi
export PYTHONUNBUFFERED=1
"$PYTHON" -m tools.gpu.prove "${arguments[@]}"
