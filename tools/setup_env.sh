#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Makes .venv with everything this project needs. Sourced by run_tests.sh and
# quickstart.sh; `bash tools/setup_env.sh` does the set-up alone. A compiler is
# needed only for the operators of mmcv, and these only where CUDA is used.
#
# Environment variables:
#   PYTHON           interpreter to build on (default: the first of python3.11,
#                    3.12, 3.13, 3.10, python3 that is 3.10 or newer)
#   VENV             where the environment goes (default: .venv)
#   TORCH_SPEC       what pip installs as torch (default: torch==2.13.0)
#   TORCH_INDEX      index for torch alone, for example
#                    https://download.pytorch.org/whl/cpu
#   MMCV_WITH_OPS    1: compile the operators, 0: do not (default: compile for
#                    a CUDA torch on a machine with a GPU and nvcc)
#   MAX_JOBS         compilers at the same time (default: all cores)
# pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, PIP_NO_INDEX ...) hold.

SETUP_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${VENV:-$SETUP_ROOT/.venv}
TORCH_SPEC=${TORCH_SPEC:-torch==2.13.0}
MMCV_SPEC=mmcv==2.1.0
TIMM_SPEC=timm==1.0.31
SETUP_LOG=$VENV/setup.log
NEEDED_GIB=4
setup_child=''

setup_fail() { # one sentence on stderr, then the end
    printf '\nset-up failed: %s\n' "$*" >&2
    exit 1
}

setup_interrupted() { # stop the children too, so that nothing runs on alone
    trap - INT TERM
    if [ -n "$setup_child" ]; then
        kill -TERM -- "-$setup_child" 2>/dev/null || true
        { wait "$setup_child"; } 2>/dev/null || true
    fi
    printf '\nset-up interrupted; the same command continues it\n' >&2
    exit 130
}

# Runs a command with its output in the log and tells, as "$1", how long it
# takes. Job control gives the command a process group of its own, which an
# interruption can end as a whole.
setup_run() {
    local label=$1 status=0 began=$SECONDS
    shift
    printf '\n$ %s\n' "$*" >>"$SETUP_LOG"
    set -m
    "$@" >>"$SETUP_LOG" 2>&1 </dev/null &
    setup_child=$!
    set +m
    printf '%s ...\n' "$label"
    while kill -0 "$setup_child" 2>/dev/null; do
        sleep 0.2
        if [ $(((SECONDS - began) / 60)) -gt "${minutes:=0}" ]; then
            minutes=$(((SECONDS - began) / 60))
            printf '%s ... %d min\n' "$label" "$minutes"
        fi
    done
    minutes=0
    wait "$setup_child" || status=$?
    setup_child=''
    [ "$status" != 0 ] || printf '%s: %d s\n' "$label" $((SECONDS - began))
    return "$status"
}

setup_pip() { # label, arguments of pip; tells the causes of failure apart
    local label=$1 mark what
    shift
    mark=$(wc -l <"$SETUP_LOG")
    if setup_run "$label" "$VENV/bin/python" -m pip --retries 2 \
        --disable-pip-version-check "$@"; then
        return 0
    fi
    what=$(tail -n +"$((mark + 1))" "$SETUP_LOG")
    case $what in
    *'No space left on device'*)
        what="the disk is full; free about $NEEDED_GIB GiB and run the same"
        what+=' command again.' ;;
    *'NewConnectionError'* | *'Failed to establish a new connection'* | \
        *'ProxyError'* | *'Network is unreachable'* | *'SSLError'* | \
        *'ConnectTimeoutError'* | *'Could not fetch URL'*)
        what='pip cannot reach its package index; check the network or point'
        what+=" PIP_INDEX_URL to a mirror. Log: $SETUP_LOG" ;;
    *'No matching distribution found'*)
        what="$(grep -m1 -o 'No matching distribution found.*' <<<"$what") on"
        what+=" the package index (no network, or no wheel for this Python)."
        what+=" Log: $SETUP_LOG" ;;
    *[Kk]'illed'*)
        what='the compiler was killed, most likely for lack of memory; run'
        what+=' again with MAX_JOBS=1.' ;;
    *) what="the log says why: $SETUP_LOG" ;;
    esac
    setup_fail "$label: $what"
}

setup_find_python() { # sets PYTHON
    local name names=(python3.11 python3.12 python3.13 python3.10 python3)
    for name in "${PYTHON:-}" "${names[@]}"; do
        if [ -n "$name" ] && "$name" -c 'import ensurepip, sys, venv
sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            PYTHON=$name
            return
        fi
        [ -z "${PYTHON:-}" ] || setup_fail "PYTHON=$PYTHON is" \
            "$("$PYTHON" -V 2>&1 || true); Python 3.10 or newer with the" \
            'venv module is needed.'
    done
    setup_fail 'no Python 3.10 or newer with the venv module was found;' \
        'install one (Debian: apt install python3 python3-venv) or name it' \
        'with PYTHON=/path/to/python.'
}

setup_check_disk() {
    local have
    have=$(df -Pk "$SETUP_ROOT" | awk 'NR == 2 {print int($4 / 1048576)}')
    [ "$have" -ge "$NEEDED_GIB" ] ||
        setup_fail "$SETUP_ROOT has $have GiB free and the set-up needs" \
            "about $NEEDED_GIB GiB; free some space or clone elsewhere."
}

