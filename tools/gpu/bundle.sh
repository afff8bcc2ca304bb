#!/usr/bin/env bash
# A folder of wheels that lets this repository run on a GPU machine without a network.
#
#     bash tools/gpu/bundle.sh [--out wheels] [--python 3.12] [--machine x86_64]
#
# That machine is expected to have what images for GPUs bring: Python, torch with CUDA, numpy, numba,
# transformers and the like (PRESENT). What they lack (LACKING) is fetched here for its version of
# Python, in the versions of constraints.txt; what there is only as source is built here, without
# CUDA and so as plain Python. There:
#
#     python3 -m pip install --no-index --no-deps --target site wheels/*.whl
#     PYTHONPATH=site python3 pretrain/main.py ...
#
# PYTHON names the interpreter whose pip is used here; its own version does not matter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

out=wheels python=3.12 machine=$(uname -m)
while (($#)); do
    if (($# < 2)); then
        echo "error: $1: expected a value" >&2
        exit 2
    fi
    case $1 in
    --out) out=$2 ;;
    --python) python=$2 ;;
    --machine) machine=$2 ;;
    *)
        echo "error: $1: expected --out DIR, --python 3.12 or --machine x86_64" >&2
        exit 2
        ;;
    esac
    shift 2
done

# Wheels of these are on the index; those that are compiled are taken for the other machine.
LACKING=(annotated-types defusedxml hjson megatron-core nltk pydantic pydantic-core
    pydantic-settings python-dotenv sentencepiece sentencex typing-extensions typing-inspection tzdata)
# These come as source, or their wheels are made for one version of torch; both are plain Python.
SOURCE=(deepspeed rouge-score)
PRESENT=(absl-py click einops joblib matplotlib mpi4py msgpack ninja numba numpy packaging psutil
    py-cpuinfo pyyaml regex rich safetensors six tensorboard torch tqdm)

PYTHON=${PYTHON:-python3}
pip() { "$PYTHON" -m pip --disable-pip-version-check "$@"; }
pinned() {
    local version
    version=$(sed -n "s/^${1//[-_]/[-_]}==//Ip" constraints.txt)
    [[ -n $version ]] || { echo "error: constraints.txt has no version of $1" >&2; exit 1; }
    echo "$1==$version"
}

platforms=()
for tag in 2_34 2_31 2_28 2_27 2_26 2_24 2_17 2_12 2_5; do
    platforms+=(--platform "manylinux_${tag}_$machine")
done
for tag in manylinux2014 manylinux2010 manylinux1; do platforms+=(--platform "${tag}_$machine"); done

rm -rf "$out.part"
mkdir -p "$out.part"
failed=()
for name in "${LACKING[@]}"; do
    pip download --quiet --no-deps --only-binary=:all: --python-version "$python" \
        --implementation cp "${platforms[@]}" --dest "$out.part" "$(pinned "$name")" ||
        failed+=("$name")
done
# In an environment of its own, where there is no torch and so nothing to compile against.
for name in "${SOURCE[@]}"; do
    env -u CUDA_HOME DS_BUILD_OPS=0 DS_ACCELERATOR=cpu \
        "$PYTHON" -m pip --disable-pip-version-check wheel --quiet --no-deps \
        --wheel-dir "$out.part" "$(pinned "$name")" || failed+=("$name")
done
if ((${#failed[@]})); then
    echo "error: no wheel for Python $python on $machine of: ${failed[*]}" >&2
    rm -rf "$out.part"
    exit 1
fi
if ! "$PYTHON" tools/gpu/wheels.py "$out.part" --python "$python" --present "${PRESENT[@]}"; then
    rm -rf "$out.part"
    exit 1
fi
rm -rf "$out"
mv "$out.part" "$out"
echo "written to $out: $(find "$out" -name '*.whl' | wc -l) wheels, $(du -sh "$out" | cut -f1)"
