# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``eval_masks.py davis``: folders of label maps."""

import argparse
import time
from typing import Any

from referformer.errors import DataError
from referformer.evaluation.functional.commands.common import (
    Scores,
    add_command,
    add_jobs,
)


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of argparse."""
    parser = add_command(
        commands,
        'davis',
        'J and F of folders of indexed PNGs, as DAVIS-2017 has them',
        'Score <video>/<frame>.png label maps: 0 = background, 255 = void '
        '(not scored), other values = object ids. All frames in --gt are '
        'scored; a video or frame missing in --pred is an error.',
        _run,
        _table,
        'true masks',
        'predicted masks, same names and sizes',
    )
    parser.add_argument(
        '--protocol',
        choices=('identity', 'unsupervised'),
        required=True,
        help='identity: prediction k is object k; unsupervised: the ids are '
        'proposals (at most 20), assigned to objects once a video so that '
        'J&F is largest',
    )
    add_jobs(parser)


def _run(args: argparse.Namespace) -> Scores:
    from referformer.evaluation.functional.label_folders import (
        score_label_folders,
    )
    from referformer.evaluation.functional.protocols import (
        count_frames,
        summarize,
    )

    begin = time.monotonic()
    preds = [args.pred]
    (videos,) = score_label_folders(args.gt, preds, args.protocol, args.jobs)
    try:
        summary = summarize(videos)
    except DataError as error:
        raise DataError(f'{args.gt}: {error}', file=args.gt) from None
    print(
        f'DAVIS measures, protocol {args.protocol}: '
        f'{len(videos)} videos, {len(summary["per_object"])} objects, '
        f'{count_frames(videos)} frames, {time.monotonic() - begin:.1f} s'
    )
    return summary


def _table(scores: Scores) -> str:
    return '\n'.join(
        f'{name:9} {100 * value:6.2f}'
        for name, value in scores.items()
        if name != 'per_object'
    )
