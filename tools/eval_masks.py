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
from referformer.evaluation.functional.commands import load_commands
from referformer.formats.files import write_atomic


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; imports nothing heavy, so help is instant."""
    parser = argparse.ArgumentParser(
        description='Score predicted masks of any method.'
    )
    commands = parser.add_subparsers(
        dest='command', metavar='COMMAND', required=True
    )
    for module in load_commands():
        command = commands.add_parser(
            module.NAME, help=module.HELP, description=module.DESCRIPTION
        )
        module.add_arguments(command)
        command.set_defaults(module=module)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the chosen command.

    Returns:
        int: Exit status: 0 = scored, 1 = something is wrong with the files,
        2 = wrong command line, 130 = interrupted.
    """
    args = parse_args(argv)
    try:
        scores = args.module.run(args)
        text = json.dumps(scores, indent=2, ensure_ascii=False)
        write_atomic(args.out, text + '\n')
    except KeyboardInterrupt:
        print('\neval_masks.py: interrupted, nothing written', file=sys.stderr)
        return 130
    except (OSError, ImportError, ReferError) as error:
        print(f'eval_masks.py: error: {error}', file=sys.stderr)
        return 1
    print(args.module.table(scores))
    print(f'written to {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
