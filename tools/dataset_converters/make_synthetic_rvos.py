# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Write a set of synthetic referring videos in the Ref-YouTube-VOS layout."""

import argparse

from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos
from referformer.utils.cli import run


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    default = SyntheticParams()
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out', help='folder of the set')
    parser.add_argument(
        '--train-videos', type=int, default=default.train_videos
    )
    parser.add_argument(
        '--valid-videos', type=int, default=default.valid_videos
    )
    parser.add_argument(
        '--frames', type=int, default=default.frames, help='frames a video'
    )
    parser.add_argument('--height', type=int, default=default.height)
    parser.add_argument('--width', type=int, default=default.width)
    parser.add_argument('--seed', type=int, default=default.seed)
    parser.add_argument(
        '--colours',
        type=int,
        default=default.colours,
        help='how many colours appear; fewer are easier to learn',
    )
    parser.add_argument(
        '--shapes',
        type=int,
        default=default.shapes,
        help='how many shapes appear; fewer are easier to learn',
    )
    parser.add_argument(
        '--objects',
        type=int,
        default=default.objects,
        help='most objects in a video, 2 to 4; pairs are easier to learn',
    )
    return parser.parse_args()


def main() -> None:
    """Make the set."""
    args = vars(parse_args())
    out = args.pop('out')
    make_synthetic_rvos(out, SyntheticParams(**args))


if __name__ == '__main__':
    run(main)
