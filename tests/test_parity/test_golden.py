# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Every number recorded from the published code, reproduced.

Run on another folder of cases with
``pytest tests/test_parity --golden-dir DIR``.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from referformer.checkpoints.published import to_published

from .golden_case import GoldenCase, find_cases
from .trajectory import find_trajectories

RTOL = 1e-4
GRAD_RTOL = 1e-3
LOSS_NAMES = {
    'loss_ce': 'loss_cls',
    'loss_bbox': 'loss_bbox',
    'loss_giou': 'loss_giou',
    'loss_mask': 'loss_mask',
    'loss_dice': 'loss_dice',
}


def pytest_generate_tests(metafunc):
    if 'case' in metafunc.fixturenames:
        folder = Path(metafunc.config.getoption('--golden-dir'))
        cases = find_cases(folder)
        assert cases or find_trajectories(folder), (
            f'no golden case (<case>.npz) and no trajectory in {folder}'
        )
        metafunc.parametrize('case', cases, indirect=True, scope='module')


@pytest.fixture(scope='module')
def case(request):
    folder = Path(request.config.getoption('--golden-dir'))
    return GoldenCase(folder, request.param)


def assert_close(actual, expected, rtol=RTOL):
    """Relative to the tensor's scale: float32 sums cancel element-wise."""
    actual = np.asarray(
        actual.detach().cpu() if torch.is_tensor(actual) else actual,
        dtype=np.float64,
    )
    expected = np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape
    scale = max(np.abs(expected).max(), 1e-6)
    error = np.abs(actual - expected).max() / scale
    assert error <= rtol, f'relative error {error:.2e} > {rtol:.0e}'


def assert_sampled(actual, record, key):
    """Against the values and statistics recorded of a large tensor."""
    flat = actual.detach().cpu().numpy().ravel()
    sample = record[f'{key}/sample']
    index = np.linspace(0, flat.size - 1, len(sample)).astype(np.int64)
    assert flat.size == record[f'{key}/stats'][0]
    assert_close(flat[index], sample)
    stats = [
        flat.size,
        flat.mean(dtype=np.float64),
        flat.std(dtype=np.float64),
        np.abs(flat).max(),
    ]
    assert_close(np.array(stats[1:]), record[f'{key}/stats'][1:])


def test_text(case):
    assert_close(
        case.run['language'].last_hidden_state,
        case.record['mid/text/last_hidden'],
    )
    assert_close(
        case.run['language'].pooler_output, case.record['mid/text/pooler']
    )


def test_backbone(case):
    for i, level in enumerate(case.run['backbone']):
        assert_sampled(level, case.record, f'mid/backbone/feat{i}')


def test_positional_encoding(case):
    visual = case.run['visual']
    levels = (visual.fine, *visual.levels[:3])
    for i, level in enumerate(levels):
        key = f'mid/backbone/pos{i}'
        pos = level.pos
        if case.valid_indices:
            # recorded for all frames, which share it
            pos = pos.repeat_interleave(case.num_frames, 0)
        assert_sampled(pos, case.record, key)


def test_neck(case):
    for i, level in enumerate(case.run['visual'].levels):
        assert_sampled(level.map, case.record, f'mid/input_proj{i}/0')


def test_encoder(case):
    assert_sampled(case.run['encoder'], case.record, 'mid/encoder/0')


def test_memory(case):
    for i, level in enumerate(case.run['decoded'].memory):
        assert_sampled(level, case.record, f'mid/transformer/1.{i}')


def test_decoder(case):
    decoded = case.run['decoded']
    assert_sampled(decoded.hidden, case.record, 'mid/transformer/0')
    assert_sampled(decoded.init_reference, case.record, 'mid/transformer/2')
    assert_sampled(decoded.references, case.record, 'mid/transformer/3')


def test_pixel_decoder(case):
    assert_sampled(case.run['mask_feats'], case.record, 'mid/pixel_decoder/0')


