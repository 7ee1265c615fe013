# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""How metrics keep, gather and write their results.

A batch gives one result, the list of its records: an item of the data set may
be a video with several expressions, and mmengine wants no more results than
items. On the way to the main process named tuples become plain ones, and what
a distributed sampler repeats to fill its last round arrives twice.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, TypeVar

from mmengine.logging import MMLogger

from referformer.errors import DataError
from referformer.evaluation.functional.expression_scores import MEASURES
from referformer.formats.files import write_json
from referformer.utils.console import shorten

Record = TypeVar('Record')


def gather_records(
    results: Iterable[Iterable[Any]],
    make: Callable[[Any], Record],
    key: Callable[[Record], tuple[str, ...]],
    owner: str,
) -> list[Record]:
    """Records of all batches, each once, in the order of their names.

    The order does not depend on which process made a record, nor do the
    scores, not even in their last digit.

    Args:
        results (Iterable[Iterable]): Records of each batch.
        make (Callable): Makes a record of what is left of it.
        key (Callable): Names a record.
        owner (str): The metric, for messages.

    Raises:
        DataError: If there is no record.
    """
    unique: dict[tuple[str, ...], Record] = {}
    repeated = set()
    for record in map(make, chain.from_iterable(results)):
        name = key(record)
        if name in unique:
            repeated.add('/'.join(filter(None, name)))
        # The first stays: a repeat adds nothing to the mean.
        unique.setdefault(name, record)
    if not unique:
        raise DataError(f'{owner} got no samples; is the data set empty?')
    if repeated:
        MMLogger.get_current_instance().warning(
            '%s got %d samples more than once and counts each once: %s.',
            owner,
            len(repeated),
            shorten(sorted(repeated)),
        )
    return [unique[name] for name in sorted(unique)]


def percent(scores: Mapping[str, Any], prefix: str = '') -> dict[str, float]:
    """Measures of expressions in percent, with names that start so."""
    return {
        f'{prefix}{name}': 100 * scores[name]
        for name in MEASURES
        if name in scores
    }


def write_table(path: str, table: Mapping[str, Any]) -> None:
    """Write scores in detail as JSON, and say where they are."""
    write_json(path, table)
    MMLogger.get_current_instance().info('Scores in detail are in %s.', path)
