#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Makes .venv with everything this project needs. Sourced by run_tests.sh and
# quickstart.sh; `bash tools/setup_env.sh` does the set-up alone.
#
# Environment variables:
#   PYTHON                    interpreter to build on (default: the first of
#                             python3.11 ... python3.10, python3 that is 3.10+)
#   VENV                      where the environment goes (default: .venv)
#   TORCH_SPEC                what pip installs as torch (default torch==2.13.0)
#   TORCH_INDEX               index for torch alone, for example
#                             https://download.pytorch.org/whl/cpu
#   REFERFORMER_CPU=1         do without CUDA although a GPU is there
#   REFERFORMER_NO_WHEEL_CACHE=1  neither read nor write the cache of built
#                             mmcv wheels (~/.cache/referformer/wheels)
#   REFERFORMER_FORCE_SETUP=1 check every step again
#   MAX_JOBS                  compilers at the same time (default: all cores)
# pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, PIP_NO_INDEX ...) hold.

SETUP_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${VENV:-$SETUP_ROOT/.venv}
TORCH_SPEC=${TORCH_SPEC:-torch==2.13.0}
MMENGINE_SPEC=mmengine==0.10.7
MMCV_VERSION=2.1.0
MMDET_SPEC=mmdet==3.3.0
SETUP_STEPS=9
SETUP_LOG=$VENV/setup.log
NEEDED_GIB=6

setup_step=0
setup_child=''
mmcv_seconds=0

setup_fail() { # one sentence on stderr, then the end
    printf '\nset-up failed: %s\n' "$*" >&2
    exit 1
}

setup_begin() { # label of the next step
    setup_step=$((setup_step + 1))
    setup_label="[$setup_step/$SETUP_STEPS] $1"
    setup_started=$SECONDS
    if [ -t 1 ]; then printf '%s ...' "$setup_label"; fi
}

setup_progress() { # text shown behind the label while a step runs
    local elapsed=$((SECONDS - setup_started))
    if [ -t 1 ]; then
        printf '\r\033[K%s ... %s%d s' "$setup_label" "${1:+$1, }" "$elapsed"
    elif [ $((elapsed - ${setup_told:-0})) -ge 30 ]; then
        printf '%s ... %s%d s\n' "$setup_label" "${1:+$1, }" "$elapsed"
        setup_told=$elapsed
    fi
}

setup_end() { # optional remark
    [ -t 1 ] && printf '\r\033[K'
    printf '%s%s  %d s\n' "$setup_label" "${1:+: $1}" \
        $((SECONDS - setup_started))
    setup_told=0
}

setup_interrupted() { # stop the compilers too, so that nothing runs on alone
    trap - INT TERM
    if [ -n "$setup_child" ]; then
        kill -TERM -- "-$setup_child" 2>/dev/null || true
        kill -CONT -- "-$setup_child" 2>/dev/null || true # if suspended
        { wait "$setup_child"; } 2>/dev/null || true
    fi
    printf '\nset-up interrupted; the same command continues it\n' >&2
    exit 130
}

# Runs a command with its output in the log. $1 names a function that prints
# the progress remark ('' for none). Job control gives the command a process
# group of its own, which an interruption can end as a whole.
setup_run() {
    local remark=$1 status=0
    shift
    printf '\n$ %s\n' "$*" >>"$SETUP_LOG"
    set -m
    "$@" >>"$SETUP_LOG" 2>&1 </dev/null &
    setup_child=$!
    set +m
    while kill -0 "$setup_child" 2>/dev/null; do
        setup_progress "${remark:+$($remark)}"
        sleep 1
    done
    wait "$setup_child" || status=$?
    setup_child=''
    return $status
}

