# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Measure speed and memory: prediction, training, data loading.

Weights are random, as neither speed nor memory depends on them; no files are
needed but, for `data`, the data set of the config.

Examples:
    python tools/analysis_tools/benchmark.py infer CONFIG --frames 5
    python tools/analysis_tools/benchmark.py infer CONFIG --expressions 8 \
        --vs expressions=1
    python tools/analysis_tools/benchmark.py infer CONFIG --vs ../old-checkout
    python tools/analysis_tools/benchmark.py infer CONFIG \
        --sweep frames=5,10,20,36
    python tools/analysis_tools/benchmark.py train CONFIG --precision bf16 \
        --vs model.backbone.with_cp=True
    python tools/analysis_tools/benchmark.py data CONFIG --workers 4
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

# torch and mmengine are imported when something is measured, so that --help
# and a mistyped option answer at once.
from referformer.utils.cli import (
    add_cfg_options,
    add_precision,
    parse_overrides,
    positive,
    prepare_output,
    run,
)

if TYPE_CHECKING:
    from referformer.testing.benchmark_step import Setting


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; imports nothing heavy."""
    parser = argparse.ArgumentParser(
        description='Measure speed and memory of this project.'
    )
    commands = parser.add_subparsers(
        dest='command', required=True, metavar='{infer,train,data}'
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--out', metavar='FILE', help='write JSON as well')
    common.add_argument(
        '--repeats', type=positive, default=5, help='counted runs (default 5)'
    )

    model = argparse.ArgumentParser(add_help=False, parents=[common])
    model.add_argument('config', help='config file')
    model.add_argument(
        '--warmup', type=int, default=1, help='runs before (default 1)'
    )
    model.add_argument('--frames', type=positive, default=5, help='T')
    model.add_argument(
        '--size',
        type=positive,
        nargs=2,
        default=(360, 640),
        metavar=('H', 'W'),
        help='pixels of a frame (default 360 640)',
    )
    model.add_argument('--batch', type=positive, default=1, help='clips')
    add_precision(
        model, 'default fp32', ('fp32', 'bf16', 'fp16'), default='fp32'
    )
    model.add_argument(
        '--compile', action='store_true', help='use torch.compile'
    )
    model.add_argument('--device', help='default: cuda if there is one')
    model.add_argument(
        '--threads', type=positive, help='CPU threads (default: as set)'
    )
    add_cfg_options(model)
    model.add_argument(
        '--vs',
        nargs='+',
        default=[],
        metavar='KEY=VALUE|FOLDER',
        help='a second setting, measured in turn with the first: frames, '
        'height, width, batch, expressions, precision, compile, or a key of '
        'the config; or the folder of another checkout of this project',
    )
    model.add_argument(
        '--sweep',
        metavar='KEY=V1,V2,...',
        help='several values of one field of --vs, measured in turn',
    )
    infer = commands.add_parser(
        'infer', parents=[model], help='predict clips', description='Predict.'
    )
    infer.add_argument(
        '--expressions',
        type=positive,
        default=1,
        help='expressions of each clip (default 1)',
    )
    commands.add_parser(
        'train',
        parents=[model],
        help='training steps',
        description='Forward, backward and optimizer.',
    )
    data = commands.add_parser(
        'data',
        parents=[common],
        help='read and transform training clips',
        description='Clips a second of the training pipeline.',
    )
    data.add_argument('config', help='config file')
    data.add_argument(
        '--workers', type=int, default=2, help='worker processes (default 2)'
    )
    data.add_argument(
        '--clips', type=positive, default=50, help='clips a run (default 50)'
    )
    add_cfg_options(data)
    args = parser.parse_args(argv)
    if not Path(args.config).is_file():
        parser.error(f'{args.config} is not a file; give a config.')
    sweep = getattr(args, 'sweep', None)
    vs = getattr(args, 'vs', [])
    if sweep and vs:
        parser.error('give --vs or --sweep')
    args.other = None
    if vs and Path(vs[0], 'referformer').is_dir():
        args.other = Path(vs.pop(0))
        if vs:
            parser.error('--vs takes one folder, or settings')
    args.vs = parse_overrides(parser, vs, '--vs')
    args.sweep = parse_overrides(parser, [sweep] if sweep else [], '--sweep')
    return args


def read_settings(args: argparse.Namespace) -> 'list[Setting]':
    """One setting, two with ``--vs``, or those of ``--sweep``."""
    from referformer.testing.benchmark import Setting, change_setting

    first = Setting(
        args.frames,
        *args.size,
        args.batch,
        getattr(args, 'expressions', 1),
        args.precision,
        args.compile,
        tuple(args.cfg_options.items()),
    )
    for key, values in args.sweep.items():
        values = values if isinstance(values, list | tuple) else [values]
        return [change_setting(first, '--sweep', key, v) for v in values]
    if not args.vs:
        return [first]
    second = first
    for key, value in args.vs.items():
        second = change_setting(second, '--vs', key, value)
    return [first, second]


def main(argv: list[str] | None = None) -> dict:
    """Measure and report."""
    args = parse_args(argv)
    if args.out:
        prepare_output(args.out, '--out')

    import torch

    from referformer.formats.files import write_json
    from referformer.testing import benchmark

    if args.command == 'data':
        report = benchmark.measure_loading(
            args.config,
            args.cfg_options,
            args.clips,
            args.workers,
            args.repeats,
        )
        print(benchmark.format_data(report))
    else:
        if args.threads:
            torch.set_num_threads(args.threads)
        report = benchmark.measure_model(
            args.command,
            args.config,
            read_settings(args),
            args.other,
            args.device,
            args.warmup,
            args.repeats,
        )
        print(benchmark.format_model(report))
    if args.out:
        write_json(args.out, report)
    return report


if __name__ == '__main__':
    run(main)
