# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Score predictions, of any method, without a model.

python tools/eval_masks.py davis --gt GT --pred PRED --protocol identity \
    --out scores.json
"""

import argparse
import sys
from pathlib import Path

# The checkout, also where the package is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from referformer.evaluation.functional.commands import (
    expressions,
    label_maps,
    sentences,
    unions,
)
from referformer.formats.files import write_json
from referformer.utils.cli import current_set_name, prepare_output, run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; imports nothing heavy, so help is instant."""
    parser = argparse.ArgumentParser(
        description='Score predicted masks of any method.'
    )
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    for module in (label_maps, expressions, unions, sentences):
        module.add_commands(commands)
    argv = sys.argv[1:] if argv is None else list(argv)
    argv[:1] = map(current_set_name, argv[:1])
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the chosen command; if a file is wrong, nothing is written."""
    args = parse_args(argv)
    prepare_output(args.out, '--out')
    scores = args.run(args)
    print(args.table(scores))
    write_json(args.out, scores)
    print(f'written to {args.out}')


if __name__ == '__main__':
    run(main)
