# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Benchmarks of prediction, training, data loading and scoring.

Each ``measure_...`` returns a report that JSON can hold, each ``format_...``
lays one out for people.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from referformer.errors import ConfigError
from referformer.registry import DATASETS
from referformer.testing.benchmark_step import (
    Setting,
    model_step,
    scoring_step,
)
from referformer.testing.other_checkout import ROOT, OtherCheckout
from referformer.utils.benchmark import Spread, StepCost, interleave, summarise
from referformer.utils.launch import load_config
from referformer.utils.seeding import SeededIndex

AMP = ('off', 'bf16', 'fp16')


# -- prediction and training --------------------------------------------------


def change_setting(
    setting: Setting, option: str, key: str, value: Any
) -> Setting:
    """Return a setting with one field, or one key of the config, changed.

    Raises:
        ConfigError: If the field cannot take the value.
    """
    if key == 'options' or key not in Setting._fields:
        return setting._replace(options=(*setting.options, (key, value)))
    kind = type(getattr(setting, key))
    if type(value) is not kind or (kind is int and value < 1):
        raise ConfigError(f'{option} {key}={value}: not a {kind.__name__}')
    if key == 'amp' and value not in AMP:
        raise ConfigError(f'{option} amp={value}: not one of {AMP}')
    return setting._replace(**{key: value})


def measure_model(
    command: str,
    config: str,
    settings: Sequence[Setting],
    other: Path | None = None,
    device: str | None = None,
    warmup: int = 1,
    repeats: int = 5,
) -> dict:
    """Measure predictions or training steps of several settings, in turn.

    Args:
        command (str): ``'infer'`` or ``'train'``.
        config (str): Config file.
        settings (Sequence[Setting]): What to measure.
        other (Path, optional): Another checkout, in which the first setting
            is measured too.
        device (str, optional): Defaults to None: a GPU if there is one.
        warmup (int): Rounds that do not count.
        repeats (int): Rounds that do.

    Returns:
        dict: The report.

    Raises:
        ConfigError: If the config trains nothing, or the device lacks fp16.
    """
    MMLogger.get_instance('benchmark', log_level='ERROR')
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    on_gpu = torch.device(device).type == 'cuda'
    training = command == 'train'
    if training and 'optim_wrapper' not in load_config(config):
        raise ConfigError(f'{config} trains nothing.', file=config)
    if not on_gpu and any(setting.amp == 'fp16' for setting in settings):
        raise ConfigError('fp16 needs a GPU; on a CPU there is bf16.')
    steps = [model_step(config, s, device, training) for s in settings]
    rows = [dict(_as_json(setting)) for setting in settings]
    rival = None
    if other is not None:
        arguments = [
            _config_in(other, config),
            settings[0],
            device,
            training,
        ]
        rival = OtherCheckout(other, 'model_step', arguments)
        steps.append(rival.measure)
        rows.append({**rows[0], 'checkout': str(other)})
    costs = interleave(steps, warmup, repeats)
    if rival is not None:
        rival.close()
    report = {
        'command': command,
        'config': config,
        'device': torch.cuda.get_device_name(device)
        if on_gpu
        else f'CPU, {torch.get_num_threads()} threads',
        'torch': torch.__version__,
        'repeats': repeats,
        'measured': [
            _measured(row, runs) for row, runs in zip(rows, costs, strict=True)
        ],
    }
    if len(costs) == 2:
        report['ratio'] = _ratio(costs, report['measured'])
    return report


def _as_json(setting: Setting) -> dict[str, Any]:
    return {**setting._asdict(), 'options': dict(setting.options)}


def _config_in(other: Path, config: str) -> str:
    """The config of the same name in another checkout, if it has one."""
    path = Path(config).resolve()
    if path.is_relative_to(ROOT) and (other / path.relative_to(ROOT)).exists():
        path = other.resolve() / path.relative_to(ROOT)
    return str(path)


def _measured(setting: dict[str, Any], runs: list[StepCost]) -> dict:
    found = summarise(runs)
    frames = setting['batch'] * setting['expressions'] * setting['frames']
    return {
        'setting': setting,
        'seconds': found.seconds._asdict(),
        'frames_per_second': frames / found.seconds.median,
        'stages': {
            name: spread._asdict() for name, spread in found.stages.items()
        },
        'peak_mib': found.peak_mib,
        'extra_mib': found.extra_mib,
    }


