#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Trains on a Slurm cluster: one torchrun a node.
#   [NODES=1] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#     bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG [train.py options]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/distributed.sh"
need 3 'PARTITION JOB_NAME CONFIG [options of tools/train.py]' "$@"
launch_slurm "$1" "$2" train.py "${@:3}" --launcher pytorch
