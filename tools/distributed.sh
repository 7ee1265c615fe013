# shellcheck shell=bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# Sourced by dist_*.sh and slurm_*.sh.

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# need COUNT USAGE ARGUMENTS...
need() {
    if [ $(($# - 2)) -lt "$1" ]; then
        echo "usage: $0 $2" >&2
        exit 2
    fi
}

# The Python of an active environment, else that of the repository's .venv.
find_python() {
    local own=${TOOLS%/*}/.venv/bin/python
    if [ -n "${PYTHON:-}" ]; then
        echo "$PYTHON"
    elif [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$own" ]; then
        echo "$own"
    else
        echo python
    fi
}

# launch PROCESSES SCRIPT ARGUMENTS...
launch() {
    local processes=$1 script=$TOOLS/$2
    shift 2
    # A free port is chosen unless one is given, so that two runs on one
    # machine do not meet. The first machine holds the place of meeting; a
    # torchrun of another one may end and join again (--max-restarts).
    local meeting=localhost:0
    if [ "${NNODES:-1}" -gt 1 ] || [ -n "${MASTER_PORT:-}" ]; then
        meeting=${MASTER_ADDR:-127.0.0.1}:${MASTER_PORT:-29500}
    fi
    exec "$(find_python)" "$TOOLS/run_processes.py" --nnodes="${NNODES:-1}" \
        --nproc-per-node="$processes" --max-restarts="${MAX_RESTARTS:-0}" \
        --rdzv-backend=c10d --rdzv-endpoint="$meeting" "$script" "$@"
}

# launch_slurm PARTITION JOB SCRIPT ARGUMENTS...
launch_slurm() {
    local partition=$1 job=$2 script=$TOOLS/$3 status=0
    local gpus=${GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-8}}
    local nodes=${NODES:-${SLURM_JOB_NUM_NODES:-1}}
    local -a extra=()
    shift 3
    read -ra extra <<<"${SRUN_ARGS:-}"
    # The first node of the allocation is where the processes meet, which
    # only a task inside the allocation can tell. The port follows the job.
    # shellcheck disable=SC2016
    srun --partition="$partition" --job-name="$job" --nodes="$nodes" \
        --ntasks-per-node=1 --gres="gpu:$gpus" \
        --cpus-per-task=$((${CPUS_PER_TASK:-5} * gpus)) \
        --kill-on-bad-exit=1 --signal=USR1@300 ${extra[@]+"${extra[@]}"} \
        bash -c 'python=$1 run=$2 nodes=$3 gpus=$4 restarts=$5; shift 5
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
exec "$python" "$run" --nnodes="$nodes" --nproc-per-node="$gpus" \
    --max-restarts="$restarts" --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d \
    --rdzv-endpoint="$first:$((20000 + SLURM_JOB_ID % 20000))" "$@"' \
        launch "$(find_python)" "$TOOLS/run_processes.py" "$nodes" "$gpus" \
        "${MAX_RESTARTS:-0}" "$script" "$@" || status=$?
    # A training that was signalled has saved and ended with 75. Slurm can
    # put a batch job back into its queue; there, tools/train.py goes on.
    if [ "$status" -eq 75 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
        scontrol requeue "$SLURM_JOB_ID" || true
    fi
    exit "$status"
}
