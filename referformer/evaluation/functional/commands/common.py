# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What a command is, and the arguments and words that commands share."""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from referformer.utils.parallel import count_cores

Scores = dict[str, Any]
"""Fractions by name, and how and on what they were computed."""


class Command(NamedTuple):
    """A command of ``tools/eval_masks.py``.

    Attributes:
        name (str): Its name.
        help (str): What it does, in one line.
        description (str): The same in some more words.
        add_arguments (Callable): Adds its arguments to a parser.
        run (Callable): Scores; raises ``DataError`` if a file is unusable.
        table (Callable): Words the scores in percent, for people.
    """

    name: str
    help: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Scores]
    table: Callable[[Scores], str]


def add_paths(
    parser: argparse.ArgumentParser,
    gt_help: str,
    pred_help: str,
    metavar: str = 'DIR',
) -> None:
    """Add ``--gt``, ``--pred``, ``--out`` and ``--traceback``.

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
    # Read by utils.cli.run, which catches the errors.
    parser.add_argument(
        '--traceback',
        action='store_true',
        help='print the whole traceback of an error',
    )


def add_choice(
    parser: argparse.ArgumentParser, name: str, choices: str, text: str
) -> None:
    """Add a switch whose first value is the default.

    Args:
        parser (argparse.ArgumentParser): Parser of the command.
        name (str): Name of the switch.
        choices (str): Its values, separated by spaces.
        text (str): What it means.
    """
    values = choices.split()
    parser.add_argument(
        name,
        choices=values,
        default=values[0],
        help=f'{text} (default: %(default)s)',
    )


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add ``--jobs``."""
    parser.add_argument(
        '--jobs',
        type=_positive_int,
        default=count_cores(),
        metavar='N',
        help='processes (default: one a core, here %(default)s)',
    )


def _positive_int(text: str) -> int:
    """Argparse type of a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a whole number of at least 1'
        )
    return int(text)


def print_protocol(
    title: str, switches: Mapping[str, str], counts: str, begin: float
) -> None:
    """Say what was scored, and how.

    Args:
        title (str): Name of the set and the protocol.
        switches (Mapping[str, str]): What the score depends on.
        counts (str): How much was scored.
        begin (float): When it began, ``time.monotonic()``.
    """
    said = [title, *(f'{key} = {value}' for key, value in switches.items())]
    print(', '.join(said))
    print(f'{counts}, {time.monotonic() - begin:.1f} s')