def _ratio(costs: list[list[StepCost]], measured: list[dict]) -> dict:
    """How the first of two compares with the second."""
    one, two = measured
    ratios = sorted(a.seconds / b.seconds for a, b in zip(*costs, strict=True))
    return {
        'seconds': one['seconds']['median'] / two['seconds']['median'],
        'least': ratios[0],
        'greatest': ratios[-1],
        # a process may hold both models: only what comes on top compares
        'extra_mib': one['extra_mib'] / max(two['extra_mib'], 1e-9),
    }


def format_model(report: dict) -> str:
    """Lay out what :func:`measure_model` found."""
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
        report (dict): What :func:`measure_model` found.
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


def measure_loading(
    config: str,
    options: dict[str, Any],
    clips: int = 50,
    workers: int = 2,
    repeats: int = 5,
) -> dict:
    """Measure how fast training clips are read and transformed.

    Args:
        config (str): Config file.
        options (dict): Overrides of the config.
        clips (int): Clips of a run, spread over the data set.
        workers (int): Processes of the data loader; 0 measures none.
        repeats (int): Counted runs.

    Returns:
        dict: The report.

    Raises:
        ConfigError: If the config trains nothing.
        DataError: If the data set is not there.
    """
    torch.set_num_threads(1)
    cfg = load_config(config, options)
    init_default_scope(cfg.get('default_scope', 'referformer'))
    if cfg.get('train_dataloader') is None:
        raise ConfigError(f'{config} trains nothing.', file=config)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    # spread over the data set, each with a seed of its own
    step = max(1, len(dataset) // clips)
    indices = [SeededIndex(n * step % len(dataset), n) for n in range(clips)]

    def alone() -> float:
        begin = time.perf_counter()
        for index in indices:
            dataset[index]
        return clips / (time.perf_counter() - begin)

    report = {
        'command': 'data',
        'config': config,
        'clips': clips,
        'transforms': transform_times(dataset, indices),
        'clips_per_second_of_one_process': Spread.of(
            [alone() for _ in range(repeats)]
        )._asdict(),
    }
    if workers:
        loader = DataLoader(
            dataset,
            sampler=indices,
            batch_size=None,
            num_workers=workers,
            persistent_workers=True,
        )
        rates = []
        for number in range(repeats + 1):
            begin = time.perf_counter()
            for _ in loader:
                pass
            if number:  # the first round starts the workers
                rates.append(clips / (time.perf_counter() - begin))
        report['workers'] = workers
        report['clips_per_second'] = Spread.of(rates)._asdict()
    return report


def transform_times(dataset: Any, indices: list[int]) -> dict[str, float]:
    """Seconds a clip in each transform of a pipeline, in order.

    Args:
        dataset (BaseDataset): Its ``pipeline`` is taken apart; a data set of
            several parts has none and gives an empty table.
        indices (list[int]): Items to read.
    """
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
    """Lay out what :func:`measure_loading` found."""
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


def measure_scoring(
    masks: int = 500,
    size: tuple[int, int] = (480, 854),
    other: Path | None = None,
    repeats: int = 5,
) -> dict:
    """Measure how fast masks are scored, in memory and by one process.

    Args:
        masks (int): How many.
        size (tuple[int, int]): Height and width in pixels.
        other (Path, optional): Another checkout to measure too.
        repeats (int): Counted runs.

    Returns:
        dict: The report.
    """
    steps = [scoring_step(masks, *size)]
    rival = None
    if other is not None:
        rival = OtherCheckout(other, 'scoring_step', [masks, *size])
        steps.append(rival.measure)
    costs = interleave(steps, warmup=int(rival is not None), repeats=repeats)
    rates = [Spread.of([masks / cost.seconds for cost in c]) for c in costs]
    report = {
        'command': 'eval',
        'masks': masks,
        'size': list(size),
        'masks_per_second': rates[0]._asdict(),
    }
    if rival is not None:
        rival.close()
        report['other_masks_per_second'] = rates[1]._asdict()
        report['ratio'] = rates[1].median / rates[0].median
    return report


def format_eval(report: dict) -> str:
    """Lay out what :func:`measure_scoring` found."""
    rate = report['masks_per_second']
    text = (
        f'J and F of {report["masks"]} masks of {report["size"][0]} x '
        f'{report["size"][1]}: {rate["median"]:.0f} masks/s of one process '
        f'({rate["min"]:.0f} to {rate["max"]:.0f})'
    )
    if 'ratio' in report:
        other = report['other_masks_per_second']
        text += (
            f'; the other checkout {other["median"]:.0f} '
            f'({other["min"]:.0f} to {other["max"]:.0f}): '
            f'{report["ratio"]:.2f} x its time'
        )
    return text
