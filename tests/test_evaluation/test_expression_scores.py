# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""tIoU, vIoU, R, N-acc, T-acc and means by attribute."""

import math

import numpy as np
import pytest

from referformer.errors import ConfigError
from referformer.evaluation.functional import (
    ExpressionProtocol,
    TargetScores,
    mean_scores,
    measure_expression,
    region_similarity,
    score_targets,
    summarize_expressions,
)
from referformer.evaluation.functional.expression_scores import group_rows

from .helpers import random_masks

SHAPE = (12, 20)


def measure(preds, gts, others=()):
    """Measure one expression; ``others`` are objects of the video."""
    targets = ['mine', *map(str, range(len(others)))]
    frames = []
    for t, pred in enumerate(preds):
        truths = dict(
            zip(targets, (gts[t], *(o[t] for o in others)), strict=True)
        )
        masks = [pred, *(o[t] for o in others)]
        frames.append(
            score_targets(
                masks, targets, lambda name, _, m=truths: m[name], shape=SHAPE
            )
        )
    return measure_expression(TargetScores(*np.stack(frames, 2)[:, 0]))


def boxes(*spans):
    """A mask a frame: columns from a to b of rows 2 to 6; None is empty."""
    masks = np.zeros((len(spans), *SHAPE), bool)
    for mask, span in zip(masks, spans, strict=True):
        if span is not None:
            mask[2:6, slice(*span)] = True
    return masks


def test_by_hand():
    # Frames: half right, missed, false alarm, rightly empty, right.
    gts = boxes((0, 8), (0, 8), None, None, (4, 8))
    preds = boxes((0, 4), None, (9, 12), None, (4, 8))
    found = measure(preds, gts, others=[boxes(*[(14, 20)] * 5)])
    assert found['J'] == pytest.approx((0.5 + 0 + 0 + 1 + 1) / 5)
    # Two of the four frames in which a mask shows something.
    assert found['tIoU'] == 2 / 4
    assert found['vIoU'] == pytest.approx((0.5 + 1) / 4)
    # 12 false pixels in a frame that shows 24 of another object.
    assert found['R'] == pytest.approx((4 + 1 - 12 / 24) / 5)
    assert found['has_target']
    assert found['answered']
    assert found['num_frames'] == 5


def test_against_the_definitions():
    rng = np.random.default_rng(0)
    for _ in range(20):
        preds, gts, other = (random_masks(rng, 7, SHAPE) for _ in range(3))
        for masks in (preds, gts):
            masks[rng.random(7) < 0.3] = False
        found = measure(preds, gts, [other])
        both = [t for t in range(7) if preds[t].any() and gts[t].any()]
        either = [t for t in range(7) if preds[t].any() or gts[t].any()]
        j = [region_similarity(p, g) for p, g in zip(preds, gts, strict=True)]
        assert found['J'] == pytest.approx(np.mean(j))
        assert found['tIoU'] == pytest.approx(len(both) / len(either))
        assert found['vIoU'] == pytest.approx(
            sum(j[t] for t in both) / len(either)
        )
        robust = [
            max(1 - (p & ~g).sum() / ((g | o).sum() + 1e-6), 0)
            for p, g, o in zip(preds, gts, other, strict=True)
        ]
        assert found['R'] == pytest.approx(np.mean(robust), abs=1e-12)


def test_without_a_target():
    nothing = boxes(None, None)
    silent = measure(nothing, nothing)
    assert silent == {
        **dict.fromkeys(('J&F', 'J', 'F', 'tIoU', 'vIoU', 'R'), 1),
        'num_frames': 2,
        'has_target': False,
        'answered': False,
    }
    wrong = measure(boxes(None, (3, 5)), nothing)
    assert (wrong['J'], wrong['tIoU'], wrong['vIoU']) == (0.5, 0, 0)
    # There is no object: what is predicted cannot be small.
    assert wrong['R'] == 0.5
    assert wrong['answered']


def test_a_missing_mask_is_wrong_everywhere():
    nothing, gts = boxes(None, None), boxes(None, (0, 4))
    lost = measure([None, nothing[1]], nothing)
    assert (lost['J'], lost['tIoU'], lost['vIoU'], lost['R']) == (
        0.5,
        0,
        0,
        0.5,
    )
    # Not writing a mask does not say that nothing is there ...
    assert lost['answered']
    # ... nor that something is.
    lost = measure([None, None], gts)
    assert lost['has_target']
    assert not lost['answered']
    assert (lost['J'], lost['tIoU']) == (0, 0)
    assert measure([None, gts[1]], gts)['tIoU'] == 0.5


def entry(j, target=True, answered=True, **attributes):
    return {
        **{'J': j, 'F': j / 2, 'tIoU': j, 'vIoU': j, 'R': j},
        **{'has_target': target, 'answered': answered},
        'attributes': attributes,
    }


def test_accuracies():
    rows = [entry(0.5), entry(0.25, answered=False)]
    # Every expression means something: nothing to say.
    assert 'N-acc' not in mean_scores(rows)
    rows += [entry(1, False, False), entry(0, False), entry(0, False)]
    means = mean_scores(rows)
    assert means['N-acc'] == 1 / 3
    assert means['T-acc'] == 1 / 2
    assert means['J'] == 0.35
    assert means['J&F'] == pytest.approx(0.75 * 0.35)
    only = mean_scores(rows[2:])
    assert only['N-acc'] == 1 / 3
    assert 'T-acc' not in only


def test_means_by_attribute():
    entries = {
        'v/0': entry(0.2, type='static', size='small'),
        'v/1': entry(0.4, type='static'),
        'w/0': entry(0.9, type='dynamic'),
    }
    whole = summarize_expressions(entries)
    assert 'per_attribute' not in whole
    assert 'R' not in whole
    assert 'R' not in whole['per_expression']['v/0']
    assert whole['J'] == pytest.approx(0.5)
    protocol = ExpressionProtocol(('type', 'size'), robustness=True)
    summary = summarize_expressions(dict(reversed(entries.items())), protocol)
    assert summary['R'] == whole['J']
    found = summary['per_attribute']['type']
    assert list(found['groups']) == ['dynamic', 'static']
    assert found['groups']['static']['J'] == pytest.approx(0.3)
    assert found['groups']['static']['num_expressions'] == 2
    # ReVOS reports the mean over types, which differ in number.
    assert found['mean']['J'] == pytest.approx(0.6)
    assert list(summary['per_attribute']['size']['groups']) == [
        'none',
        'small',
    ]
    rows = group_rows(summary)
    assert list(rows)[:3] == ['type=dynamic', 'type=static', 'mean over type']
    assert rows['mean over type']['R'] == pytest.approx(0.6)
    # Numbers are those of the group alone, to the last bit.
    alone = mean_scores([entries['v/0'], entries['v/1']])
    assert found['groups']['static'].items() >= alone.items()
    assert math.isclose(alone['J'], 0.3)


def test_unknown_attribute():
    with pytest.raises(ConfigError, match=r"'kind' .* They have type; group"):
        summarize_expressions(
            {'v/0': entry(1, type='static')}, ExpressionProtocol(('kind',))
        )
