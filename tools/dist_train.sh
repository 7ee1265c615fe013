#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Trains with several processes on one machine: one a GPU, or on the CPU
# where there is none.
#   bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several machines: the same command on each, with NNODES, MASTER_ADDR (of
# one of them) and MASTER_PORT.
# MAX_RESTARTS=3: start all processes again, at most three times, when one of
# them has failed; they go on from the newest checkpoint.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/distributed.sh"
need 2 'CONFIG GPUS [options of tools/train.py]' "$@"
launch "$2" train.py "$1" --launcher pytorch "${@:3}"
