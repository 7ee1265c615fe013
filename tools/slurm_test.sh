#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Scores a checkpoint on a Slurm cluster: one torchrun a node.
#   [NODES=1] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#     bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/distributed.sh"
need 4 'PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]' "$@"
launch_slurm "$1" "$2" test.py "${@:3}" --launcher pytorch
