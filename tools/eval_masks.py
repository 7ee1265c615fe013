# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Score predictions, of any method, without a model.

python tools/eval_masks.py davis --gt GT --pred PRED --protocol identity \
    --out scores.json
"""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

_SCORING = 'referformer_scoring'
if _SCORING not in sys.modules:
    # The scoring code alone, not the package around it: ``referformer``
    # imports PyTorch, which takes seconds in each process and which people
    # who only score masks need not have. Its own ``__init__`` is left out as
    # well, so that the help need not wait for OpenCV.
    sys.modules[_SCORING] = ModuleType(_SCORING)
    sys.modules[_SCORING].__path__ = [
        str(Path(__file__).parents[1] / 'referformer/evaluation/functional')
    ]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; imports nothing heavy, so help is instant."""
    parser = argparse.ArgumentParser(
        description='Score predicted masks of any method.'
    )
    commands = parser.add_subparsers(
        dest='command', metavar='COMMAND', required=True
    )
    for module in import_module(f'{_SCORING}.commands').load_commands():
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
    input_error = import_module(f'{_SCORING}.errors').InputError
    try:
        scores = args.module.run(args)
        text = json.dumps(scores, indent=2, ensure_ascii=False)
        write_atomic = import_module(f'{_SCORING}.atomic').write_atomic
        write_atomic(args.out, text + '\n')
    except KeyboardInterrupt:
        print('\neval_masks.py: interrupted, nothing written', file=sys.stderr)
        return 130
    except (OSError, ImportError, input_error) as error:
        print(f'eval_masks.py: error: {error}', file=sys.stderr)
        return 1
    print(args.module.table(scores))
    print(f'written to {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
