#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Sets everything up where needed, then runs the tests. Arguments go to
# pytest, with paths relative to the top of the repository:
#   bash tools/run_tests.sh tests/test_parity -k swin
# One process a core runs whole files of tests; -n 0 runs all in one process.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/setup_env.sh
setup_environment
exec "$VENV/bin/python" -m pytest -n auto --dist loadfile \
    --no-loadscope-reorder "$@"
