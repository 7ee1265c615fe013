# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Mixed precision, gradient accumulation and averaged weights."""

import pytest
import torch
from torch import nn

from referformer.registry import OPTIM_WRAPPERS


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        self.seen = self.fc(x)
        return self.seen.float().square().mean()


def build(model, **kwargs):
    return OPTIM_WRAPPERS.build(
        dict(
            type='ReferOptimWrapper',
            precision='bf16',
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            **kwargs,
        )
    )


def test_forward_in_bfloat16_weights_in_float32():
    torch.manual_seed(0)
    model = Net()
    optim = build(model)
    before = model.fc.weight.detach().clone()
    with optim.optim_context(model):
        loss = model(torch.randn(3, 8))
    assert model.seen.dtype == torch.bfloat16
    optim.update_params(loss)
    assert model.fc.weight.dtype == torch.float32
    assert (model.fc.weight != before).any()
    # outside the context nothing has changed
    assert model.fc(torch.randn(3, 8)).dtype == torch.float32


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_accumulated_gradients_make_one_step_of_a_larger_batch(precision):
    torch.manual_seed(0)
    data = torch.randn(4, 8)
    models = []
    for counts, parts in ((1, [data]), (2, data.split(2))):
        torch.manual_seed(1)
        model = Net()
        optim = OPTIM_WRAPPERS.build(
            dict(
                type='ReferOptimWrapper',
                precision=precision,
                optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
                accumulative_counts=counts,
            )
        )
        optim.initialize_count_status(model, 0, len(parts))
        for part in parts:
            with optim.optim_context(model):
                loss = model(part)
            optim.update_params(loss)
        models.append(model)
    torch.testing.assert_close(
        models[0].fc.weight, models[1].fc.weight, rtol=2e-2, atol=2e-3
    )
