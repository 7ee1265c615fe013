#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Scores a checkpoint with several processes on one machine.
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# Several machines: the same command on each, with NNODES, MASTER_ADDR (of
# one of them) and MASTER_PORT.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/distributed.sh"
need 3 'CONFIG CHECKPOINT GPUS [options of tools/test.py]' "$@"
launch "$3" test.py "$1" "$2" --launcher pytorch "${@:4}"
