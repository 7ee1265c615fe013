# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch

from referformer.models import InstanceSequenceMatcher

from ..helpers import large_objects, random_predictions, random_targets


def focal(prob, target, alpha=0.25, gamma=2.0, eps=1e-8):
    if target:
        return alpha * (1 - prob) ** gamma * -torch.log(prob + eps)
    return (1 - alpha) * prob**gamma * -torch.log(1 - prob + eps)


def giou(a, b):
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = (
        (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        for cx, cy, w, h in (a.tolist(), b.tolist())
    )
    width = max(0.0, min(ax2, bx2) - max(ax1, bx1))
    height = max(0.0, min(ay2, by2) - max(ay1, by1))
    inter = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inter
    hull = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
    return inter / union - (hull - union) / hull


def naive_cost(preds, targets, layer, clip, query):
    """One number, term by term and frame by frame."""
    frames = range(targets.boxes.shape[1])
    label = int(targets.labels[clip])
    terms = []
    for t in frames:
        if targets.valid[clip, t]:
            prob = preds.logits[layer, clip, t, query, label].sigmoid()
            terms.append(focal(prob, True) - focal(prob, False))
    cost = 2 * torch.stack(terms).mean()
    boxes = preds.boxes[layer, clip, :, query]
    for t in frames:
        target = targets.boxes[clip, t]
        cost += 5 * (boxes[t] - target).abs().sum() / len(frames)
        cost -= 2 * giou(boxes[t], target) / len(frames)
    prob = preds.masks[layer, clip, :, query].flatten().sigmoid()
    truth = targets.masks[clip].flatten()
    pixels = [
        focal(p, bool(y), eps=0.0) for p, y in zip(prob, truth, strict=True)
    ]
    cost += 2 * torch.stack(pixels).mean()
    overlap = 2 * (prob * truth).sum() + 1
    return cost - 5 * overlap / (prob.sum() + truth.sum() + 1)


def test_equals_a_loop():
    preds, targets = random_predictions(), random_targets()
    targets.valid[1, 0] = False  # absent: no box, no mask
    targets.boxes[1, 0] = 0
    targets.masks[1, 0] = 0
    matcher = InstanceSequenceMatcher()
    cost = matcher.cost(preds, targets)
    assert cost.shape == (2, 2, 4)
    for layer in range(2):
        for clip in range(2):
            for query in range(4):
                torch.testing.assert_close(
                    cost[layer, clip, query],
                    naive_cost(preds, targets, layer, clip, query),
                    rtol=1e-5,
                    atol=1e-5,
                )
    assert torch.equal(matcher(preds, targets), cost.argmin(-1))


@pytest.mark.parametrize('query', range(4))
def test_finds_the_perfect_query(query):
    preds, targets = random_predictions(), random_targets()
    for n in range(2):
        preds.boxes[:, n, :, query] = targets.boxes[n]
        preds.masks[:, n, :, query] = targets.masks[n] * 20 - 10
    assert (InstanceSequenceMatcher()(preds, targets) == query).all()


def test_class_cost_ignores_absent_frames():
    preds, targets = random_predictions(), random_targets()
    targets.valid[:, 1] = False
    only_class = InstanceSequenceMatcher(2, 0, 0, 0, 0)
    before = only_class.cost(preds, targets)
    preds.logits[:, :, 1] += 5.0
    assert torch.equal(only_class.cost(preds, targets), before)
    preds.logits[:, :, 0] += 5.0
    assert not torch.equal(only_class.cost(preds, targets), before)


def test_order_of_frames_does_not_matter():
    preds, targets = random_predictions(), random_targets()
    targets.valid[0, 2] = False
    order = torch.tensor([2, 0, 1])
    matcher = InstanceSequenceMatcher()
    permuted = type(preds)(*(part[:, :, order] for part in preds))
    torch.testing.assert_close(
        matcher.cost(
            permuted,
            targets._replace(
                boxes=targets.boxes[:, order],
                masks=targets.masks[:, order],
                valid=targets.valid[:, order],
            ),
        ),
        matcher.cost(preds, targets),
    )


def test_half_precision_predictions_do_not_overflow():
    preds, targets = random_predictions(), random_targets()
    halves = type(preds)(*(part.half() * 30 for part in preds))
    cost = InstanceSequenceMatcher().cost(halves, targets)
    assert cost.dtype == torch.float32
    assert cost.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_changes_no_match(dtype):
    """Large objects, and queries that differ by little: the usual case."""
    preds, targets = large_objects()
    matcher = InstanceSequenceMatcher()
    expected = matcher.cost(preds, targets)
    with torch.autocast('cpu', dtype):
        cost = matcher.cost(preds, targets)
        matched = matcher(preds, targets)
    assert matched.shape == (4, 6)
    assert torch.equal(matched, expected.argmin(-1))
    assert torch.equal(cost, expected)
