# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Measure speed and memory: prediction, training, data loading, scoring.

Weights are random, as neither speed nor memory depends on them; no files are
needed but, for `data`, the data set of the config.

Examples:
    python tools/analysis_tools/benchmark.py infer CONFIG --frames 5
    python tools/analysis_tools/benchmark.py infer CONFIG --expressions 8 \
        --vs expressions=1
    python tools/analysis_tools/benchmark.py infer CONFIG \
        --sweep frames=5,10,20,36 --plot work_dirs/frames.png
    python tools/analysis_tools/benchmark.py train CONFIG --amp bf16 \
        --vs model.backbone.with_cp=True
    python tools/analysis_tools/benchmark.py data CONFIG --workers 4
    python tools/analysis_tools/benchmark.py eval --masks 2000
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

AMP = ('off', 'bf16', 'fp16')


class Setting(NamedTuple):
    """What is measured; any field can differ in ``--vs``.

    Attributes:
        frames (int): Frames T of a clip.
        height (int): Of a frame, in pixels.
        width (int): Likewise.
        batch (int): Clips at a time.
        expressions (int): Expressions of each clip (prediction only).
        amp (str): 'off', 'bf16' or 'fp16'.
        compile (bool): Whether to compile the model.
        options (tuple): Overrides of the config, (key, value) pairs.
    """

    frames: int
    height: int
    width: int
    batch: int
    expressions: int
    amp: str
    compile: bool
    options: tuple[tuple[str, Any], ...] = ()


