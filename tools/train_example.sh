#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Trains the example model from nothing: draws videos, trains in three steps,
# scores three sets of unseen videos, and writes the published model.
#
#   bash tools/train_example.sh [OUT]
#
# OUT, by default work_dirs/example/model, is a new folder. An interrupted run
# goes on where it stopped. PYTHON, DATA, WORK and SEED may be set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python}
DATA=${DATA:-data/example}
WORK=${WORK:-work_dirs/example}
SEED=${SEED:-0}
OUT=${1:-$WORK/model}

exec "$PYTHON" -m referformer.testing.example \
    --data "$DATA" --work-dir "$WORK" --seed "$SEED" --out "$OUT"
