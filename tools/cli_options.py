# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Options that train.py and test.py share; imports nothing heavy."""

import argparse
from typing import Any


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every script that makes a runner.

    Args:
        parser (argparse.ArgumentParser): The script's parser.
    """
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints '
        '(default: work_dirs/<name of the config>)',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config, for example '
        'optim_wrapper.optimizer.lr=2e-5 "model.backbone.out_indices=(1,2,3)"',
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='who started the processes of a distributed run',
    )
    parser.add_argument(
        '--tf32',
        action='store_true',
        help='let matrix products and convolutions of a GPU round their '
        'inputs to TF32: faster, about three decimal digits',
    )
    parser.add_argument(
        '--traceback',
        action='store_true',
        help='print the whole traceback of every error',
    )
    # torch.distributed.launch of old passes the one, torchrun the variable.
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help='set by the launcher',
    )


def parse_overrides(
    parser: argparse.ArgumentParser, pairs: list[str]
) -> dict[str, Any]:
    """Turn ``KEY=VALUE`` arguments into settings.

    Values are read by mmengine's own rules, so that lists, tuples, numbers
    and ``None`` mean here what they mean in its other tools. Those rules drop
    spaces and split at commas, so a path may be put in quotes of its own:
    ``"data_root='/my data/'"`` is taken as it is.

    Args:
        parser (argparse.ArgumentParser): Reports a malformed pair.
        pairs (list[str]): The arguments.

    Returns:
        dict[str, Any]: Dotted key -> value.
    """
    for pair in pairs:
        if '=' not in pair or pair.startswith('='):
            parser.error(f'--cfg-options {pair}: KEY=VALUE is expected')
    if not pairs:
        return {}
    from mmengine.config import DictAction

    helper = argparse.ArgumentParser(add_help=False)
    helper.add_argument('--set', nargs='+', action=DictAction)
    overrides = helper.parse_args(['--set', *pairs]).set
    for pair in pairs:
        key, value = pair.split('=', 1)
        quote = value[:1]
        if quote in ('"', "'") and value.endswith(quote) and len(value) > 1:
            text = value[1:-1]
            # quoted lists are common on other shells
            if not text.startswith(('[', '(')):
                overrides[key] = text
    return overrides
