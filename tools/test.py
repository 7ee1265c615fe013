# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Score a checkpoint on the test set of a config.

Example:
    python tools/test.py CONFIG work_dirs/x/epoch_6.pth --out scores.json
"""

import argparse

# mmengine and torch are imported in main(), so that --help and a mistyped
# option answer at once.
from referformer.utils.cli import (
    add_common_options,
    add_precision,
    add_propagate,
    prepare_output,
    run,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, that of the process by default."""
    parser = argparse.ArgumentParser(
        description='Score a checkpoint on the test set of a config.'
    )
    parser.add_argument('config', help='config file, or name of a config')
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
    add_precision(parser)
    add_propagate(parser)
    add_common_options(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Run the test and return the metrics."""
    args = parse_args(argv)

    import json
    from pathlib import Path

    from mmengine.device import get_device
    from mmengine.dist import is_main_process
    from mmengine.runner import Runner

    import referformer.registry  # noqa: F401  (makes the registries known)
    from referformer.checkpoints.hub import local_file
    from referformer.checkpoints.initial import whole_checkpoint_follows
    from referformer.errors import ConfigError, MissingCheckpointError
    from referformer.formats.files import write_json
    from referformer.prediction.propagation import read_propagator
    from referformer.utils.failures import explain_failures
    from referformer.utils.launch import (
        explain_config_errors,
        load_run,
        prepare_processes,
    )
    from referformer.utils.precision import choose_precision

    if args.out is not None:
        prepare_output(args.out, '--out')
    cfg = load_run(args)
    if cfg.get('test_dataloader') is None:
        raise ConfigError(
            f'{args.config} has no test data; score its model with the config '
            'of a test, as refcoco for refcoco-pretrain.'
        )
    if not local_file(args.checkpoint).is_file():
        raise MissingCheckpointError(
            f'{args.checkpoint} is not a file; give a checkpoint (.pth).'
        )
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.fresh:
        loop = cfg.test_cfg.get('type', 'TestLoop')
        if 'ResumableTestLoop' not in str(loop):
            raise ConfigError(
                '--fresh works with '
                'test_cfg=dict(type="referformer.ResumableTestLoop"), and '
                f'{args.config} has {loop}.'
            )
        cfg.test_cfg.fresh = True
    predictor = cfg.model.get('predictor') or {}
    precision = args.precision or predictor.get('precision')
    if precision is not None:
        # Chosen here, so that a test is continued in the same arithmetic.
        precision = choose_precision(precision, get_device())
        cfg.model.predictor = dict(predictor, precision=precision)
    if args.propagate is not None:
        # its settings, not the name of their file, so that a test is not
        # continued with others
        cfg.model.predictor = dict(
            cfg.model.get('predictor') or {},
            propagator=read_propagator(args.propagate),
        )
    hooks = cfg.setdefault('default_hooks', {})
    # A model with random weights would be scored without an error.
    hooks.setdefault(
        'check_weights', dict(type='referformer.CheckWeightsHook')
    )
    if args.show_dir is not None:
        hooks['visualization'] = dict(
            hooks.get('visualization') or {},
            type='referformer.ReferVisualizationHook',
            draw=True,
            show_dir=str(Path(args.show_dir).resolve()),
        )
    prepare_processes(cfg)
    with (
        explain_config_errors(args.config, cfg),
        explain_failures(),
        whole_checkpoint_follows(),
    ):
        metrics = Runner.from_cfg(cfg).test()
    if is_main_process():
        print(json.dumps(metrics, indent=2, default=float))
        if args.out is not None:
            write_json(args.out, metrics)
    return metrics


if __name__ == '__main__':
    run(main)
