# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Train a model from a config.

Examples:
    python tools/train.py configs/referformer_r50_ytvos.py
    python tools/train.py CONFIG --resume
    python tools/train.py CONFIG --cfg-options train_dataloader.batch_size=2
"""

import argparse

# mmengine and torch are imported in main(), so that --help and a mistyped
# option answer at once.
from referformer.utils.cli import (
    add_common_options,
    add_precision,
    positive,
    run,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Train a model from a config.'
    )
    parser.add_argument('config', help='config file, or name of a config')
    add_precision(
        parser,
        'bf16, or fp16 with a scaled loss on GPUs that lack it (default: the '
        "config's, or fp32)",
        ('fp32', 'bf16', 'fp16'),
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the total batch size (clips × '
        'processes × accumulated batches), relative to the '
        "config's auto_scale_lr.base_batch_size",
    )
    parser.add_argument(
        '--warmup-iters',
        type=positive,
        metavar='N',
        help='raise the learning rate from a thousandth to its value in the '
        'first N iterations, as many GPUs need it (docs/distributed.md)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue an interrupted training: from this checkpoint, or '
        'from the newest good one in the work directory, if there is any. A '
        'training that torchrun or Slurm starts again does the latter by '
        'itself',
    )
    parser.add_argument(
        '--validate',
        action='store_true',
        help="score the config's test data, which need ground truth, after "
        'every epoch, and keep the best weights; configs of A2D-Sentences and '
        'RefCOCO do it by themselves',
    )
    parser.add_argument(
        '--resume-with-new-schedule',
        action='store_true',
        help='with --resume: the learning rate, the other settings of the '
        'optimizer and the schedule are those of the config, as if the run '
        'had had them from its beginning; otherwise those of the checkpoint '
        'stay',
    )
    add_common_options(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the training."""
    args = parse_args(argv)

    from mmengine.runner import Runner

    import referformer.registry  # noqa: F401  (makes the registries known)
    from referformer.engine.hooks.save_on_signal_hook import (
        signals_given_back,
    )
    from referformer.engine.resume import is_started_again, resume_latest
    from referformer.engine.scaling import count_accumulation
    from referformer.engine.validation import (
        require_truth,
        validate_on_test_data,
    )
    from referformer.errors import ConfigError
    from referformer.utils.failures import explain_failures
    from referformer.utils.launch import (
        explain_config_errors,
        load_run,
        prepare_processes,
    )

    cfg = load_run(args)
    if cfg.get('train_dataloader') is None or cfg.get('train_cfg') is None:
        raise ConfigError(
            f'{args.config} only scores a trained model: it has no training '
            'data or schedule; run tools/test.py CONFIG CHECKPOINT.'
        )
    if args.precision in ('fp32', 'bf16'):
        cfg.optim_wrapper.update(
            type='referformer.ReferOptimWrapper', precision=args.precision
        )
    elif args.precision == 'fp16':
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ConfigError(
                f'--auto-scale-lr needs auto_scale_lr.base_batch_size, which '
                f'{args.config} does not set.'
            )
        cfg.auto_scale_lr.enable = True
    if args.warmup_iters is not None:
        warmup = dict(
            type='LinearLR',
            start_factor=1e-3,
            by_epoch=False,
            end=args.warmup_iters,
        )
        cfg.param_scheduler = [warmup, *cfg.get('param_scheduler', [])]
    if args.validate:
        validate_on_test_data(cfg, args.config)
    if args.resume_with_new_schedule:
        if args.resume is None:
            raise ConfigError('--resume-with-new-schedule needs --resume.')
        settings = dict(
            type='referformer.ResumedSettingsHook', new_schedule=True
        )
        cfg.merge_from_dict({'default_hooks.resumed_settings': settings})
    if args.resume == 'auto':
        cfg.resume = False  # until the folder was looked at
    elif args.resume is not None:
        cfg.resume = True
        cfg.load_from = args.resume
    if cfg.get('resume') and 'check_weights' in cfg.get('default_hooks', {}):
        # A resumed model must be the same one, weight by weight.
        cfg.default_hooks.check_weights.strict = True
    prepare_processes(cfg)
    with (
        explain_config_errors(args.config, cfg),
        explain_failures(),
        signals_given_back(),
    ):
        runner = Runner.from_cfg(cfg)
        count_accumulation(runner)
        if args.validate:
            require_truth(runner)
        if is_started_again() or args.resume == 'auto':
            resume_latest(runner)
        runner.train()


if __name__ == '__main__':
    run(main)
