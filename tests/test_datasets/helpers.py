# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What tests of several data sets share."""

from pathlib import Path

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/datasets'