setup_pip() { # pip, with the causes of failure people meet told apart
    local mark what
    mark=$(wc -l <"$SETUP_LOG")
    if setup_run '' "$VENV/bin/python" -m pip --disable-pip-version-check \
        --retries 2 "$@"; then
        return 0
    fi
    what=$(tail -n +"$((mark + 1))" "$SETUP_LOG")
    case $what in
    *'No space left on device'*)
        setup_fail "the disk is full while pip ran 'pip $*'; free about" \
            "$NEEDED_GIB GiB and run the same command again." ;;
    *'Failed to establish a new connection'* | *'name resolution'* | \
        *'NewConnectionError'* | *'ProxyError'* | *'Network is unreachable'* | \
        *'ConnectTimeoutError'* | *'SSLError'* | *'Could not fetch URL'*)
        setup_fail "pip cannot reach its package index (pip $*); check the" \
            "network or point PIP_INDEX_URL to a mirror. Log: $SETUP_LOG" ;;
    *'No matching distribution found'*)
        setup_fail "$(grep -m1 -o 'No matching distribution found.*' \
            <<<"$what") on the package index (no network, or no wheel for" \
            "this Python). Log: $SETUP_LOG" ;;
    *) setup_fail "'pip $*' ended with an error; the log says why:" \
        "$SETUP_LOG" ;;
    esac
}

setup_python_fits() { # is $1 a Python of at least 3.10 that can make a venv?
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' \
        >/dev/null 2>&1
}

setup_find_python() {
    local name
    if [ -n "${PYTHON:-}" ]; then
        command -v "$PYTHON" >/dev/null ||
            setup_fail "PYTHON=$PYTHON is not a program; name a Python 3.10+."
        setup_python_fits "$PYTHON" ||
            setup_fail "PYTHON=$PYTHON is $("$PYTHON" -V 2>&1); Python 3.10" \
                "or newer with the venv module is needed."
        return
    fi
    for name in python3.11 python3.12 python3.13 python3.10 python3 python; do
        if command -v "$name" >/dev/null && setup_python_fits "$name"; then
            PYTHON=$name
            return
        fi
    done
    setup_fail "no Python 3.10 or newer with the venv module was found;" \
        "install one (Debian: apt install python3 python3-venv python3-dev)" \
        "or name it with PYTHON=/path/to/python."
}

setup_check_disk() {
    local have
    [ ! -f "$VENV/mmcv-key" ] || return 0 # the large parts are there already
    have=$(df -Pk "$SETUP_ROOT" | awk 'NR == 2 {print int($4 / 1048576)}')
    [ "$have" -ge "$NEEDED_GIB" ] ||
        setup_fail "$SETUP_ROOT has $have GiB free and the set-up needs" \
            "about $NEEDED_GIB GiB; free some space or clone elsewhere."
}

