#!/usr/bin/env bash
# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
#
# Trains the example model from nothing: draws videos, trains in four steps,
# scores three sets of unseen videos, and writes the published model.
#
#   bash tools/train_example.sh [OUT [OPTION ...]]
#
# OUT, by default work_dirs/example/model, is a new folder. An interrupted run
# goes on where it stopped. PYTHON, DATA, WORK and SEED may be set. Options are
# those of "python -m referformer.testing.example --help"; a trial of minutes:
#   bash tools/train_example.sh work_dirs/trial/model --videos 8 \
#       --cfg-options train_dataloader.batch_size=2 train_cfg.max_epochs=1
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python}
DATA=${DATA:-data/example}
WORK=${WORK:-work_dirs/example}
SEED=${SEED:-0}
OUT=${1:-$WORK/model}

exec "$PYTHON" -m referformer.testing.example \
    --data "$DATA" --work-dir "$WORK" --seed "$SEED" --out "$OUT" "${@:2}"
