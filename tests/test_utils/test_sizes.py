# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch

from referformer.utils.sizes import (
    as_tensor,
    larger,
    multiples,
    of_all_frames,
    smaller,
)


@pytest.mark.parametrize('kind', [int, torch.tensor])
def test_numbers_and_tensors_alike(kind):
    """A traced size is a tensor; so is what follows from it."""
    for a, b in ((3, 5), (5, 3), (4, 4)):
        for one, other in ((kind(a), b), (a, kind(b))):
            assert smaller(one, other) == min(a, b)
            assert larger(one, other) == max(a, b)
            assert multiples(one, other) == -(-a // b)
    assert isinstance(smaller(kind(3), 5), torch.Tensor) == (kind is not int)


def test_sizes_become_a_tensor():
    found = as_tensor(((1, torch.tensor(2)), (3, 4)), torch.device('cpu'))
    assert found.dtype == torch.int64
    assert found.tolist() == [[1, 2], [3, 4]]


def test_clips_are_repeated_frame_by_frame():
    clips = torch.randn(3, 2, 4)
    assert torch.equal(
        of_all_frames(clips, 5), clips.repeat_interleave(5, dim=0)
    )
    one = clips[:1]
    assert of_all_frames(one, 5).data_ptr() == one.data_ptr()
