# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch

from referformer.errors import ConfigError
from referformer.registry import MODELS
from referformer.structures import ClipPredictions
from referformer.testing import tiny_model_cfg

from ..helpers import large_objects, random_predictions, random_targets

TERMS = ('loss_cls', 'loss_bbox', 'loss_giou', 'loss_mask', 'loss_dice')


@pytest.fixture
def criterion():
    return MODELS.build(tiny_model_cfg()['head']['criterion'])


def full_size(**kwargs):
    """Targets of the padded frames; predictions are at stride 4."""
    return random_targets(size=(24, 32), **kwargs)


def test_every_layer_has_five_losses(criterion):
    losses = criterion(random_predictions(layers=3), full_size())
    assert set(losses) == {
        p + name for p in ('d0.', 'd1.', '') for name in TERMS
    }
    assert all(loss.dim() == 0 and loss > 0 for loss in losses.values())


def test_the_last_layer_has_no_prefix(criterion):
    preds, targets = random_predictions(layers=2), full_size()
    losses = criterion(preds, targets)
    last = criterion(ClipPredictions(*(p[1:] for p in preds)), targets)
    for name in TERMS:
        torch.testing.assert_close(losses[name], last[name])


def test_perfect_predictions_cost_nothing(criterion):
    preds, targets = random_predictions(), full_size()
    masks = criterion.sample_masks(targets.masks)
    preds.boxes[:, :, :, 2] = targets.boxes
    preds.masks[:, :, :, 2] = masks * 40 - 20
    preds.logits.fill_(-20)
    for n in range(2):
        preds.logits[:, n, :, 2, targets.labels[n]] = 20
    for name, loss in criterion(preds, targets).items():
        assert float(loss) == pytest.approx(0, abs=1e-5), name


def test_absent_frame_has_no_positive(criterion):
    preds, targets = random_predictions(), full_size()
    targets.valid[0, 1] = False
    matched = torch.tensor([[2, 3], [0, 1]])
    onehot = criterion._class_targets(preds.logits, targets, matched)
    onehot, other = onehot.view(preds.logits.shape)
    assert onehot.sum() == other.sum() == 5
    assert other[1, 2, 1, targets.labels[1]] == 1
    assert onehot[0, 1].sum() == 0
    assert onehot[0, 0, 2, targets.labels[0]] == 1
    assert onehot[1, 1, 3, targets.labels[1]] == 1


def test_absent_frame_counts_in_boxes_and_masks(criterion):
    preds, targets = random_predictions(), full_size()
    targets.valid[0, 1] = False
    targets.boxes[0, 1] = 0
    targets.masks[0, 1] = 0
    for part in (preds.boxes, preds.masks):
        part.requires_grad_()
    sum(criterion(preds, targets).values()).backward()
    assert preds.boxes.grad[:, 0, 1].abs().sum() > 0
    assert preds.masks.grad[:, 0, 1].abs().sum() > 0


def test_normaliser_is_the_number_of_visible_frames(criterion):
    preds, targets = random_predictions(clips=1), full_size(clips=1)
    all_visible = criterion(preds, targets)
    targets.valid[0, 2] = False
    two = criterion(preds, targets)
    same_match = torch.equal(
        *(
            criterion.matcher(
                preds,
                targets._replace(
                    masks=criterion.sample_masks(targets.masks), valid=valid
                ),
            )
            for valid in (targets.valid, torch.ones_like(targets.valid))
        )
    )
    assert same_match
    for name in ('loss_bbox', 'loss_giou', 'loss_mask', 'loss_dice'):
        torch.testing.assert_close(two[name], all_visible[name] * 3 / 2)


def test_batch_of_two_is_two_batches_of_one(criterion):
    preds, targets = random_predictions(), full_size()
    targets.valid[1, 0] = False
    together = criterion(preds, targets)
    sums = dict.fromkeys(together, 0.0)
    for n in range(2):
        one = criterion(
            ClipPredictions(*(part[:, n : n + 1] for part in preds)),
            type(targets)(*(part[n : n + 1] for part in targets)),
        )
        for name in one:
            sums[name] += one[name] * targets.valid[n].sum()
    for name, value in sums.items():
        torch.testing.assert_close(together[name], value / 5)


def test_order_of_frames_does_not_matter(criterion):
    preds, targets = random_predictions(), full_size()
    targets.valid[0, 0] = False
    order = torch.tensor([1, 2, 0])
    before = criterion(preds, targets)
    after = criterion(
        ClipPredictions(*(part[:, :, order] for part in preds)),
        targets._replace(
            boxes=targets.boxes[:, order],
            masks=targets.masks[:, order],
            valid=targets.valid[:, order],
        ),
    )
    for name in before:
        torch.testing.assert_close(after[name], before[name])


def test_targets_are_sampled_at_cell_centres(criterion):
    masks = torch.zeros(1, 1, 8, 8)
    masks[0, 0, 2, 6] = 1
    assert criterion.sample_masks(masks)[0, 0].tolist() == [[0, 1], [0, 0]]


def test_sides_must_be_divisible(criterion):
    with pytest.raises(ConfigError, match=r'\(30, 32\) .* multiple of 4\.'):
        criterion.sample_masks(torch.zeros(1, 1, 30, 32))


def test_half_precision_predictions(criterion):
    preds, targets = random_predictions(), full_size()
    exact = criterion(preds, targets)
    halves = ClipPredictions(*(part.bfloat16() for part in preds))
    for name, loss in criterion(halves, targets).items():
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, exact[name], rtol=0.1, atol=0.1)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_changes_nothing(criterion, dtype):
    preds, targets = large_objects()
    masks = targets.masks.repeat_interleave(4, -2).repeat_interleave(4, -1)
    targets = targets._replace(masks=masks)
    expected = criterion(preds, targets)
    with torch.autocast('cpu', dtype):
        losses = criterion(preds, targets)
    for name, loss in losses.items():
        assert torch.equal(loss, expected[name]), name


def test_masks_compared_at_a_finer_stride(criterion):
    """Predictions are enlarged as they are for the result."""
    preds, targets = random_predictions(), full_size()
    small = criterion(preds, targets)
    criterion.mask_stride = 2
    masks = preds.masks
    large = torch.nn.functional.interpolate(
        masks.flatten(0, 2), scale_factor=2, mode='bilinear'
    ).unflatten(0, masks.shape[:3])
    expected = criterion(preds._replace(masks=large), targets)
    found = criterion(preds, targets)
    for name in found:
        torch.testing.assert_close(found[name], expected[name])
    assert not torch.isclose(found['loss_dice'], small['loss_dice'])


def test_masks_cannot_be_compared_at_a_coarser_stride(criterion):
    criterion.mask_stride = 8
    with pytest.raises(ConfigError, match='mask_stride=8 is coarser'):
        criterion(random_predictions(), full_size())
