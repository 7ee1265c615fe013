#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Trains on a Slurm cluster: one torchrun a node.
#   [NODES=1] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#     bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [train.py options]
# As a batch job, it saves before its time is over, and is put back into the
# queue and resumed until the training has ended:
#   sbatch --nodes=2 --ntasks-per-node=1 --gres=gpu:8 --cpus-per-task=40 \
#     tools/slurm_train.sh PARTITION JOB_NAME CONFIG [train.py options]
# MAX_RESTARTS: how often a node starts its processes again by itself.
#SBATCH --requeue
#SBATCH --signal=USR1@300
#SBATCH --open-mode=append
set -euo pipefail
# Slurm runs a copy of a batch script that lies elsewhere
here=$(dirname "${BASH_SOURCE[0]}")
[ -f "$here/distributed.sh" ] || here=${SLURM_SUBMIT_DIR:-.}/tools
source "$here/distributed.sh"
need 3 'PARTITION JOB_NAME CONFIG [options of tools/train.py]' "$@"
launch_slurm "$1" "$2" train.py "${@:3}" --launcher pytorch
