# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Operations and memory, counted: no clock, hence no noise."""

from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from referformer.prediction import Predictor
from referformer.testing import demo_refer_inputs

from .helpers import build_model

TEXTS = ('the dog', 'the cat', 'the bird', 'the fish')


def video(num_frames, num_expressions, size=(64, 96)):
    """One video of some expressions of the same length."""
    data = demo_refer_inputs(1, num_frames=num_frames, size=size)
    (sample,) = data['data_samples']
    del sample.text
    expressions = [
        dict(exp_id=str(e), text=text, obj_id='1', label=0)
        for e, text in enumerate(TEXTS[:num_expressions])
    ]
    sample.set_metainfo(dict(expressions=expressions))
    return data


def flops_of(model, data):
    # instead of no_grad, under which the counter stumbles over parameters
    model.requires_grad_(False)
    counter = FlopCounterMode(display=False)
    with counter:
        model.test_step(data)
    return counter.get_total_flops()


@pytest.fixture(scope='module')
def model():
    return build_model().eval()


def test_cost_of_an_expression_is_constant(model):
    costs = [flops_of(model, video(2, n)) for n in (1, 2, 4)]
    once, each = 2 * costs[0] - costs[1], costs[1] - costs[0]
    assert once > 0
    # the text encoder reads all of them at once, padded alike
    assert costs[2] == once + 4 * each


def test_cost_of_a_frame_is_constant_but_for_what_frames_tell_each_other(
    model,
):
    """Self-attention of the pixel decoder is quadratic in the frames."""
    # up to 1024 pixels at stride 4: for more, words are folded again
    size = (48, 80)
    costs = [flops_of(model, video(n, 1, size)) for n in (1, 2, 3, 4)]
    first = [b - a for a, b in pairwise(costs)]
    second = [b - a for a, b in pairwise(first)]
    assert second[0] == second[1]  # no higher power
    # with a window nothing is quadratic
    model.predictor = Predictor(window=1)
    try:
        costs = [flops_of(model, video(n, 1)) for n in (1, 2, 4)]
    finally:
        model.predictor = Predictor()
    assert costs[2] - costs[1] == 2 * (costs[1] - costs[0])


def test_frames_go_through_the_backbone_once(model):
    seen = []
    handle = model.backbone.register_forward_hook(
        lambda module, args, out: seen.append(len(out[0]))
    )
    with torch.no_grad():
        model.test_step(video(3, 4))
    handle.remove()
    assert seen == [3]  # all frames in one call


def test_prediction_cuts_the_masks_of_one_query(model):
    seen = []
    handle = model.head.mask_head.register_forward_hook(
        lambda module, args, out: seen.append(out.shape[:2])
    )
    with torch.no_grad():
        model.test_step(video(3, 2))
    handle.remove()
    assert seen == [(3, 1)] * 2  # one per expression


def kept_for_backward(model, num_frames):
    """Bytes of what a forward pass keeps besides the parameters."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    data = model.data_preprocessor(
        demo_refer_inputs(1, num_frames=num_frames, size=(96, 160)), True
    )
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(**data, mode='loss')
    for param in model.parameters():
        kept.pop(param.data_ptr(), None)
    return sum(size for size, _ in kept.values())


def test_checkpointing_changes_memory_and_nothing_else():
    model = build_model(num_layers=2).train()
    data = model.data_preprocessor(demo_refer_inputs(1), True)
    kept, grads = {}, {}
    for with_cp in (False, True):
        model.transformer.encoder.with_cp = with_cp
        model.pixel_decoder.with_cp = with_cp
        kept[with_cp] = kept_for_backward(model, 2)
        model.zero_grad()
        sum(model(**data, mode='loss').values()).backward()
        grads[with_cp] = [
            p.grad.clone() for p in model.parameters() if p.grad is not None
        ]
    assert kept[True] < 0.6 * kept[False]
    torch.testing.assert_close(grads[True], grads[False])
