# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The arguments and words that commands share."""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from referformer.utils.cli import add_traceback, positive
from referformer.utils.parallel import count_cores

Scores = dict[str, Any]
"""Fractions by name, and how and on what they were computed."""


def add_command(
    commands: Any,
    name: str,
    summary: str,
    description: str,
    run: Callable[[argparse.Namespace], Scores],
    table: Callable[[Scores], str],
    gt: str,
    pred: str,
    metavar: str = 'DIR',
) -> argparse.ArgumentParser:
    """Add a command with ``--gt``, ``--pred``, ``--out``, ``--traceback``.

    ``run`` scores and raises ``DataError`` if a file is unusable, ``table``
    words the scores in percent; ``gt`` and ``pred`` say what is to be given,
    a ``metavar`` each.
    """
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(run=run, table=table)
    for option, kind, text in (
        ('--gt', metavar, gt),
        ('--pred', metavar, pred),
        ('--out', 'FILE.json', 'where to write the scores'),
    ):
        parser.add_argument(
            option, type=Path, required=True, metavar=kind, help=text
        )
    add_traceback(parser)
    return parser


def add_choice(
    parser: argparse.ArgumentParser, name: str, choices: str, text: str
) -> None:
    """Add a switch; the first of its choices is the default."""
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
        type=positive,
        default=count_cores(),
        metavar='N',
        help='processes (default: one a core, here %(default)s)',
    )


def add_expression_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--group-by`` and ``--robustness``: what is reported."""
    parser.add_argument(
        '--group-by',
        nargs='+',
        default=(),
        metavar='ATTRIBUTE',
        help='attributes of expressions, such as type: print the means of '
        'the expressions with each value as well',
    )
    parser.add_argument(
        '--robustness',
        action='store_true',
        help='report R of ReVOS, how little is predicted outside of the '
        'object',
    )


def note_protocol(
    title: str,
    switches: Mapping[str, str],
    counts: Mapping[str, int],
    text: str,
    begin: float,
) -> dict[str, Any]:
    """Print what was scored and how, and return it for the file of scores.

    ``text`` is a format that words the counts, ``begin`` the time of
    ``time.monotonic()`` when it began.
    """
    print(', '.join([title, *(f'{k} = {v}' for k, v in switches.items())]))
    seconds = time.monotonic() - begin
    print(f'{text.format_map(counts)}, {seconds:.1f} s')
    return {'name': title, **switches, **counts}
