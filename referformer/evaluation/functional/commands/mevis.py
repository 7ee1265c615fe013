# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``eval_masks.py mevis``: MeViS."""

import argparse
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from referformer.errors import DataError
from referformer.evaluation.functional.commands.expressions import (
    add_expression_arguments,
    score,
    table,
)

__all__ = [
    'DESCRIPTION',
    'HELP',
    'NAME',
    'add_arguments',
    'run',
    'table',
]

NAME = 'mevis'
HELP = 'J and F of MeViS (valid_u), from masks of expressions'
DESCRIPTION = (
    'Score each expression on all frames of its video against the union of '
    'the objects it means (maybe none), and average over expressions.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_expression_arguments(
        parser,
        'folder of a split, with meta_expressions.json and mask_dict.json',
        unannotated=False,
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Score.

    Raises:
        DataError: If a file is unusable.
    """
    from referformer.evaluation.functional.expression_scores import (
        Clip,
        TableTruth,
    )
    from referformer.formats.expressions import read_expressions
    from referformer.formats.mask_dict import open_mask_table

    path = args.gt / 'meta_expressions.json'
    clips = [
        Clip(
            video,
            tuple(entry['frames']),
            {
                name: _annotations(path, f'{video}/{name}', expression)
                for name, expression in entry['expressions'].items()
            },
        )
        for video, entry in read_expressions(path).items()
    ]
    truth = TableTruth(args.gt / 'mask_dict.json')
    # Now, so that processes forked later find it there.
    table = open_mask_table(truth.path)
    for clip in clips:
        for name in {a for t in clip.targets.values() for a in t}:
            length = len(table[name]) if name in table else 0
            if length != len(clip.frames):
                raise DataError(
                    f'{truth.path} has {length} masks of annotation {name} '
                    f'but {clip.video} has {len(clip.frames)} frames; the '
                    'file and meta_expressions.json belong to different '
                    'splits.'
                )
    return score(args, 'MeViS, per expression', clips, truth)


def _annotations(path: Path, name: str, expression: dict) -> Hashable:
    """Names of the annotations an expression means, sorted."""
    ids = expression.get('anno_id')
    if not isinstance(ids, list) or any(type(i) is not int for i in ids):
        raise DataError(
            f'{path}: {name} has anno_id {ids!r}; expected a list of numbers '
            '(the split "valid" has none: its ground truth is not public).'
        )
    return tuple(str(i) for i in sorted(set(ids)))
