# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Training criteria."""

from referformer.models.losses.giou_loss import GIoULoss
from referformer.models.losses.sequence_criterion import (
    InstanceSequenceCriterion,
)

__all__ = ['GIoULoss', 'InstanceSequenceCriterion']
