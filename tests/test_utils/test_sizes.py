# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch

from referformer.utils.sizes import (
    as_tensor,
    larger,
    multiples,
    named,
    of_all_frames,
    smaller,
    with_size,
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


class _FirstHalf(torch.nn.Module):
    def forward(self, x):
        half = named(x.shape[0] // 2, 2, 50)
        return with_size(x[: x.shape[0] // 2], 0, half)


def test_a_size_becomes_a_symbol_with_bounds():
    x = torch.arange(12)
    assert torch.equal(_FirstHalf()(x), x[:6])
    program = torch.export.export(
        _FirstHalf(), (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    [out] = next(reversed(program.graph.nodes)).args[0]
    assert str(out.meta['val'].shape[0]) == 'u0'
    assert torch.equal(program.module()(torch.arange(9)), torch.arange(4))
    with pytest.raises(RuntimeError):
        program.module()(torch.arange(102))


def test_clips_are_repeated_frame_by_frame():
    clips = torch.randn(3, 2, 4)
    assert torch.equal(
        of_all_frames(clips, 5), clips.repeat_interleave(5, dim=0)
    )
    one = clips[:1]
    assert of_all_frames(one, 5).data_ptr() == one.data_ptr()
