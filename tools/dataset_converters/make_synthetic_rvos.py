# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Write a set of synthetic referring videos in the Ref-YouTube-VOS layout."""

import argparse
from dataclasses import asdict

from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos
from referformer.utils.cli import run

HELP = {
    'frames': 'frames a video',
    'colours': 'how many colours appear; fewer are easier to learn',
    'shapes': 'how many shapes appear; fewer are easier to learn',
    'objects': 'most objects in a video, 2 to 4; pairs are easier to learn',
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out', help='folder of the set')
    for name, default in asdict(SyntheticParams()).items():
        parser.add_argument(
            f'--{name.replace("_", "-")}',
            type=int,
            default=default,
            help=HELP.get(name, ' '),
        )
    return parser.parse_args()


def main() -> None:
    """Make the set."""
    args = vars(parse_args())
    out = args.pop('out')
    make_synthetic_rvos(out, SyntheticParams(**args))


if __name__ == '__main__':
    run(main)
