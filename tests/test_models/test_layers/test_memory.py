# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch

from referformer.models.layers import call_checkpointed, call_in_parts


@pytest.mark.parametrize('with_cp', [False, True])
def test_checkpointed_calls_run_twice(with_cp):
    calls = []

    def function(x, *, factor):
        calls.append(torch.is_grad_enabled())
        return (x * factor).sin()

    x = torch.randn(5, requires_grad=True)
    out = call_checkpointed(function, with_cp, x, factor=3)
    (grad,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(grad, 3 * (3 * x).cos())
    assert len(calls) == 1 + with_cp
    with torch.no_grad():
        call_checkpointed(function, with_cp, x, factor=3)
    assert len(calls) == 2 + with_cp


@pytest.mark.parametrize(
    ('training', 'expected'), [(True, [4096, 904]), (False, [512] * 9 + [392])]
)
def test_parts(training, expected):
    sizes = []

    def function(x, y):
        sizes.append(x.shape[-2])
        return x * y

    x, y = torch.randn(2, 2, 5000, 3)
    with torch.set_grad_enabled(training):
        assert torch.equal(call_in_parts(function, x, y), x * y)
    assert sizes == expected
