# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Benchmarks of prediction, training and data loading.

Each ``measure_...`` returns a report that JSON can hold, each ``format_...``
lays one out for people.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from referformer.errors import ConfigError
from referformer.registry import DATASETS
from referformer.testing import benchmark_step
from referformer.testing.benchmark_step import (
    Setting,
    StepCost,
    model_step,
)
from referformer.utils.launch import load_config
from referformer.utils.seeding import SeededIndex

ROOT = Path(__file__).resolve().parents[2]
PRECISIONS = ('fp32', 'bf16', 'fp16')


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of several measurements."""
    return {
        'median': statistics.median(values),
        'min': min(values),
        'max': max(values),
    }


def summarise(costs: Sequence[StepCost]) -> dict[str, Any]:
    """Summarise the runs of a step; memory is the greatest of the runs."""
    names = dict.fromkeys(n for cost in costs for n in cost.stages)
    return {
        'seconds': spread([cost.seconds for cost in costs]),
        'stages': {
            n: spread([cost.stages.get(n, 0.0) for cost in costs])
            for n in names
        },
        'peak_mib': max(cost.peak_mib for cost in costs),
        'extra_mib': max(cost.extra_mib for cost in costs),
    }


def interleave(
    steps: Sequence[Callable[[], StepCost]], warmup: int, repeats: int
) -> list[list[StepCost]]:
    """Run several steps in turn, so that all meet the same disturbances.

    Args:
        steps (Sequence[Callable]): Each runs once and returns what it took.
        warmup (int): Rounds that do not count.
        repeats (int): Rounds that do. Every other one goes backwards.

    Returns:
        list[list[StepCost]]: The counted runs of each step.
    """
    costs: list[list[StepCost]] = [[] for _ in steps]
    for number in range(warmup + repeats):
        order = list(range(len(steps)))
        for i in reversed(order) if number % 2 else order:
            cost = steps[i]()
            if number >= warmup:
                costs[i].append(cost)
    return costs


class OtherCheckout:
    """A step of another checkout, measured in a process of its own.

    The two processes take turns, so that both meet the same disturbances of
    the machine. They exchange lines of JSON.

    Args:
        root (Path): Top of the checkout.
        arguments (list): Of :func:`model_step`.

    Raises:
        ConfigError: If the checkout cannot run the step.
    """

    def __init__(self, root: Path, arguments: list) -> None:
        self.root = root
        self._process = subprocess.Popen(
            [
                sys.executable,
                benchmark_step.__file__,
                str(root.resolve()),
                json.dumps(arguments),
            ],
            env=dict(os.environ, OMP_NUM_THREADS=str(torch.get_num_threads())),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def measure(self) -> StepCost:
        """Run the step once."""
        self._process.stdin.write('again\n')
        self._process.stdin.flush()
        return StepCost(*json.loads(self._read()))

    def _read(self) -> str:
        answer = self._process.stdout.readline()
        if not answer:
            raise ConfigError(
                f'{self.root} cannot be measured; its error stands above.',
                file=self.root,
            )
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


# -- prediction and training --------------------------------------------------


def change_setting(
    setting: Setting, option: str, key: str, value: Any
) -> Setting:
    """Return a setting with one field, or one key of the config, changed.

    Raises:
        ConfigError: If the field cannot take the value.
    """
    if key == 'amp':  # the former name
        key, value = 'precision', {'off': 'fp32'}.get(value, value)
    if key == 'options' or key not in Setting._fields:
        return setting._replace(options=(*setting.options, (key, value)))
    kind = type(getattr(setting, key))
    if type(value) is not kind or (kind is int and value < 1):
        raise ConfigError(f'{option} {key}={value}: not a {kind.__name__}')
    if key == 'precision' and value not in PRECISIONS:
        raise ConfigError(
            f'{option} precision={value}: not one of {PRECISIONS}'
        )
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
    if not on_gpu and any(s.precision == 'fp16' for s in settings):
        raise ConfigError('fp16 needs a GPU; on a CPU there is bf16.')
    steps = [model_step(config, s, device, training) for s in settings]
    rows = [{**s._asdict(), 'options': dict(s.options)} for s in settings]
    with ExitStack() as stack:
        if other is not None:
            arguments = [_config_in(other, config), settings[0]]
            rival = OtherCheckout(other, [*arguments, device, training])
            stack.callback(rival.close)
            steps.append(rival.measure)
            rows.append({**rows[0], 'checkout': str(other)})
        costs = interleave(steps, warmup, repeats)
    measured = []
    for row, runs in zip(rows, costs, strict=True):
        found = summarise(runs)
        frames = row['batch'] * row['expressions'] * row['frames']
        rate = frames / found['seconds']['median']
        measured.append({'setting': row, 'frames_per_second': rate, **found})
    report = {
        'command': command,
        'config': config,
        'device': torch.cuda.get_device_name(device)
        if on_gpu
        else f'CPU, {torch.get_num_threads()} threads',
        'torch': torch.__version__,
        'repeats': repeats,
        'measured': measured,
    }
    if len(costs) == 2:
        report['ratio'] = _ratio(costs, measured)
    return report


def _config_in(other: Path, config: str) -> str:
    """The config of the same name in another checkout, if it has one."""
    path = Path(config).resolve()
    if path.is_relative_to(ROOT) and (other / path.relative_to(ROOT)).exists():
        path = other.resolve() / path.relative_to(ROOT)
    return str(path)


def _ratio(costs: list[list[StepCost]], measured: list[dict]) -> dict:
    """How the first of two compares with the second."""
    one, two = measured
    ratios = [a.seconds / b.seconds for a, b in zip(*costs, strict=True)]
    return {
        'seconds': one['seconds']['median'] / two['seconds']['median'],
        'least': min(ratios),
        'greatest': max(ratios),
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
        lines += [
            '',
            f'{chr(ord("A") + number)}: {text}',
            f'{"stage":<18}{"median ms":>11}{"min":>10}{"max":>10}'
            f'{"share":>8}',
        ]
        total = found['seconds']['median']
        for name, seconds in {
            **found['stages'],
            'total': found['seconds'],
        }.items():
            median, least, most = (1e3 * value for value in seconds.values())
            lines.append(
                f'{name:<18}{median:>11.1f}{least:>10.1f}{most:>10.1f}'
                f'{seconds["median"] / total:>8.1%}'
            )
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

    def rates(loader: Any, warmup: int) -> dict[str, float]:
        """Clips a second."""
        found = []
        for _ in range(warmup + repeats):
            begin = time.perf_counter()
            for _ in loader():
                pass
            found.append(clips / (time.perf_counter() - begin))
        return spread(found[warmup:])

    report = {
        'command': 'data',
        'config': config,
        'clips': clips,
        'transforms': transform_times(dataset, indices),
        'clips_per_second_of_one_process': rates(
            lambda: map(dataset.__getitem__, indices), warmup=0
        ),
    }
    if workers:
        loader = DataLoader(
            dataset,
            sampler=indices,
            batch_size=None,
            num_workers=workers,
            persistent_workers=True,
        )
        report['workers'] = workers
        # the first round starts the workers
        report['clips_per_second'] = rates(lambda: loader, warmup=1)
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
    one = report['clips_per_second_of_one_process']
    lines = [
        f'data {report["config"]}, {report["clips"]} clips',
        '',
        *(
            f'{1e3 * seconds:>9.1f} ms  {name}'
            for name, seconds in report['transforms'].items()
        ),
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
