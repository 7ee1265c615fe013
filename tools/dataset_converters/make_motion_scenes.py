# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Write drawn videos whose expressions need motion and relations.

In the Ref-YouTube-VOS layout; see docs/datasets/synthetic.md.
"""

import argparse
from dataclasses import asdict

from referformer.testing.motion_scenes import MotionSceneParams
from referformer.testing.scenes import make_synthetic_rvos
from referformer.utils.cli import run
from referformer.utils.parallel import count_cores

HELP = {
    'frames': 'frames a video',
    'first_kind': 'number of the first kind of objects that appears',
    'kinds': 'how many kinds of objects appear',
    'cue': 'in what the twins of every video differ: colour, kind, size, '
    'pattern, motion, relation, or all for a mixture',
}


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('out', help='folder of the set')
    for name, default in asdict(MotionSceneParams()).items():
        parser.add_argument(
            f'--{name.replace("_", "-")}',
            type=type(default),
            default=default,
            help=HELP.get(name, ' '),
        )
    parser.add_argument(
        '--jobs', type=int, default=count_cores(), help='processes that draw'
    )
    return parser.parse_args()


def main() -> None:
    """Make the set."""
    args = vars(parse_args())
    out, jobs = args.pop('out'), args.pop('jobs')
    make_synthetic_rvos(out, MotionSceneParams(**args), jobs=jobs)


if __name__ == '__main__':
    run(main)
