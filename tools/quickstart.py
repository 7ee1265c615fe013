# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Show the example model, teach it new objects, score and show the result.

Writes ``work_dirs/quickstart/report.html``, a page to open in a browser. Every
step is a command of this repository, printed before it runs; a finished step
is not repeated, and an interrupted training goes on where it stopped.
``--fresh`` starts over.
"""

import argparse
import signal
from pathlib import Path

from referformer.errors import ReferError
from referformer.testing.quickstart import (
    DEFAULT_RECIPE,
    RECIPES,
    run_quickstart,
)
from referformer.utils.cli import positive

ROOT = Path(__file__).resolve().parents[1]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Train a small model on drawn videos, score it on '
        'unseen ones and draw the result.'
    )
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/quickstart')
    )
    parser.add_argument(
        '--data-root', type=Path, default=Path('data/quickstart')
    )
    parser.add_argument(
        '--recipe',
        choices=tuple(RECIPES),
        default=DEFAULT_RECIPE,
        help='what to train: the example model on new kinds of objects, or '
        'another one from random weights (default: %(default)s)',
    )
    parser.add_argument(
        '--train-videos',
        type=positive,
        help="videos to learn from (default: the recipe's)",
    )
    parser.add_argument(
        '--valid-videos',
        type=positive,
        default=50,
        help='unseen videos to score',
    )
    parser.add_argument(
        '--epochs',
        type=positive,
        nargs='+',
        help='epochs of each training (default: as configured)',
    )
    parser.add_argument(
        '--fresh',
        action='store_true',
        help='forget an earlier run and draw its videos again',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the quickstart."""
    args = parse_args(argv)
    try:
        run_quickstart(ROOT, **vars(args))
    except ReferError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(
            '\nStopped. The same command goes on from here.'
        ) from None


if __name__ == '__main__':
    # `kill` and a job's time limit stop the running step too, as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
