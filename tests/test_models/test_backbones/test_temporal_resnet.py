# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch

from referformer.errors import ConfigError
from referformer.models import TemporalResNet

SMALL = dict(widths=(4, 6, 8, 10), depths=(1, 1, 1, 1))


def make(**options):
    torch.manual_seed(0)
    model = TemporalResNet(**{**SMALL, **options})
    model.init_weights()
    return model.eval()


def let_time_in(model):
    for conv in model.temporal_convs.values():
        torch.nn.init.normal_(conv.weight, std=0.1)


def test_maps_of_all_frames():
    maps = make()(torch.rand(2, 3, 3, 64, 96))
    assert [tuple(level.shape) for level in maps] == [
        (6, SMALL['widths'][i], 16 // 2**i, 24 // 2**i) for i in range(4)
    ]


def test_begins_as_a_network_of_single_frames():
    model = make()
    clip = torch.rand(1, 4, 3, 32, 32)
    together = model(clip)
    alone = [model(frame[None, None]) for frame in clip[0]]
    for level, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(level, torch.cat(parts))


def test_then_it_sees_the_order_of_frames():
    model = make()
    let_time_in(model)
    clip = torch.rand(1, 4, 3, 32, 32)
    there, back = model(clip), model(clip.flip(1))
    # with the weights mirrored in time as well, nothing changes
    for conv in model.temporal_convs.values():
        conv.weight.data = conv.weight.flip(2)
    mirrored = model(clip.flip(1))
    for a, b, c in zip(there, back, mirrored, strict=True):
        assert (a - b.flip(0)).abs().max() > 1e-3
        torch.testing.assert_close(a, c.flip(0))


def test_clips_of_a_batch_do_not_mix():
    model = make()
    let_time_in(model)
    clips = torch.rand(2, 3, 3, 32, 32)
    both = model(clips)
    for level, first in zip(both, model(clips[:1]), strict=True):
        torch.testing.assert_close(level[:3], first)


def test_frozen_keeps_weights_and_statistics():
    model = make(frozen=True).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    maps = model(torch.rand(2, 2, 3, 32, 32))
    assert not any(level.requires_grad for level in maps)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_statistics_stay_with_norm_eval():
    for norm_eval in (False, True):
        model = make(norm_eval=norm_eval).train()
        before = model.stem[0].bn.running_mean.clone()
        model(torch.rand(1, 2, 3, 32, 32))[-1].sum().backward()
        same = torch.equal(before, model.stem[0].bn.running_mean)
        assert same == norm_eval
        assert model.stem[0].conv.weight.grad is not None


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(depths=(1, 1)), 'widths has 4 stages, depths 2'),
        (dict(temporal_kernel=(3, 2, 3)), 'must be odd'),
        (dict(temporal_stages=(4,)), 'the stages are 0 to 3'),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)
