# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Score predictions, of any method, without a model.

python tools/eval_masks.py davis --gt GT --pred PRED --protocol identity \
    --out scores.json
"""

import argparse
import json
import sys
from pathlib import Path

# The checkout, also where the package is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from referformer.errors import ReferError
from referformer.evaluation.functional.commands import COMMANDS
from referformer.formats.files import write_atomic


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; imports nothing heavy, so help is instant."""
    parser = argparse.ArgumentParser(
        description='Score predicted masks of any method.'
    )
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.name, help=command.help, description=command.description
        )
        command.add_arguments(subparser)
        subparser.set_defaults(command=command)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the chosen command.

    Returns:
        int: Exit status: 0 = scored, 1 = something is wrong with the files,
        2 = wrong command line, 130 = interrupted.
    """
    args = parse_args(argv)
    try:
        scores = args.command.run(args)
        text = json.dumps(scores, indent=2, ensure_ascii=False)
        write_atomic(args.out, text + '\n')
    except KeyboardInterrupt:
        print('\neval_masks.py: interrupted, nothing written', file=sys.stderr)
        return 130
    except (OSError, ImportError, ReferError) as error:
        print(f'eval_masks.py: error: {error}', file=sys.stderr)
        return 1
    print(args.command.table(scores))
    print(f'written to {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
