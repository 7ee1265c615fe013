# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Compute a training step again whose gradients were not finite.

Example:
    python tools/analysis_tools/replay_step.py work_dirs/x/bad_steps/step_7.pth
"""

import argparse
import importlib

from referformer.utils.cli import run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, that of the process by default."""
    parser = argparse.ArgumentParser(
        description='Compute a training step again whose gradients were not '
        'finite, and say where it begins.'
    )
    parser.add_argument('dump', help='file in <work dir>/bad_steps')
    parser.add_argument('--device', default='cpu', help='default: cpu')
    parser.add_argument(
        '--imports',
        nargs='+',
        default=[],
        metavar='MODULE',
        help="modules of the config's custom_imports",
    )
    parser.add_argument(
        '--traceback',
        action='store_true',
        help='print the whole traceback of an error',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Compute the step and print what is not finite."""
    args = parse_args(argv)

    import referformer.registry  # noqa: F401  (makes the registries known)
    from referformer.engine.replay import replay_step

    for name in args.imports:
        importlib.import_module(name)
    replay = replay_step(args.dump, args.device)
    print(f'loss of the training: {replay.recorded}')
    for name, value in replay.losses.items():
        print(f'{name}: {value}')
    print(f'numbers of the batch that are not finite: {replay.bad_inputs}')
    bad = replay.bad_gradients
    print(f'gradients that are not finite: {len(bad)}')
    for name in bad[:10]:
        print(f'  {name}')


if __name__ == '__main__':
    run(main)
