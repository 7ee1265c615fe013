# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``eval_masks.py ref-ytvos``: Ref-YouTube-VOS on its released truth."""

import argparse
from pathlib import Path
from typing import Any

from referformer.evaluation.functional.commands.expressions import (
    add_expression_arguments,
    label_clips,
    label_truth,
    score,
    table,
)
from referformer.utils.console import warn

__all__ = [
    'DESCRIPTION',
    'HELP',
    'NAME',
    'add_arguments',
    'run',
    'table',
]

NAME = 'ref-ytvos'
HELP = 'J and F of Ref-YouTube-VOS, from masks of expressions or a submission'
DESCRIPTION = (
    'Score each expression of Ref-YouTube-VOS valid on all frames of its '
    'video, without matching, and average over expressions.'
)
_NUM_VIDEOS = 202


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_expression_arguments(
        parser, 'folder of the data set, with meta_expressions/ and valid/'
    )
    parser.add_argument(
        '--expressions',
        type=Path,
        metavar='FILE',
        help='expressions to score, with their obj_id (default: '
        '<gt>/meta_expressions/valid/meta_expressions.json)',
    )
    parser.add_argument(
        '--exclude',
        type=Path,
        metavar='FILE',
        help='expressions file of videos not to score; the one of valid lists '
        'those of test too (default: <gt>/meta_expressions/test/'
        'meta_expressions.json, if it exists)',
    )
    parser.add_argument(
        '--masks',
        type=Path,
        metavar='DIR',
        help='true label maps (default: <gt>/valid/Annotations)',
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Score.

    Raises:
        DataError: If a file is unusable.
    """
    from referformer.formats.expressions import read_expressions

    meta = args.gt / 'meta_expressions'
    path = args.expressions or meta / 'valid/meta_expressions.json'
    exclude = args.exclude
    if exclude is None:
        default = meta / 'test/meta_expressions.json'
        exclude = default if default.is_file() else None
    clips = label_clips(path, read_expressions(exclude) if exclude else ())
    if len(clips) != _NUM_VIDEOS:
        warn(
            f'{len(clips)} videos are to be scored; Ref-YouTube-VOS valid has '
            f'{_NUM_VIDEOS}, so the score is not comparable to published ones.'
        )
    truth = label_truth(args.masks or args.gt / 'valid/Annotations')
    return score(args, 'Ref-YouTube-VOS, per expression', clips, truth)
