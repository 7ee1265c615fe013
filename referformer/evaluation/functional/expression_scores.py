# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Measures of expressions, each scored on its own on all frames of its video.

============== =============================================================
``J``, ``F``    mean over the frames (DAVIS)
``J&F``         mean of the two
``tIoU``        frames in which both masks show something, over frames in
                which one of them does; 1 if there are none (Long-RVOS)
``vIoU``        sum of J over the former, over the number of the latter
                (Long-RVOS)
``R``           mean over the frames of 1 - false pixels / pixels of all
                objects of the video, at least 0 (ReVOS)
``N-acc``       share of the expressions without target for which nothing is
                predicted in any frame (GRES)
``T-acc``       share of those with a target for which something is
                predicted in some frame (GRES)
============== =============================================================

Sources: ``eval/eval_long_rvos`` of iSEE-Laboratory/Long_RVOS,
``tools/metrics.py`` of cilinyan/VISA (ReVOS), and
``gres_model/evaluation/refer_evaluation.py`` of henghuiding/ReLA (GRES).
docs/evaluation.md has the formulas.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from referformer.errors import ConfigError, DataError
from referformer.evaluation.functional.tracks import TargetScores
from referformer.formats.davis_text import NUM_ANNOTATORS

MEASURES = ('J&F', 'J', 'F', 'tIoU', 'vIoU', 'R', 'N-acc', 'T-acc')
"""Every measure of expressions, in the order of tables."""

# Keeps the quotient of R finite, as in the published code.
_EPS = 1e-6

Entry = Mapping[str, Any]
"""Measures of one expression, see :func:`measure_expression`."""


class ExpressionProtocol(NamedTuple):
    """What is reported of expressions.

    Attributes:
        group_by (tuple[str, ...]): Attributes of expressions, such as
            ``type``: the means of the expressions with each value.
        robustness (bool): Whether to report ``R``. It needs all expressions
            of a video at once.
    """

    group_by: tuple[str, ...] = ()
    robustness: bool = False


_PLAIN = ExpressionProtocol()


def measure_expression(scores: TargetScores) -> dict[str, Any]:
    """Measure one expression over the frames of its video.

    A frame without prediction counts as wrong in every measure, also where
    nothing is to be seen.

    Args:
        scores (TargetScores): Its T frames, T > 0.

    Returns:
        dict: ``J&F``, ``J``, ``F``, ``tIoU``, ``vIoU``, ``R``, fractions;
        ``num_frames``; ``has_target``, whether any frame shows what the
        expression means; ``answered``, whether anything was predicted for
        it.
    """
    j, f = float(scores.j.mean()), float(scores.f.mean())
    missing = np.isnan(scores.pred_area)
    shown, found = scores.true_area > 0, scores.pred_area > 0
    both = shown & found
    either = int((shown | found | missing).sum())
    false_share = scores.false_area / (scores.foreground + _EPS)
    robust = np.where(missing, 0, np.maximum(1 - false_share, 0))
    has_target = bool(shown.any())
    return {
        'J&F': (j + f) / 2,
        'J': j,
        'F': f,
        'tIoU': int(both.sum()) / either if either else 1.0,
        'vIoU': float(scores.j[both].sum()) / either if either else 1.0,
        'R': float(robust.mean()),
        'num_frames': len(scores.j),
        'has_target': has_target,
        # Of an expression without target, a missing mask is no answer that
        # nothing is there.
        'answered': bool((found if has_target else found | missing).any()),
    }


def mean_scores(entries: Iterable[Entry]) -> dict[str, float]:
    """Mean measures of entries with at least ``J`` and ``F``.

    The same to the last bit, in whatever order they come; at least one.
    ``N-acc`` and ``T-acc`` are there if an expression has no target, the
    latter if another one has.
    """
    entries = list(entries)

    def mean(name: str) -> float:
        return math.fsum(entry[name] for entry in entries) / len(entries)

    j, f = mean('J'), mean('F')
    means = {'J&F': (j + f) / 2, 'J': j, 'F': f}
    for name in ('tIoU', 'vIoU', 'R'):
        if name in entries[0]:
            means[name] = mean(name)
    answers: dict[bool, list[bool]] = {False: [], True: []}
    for entry in entries:
        if 'has_target' in entry:
            answers[entry['has_target']].append(entry['answered'])
    if answers[False]:
        means['N-acc'] = answers[False].count(False) / len(answers[False])
        if answers[True]:
            means['T-acc'] = answers[True].count(True) / len(answers[True])
    return means


