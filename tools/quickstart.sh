#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Sets everything up where needed, then teaches the example model new objects on
# drawn videos. Arguments go to tools/quickstart.py, with paths relative
# to the top of the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/setup_env.sh
setup_environment
exec "$VENV/bin/python" tools/quickstart.py "$@"