setup_check_compiler() { # only asked when mmcv must be built
    local header
    command -v "${CXX:-g++}" >/dev/null ||
        setup_fail "no C++ compiler (${CXX:-g++}) to build mmcv's operators" \
            "with; install one (Debian: apt install g++)."
    header=$("$VENV/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [ -f "$header" ] ||
        setup_fail "the Python headers are missing ($header); install them" \
            "(Debian: apt install python3-dev)."
    if [ "$setup_device" = cuda ] && ! command -v nvcc >/dev/null &&
        [ ! -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]; then
        setup_fail "torch is a CUDA build but nvcc was not found to compile" \
            "mmcv's CUDA operators; install the CUDA toolkit and set" \
            "CUDA_HOME, or set REFERFORMER_CPU=1."
    fi
}

setup_stamp() { # everything that would make the environment another one
    printf '%s\n' "$SETUP_ROOT" "${PYTHON:-}" "$TORCH_SPEC" \
        "${TORCH_INDEX:-}" "${REFERFORMER_CPU:-}"
    cat "$SETUP_ROOT"/tools/setup_env.sh "$SETUP_ROOT"/setup.py \
        "$SETUP_ROOT"/requirements/*.txt
}

setup_torch_facts() { # sets setup_device, setup_key
    local facts
    facts=$("$VENV/bin/python" - <<'PY'
import platform, sys, sysconfig
import torch
device = 'cuda' if torch.version.cuda else 'cpu'
tag = f'cp{sys.version_info[0]}{sys.version_info[1]}'
if sysconfig.get_config_var('Py_GIL_DISABLED'):
    tag += 't'
print(device, f'{tag}-torch{torch.__version__}-{device}-'
      f'{sys.platform}-{platform.machine()}')
PY
    ) || setup_fail "torch was installed but cannot be imported;" \
        "run $VENV/bin/python -c 'import torch' to see why."
    setup_device=${facts%% *}
    setup_key=mmcv$MMCV_VERSION-${facts#* }
    [ -z "${REFERFORMER_CPU:-}" ] || setup_device=cpu
    if [ "$setup_device" = cuda ]; then
        setup_key+=-${TORCH_CUDA_ARCH_LIST:-native}
        setup_key=${setup_key//[; ]/_}
    else
        setup_key+=-cpuops
    fi
}

setup_cores() {
    getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2
}

setup_mmcv_counts() { # how far the build is: "83/187 files"
    local plan objects total
    plan=$(find "$setup_source/build" -name build.ninja 2>/dev/null | head -n1)
    [ -n "$plan" ] || { echo 'preparing'; return; }
    total=$(grep -c '^build .*\.o:' "$plan")
    objects=$(find "$setup_source/build" -name '*.o' | wc -l)
    echo "$objects/$total files compiled"
}

# Builds the wheel in .cache/<key>/. The folder outlives an interruption, and
# ninja compiles only what is missing.
setup_build_mmcv() {
    local place=$SETUP_ROOT/.cache/$setup_key archive
    mkdir -p "$place"
    if command -v flock >/dev/null; then
        exec 9>"$place/lock"
        flock -n 9 || setup_fail "another set-up is building mmcv in" \
            "$place; wait for it, then run the same command again."
    fi
    setup_source=$place/mmcv-$MMCV_VERSION
    if [ ! -f "$setup_source/setup.py" ]; then
        setup_pip download --no-deps --no-binary mmcv --no-build-isolation \
            --dest "$place" "mmcv==$MMCV_VERSION"
        archive=$place/mmcv-$MMCV_VERSION.tar.gz
        rm -rf "$place/unpack" && mkdir "$place/unpack"
        tar -xzf "$archive" -C "$place/unpack" ||
            setup_fail "$archive is damaged; delete it and run again."
        mv "$place/unpack/mmcv-$MMCV_VERSION" "$setup_source"
        rmdir "$place/unpack"
    fi
    local -a flags=(MMCV_WITH_OPS=1 "MAX_JOBS=${MAX_JOBS:-$(setup_cores)}")
    if [ "$setup_device" = cuda ]; then
        flags+=(FORCE_CUDA=1)
    else
        flags+=(FORCE_CUDA=0)
    fi
    rm -rf "$setup_source/dist"
    setup_run setup_mmcv_counts env "${flags[@]}" "PATH=$VENV/bin:$PATH" \
        bash -c 'cd "$0" && exec python setup.py -q bdist_wheel' \
        "$setup_source" ||
        setup_fail "$(setup_explain_build)"
    setup_wheel=$(echo "$setup_source"/dist/mmcv-*.whl)
    [ -f "$setup_wheel" ] ||
        setup_fail "mmcv's build ended without a wheel; log: $SETUP_LOG"
}

setup_explain_build() {
    if tail -n 400 "$SETUP_LOG" | grep -q 'No space left on device'; then
        echo "the disk ran full while mmcv was compiled; free some space" \
            "and run the same command again."
    elif tail -n 400 "$SETUP_LOG" | grep -qi 'killed'; then
        echo "the compiler was killed, most likely for lack of memory; run" \
            "again with MAX_JOBS=1."
    else
        echo "mmcv did not compile; the log says why: $SETUP_LOG"
    fi
}

setup_mmcv() {
    local started=$SECONDS folder cached
    folder=${XDG_CACHE_HOME:-$HOME/.cache}/referformer/wheels/$setup_key
    cached=$(echo "$folder"/mmcv-"$MMCV_VERSION"-*.whl)
    if "$VENV/bin/python" -c 'import sys, mmcv, mmcv._ext
sys.exit(mmcv.__version__ != sys.argv[1])' "$MMCV_VERSION" 2>>"$SETUP_LOG" &&
        [ "$(cat "$VENV/mmcv-key" 2>/dev/null)" = "$setup_key" ]; then
        setup_remark='already there'
        return
    elif [ -f "$cached" ] && [ -z "${REFERFORMER_NO_WHEEL_CACHE:-}" ]; then
        setup_wheel=$cached
        setup_remark='from the cache of built wheels'
    else
        setup_check_compiler
        setup_build_mmcv
        setup_remark='compiled'
        if [ -z "${REFERFORMER_NO_WHEEL_CACHE:-}" ]; then
            mkdir -p "$folder" &&
                cp "$setup_wheel" "$folder/.part-$$" &&
                mv "$folder/.part-$$" "$folder/$(basename "$setup_wheel")" ||
                echo "could not keep the wheel in $folder" >>"$SETUP_LOG"
        fi
    fi
    setup_pip install --no-deps --force-reinstall "$setup_wheel"
    echo "$setup_key" >"$VENV/mmcv-key"
    if [ "$setup_remark" = compiled ]; then
        rm -rf "$SETUP_ROOT/.cache/$setup_key"
    fi
    mmcv_seconds=$((SECONDS - started))
}

setup_environment() {
    local began=$SECONDS stamp
    stamp=$VENV/setup.stamp
    if [ -z "${REFERFORMER_FORCE_SETUP:-}" ] && [ -x "$VENV/bin/python" ] &&
        [ -f "$stamp" ] && setup_stamp | cmp -s - "$stamp"; then
        echo "set-up: $VENV is ready"
        return
    fi
    local asked_python=${PYTHON:-}
    trap setup_interrupted INT TERM

    setup_begin 'find Python, check the disk'
    setup_find_python
    setup_check_disk
    setup_end "$("$PYTHON" -V 2>&1)"

    setup_begin "make the environment"
    local -a options=()
    setup_found=''
    if [ -z "${REFERFORMER_CPU:-}" ] && "$PYTHON" -c 'import sys, torch
sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1; then
        setup_found='the CUDA torch of this Python is used'
        options+=(--system-site-packages)
    fi
    # An unfinished environment is continued, one of another Python replaced.
    if [ "$("$VENV/bin/python" -V 2>&1)" != "$("$PYTHON" -V 2>&1)" ] ||
        ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        "$PYTHON" -m venv --clear "${options[@]}" "$VENV" ||
            setup_fail "$PYTHON could not make an environment in $VENV" \
                "(Debian: apt install python3-venv)."
    fi
    rm -f "$stamp"
    : >"$SETUP_LOG"
    setup_end "$VENV"

    setup_begin 'build tools'
    setup_pip install --upgrade 'setuptools<81' wheel ninja packaging numpy
    setup_end

    setup_begin 'torch'
    if [ -z "$setup_found" ]; then
        setup_pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
            "$TORCH_SPEC"
    fi
    setup_torch_facts
    if [ "$setup_device" = cpu ] && [ -z "${REFERFORMER_CPU:-}" ] &&
        command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
        setup_found='a GPU is here, but this torch is a CPU build'
    elif [ "$setup_device" = cuda ] && [ -z "$setup_found" ] && ! {
        command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1
    }; then
        # PyPI's Linux wheel is a CUDA build: without a GPU it runs on the
        # CPU, and the operators are compiled for the CPU.
        REFERFORMER_CPU=1 setup_torch_facts
    fi
    setup_end "$("$VENV/bin/python" -c 'import torch; print(torch.__version__)'
    )${setup_found:+, $setup_found}"

    setup_begin "$MMENGINE_SPEC and what mmcv runs on"
    setup_pip install "$MMENGINE_SPEC" addict numpy opencv-python-headless \
        pillow pyyaml yapf
    setup_end

    setup_begin "mmcv==$MMCV_VERSION with compiled operators"
    setup_mmcv
    setup_end "$setup_remark"

    setup_begin "$MMDET_SPEC"
    setup_pip install "$MMDET_SPEC"
    setup_end

    setup_begin 'this package'
    setup_pip install --no-build-isolation -e "${SETUP_ROOT}[tests]"
    setup_end

    setup_begin 'check the imports'
    # mmengine asks for opencv-python, which needs graphics libraries that a
    # server may lack; the headless build holds the same module.
    if ! "$VENV/bin/python" -c 'import cv2' >>"$SETUP_LOG" 2>&1; then
        setup_pip uninstall -y opencv-python
        setup_pip install --no-deps --force-reinstall opencv-python-headless
    fi
    setup_run '' "$VENV/bin/python" -c \
        'import referformer, mmdet.models, mmcv.ops, transformers' ||
        setup_fail "the installed packages do not import; the log says why:" \
            "$SETUP_LOG"
    setup_end

    trap - INT TERM
    PYTHON=$asked_python setup_stamp >"$stamp.part" && mv "$stamp.part" "$stamp"
    printf 'set-up: %d s in all, %d s of them for mmcv\n' \
        $((SECONDS - began)) "$mmcv_seconds"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    setup_environment
fi
