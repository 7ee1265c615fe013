# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Two results on the same expressions: what differs, and is it chance?

Expressions of one video share its frames and often its object, so their
scores are not independent. Therefore the bootstrap draws videos with all of
their expressions, not single expressions; that would give an interval which
is too narrow.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from referformer.errors import ConfigError, DataError
from referformer.formats.text_files import read_json
from referformer.utils.console import shorten

DEFAULT_MEASURES = ('J&F', 'IoU', 'box IoU')
"""What is compared by default: the first that a file has."""

# Numbers that a batch of resamples may hold.
_BATCH = 1 << 22
# Differences below are rounding of percent to fractions.
_EPS = 1e-9


class Unit(NamedTuple):
    """What has a score of its own: an expression, or the objects of a video.

    Attributes:
        video (str): Its video or picture.
        weight (float): Objects it stands for.
        measures (dict[str, float]): Fractions.
        attributes (dict[str, str]): Of the expression.
        text (str): The expression, if the file has it.
    """

    video: str
    weight: float
    measures: dict[str, float]
    attributes: dict[str, str]
    text: str = ''


def read_units(path: str | Path) -> dict[str, Unit]:
    """Read the scores of every expression from a file of scores.

    Label maps have scores of objects. The unsupervised protocol numbers them
    by proposal, so object *k* of two files need not be the same: the mean
    over the objects of a video is one unit.

    Args:
        path: JSON of ``tools/eval_masks.py``, or ``outfile`` of a metric.

    Returns:
        By name, ``<video>/<expression>`` or ``<video>``.

    Raises:
        DataError: If it is no such file.
    """
    content = read_json(path, what='scores')
    tables = content if isinstance(content, dict) else {}
    try:
        if 'per_expression' in tables:
            scale = 0.01 if tables.get('unit') == 'percent' else 1
            return {
                name: _read_expression(name, entry, scale)
                for name, entry in tables['per_expression'].items()
            }
        annotators = tables.get('per_annotator', {'': tables}).values()
        objects = [
            (name.rpartition('_')[0], entry['J'][0], entry['F'][0])
            for annotator in annotators
            for name, entry in annotator.get('per_object', {}).items()
        ]
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f'{path} has an entry that is no score ({error!r}); give a file '
            'that tools/eval_masks.py or a metric wrote.',
            file=path,
        ) from error
    if not objects:
        raise DataError(
            f'{path} holds means only, no scores of expressions. The result '
            'of tools/eval_masks.py has them, and so has the "outfile" of '
            'the metric: tools/test.py --cfg-options '
            'test_evaluator.outfile=FILE.json.',
            file=path,
        )
    videos: dict[str, list[tuple[float, float]]] = {}
    for video, j, f in objects:
        videos.setdefault(video, []).append((j, f))
    return {
        video: Unit(video, len(rows), _jf(*np.mean(rows, axis=0)), {})
        for video, rows in videos.items()
    }


def _jf(j: float, f: float) -> dict[str, float]:
    return {'J&F': float(j + f) / 2, 'J': float(j), 'F': float(f)}


def _read_expression(name: str, entry: Mapping, scale: float) -> Unit:
    """One entry of ``per_expression``."""
    other = ('num_frames', 'has_target', 'answered')
    measures = {
        key: scale * value
        for key, value in entry.items()
        if isinstance(value, int | float) and key not in other
    }
    video = entry.get('video', name.rpartition('/')[0] or name)
    attributes = dict(entry.get('attributes', {}))
    return Unit(video, 1, measures, attributes, entry.get('text', ''))


class Interval(NamedTuple):
    """Mean and its confidence interval; NaN for a single video."""

    mean: float
    low: float
    high: float