def positive(text: str) -> int:
    """Argparse type of a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number above 0')
    return int(text)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; imports nothing heavy.

    Args:
        argv (list[str], optional): Arguments. Defaults to None: sys.argv.

    Returns:
        argparse.Namespace: The options.
    """
    parser = argparse.ArgumentParser(
        description='Measure speed and memory of this project.'
    )
    commands = parser.add_subparsers(
        dest='command', required=True, metavar='{infer,train,data,eval}'
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
    model.add_argument(
        '--amp', choices=AMP, default='off', help='automatic mixed precision'
    )
    model.add_argument(
        '--compile', action='store_true', help='use torch.compile'
    )
    model.add_argument('--device', help='default: cuda if there is one')
    model.add_argument(
        '--threads', type=positive, help='CPU threads (default: as set)'
    )
    model.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    model.add_argument(
        '--vs',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help='a second setting, measured in turn with the first: frames, '
        'height, width, batch, expressions, amp, compile, or a key of the '
        'config',
    )
    model.add_argument(
        '--sweep',
        metavar='KEY=V1,V2,...',
        help='several values of one field of --vs, measured in turn',
    )
    model.add_argument(
        '--plot',
        metavar='FILE.png',
        help='draw time and memory over the values of --sweep',
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
    data.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help='override settings of the config',
    )
    scoring = commands.add_parser(
        'eval',
        parents=[common],
        help='score masks with J and F',
        description='Masks a second of one process, in memory.',
    )
    scoring.add_argument(
        '--masks', type=positive, default=500, help='masks (default 500)'
    )
    scoring.add_argument(
        '--size',
        type=positive,
        nargs=2,
        default=(480, 854),
        metavar=('H', 'W'),
        help='pixels of a mask (default 480 854)',
    )
    args = parser.parse_args(argv)
    if getattr(args, 'config', None) and not Path(args.config).is_file():
        parser.error(f'{args.config} is not a file; give a config.')
    sweep = getattr(args, 'sweep', None)
    if sweep and args.vs:
        parser.error('give --vs or --sweep')
    if getattr(args, 'plot', None) and not sweep:
        parser.error('--plot draws what --sweep measures')
    for text in [
        *getattr(args, 'vs', []),
        *getattr(args, 'cfg_options', []),
        *([sweep] if sweep else []),
    ]:
        if '=' not in text:
            parser.error(f'{text!r} is not of the form KEY=VALUE')
    return args


# -- prediction and training --------------------------------------------------


def read_settings(args: argparse.Namespace) -> list[Setting]:
    """One setting, or two with ``--vs``.

    Raises:
        ValueError: If ``--vs`` gives a field what it cannot take.
    """
    from mmengine.config import DictAction

    def value_of(text: str) -> Any:
        return DictAction._parse_iterable(text)

    def pair(text: str) -> tuple[str, Any]:
        key, value = text.split('=', 1)
        return key, value_of(value)

    first = Setting(
        args.frames,
        *args.size,
        args.batch,
        getattr(args, 'expressions', 1),
        args.amp,
        args.compile,
        tuple(map(pair, args.cfg_options)),
    )
    if args.sweep:
        key, values = pair(args.sweep)
        values = values if isinstance(values, list | tuple) else [values]
        return [_changed(first, '--sweep', key, value) for value in values]
    if not args.vs:
        return [first]
    second = first
    for key, value in map(pair, args.vs):
        second = _changed(second, '--vs', key, value)
    return [first, second]


def _changed(setting: Setting, option: str, key: str, value: Any) -> Setting:
    """Return a setting with one field, or one key of the config, changed.

    Raises:
        ValueError: If the field cannot take the value.
    """
    if key == 'options' or key not in Setting._fields:
        return setting._replace(options=(*setting.options, (key, value)))
    kind = type(getattr(setting, key))
    if type(value) is not kind or (kind is int and value < 1):
        raise ValueError(f'{option} {key}={value}: not a {kind.__name__}')
    if key == 'amp' and value not in AMP:
        raise ValueError(f'{option} amp={value}: not one of {AMP}')
    return setting._replace(**{key: value})


def stages_of(model: Any) -> dict[str, Any]:
    """Modules whose forward is a stage of its own, by name."""
    paths = (
        'data_preprocessor',
        'backbone',
        'neck',
        'text_encoder',
        'fusion',
        'transformer.encoder',
        'transformer.decoder',
        'pixel_decoder',
        'head.mask_head',
        'head.criterion',
    )
    modules = dict(model.named_modules())
    return {
        path.split('.')[-1]: modules[path] for path in paths if path in modules
    }


def prepare(
    config: str, setting: Setting, device: Any, training: bool
) -> Callable[[], Any]:
    """Build a model and return what measures one step of it.

    Args:
        config (str): Config file.
        setting (Setting): What to measure.
        device (torch.device): Where.
        training (bool): A training step or a prediction.

    Returns:
        Callable: Runs the step once and returns a ``StepCost``.
    """
    import torch
    from mmengine.config import Config
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import init_default_scope

    from referformer.registry import MODELS
    from referformer.testing import (
        DEMO_TEXTS,
        demo_refer_inputs,
        offline_model_cfg,
    )
    from referformer.utils.benchmark import StepMeter

    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(setting.options))
    init_default_scope(cfg.get('default_scope', 'referformer'))
    torch.manual_seed(0)
    model = MODELS.build(offline_model_cfg(cfg.model)).to(device)
    model.train(training)
    dtype = {'bf16': torch.bfloat16, 'fp16': torch.float16}.get(setting.amp)
    if setting.amp == 'fp16' and device.type == 'cpu':
        sys.exit('benchmark.py: fp16 needs a GPU; on a CPU there is bf16.')
    data = demo_refer_inputs(
        batch_size=setting.batch,
        num_frames=setting.frames,
        size=(setting.height, setting.width),
    )
    meter = StepMeter(stages_of(model), device)
    if training and 'optim_wrapper' not in cfg:
        sys.exit(f'benchmark.py: {config} trains nothing.')

    if not training:
        if setting.expressions > 1:
            for sample in data['data_samples']:
                texts = [
                    DEMO_TEXTS[e % len(DEMO_TEXTS)]
                    for e in range(setting.expressions)
                ]
                expressions = [
                    dict(text=text, exp_id=str(e), obj_id='1', label=0)
                    for e, text in enumerate(texts)
                ]
                sample.set_metainfo(dict(expressions=expressions))
        if setting.compile:
            model.compile()

        def predict() -> None:
            with torch.autocast(device.type, dtype, enabled=dtype is not None):
                model.test_step(data)

        def measure_prediction() -> Any:
            with torch.inference_mode():
                return meter.measure(predict)

        return measure_prediction

    optim_cfg = cfg.optim_wrapper
    if setting.amp == 'fp16':
        # scales the loss, which bf16 does not need
        optim_cfg.type = 'AmpOptimWrapper'
        optim_cfg.dtype = 'float16'
    optim = build_optim_wrapper(model, optim_cfg)
    if setting.compile:
        model.compile()

    def train() -> None:
        with (
            optim.optim_context(model),
            torch.autocast(device.type, dtype, enabled=dtype is not None),
        ):
            batch = model.data_preprocessor(data, True)
            losses = model(**batch, mode='loss')
        loss, _ = model.parse_losses(losses)
        with meter.stage('backward'):
            optim.backward(loss)
        with meter.stage('optimizer'):
            optim.step()
            optim.zero_grad()

    return lambda: meter.measure(train)