def summarize_expressions(
    entries: Mapping[str, Entry],
    protocol: ExpressionProtocol = _PLAIN,
) -> dict[str, Any]:
    """Average over expressions, all and by attribute.

    Args:
        entries (Mapping): By ``<video>/<expression>``, not empty:
            :func:`measure_expression`, and ``attributes``, a mapping of
            texts, if there are any.
        protocol (ExpressionProtocol): What to report.

    Returns:
        dict: :func:`mean_scores` of all; ``per_attribute``, if asked for:
        attribute -> ``groups``, value -> means and ``num_expressions``, and
        ``mean``, the mean over the groups; ``per_expression``, the entries.

    Raises:
        ConfigError: If no expression has an attribute that is asked for.
    """
    entries = {
        name: {
            key: value
            for key, value in entries[name].items()
            if key != 'R' or protocol.robustness
        }
        for name in sorted(entries)
    }
    summary: dict[str, Any] = mean_scores(entries.values())
    if protocol.group_by:
        summary['per_attribute'] = {
            attribute: _group(entries, attribute)
            for attribute in protocol.group_by
        }
    return {**summary, 'per_expression': entries}


def _group(entries: Mapping[str, Entry], attribute: str) -> dict[str, Any]:
    """Means of the expressions with each value of an attribute."""
    groups: dict[str, list[Entry]] = {}
    known: set[str] = set()
    for entry in entries.values():
        attributes = entry.get('attributes') or {}
        known.update(attributes)
        groups.setdefault(attributes.get(attribute, 'none'), []).append(entry)
    if attribute not in known:
        choice = 'none at all; group by nothing'
        if known:
            choice = f'{", ".join(sorted(known))}; group by one of these'
        raise ConfigError(
            f'No expression has the attribute {attribute!r} to group by. '
            f'They have {choice}.',
            value=attribute,
        )
    means = {value: mean_scores(groups[value]) for value in sorted(groups)}
    shared = [m for m in MEASURES if all(m in g for g in means.values())]
    return {
        'groups': {
            value: {**scores, 'num_expressions': len(groups[value])}
            for value, scores in means.items()
        },
        'mean': {
            name: math.fsum(g[name] for g in means.values()) / len(means)
            for name in shared
        },
    }


def group_rows(summary: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Rows of a table for ``per_attribute`` of a summary, by their names."""
    rows = {}
    for attribute, found in summary.get('per_attribute', {}).items():
        for value, scores in found['groups'].items():
            rows[f'{attribute}={value}'] = scores
        rows[f'mean over {attribute}'] = found['mean']
    return rows


def split_annotators(
    per_expression: Mapping[str, Mapping[str, float]],
) -> dict[str, dict[str, float]]:
    """Mean measures of each annotator, ``anno_<i>``.

    Args:
        per_expression (Mapping): ``<video>/<expression>`` -> ``J``, ``F``.

    Raises:
        DataError: If the expressions are not numbered as in Ref-DAVIS17.
    """
    groups: dict[str, list[Mapping[str, float]]] = {}
    for name, entry in per_expression.items():
        number = name.rpartition('/')[2]
        if not number.isdecimal():
            raise DataError(
                f'The expression {name} has no number; in Ref-DAVIS17 number '
                '4 * k + a is what annotator a says of object k.'
            )
        key = f'anno_{int(number) % NUM_ANNOTATORS}'
        groups.setdefault(key, []).append(entry)
    return {key: mean_scores(groups[key]) for key in sorted(groups)}
