#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Trains with several processes on one machine: one a GPU, or on the CPU
# where there is none.
#   bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/distributed.sh"
need 2 'CONFIG GPUS [options of tools/train.py]' "$@"
launch "$2" train.py "$1" --launcher pytorch "${@:3}"