def test_predictions(case):
    preds, record = case.run['preds'], case.record
    assert_close(preds.logits[-1], record['out/pred_logits'])
    assert_close(preds.boxes[-1], record['out/pred_boxes'])
    assert_close(preds.masks[-1], record['out/pred_masks'])
    num_aux = len(preds.logits) - 1
    assert num_aux > 0
    for i in range(num_aux):
        assert_close(preds.logits[i], record[f'aux{i}/pred_logits'])
        assert_close(preds.boxes[i], record[f'aux{i}/pred_boxes'])
        assert_sampled(preds.masks[i], record, f'aux{i}/pred_masks')
    assert f'aux{num_aux}/pred_logits' not in record
    entering = case.run['decoded'].references[-2][..., :2]
    assert_close(
        entering.view_as(torch.from_numpy(record['out/reference_points'])),
        record['out/reference_points'],
    )


def test_matched_query(case):
    criterion = case.model.head.criterion
    targets = case.targets
    targets = targets._replace(masks=criterion.sample_masks(targets.masks))
    matched = criterion.matcher(case.run['preds'], targets)
    np.testing.assert_array_equal(
        matched[-1].cpu(), case.record['loss/matched_query']
    )


def test_losses(case):
    weights = json.loads(str(case.record['loss/weights']))
    total = 0.0
    for name, weight in weights.items():
        stem, _, layer = name.partition('_')[2].partition('_')
        prefix = f'd{layer}.' if layer else ''
        ours = case.losses[prefix + LOSS_NAMES[f'loss_{stem}']]
        assert_close(ours / weight, case.record[f'loss/{name}'])
        total += ours
    assert len(weights) == len(case.losses)
    assert_close(total, case.record['loss/total'])


def test_gradient_norms(case):
    assert case.losses
    expected = json.loads(str(case.record['grad/norms']))
    # both names of the shared box heads are the same tensor
    alias = 'transformer.decoder.'
    named = dict(case.model.named_parameters())
    grads = {n: p.grad for n, p in named.items() if p.grad is not None}
    ours = {
        name: float(grad.norm())
        for name, grad in to_published(grads).items()
        if grad.is_floating_point()
    }
    unmatched = {
        n for n in expected if n not in ours and f'{alias}{n}' not in ours
    }
    assert not unmatched, unmatched
    # what float32 cannot tell from zero beside the largest gradient is
    # rounding noise: the gradient of a key bias, zero in exact arithmetic
    noise = 1e-8 * max(expected.values())
    for name, norm in expected.items():
        actual = ours.get(name, ours.get(f'{alias}{name}'))
        if norm < noise:
            assert actual < noise, name
        else:
            assert abs(actual - norm) <= GRAD_RTOL * norm, name


def test_unpadded_clip(case):
    preds, record = case.nopad['preds'], case.record
    assert_close(preds.logits[-1], record['nopad/pred_logits'])
    assert_close(preds.boxes[-1], record['nopad/pred_boxes'])
    assert_close(preds.masks[-1], record['nopad/pred_masks'])


def test_selection_and_mask_bits(case):
    if 'infer/query' not in case.record:
        assert case.valid_indices, 'only a2d cases record no selection'
        return
    selected = case.nopad['selected']
    assert int(selected.query[0, 0]) == int(
        case.record['infer/query'].ravel()[0]
    )
    scores = case.nopad['preds'].logits[-1, 0].sigmoid().mean(0).amax(-1)
    assert_close(scores, case.record['infer/scores'])
    masks = torch.stack([f.masks[0] for f in case.nopad['frames']])
    shape = tuple(case.record['infer/mask_shape'])
    expected = np.unpackbits(case.record['infer/mask_bits'])
    expected = expected[: np.prod(shape)].reshape(shape).astype(bool)
    equal = (masks.cpu().numpy() == expected).mean()
    assert equal >= 0.999, f'{equal:.4%} of the mask bits are equal'
