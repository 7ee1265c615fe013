# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import torch
from torch._subclasses import FakeTensor, FakeTensorMode

from referformer.models.ops import describe_levels
from referformer.models.ops.levels import _describe_once

SHAPES = ((2, 4), (1, 2))


def test_geometry():
    levels = describe_levels(SHAPES, torch.empty(0))
    assert levels.areas == [8, 2]
    assert levels.sizes.tolist() == [[2, 4], [1, 2]]
    assert levels.starts.tolist() == [0, 8]
    assert levels.centers[0][5].tolist() == [0.375, 0.75]
    assert levels.centers[1].tolist() == [[0.25, 0.5], [0.75, 0.5]]


def test_is_kept_and_fit_for_gradients():
    _describe_once.cache_clear()
    with torch.inference_mode():
        first = describe_levels(SHAPES, torch.empty(0))
    second = describe_levels(SHAPES, torch.empty(0))
    assert second.sizes is first.sizes
    assert not second.centers[0].is_inference()
    # of all shapes of a pre-training, none is dropped
    for height in range(3, 164):
        describe_levels(((height, 2),), torch.empty(0))
    assert describe_levels(SHAPES, torch.empty(0)).sizes is first.sizes


def test_fake_tensors_are_not_kept():
    _describe_once.cache_clear()
    with FakeTensorMode():
        fake = describe_levels(SHAPES, torch.empty(0))
    assert isinstance(fake.sizes, FakeTensor)
    real = describe_levels(SHAPES, torch.empty(0))
    assert not isinstance(real.sizes, FakeTensor)