def clustered_interval(
    sums: np.ndarray,
    weights: np.ndarray,
    level: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of a weighted mean over units in clusters.

    Clusters (videos) are drawn with replacement. The percentiles are those
    of the *expanded* percentile interval (Hesterberg, What Teachers Should
    Know About the Bootstrap, 2015, section 5.3), which makes up for the
    narrowness of the plain one with few clusters: the tail of Student's t
    instead of the normal distribution, and n / (n - 1).

    Args:
        sums (np.ndarray): Weighted sum of the values of each cluster, shape
            (..., n); several data sets at once have further dimensions.
        weights (np.ndarray): Sum of the weights of each cluster, likewise.
        level (float): Share of the cases that an interval is to cover.
        resamples (int): Draws.
        seed (int): Of the draws.

    Returns:
        Interval: Each of the shape (...).
    """
    # It takes longer to import than everything else together.
    from scipy import stats

    n = sums.shape[-1]
    mean = sums.sum(-1) / weights.sum(-1)
    if n < 2:
        nothing = np.full(np.shape(mean), np.nan)[()]
        return Interval(mean, nothing, nothing)
    tail = stats.norm.cdf(
        np.sqrt(n / (n - 1)) * stats.t.ppf((1 - level) / 2, n - 1)
    )
    found = stats.bootstrap(
        (sums, weights),
        lambda s, w, axis=-1: s.sum(axis) / w.sum(axis),
        paired=True,
        vectorized=True,
        axis=-1,
        method='percentile',
        confidence_level=1 - 2 * tail,
        n_resamples=resamples,
        batch=max(1, _BATCH // sums.size),
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, found.low, found.high)


def compare_scores(
    first: Mapping[str, Unit],
    second: Mapping[str, Unit],
    measure: str | None = None,
    level: float = 0.95,
    group_by: Sequence[str] = (),
    resamples: int = 9999,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare two results, unit by unit.

    Args:
        first (Mapping[str, Unit]): Result A.
        second (Mapping[str, Unit]): Result B, on the same units.
        measure (str, optional): What to compare. Defaults to None: the first
            of :data:`DEFAULT_MEASURES` that both have.
        level (float): Of the intervals.
        group_by (Sequence[str]): Attributes by which to compare as well.
        resamples (int): See :func:`clustered_interval`.
        seed (int): Likewise.

    Returns:
        dict: ``measure``, ``level``; ``groups``: ``all`` and
        ``<attribute>=<value>`` -> ``A`` and ``B``, the means;
        ``difference``, B - A, with ``low`` and ``high``, None for a single
        video; ``num``, ``num_videos``; ``better``, ``equal``, ``worse``, how
        many units are so in B; ``units``: name -> ``A``, ``B``,
        ``difference``, ``text``, by the size of the difference.

    Raises:
        DataError: If the two are not about the same units.
        ConfigError: If a measure or an attribute is not there.
    """
    lost = [sorted(a.keys() - b.keys()) for a, b in _both(first, second)]
    if any(lost):
        text = '; '.join(
            f'only {label} has {len(names)}: {shorten(names)}'
            for label, names in zip('AB', lost, strict=True)
            if names
        )
        raise DataError(
            f'The two files do not score the same expressions ({text}); '
            'score both on one data set.'
        )
    known = [
        name
        for name in next(iter(first.values())).measures
        if all(name in u.measures for t in (first, second) for u in t.values())
    ]
    usual = (name for name in DEFAULT_MEASURES if name in known)
    measure = measure or next(usual, None)
    if measure not in known:
        raise ConfigError(
            f'The files do not both have the measure {measure!r} of every '
            f'expression; they have: {", ".join(known) or "none"}.',
            value=measure,
        )
    groups: dict[str, list[str]] = {'all': list(first)}
    for attribute in group_by:
        values = {n: u.attributes.get(attribute) for n, u in first.items()}
        if not any(values.values()):
            raise ConfigError(
                f'No expression has the attribute {attribute!r} in the first '
                'file; score with a file of expressions that tells it.',
                value=attribute,
            )
        for value in sorted(set(values.values()), key=str):
            label = f'{attribute}={value or "none"}'
            groups[label] = [n for n, v in values.items() if v == value]
    pairs = {
        name: (first[name].measures[measure], second[name].measures[measure])
        for name in first
    }
    units = {
        name: {
            'A': a,
            'B': b,
            'difference': b - a,
            'text': first[name].text or second[name].text,
        }
        for name, (a, b) in pairs.items()
    }
    return {
        'measure': measure,
        'level': level,
        'groups': {
            label: _compare_group(
                [first[n] for n in names],
                np.array([pairs[n] for n in names]),
                level,
                resamples,
                seed,
            )
            for label, names in groups.items()
        },
        'units': dict(
            sorted(
                units.items(),
                key=lambda item: (-abs(item[1]['difference']), item[0]),
            )
        ),
    }


def _both(first: Any, second: Any) -> tuple[tuple, tuple]:
    return (first, second), (second, first)


def _compare_group(
    units: Sequence[Unit],
    pairs: np.ndarray,
    level: float,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Compare some units; ``pairs`` has the values of A and B, (n, 2)."""
    weights = np.array([unit.weight for unit in units])
    _, videos = np.unique([unit.video for unit in units], return_inverse=True)
    differences = pairs[:, 1] - pairs[:, 0]
    interval = clustered_interval(
        np.bincount(videos, weights * differences),
        np.bincount(videos, weights),
        level,
        resamples,
        seed,
    )
    known = bool(np.isfinite(interval.low))
    means = (weights @ pairs / weights.sum()).tolist()
    return {
        'A': means[0],
        'B': means[1],
        'difference': float(interval.mean),
        'low': float(interval.low) if known else None,
        'high': float(interval.high) if known else None,
        'num': len(units),
        'num_videos': int(videos.max()) + 1,
        'better': int((differences > _EPS).sum()),
        'equal': int((abs(differences) <= _EPS).sum()),
        'worse': int((differences < -_EPS).sum()),
    }


def format_comparison(report: Mapping[str, Any], top: int = 20) -> str:
    """Lay a comparison out in percent: groups, then what differs most."""
    level = f'{100 * report["level"]:g} %'
    width = max(map(len, report['groups']))
    lines = [
        f'{report["measure"]} in percent; B - A with its {level} interval '
        '(paired bootstrap over videos)',
        f'{"":{width}} {"A":>7}{"B":>7}{"B - A":>8}  {"interval":^17}'
        f'{"number":>8}{"videos":>7}{"better":>7}{"equal":>6}{"worse":>6}',
    ]
    for label, row in report['groups'].items():
        interval = 'one video'
        if row['low'] is not None:
            low, high = 100 * row['low'], 100 * row['high']
            interval = f'{low:+.2f} to {high:+.2f}'
        lines.append(
            f'{label:{width}} {100 * row["A"]:7.2f}{100 * row["B"]:7.2f}'
            f'{100 * row["difference"]:+8.2f}  {interval:^17}'
            f'{row["num"]:8}{row["num_videos"]:7}{row["better"]:7}'
            f'{row["equal"]:6}{row["worse"]:6}'
        )
    chosen = differing_most(report, top)
    if chosen:
        lines += ['', f'{"A":>7}{"B":>7}{"B - A":>8}  differ most']
    for name in chosen:
        unit = report['units'][name]
        numbers = (
            f'{100 * unit["A"]:7.2f}{100 * unit["B"]:7.2f}'
            f'{100 * unit["difference"]:+8.2f}'
        )
        lines.append(f'{numbers}  {name}  {unit["text"]}'.rstrip())
    return '\n'.join(lines)


def differing_most(report: Mapping[str, Any], number: int) -> list[str]:
    """Names of the units that differ most, those that differ at all."""
    names = [
        name
        for name, unit in report['units'].items()
        if abs(unit['difference']) > _EPS
    ]
    return names[:number]
