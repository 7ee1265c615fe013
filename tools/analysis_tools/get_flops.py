# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Count parameters and operations of a model, part by part.

Convolutions, matrix products and attention are counted (a multiplication and
an addition are two operations); sampling, norms and activations are not. No
weights are needed, and no network: a text encoder that cannot be loaded is
replaced by RoBERTa-base without weights.

Example:
    python tools/analysis_tools/get_flops.py CONFIG --shape 5 360 640
"""

import argparse

from referformer.utils.cli import (
    add_cfg_options,
    positive,
    run,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Count parameters and operations of a model.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--shape',
        type=positive,
        nargs=3,
        default=(5, 360, 640),
        metavar=('T', 'H', 'W'),
        help='frames of a clip, height and width in pixels '
        '(default: 5 360 640)',
    )
    parser.add_argument(
        '--expressions',
        type=positive,
        default=1,
        help='expressions asked of the clip (default: 1)',
    )
    parser.add_argument(
        '--words',
        type=positive,
        default=12,
        help='tokens of an expression (default: 12)',
    )
    add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    args = parse_args(argv)

    from mmengine.logging import MMLogger
    from mmengine.registry import init_default_scope

    from referformer.testing.flops import (
        build_without_weights,
        count_cost,
        format_costs,
    )
    from referformer.utils.launch import load_config

    cfg = load_config(args.config, args.cfg_options)
    MMLogger.get_instance('get_flops', log_level='ERROR')
    init_default_scope(cfg.get('default_scope', 'referformer'))
    shape = tuple(args.shape)
    costs = count_cost(build_without_weights(cfg.model), shape, args.words)
    print(format_costs(costs, shape, args.expressions))


if __name__ == '__main__':
    run(main)
