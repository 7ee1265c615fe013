#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Checks this project on a GPU and times it, within ten minutes:
#   bash tools/misc/check_cuda.sh [OUT] [OPTIONS of check_cuda.py]
# OUT (default work_dirs/check_cuda) gets a log and figures of every step, and
# summary.txt. Uses the active environment (or PYTHON). Settings:
#   WHEELS      folder of wheels, installed into OUT/site; nothing is built
#   SDISTS      folder with mmcv-2.1.0.tar.gz, to build it without a network
#   PUBLISHED   checkout of the published code, timed in turn
#   BUDGET      seconds of the checks in all (default 480); what does not fit
#               is listed as not run
#   CHECKOUT    another checkout of this project, timed in turn
#   DEVICE      default cuda; with cpu nothing is built or installed
# TORCH_CUDA_ARCH_LIST, CUDA_HOME and MAX_JOBS as in docs/cuda.md.
set -euo pipefail
mmcv_version=2.1.0
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=${1:-work_dirs/check_cuda}
shift $(($# > 0))
device=${DEVICE:-cuda}
mkdir -p "$out"

fail() {
    printf 'check failed: %s\n' "$*" >&2
    exit 1
}

if [ -z "${PYTHON:-}" ]; then
    if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x .venv/bin/python ]; then
        PYTHON=.venv/bin/python
    else
        PYTHON=python3
    fi
fi
check() {
    "$PYTHON" tools/misc/check_cuda.py "$out" --device "$device" \
        ${CHECKOUT:+--checkout "$CHECKOUT"} \
        ${PUBLISHED:+--published "$PUBLISHED"} \
        ${BUDGET:+--budget "$BUDGET"} "$@"
}
if [ "$device" = cpu ]; then
    check "$@"
    exit
fi

offline=()
if [ -n "${SDISTS:-}" ]; then
    [ -d "$SDISTS" ] || fail "SDISTS=$SDISTS is not a folder."
    offline=(--no-index --find-links "$SDISTS")
fi
if [ -n "${WHEELS:-}" ]; then
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --upgrade \
        --target "$out/site" "$WHEELS"/*.whl ||
        fail "the wheels in $WHEELS do not fit $("$PYTHON" --version)."
    PYTHONPATH=$(cd "$out/site" && pwd)${PYTHONPATH:+:$PYTHONPATH}
    export PYTHONPATH
fi

command -v nvidia-smi >/dev/null || fail 'nvidia-smi was not found; this' \
    'machine has no NVIDIA driver.'
gpu=$(nvidia-smi --query-gpu=name,compute_cap,driver_version \
    --format=csv,noheader | head -n 1)
torch=$("$PYTHON" -c 'import torch
assert torch.cuda.is_available(), torch.__version__
print(torch.__version__, "with CUDA", torch.version.cuda)') ||
    fail "$PYTHON has no torch that sees the GPU ($gpu)."

# Does the compiled operator run on the GPU?
operator_works() {
    "$PYTHON" - <<'PY' 2>/dev/null
import torch
from mmcv.ops import MultiScaleDeformableAttention as Attention

module = Attention(32, 4, 1, 2).cuda()
module(
    torch.rand(4, 1, 32, device='cuda'),
    value=torch.rand(6, 1, 32, device='cuda'),
    reference_points=torch.rand(1, 4, 1, 2, device='cuda'),
    spatial_shapes=torch.tensor([[2, 3]], device='cuda'),
    level_start_index=torch.tensor([0], device='cuda'),
).sum().backward()
torch.cuda.synchronize()
PY
}

built='was there'
if ! operator_works; then
    nvcc=$(command -v nvcc || echo "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc")
    [ -x "$nvcc" ] || fail 'nvcc was not found; install the CUDA toolkit of' \
        "torch ($torch) and set CUDA_HOME."
    arch=${TORCH_CUDA_ARCH_LIST:-$("$PYTHON" -c 'import torch
print("%d.%d" % torch.cuda.get_device_capability())')}
    echo "building mmcv $mmcv_version for $arch with $("$nvcc" --version |
        sed -n 's/.*release \([0-9.]*\).*/CUDA \1/p') ..."
    began=$SECONDS
    "$PYTHON" -m pip install "${offline[@]+"${offline[@]}"}" \
        'setuptools<81' wheel ninja packaging ||
        fail 'the build tools could not be installed; pip says why above.'
    # the distribution without operators writes the same files
    "$PYTHON" -m pip uninstall -qy mmcv-lite
    TORCH_CUDA_ARCH_LIST=$arch FORCE_CUDA=1 MMCV_WITH_OPS=1 \
        CUDA_HOME=${CUDA_HOME:-$(dirname "$(dirname "$nvcc")")} \
        "$PYTHON" -m pip install -v --no-build-isolation --no-cache-dir \
        --force-reinstall --no-deps "${offline[@]+"${offline[@]}"}" \
        "mmcv==$mmcv_version" ||
        fail 'mmcv did not build; the compiler says why above.'
    built="built in $((SECONDS - began)) s"
    operator_works || fail 'mmcv was built, but its operator does not run on' \
        'the GPU; was it built for another compute capability?'
fi

printf 'GPU:   %s\ntorch: %s\nmmcv:  %s, CUDA operators work (%s)\n' \
    "$gpu" "$torch" "$("$PYTHON" -c 'import mmcv; print(mmcv.__version__)')" \
    "$built" | tee "$out/machine.txt"
check "$@"
