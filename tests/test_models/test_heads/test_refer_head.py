# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import math

import pytest
import torch

from referformer.models import MeanScoreSelector
from referformer.registry import MODELS
from referformer.structures import DecodedQueries
from referformer.testing import tiny_model_cfg

from ..helpers import random_targets, randomise

LAYERS, CLIPS, FRAMES, QUERIES, DIMS = 2, 2, 3, 4, 16
SIZES = torch.tensor([[24.0, 32.0], [20.0, 28.0]])


def build(topk=1, num_classes=3):
    cfg = tiny_model_cfg(
        embed_dims=DIMS, num_layers=LAYERS, num_classes=num_classes, topk=topk
    )['head']
    return MODELS.build(cfg)


@pytest.fixture
def decoded():
    frames = CLIPS * FRAMES
    return DecodedQueries(
        hidden=torch.randn(LAYERS, frames, QUERIES, DIMS),
        init_reference=torch.rand(frames, QUERIES, 2),
        references=torch.rand(LAYERS, frames, QUERIES, 4),
        memory=(),
    )


@pytest.fixture
def mask_feats():
    return torch.randn(CLIPS * FRAMES, DIMS, 6, 8)


@pytest.mark.parametrize('topk', [1, 3, 9])
def test_prediction_is_a_part_of_the_full_forward(decoded, mask_feats, topk):
    head = build(topk)
    randomise(head)
    preds = head(decoded, mask_feats, SIZES)
    calls = []
    head.mask_head.register_forward_hook(
        lambda module, args, out: calls.append(args[1].shape)
    )
    selected, boxes, masks = head.predict(decoded, mask_feats, SIZES)
    # masks of the kept queries of the last layer, and no others
    kept = min(topk, QUERIES)
    assert calls == [(CLIPS * FRAMES, kept, DIMS)]
    assert masks.shape == (CLIPS, FRAMES, kept, 6, 8)
    scores = preds.logits[-1].sigmoid().mean(1).amax(-1)
    for n in range(CLIPS):
        expected = scores[n].argsort(descending=True)[:kept]
        query = selected.query[n]
        assert torch.equal(query, expected)
        torch.testing.assert_close(selected.scores[n], scores[n, expected])
        torch.testing.assert_close(boxes[n], preds.boxes[-1, n][:, query])
        torch.testing.assert_close(masks[n], preds.masks[-1, n][:, query])


def test_another_selector_for_one_prediction(decoded, mask_feats):
    head = build(topk=1)
    randomise(head)
    best, _, _ = head.predict(decoded, mask_feats, SIZES)
    every, _, masks = head.predict(
        decoded, mask_feats, SIZES, MeanScoreSelector(topk=QUERIES)
    )
    assert masks.shape[2] == every.query.shape[1] == QUERIES
    assert torch.equal(every.query[:, :1], best.query)
    again, _, _ = head.predict(decoded, mask_feats, SIZES)
    assert torch.equal(again.query, best.query)


def test_boxes_refine_the_reference_entering_the_layer(decoded, mask_feats):
    head = build()
    for branch in head.reg_branches:
        torch.nn.init.zeros_(branch[-1].weight)
        torch.nn.init.zeros_(branch[-1].bias)
    preds = head(decoded, mask_feats, SIZES)
    first = preds.boxes[0].flatten(0, 1)
    torch.testing.assert_close(first[..., :2], decoded.init_reference)
    assert (first[..., 2:] == 0.5).all()
    torch.testing.assert_close(
        preds.boxes[1].flatten(0, 1), decoded.references[0]
    )


def test_masks_are_cut_around_the_refined_reference(decoded, mask_feats):
    """By the reference after a layer, in unpadded pixels of its own clip."""
    head = build()
    seen = {}
    head.mask_head.register_forward_hook(
        lambda module, args, out: seen.update(refs=args[2], sizes=args[3])
    )
    preds = head(decoded, mask_feats, SIZES)
    assert preds.masks.shape == (LAYERS, CLIPS, FRAMES, QUERIES, 6, 8)
    layers = seen['refs'].unflatten(1, (LAYERS, QUERIES)).transpose(0, 1)
    assert torch.equal(layers, decoded.references)
    assert torch.equal(seen['sizes'], SIZES.repeat_interleave(FRAMES, 0))


def test_initial_scores_and_boxes(decoded, mask_feats):
    head = build()
    head.init_weights()
    decoded = decoded._replace(hidden=torch.zeros_like(decoded.hidden))
    preds = head(decoded, mask_feats, SIZES)
    torch.testing.assert_close(
        preds.logits.sigmoid(), torch.full_like(preds.logits, 0.01)
    )
    side = 1 / (1 + math.exp(2))
    assert preds.boxes[0, ..., 2:].allclose(torch.tensor(side))


def test_many_classes(decoded, mask_feats):
    head = build(num_classes=65)
    head.init_weights()  # few false alarms: the positives show
    targets = random_targets(size=(24, 32))._replace(
        labels=torch.tensor([64, 3])
    )
    losses = head.loss(decoded, mask_feats, SIZES, targets)
    assert set(losses) == {
        prefix + name
        for prefix in ('', 'd0.')
        for name in (
            'loss_cls',
            'loss_bbox',
            'loss_giou',
            'loss_mask',
            'loss_dice',
        )
    }
    sum(losses.values()).backward()
    grad = head.cls_branches[-1].bias.grad
    # the classes of the two clips are pulled up, all others down
    assert torch.equal(grad.lt(0).nonzero()[:, 0], torch.tensor([3, 64]))
    selected, _, _ = head.predict(decoded, mask_feats, SIZES)
    assert selected.labels.shape == (CLIPS, 1)
    assert selected.labels.max() < 65


def test_gradients_are_those_of_the_masks_of_all_queries(decoded, mask_feats):
    """The loss computes with gradients the masks of matched queries alone."""
    head = build()
    randomise(head)
    targets = random_targets(size=(24, 32))
    feats = mask_feats.requires_grad_()
    hidden = decoded.hidden.requires_grad_()
    args = (hidden, feats, *head.parameters())
    expected = head.criterion(head(decoded, feats, SIZES), targets)
    found = head.loss(decoded, feats, SIZES, targets)
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss)
    for one, other in zip(
        torch.autograd.grad(sum(found.values()), args),
        torch.autograd.grad(sum(expected.values()), args),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_changes_no_prediction(decoded, mask_feats, dtype):
    head = build()
    expected = head(decoded, mask_feats, SIZES)
    with torch.autocast('cpu', dtype):
        preds = head(decoded, mask_feats, SIZES)
    for actual, exact in zip(preds, expected, strict=True):
        assert torch.equal(actual, exact)
    halves = decoded._replace(hidden=decoded.hidden.to(dtype))
    with torch.autocast('cpu', dtype):
        preds = head(halves, mask_feats.to(dtype), SIZES)
    assert {part.dtype for part in preds} == {torch.float32}
