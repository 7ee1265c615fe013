# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A checkpoint of another model is refused."""

import pytest
import torch
from torch import nn

from referformer.checkpoints.matching import require_matching_weights
from referformer.errors import CheckpointError
from referformer.models.layers import MultiheadAttention


class TestRequireMatchingWeights:
    """A checkpoint of another model is refused."""

    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))

    def check(self, change, strict=True):
        weights = self.model.state_dict()
        change(weights)
        require_matching_weights(self.model, weights, 'x.pth', strict=strict)

    def test_the_same_model_passes(self):
        self.check(lambda weights: None)

    def test_an_older_batch_norm_passes(self):
        self.check(lambda weights: weights.pop('1.num_batches_tracked'))

    @pytest.mark.parametrize(
        ('change', 'reason'),
        [
            (lambda w: w.pop('0.bias'), r'1 weights are missing .*0\.bias'),
            (
                lambda w: w.update(y=torch.ones(1)),
                r'1 are unknown .*such as y',
            ),
            (
                lambda w: w.update({'0.bias': torch.ones(9)}),
                r'1 have another shape .*0\.bias',
            ),
        ],
    )
    def test_a_difference_is_named(self, change, reason):
        with pytest.raises(
            CheckpointError, match=rf'x\.pth does not .*{reason}'
        ):
            self.check(change)
        self.check(change, strict=False)

    def test_fine_tuning_needs_one_match_at_least(self):
        with pytest.raises(CheckpointError, match='does not fit'):
            require_matching_weights(
                self.model, {'conv.weight': torch.ones(1)}, 'x.pth', False
            )


def test_joint_projections_of_earlier_versions_match():
    model = MultiheadAttention(8, 2)
    earlier = torch.nn.MultiheadAttention(8, 2).state_dict()
    require_matching_weights(model, earlier, 'earlier.pth')
    del earlier['in_proj_bias']
    with pytest.raises(CheckpointError, match=r'3 weights are missing'):
        require_matching_weights(model, earlier, 'earlier.pth')