def run_model(args: argparse.Namespace) -> dict:
    """Measure predictions or training steps."""
    import torch
    from mmengine.logging import MMLogger

    from referformer.utils.benchmark import interleave, summarise

    MMLogger.get_instance('benchmark', log_level='ERROR')
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(
        args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    )
    try:
        settings = read_settings(args)
    except ValueError as error:
        sys.exit(f'benchmark.py: {error}')
    training = args.command == 'train'
    steps = [prepare(args.config, s, device, training) for s in settings]
    costs = interleave(steps, args.warmup, args.repeats)
    report = {
        'command': args.command,
        'config': args.config,
        'device': torch.cuda.get_device_name(device)
        if device.type == 'cuda'
        else f'CPU, {torch.get_num_threads()} threads',
        'torch': torch.__version__,
        'repeats': args.repeats,
        'measured': [],
    }
    for setting, runs in zip(settings, costs, strict=True):
        found = summarise(runs)
        clips = setting.batch * setting.expressions
        report['measured'].append(
            {
                'setting': {
                    **setting._asdict(),
                    'options': dict(setting.options),
                },
                'seconds': found.seconds._asdict(),
                'frames_per_second': clips
                * setting.frames
                / found.seconds.median,
                'stages': {
                    name: spread._asdict()
                    for name, spread in found.stages.items()
                },
                'peak_mib': found.peak_mib,
                'extra_mib': found.extra_mib,
            }
        )
    if args.vs:
        one, two = report['measured']
        ratios = sorted(
            a.seconds / b.seconds for a, b in zip(*costs, strict=True)
        )
        report['ratio'] = {
            'seconds': one['seconds']['median'] / two['seconds']['median'],
            'least': ratios[0],
            'greatest': ratios[-1],
            # the process holds both models: only what comes on top compares
            'extra_mib': one['extra_mib'] / max(two['extra_mib'], 1e-9),
        }
    return report


def format_model(report: dict) -> str:
    """Lay out what :func:`run_model` found."""
    lines = [
        f'{report["command"]} {report["config"]} on {report["device"]}, torch '
        f'{report["torch"]}, {report["repeats"]} runs'
    ]
    for number, found in enumerate(report['measured']):
        facts = dict(found['setting'])
        facts.update(facts.pop('options'))
        text = ', '.join(f'{k} {v}' for k, v in facts.items())
        letter = chr(ord('A') + number)
        lines += [
            '',
            f'{letter}: {text}',
            f'{"stage":<18}{"median ms":>11}{"min":>10}{"max":>10}'
            f'{"share":>8}',
        ]
        total = found['seconds']['median']
        rows = [*found['stages'].items(), ('total', found['seconds'])]
        for name, spread in rows:
            numbers = ''.join(
                f'{1e3 * spread[key]:>{width}.1f}'
                for key, width in (('median', 11), ('min', 10), ('max', 10))
            )
            share = spread['median'] / total
            lines.append(f'{name:<18}{numbers}{share:>8.1%}')
        lines.append(
            f'{found["frames_per_second"]:.2f} frames/s (frames x '
            f'expressions), peak memory {found["peak_mib"]:.0f} MiB, '
            f'{found["extra_mib"]:.0f} of them during the step'
        )
    if 'ratio' in report:
        ratio = report['ratio']
        lines += [
            '',
            f'A / B: {ratio["seconds"]:.2f} x the time (pairs of runs '
            f'{ratio["least"]:.2f} to {ratio["greatest"]:.2f}), '
            f'{ratio["extra_mib"]:.2f} x the memory during the step',
        ]
    return '\n'.join(lines)


