# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``eval_masks.py davis``: folders of label maps."""

import argparse
import time
from typing import Any

from referformer.errors import DataError
from referformer.evaluation.functional.commands.common import (
    add_jobs,
    add_paths,
)

NAME = 'davis'
HELP = 'J and F of folders of indexed PNGs, as DAVIS-2017 has them'
DESCRIPTION = (
    'Score <video>/<frame>.png label maps: 0 = background, 255 = void (not '
    'scored), other values = object ids. All frames in --gt are scored; a '
    'video or frame missing in --pred is an error.'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_paths(parser, 'true masks', 'predicted masks, same names and sizes')
    parser.add_argument(
        '--protocol',
        choices=('identity', 'unsupervised'),
        required=True,
        help='identity: prediction k is object k; unsupervised: the ids are '
        'proposals (at most 20), assigned to objects once a video so that '
        'J&F is largest',
    )
    add_jobs(parser)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Score.

    Raises:
        DataError: If a folder or file is unusable.
    """
    from referformer.evaluation.functional.davis import summarize
    from referformer.evaluation.functional.label_folder import (
        score_label_folders,
    )

    begin = time.monotonic()
    (scores,) = score_label_folders(
        args.gt, [args.pred], args.protocol, args.jobs
    )
    try:
        summary = summarize(scores.videos)
    except ValueError as error:
        raise DataError(f'{args.gt}: {error}') from None
    print(
        f'DAVIS measures, protocol {args.protocol}: '
        f'{len(scores.videos)} videos, {len(summary["per_object"])} objects, '
        f'{scores.num_frames} frames, {time.monotonic() - begin:.1f} s'
    )
    return summary


def table(scores: dict[str, Any]) -> str:
    """The scores in percent, for people."""
    return '\n'.join(
        f'{name:9} {100 * value:6.2f}'
        for name, value in scores.items()
        if name != 'per_object'
    )
