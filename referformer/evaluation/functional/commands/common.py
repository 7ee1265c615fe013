# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Arguments that commands share."""

import argparse
from pathlib import Path

from referformer.utils.parallel import count_cores


def add_paths(
    parser: argparse.ArgumentParser,
    gt_help: str,
    pred_help: str,
    metavar: str = 'DIR',
) -> None:
    """Add ``--gt``, ``--pred`` and ``--out``.

    Args:
        parser (argparse.ArgumentParser): Parser of the command.
        gt_help (str): What the ground truth is.
        pred_help (str): What the prediction is.
        metavar (str): What is given for either.
    """
    parser.add_argument(
        '--gt', type=Path, required=True, metavar=metavar, help=gt_help
    )
    parser.add_argument(
        '--pred', type=Path, required=True, metavar=metavar, help=pred_help
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='FILE.json',
        help='where to write the scores',
    )


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add ``--jobs``."""
    parser.add_argument(
        '--jobs',
        type=positive_int,
        default=count_cores(),
        metavar='N',
        help='processes (default: one a core, here %(default)s)',
    )


def positive_int(text: str) -> int:
    """Argparse type of a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a whole number of at least 1'
        )
    return int(text)