def plot_sweep(report: dict, key: str, path: str) -> None:
    """Draw time and memory of the settings of a sweep.

    Args:
        report (dict): What :func:`run_model` found.
        key (str): The field that differs.
        path (str): The PNG.
    """
    import numpy as np
    from matplotlib.figure import Figure

    found = report['measured']
    x = np.array([entry['setting'][key] for entry in found], float)
    seconds = [entry['seconds'] for entry in found]
    median = np.array([spread['median'] for spread in seconds])
    low = median - [spread['min'] for spread in seconds]
    high = np.array([spread['max'] for spread in seconds]) - median
    figure = Figure(figsize=(9, 3.6), layout='constrained')
    left, right = figure.subplots(1, 2)
    left.errorbar(x, median, [low, high], fmt='o', capsize=3)
    slope, offset = np.polyfit(x, median, 1)
    line = np.array([0, x.max()])
    left.plot(line, offset + slope * line, '--', linewidth=1)
    explained = np.corrcoef(x, median)[0, 1] ** 2
    left.set_title(
        f'{1e3 * slope:.0f} ms per {key.rstrip("s")} + {1e3 * offset:.0f} ms, '
        f'R² = {explained:.4f}',
        fontsize=9,
    )
    left.set_ylabel('seconds (median, min, max)')
    right.plot(x, [entry['extra_mib'] for entry in found], 'o-')
    right.set_ylabel('MiB on top during the step')
    for axes in (left, right):
        axes.set_xlabel(key)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    config = Path(report['config']).stem
    figure.suptitle(f'{report["command"]} {config}, {report["device"]}')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


# -- data ---------------------------------------------------------------------


