# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Score a checkpoint on the test set of a config.

Example:
    python tools/test.py CONFIG work_dirs/x/epoch_6.pth --out scores.json
"""

import argparse
import os

# mmengine and torch are imported in main(), so that --help and a mistyped
# option answer at once.
from cli_errors import run
from cli_options import add_common_options, parse_overrides


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv (list[str], optional): Arguments. Defaults to None: sys.argv.

    Returns:
        argparse.Namespace: The options.
    """
    parser = argparse.ArgumentParser(
        description='Score a checkpoint on the test set of a config.'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', metavar='FILE', help='write the metrics as JSON to this file'
    )
    parser.add_argument(
        '--show-dir',
        metavar='DIR',
        help='write pictures of the results to this folder',
    )
    parser.add_argument(
        '--fresh',
        action='store_true',
        help='predict everything again; by default, videos that an '
        'interrupted run of the same test has finished are not repeated',
    )
    add_common_options(parser)
    args = parser.parse_args(argv)
    args.cfg_options = parse_overrides(parser, args.cfg_options)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Run the test.

    Args:
        argv (list[str], optional): Arguments. Defaults to None: sys.argv.

    Returns:
        dict[str, float]: The metrics.
    """
    args = parse_args(argv)

    import json
    from pathlib import Path

    from mmengine.dist import is_main_process
    from mmengine.runner import Runner

    import referformer  # noqa: F401  (makes the registries known)
    from referformer.utils.launch import (
        load_config,
        prepare_processes,
        write_json,
    )

    cfg = load_config(
        args.config, args.cfg_options, args.work_dir, args.launcher
    )
    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(
            f'{args.checkpoint} is not a file; give a checkpoint (.pth).'
        )
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if cfg.test_cfg.get('type') == 'TestLoop':
        cfg.test_cfg.type = 'ResumableTestLoop'
        cfg.test_cfg.fresh = args.fresh
    hooks = cfg.setdefault('default_hooks', {})
    # A model with weights of its own making would be scored without a word.
    hooks['check_weights'] = dict(type='CheckWeightsHook', strict=True)
    if args.show_dir is not None:
        hooks['visualization'] = dict(
            hooks.get('visualization') or {},
            type='ReferVisualizationHook',
            draw=True,
            show_dir=str(Path(args.show_dir).resolve()),
        )
    prepare_processes(cfg)
    metrics = Runner.from_cfg(cfg).test()
    if is_main_process():
        print(json.dumps(metrics, indent=2, default=float))
        if args.out is not None:
            write_json(args.out, metrics)
    return metrics


if __name__ == '__main__':
    run(main)