setup_wants_operators() { # are the compiled operators of mmcv to be built?
    [ -z "${MMCV_WITH_OPS:-}" ] || { [ "$MMCV_WITH_OPS" = 1 ]; return; }
    "$VENV/bin/python" -c 'import sys, torch
sys.exit(not torch.cuda.is_available())' >>"$SETUP_LOG" 2>&1 || return
    setup_has_nvcc || {
        echo 'a GPU is here but no nvcc: mmcv gets no compiled operators, and'
        echo 'a slower path of PyTorch is used (docs/cuda.md)'
        return 1
    }
}

setup_has_nvcc() {
    command -v nvcc >/dev/null ||
        [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]
}

setup_check_compiler() {
    local header
    command -v "${CXX:-g++}" >/dev/null ||
        setup_fail "no C++ compiler (${CXX:-g++}) to build mmcv's operators" \
            'with; install one (Debian: apt install g++), or do without them' \
            'with MMCV_WITH_OPS=0.'
    header=$("$VENV/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [ -f "$header" ] ||
        setup_fail "the Python headers are missing ($header); install them" \
            '(Debian: apt install python3-dev), or do without compiled' \
            'operators with MMCV_WITH_OPS=0.'
}

# Compiles mmcv in .cache: the folder outlives an interruption, and ninja then
# compiles only what is missing.
setup_build_mmcv() {
    local source=$SETUP_ROOT/.cache/mmcv cuda=0
    setup_check_compiler
    if setup_has_nvcc && "$VENV/bin/python" -c 'import sys, torch
sys.exit(not torch.version.cuda)'; then
        cuda=1
    fi
    export MMCV_WITH_OPS=1 FORCE_CUDA=$cuda MAX_JOBS=${MAX_JOBS:-$(nproc)}
    setup_pip 'build tools' install 'setuptools<81' wheel ninja packaging numpy
    if [ ! -f "$source/setup.py" ]; then
        rm -rf "$source" && mkdir -p "$source.part"
        setup_pip 'source of mmcv' download --no-deps --no-binary mmcv \
            --no-build-isolation --dest "$source.part" "$MMCV_SPEC"
        tar -xzf "$source".part/mmcv-*.tar.gz -C "$source.part" \
            --strip-components=1 && mv "$source.part" "$source"
    fi
    # without --use-pep517, pip removes what was compiled after a failure
    PATH=$VENV/bin:$PATH setup_pip 'mmcv with compiled operators' install \
        --use-pep517 --no-build-isolation --no-deps "$source"
    rm -rf "$source"
}

setup_stamp() { # everything that would make the environment another one
    printf '%s\n' "$SETUP_ROOT" "${PYTHON:-}" "$TORCH_SPEC" \
        "${TORCH_INDEX:-}" "${MMCV_WITH_OPS:-}"
    cat "$SETUP_ROOT"/tools/setup_env.sh "$SETUP_ROOT"/setup.py \
        "$SETUP_ROOT"/requirements/*.txt
}

setup_environment() {
    local began=$SECONDS stamp wanted options=()
    stamp=$VENV/setup.stamp
    wanted=$(setup_stamp)
    if [ -x "$VENV/bin/python" ] && [ "$wanted" = "$(cat "$stamp" \
        2>/dev/null)" ]; then
        echo "set-up: $VENV is ready"
        return
    fi
    trap setup_interrupted INT TERM
    setup_find_python
    setup_check_disk
    # A torch of this Python that sees a GPU is used as it is.
    if "$PYTHON" -c 'import sys, torch
sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1; then
        options+=(--system-site-packages)
    fi
    # An unfinished environment is continued, one of another Python replaced.
    if [ "$("$VENV/bin/python" -V 2>&1)" != "$("$PYTHON" -V 2>&1)" ] ||
        ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        "$PYTHON" -m venv --clear ${options[@]+"${options[@]}"} "$VENV" ||
            setup_fail "$PYTHON could not make an environment in $VENV" \
                '(Debian: apt install python3-venv).'
    fi
    rm -f "$stamp"
    : >"$SETUP_LOG"
    if [ ${#options[@]} = 0 ]; then
        setup_pip torch install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
            "$TORCH_SPEC"
    fi
    if setup_wants_operators; then
        "$VENV/bin/python" -m pip uninstall -qy mmcv-lite >>"$SETUP_LOG" 2>&1
        "$VENV/bin/python" -c 'import torch, mmcv._ext' >>"$SETUP_LOG" 2>&1 ||
            setup_build_mmcv
    fi
    setup_pip 'this package and what it needs' install -e "$SETUP_ROOT[tests]"
    # pip would bring torchvision, which exists for one version of torch each.
    setup_pip timm install --no-deps "$TIMM_SPEC"
    # mmengine asks for opencv-python, which needs graphics libraries that a
    # server may lack; the headless build holds the same module.
    if ! "$VENV/bin/python" -c 'import cv2' >>"$SETUP_LOG" 2>&1; then
        setup_pip 'OpenCV without graphics' install --no-deps \
            --force-reinstall opencv-python-headless
    fi
    setup_run 'check of the imports' "$VENV/bin/python" -c \
        'import referformer.registry, mmdet.models, transformers' ||
        setup_fail 'the installed packages do not import; the log says why:' \
            "$SETUP_LOG"
    trap - INT TERM
    printf '%s\n' "$wanted" >"$stamp"
    printf 'set-up: %d s in all\n' $((SECONDS - began))
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    setup_environment
fi