def run_data(args: argparse.Namespace) -> dict:
    """Measure how fast training clips are read and transformed."""
    import time

    import torch
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    from torch.utils.data import DataLoader

    from referformer.registry import DATASETS
    from referformer.utils.benchmark import Spread
    from referformer.utils.seeding import SeededIndex

    torch.set_num_threads(1)
    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(dict(t.split('=', 1) for t in args.cfg_options))
    init_default_scope(cfg.get('default_scope', 'referformer'))
    if cfg.get('train_dataloader') is None:
        sys.exit(f'benchmark.py: {args.config} trains nothing.')
    try:
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    except (OSError, ValueError) as error:
        sys.exit(f'benchmark.py: {error}')
    # spread over the data set, each with a seed of its own
    step = max(1, len(dataset) // args.clips)
    indices = [
        SeededIndex(n * step % len(dataset), n) for n in range(args.clips)
    ]

    def alone() -> float:
        begin = time.perf_counter()
        for index in indices:
            dataset[index]
        return args.clips / (time.perf_counter() - begin)

    report = {
        'command': 'data',
        'config': args.config,
        'clips': args.clips,
        'transforms': transform_times(dataset, indices),
        'clips_per_second_of_one_process': Spread.of(
            [alone() for _ in range(args.repeats)]
        )._asdict(),
    }
    if args.workers:
        loader = DataLoader(
            dataset,
            sampler=indices,
            batch_size=None,
            num_workers=args.workers,
            persistent_workers=True,
        )
        rates = []
        for number in range(args.repeats + 1):
            begin = time.perf_counter()
            for _ in loader:
                pass
            if number:  # the first round starts the workers
                rates.append(args.clips / (time.perf_counter() - begin))
        report['workers'] = args.workers
        report['clips_per_second'] = Spread.of(rates)._asdict()
    return report


def transform_times(dataset: Any, indices: list[int]) -> dict[str, float]:
    """Seconds a clip in each transform of a pipeline, in order.

    Args:
        dataset (BaseDataset): Its ``pipeline`` is taken apart; a data set of
            several parts has none and gives an empty table.
        indices (list[int]): Items to read.
    """
    import time

    pipeline = getattr(dataset, 'pipeline', None)
    if pipeline is None:
        return {}
    seconds: dict[str, float] = {}
    for index in indices:
        item = dataset.get_data_info(index)
        for number, transform in enumerate(pipeline.transforms, 1):
            begin = time.perf_counter()
            item = transform(item)
            name = f'{number} {type(transform).__name__}'
            inside = getattr(transform, 'transforms', None)
            if inside is not None and hasattr(inside, 'transforms'):
                names = [type(t).__name__ for t in inside.transforms]
                name += f' ({", ".join(names)})'
            spent = time.perf_counter() - begin
            seconds[name] = seconds.get(name, 0.0) + spent / len(indices)
            if item is None:
                break
    return seconds


def format_data(report: dict) -> str:
    """Lay out what :func:`run_data` found."""
    lines = [f'data {report["config"]}, {report["clips"]} clips', '']
    for name, seconds in report['transforms'].items():
        lines.append(f'{1e3 * seconds:>9.1f} ms  {name}')
    one = report['clips_per_second_of_one_process']
    lines += [
        '',
        f'{one["median"]:.2f} clips/s of one process ({one["min"]:.2f} to '
        f'{one["max"]:.2f})',
    ]
    if 'workers' in report:
        many = report['clips_per_second']
        lines.append(
            f'{many["median"]:.2f} clips/s of {report["workers"]} workers '
            f'({many["min"]:.2f} to {many["max"]:.2f})'
        )
    return '\n'.join(lines)


# -- scoring ------------------------------------------------------------------


def run_eval(args: argparse.Namespace) -> dict:
    """Measure how fast masks are scored."""
    import time

    import cv2
    import numpy as np

    from referformer.evaluation.functional import sequence_scores
    from referformer.utils.benchmark import Spread

    cv2.setNumThreads(1)
    height, width = args.size
    rng = np.random.default_rng(0)

    def blobs() -> list[np.ndarray]:
        # smooth outlines that cover about a sixth of the frame
        masks = []
        for _ in range(args.masks):
            noise = rng.random((height // 40 + 2, width // 40 + 2))
            smooth = cv2.resize(noise, (width, height), interpolation=2)
            masks.append(smooth > 0.75)
        return masks

    truth, predicted = blobs(), blobs()
    rates = []
    for _ in range(args.repeats):
        begin = time.perf_counter()
        sequence_scores(predicted, truth)
        rates.append(args.masks / (time.perf_counter() - begin))
    return {
        'command': 'eval',
        'masks': args.masks,
        'size': list(args.size),
        'masks_per_second': Spread.of(rates)._asdict(),
    }


def format_eval(report: dict) -> str:
    """Lay out what :func:`run_eval` found."""
    rate = report['masks_per_second']
    return (
        f'J and F of {report["masks"]} masks of {report["size"][0]} x '
        f'{report["size"][1]}: {rate["median"]:.0f} masks/s of one process '
        f'({rate["min"]:.0f} to {rate["max"]:.0f})'
    )


def main(argv: list[str] | None = None) -> dict:
    """Measure and report.

    Args:
        argv (list[str], optional): Arguments. Defaults to None: sys.argv.

    Returns:
        dict: The report.
    """
    args = parse_args(argv)
    run, lay_out = {
        'infer': (run_model, format_model),
        'train': (run_model, format_model),
        'data': (run_data, format_data),
        'eval': (run_eval, format_eval),
    }[args.command]
    report = run(args)
    print(lay_out(report))
    if getattr(args, 'plot', None):
        plot_sweep(report, args.sweep.split('=', 1)[0], args.plot)
    if args.out:
        from referformer.formats.files import write_json

        write_json(args.out, report)
    return report


if __name__ == '__main__':
    main()
