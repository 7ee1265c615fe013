# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Train for an hour and see whether anything grows or slows down.

``tools/train.py`` trains a small model on drawn videos, with workers,
mid-epoch checkpoints and a validation now and then. Meanwhile memory, open
files and threads of all its processes are read from the system. At the end it
gets SIGTERM, must save and leave nothing behind.

Examples:
    python -m tests.soak.long_training --minutes 60 --out work_dirs/soak
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
from mmengine.config import Config

from referformer.engine.hooks.save_on_signal_hook import INTERRUPTED
from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos
from referformer.utils.processes import child_environment

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/referformer_tiny_synthetic.py'
PARAMS = SyntheticParams(
    train_videos=24, valid_videos=2, frames=8, height=48, width=80, seed=3
)
WORKERS = 2
#: Parts of the run, of ten, that are compared; the first one warms up.
BEGIN, END = (1, 2), (9, 10)


class Sample(NamedTuple):
    """What the system says at a moment."""

    seconds: float
    """Since the first sample."""
    iteration: int
    trainer_mib: float
    workers_mib: float
    """Sum over the workers, of pages that no other process has."""
    workers_mapped_mib: float
    """Sum over the workers, with the pages they share with the trainer."""
    files: int
    """Open files, pipes and sockets of the trainer."""
    threads: int
    processes: int
    cpu_seconds: float
    """Of the trainer since it began."""


class Line(NamedTuple):
    """A line of the log."""

    iteration: int
    seconds: float
    """Mean time of an iteration, which includes the next."""
    data_seconds: float


class Figure(NamedTuple):
    """A measure at the beginning and at the end of a run."""

    name: str
    begin: float
    end: float
    limit: float
    """The greatest end that is not growth."""

    @property
    def grows(self) -> bool:
        """Whether it ends above its limit."""
        return self.end > self.limit


def make_config(folder: Path) -> Path:
    """Draw the videos and write the config of the run."""
    data = make_synthetic_rvos(folder / 'data', PARAMS, progress=False)
    cfg = Config.fromfile(CONFIG)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = f'{data}/'
    cfg.train_dataloader.update(batch_size=2, num_workers=WORKERS)
    cfg.train_dataloader.sampler.samples_per_epoch = 200
    cfg.train_dataloader.dataset.start_stride = 1
    cfg.val_dataloader = cfg.test_dataloader
    cfg.val_evaluator = cfg.test_evaluator
    cfg.val_cfg = {}
    cfg.train_cfg.update(max_epochs=10**6, val_interval=10)
    cfg.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50)
    ]
    cfg.default_hooks.logger.interval = 10
    cfg.default_hooks.checkpoint.interval_iters = 70
    cfg.log_processor.window_size = 10
    path = folder / 'config.py'
    cfg.dump(path)
    return path


def read_log(work_dir: Path) -> list[Line]:
    """Read the times of the iterations."""
    lines = []
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for text in path.read_text().splitlines():
            values = json.loads(text)
            if 'loss' in values:
                lines.append(
                    Line(values['step'], values['time'], values['data_time'])
                )
    return lines


def take_sample(trainer: psutil.Process, start: float, log: Path) -> Sample:
    """Ask the system about the trainer and its children."""
    children = trainer.children(recursive=True)
    private = mapped = 0
    for child in children:
        # a worker of the validation may end meanwhile
        try:
            memory = child.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        private += memory.uss
        mapped += memory.rss
    lines = read_log(log)
    cpu = trainer.cpu_times()
    return Sample(
        time.monotonic() - start,
        lines[-1].iteration if lines else 0,
        trainer.memory_info().rss / 2**20,
        private / 2**20,
        mapped / 2**20,
        trainer.num_fds(),
        trainer.num_threads(),
        1 + len(children),
        cpu.user + cpu.system,
    )


def compare(samples: Sequence[Sample], lines: Sequence[Line]) -> list[Figure]:
    """Compare the beginning of a run with its end.

    A figure may end 3 % above its beginning (times, which are noisy: 10 %);
    handles, threads and processes may not grow at all.

    Raises:
        RuntimeError: If the run was too short.
    """
    whole = samples[-1].seconds
    parts = [
        [s for s in samples if low <= 10 * s.seconds / whole <= high]
        for low, high in (BEGIN, END)
    ]
    if any(part[0].iteration == part[-1].iteration for part in parts):
        raise RuntimeError('the run was too short to compare its parts')
    logged = [
        [
            line
            for line in lines
            if part[0].iteration <= line.iteration <= part[-1].iteration
        ]
        for part in parts
    ]

    def figure(
        name: str, of: str, groups: Sequence, scale: float, slack: float
    ) -> Figure:
        begin, end = (
            statistics.median(scale * getattr(each, of) for each in group)
            for group in groups
        )
        return Figure(name, begin, end, begin * (1 + slack))

    cpu = [
        1e3
        * (part[-1].cpu_seconds - part[0].cpu_seconds)
        / (part[-1].iteration - part[0].iteration)
        for part in parts
    ]
    own = figure('memory of its workers, MiB', 'workers_mib', parts, 1, 0.03)
    mapped = figure(
        'the same with pages shared with the trainer, MiB',
        'workers_mapped_mib',
        parts,
        1,
        0,
    )
    # most of it is the trainer's
    mapped = mapped._replace(limit=mapped.begin + 0.03 * own.begin)
    return [
        figure('memory of the trainer, MiB', 'trainer_mib', parts, 1, 0.03),
        own,
        mapped,
        figure('open files and pipes', 'files', parts, 1, 0),
        figure('threads', 'threads', parts, 1, 0),
        figure('processes', 'processes', parts, 1, 0),
        Figure('CPU time of an iteration, ms', *cpu, limit=1.1 * cpu[0]),
        figure('time of an iteration, ms', 'seconds', logged, 1e3, 0.1),
        figure('of it for data, ms', 'data_seconds', logged, 1e3, 0.1),
    ]


def table_of(figures: Sequence[Figure]) -> str:
    """Write the figures as a table in Markdown."""
    lines = ['| | after 10–20 % | after 90–100 % |', '|---|---|---|']
    for each in figures:
        mark = ' **grows**' if each.grows else ''
        lines.append(
            f'| {each.name} | {each.begin:.1f} | {each.end:.1f}{mark} |'
        )
    return '\n'.join(lines)


def train(folder: Path, seconds: float, interval: float) -> list[Sample]:
    """Train for a time; return the samples.

    Raises:
        RuntimeError: If the training ends by itself, or leaves a process.
    """
    config = make_config(folder)
    command = [sys.executable, 'tools/train.py', config]
    command += ['--work-dir', folder / 'run']
    samples: list[Sample] = []
    environment = {'OMP_NUM_THREADS': '1', **child_environment()}
    with (
        (folder / 'train.txt').open('w') as output,
        (folder / 'samples.jsonl').open('w') as file,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output
        ) as process,
    ):
        trainer, start = psutil.Process(process.pid), time.monotonic()
        try:
            while time.monotonic() < start + seconds:
                time.sleep(interval)
                if process.poll() is not None:
                    raise RuntimeError(
                        f'the training ended with {process.returncode}: see '
                        f'{output.name}'
                    )
                sample = take_sample(trainer, start, folder / 'run')
                samples.append(sample)
                file.write(json.dumps(sample._asdict()) + '\n')
                file.flush()
            children = trainer.children(recursive=True)
            process.send_signal(signal.SIGTERM)
            status = process.wait(120)
        finally:
            process.kill()
    _, left = psutil.wait_procs(children, 10)
    if status != INTERRUPTED or left:
        raise RuntimeError(f'it left with status {status}, and {left}')
    return samples


def main(argv: Sequence[str] | None = None) -> int:
    """Train, and print what was measured; status 1 if something grows."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--minutes', type=float, default=60)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument(
        '--interval', type=float, default=10, help='seconds between samples'
    )
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True)
    samples = train(args.out.resolve(), 60 * args.minutes, args.interval)
    lines = read_log(args.out / 'run')
    figures = compare(samples, lines)
    print(f'{lines[-1].iteration} iterations in {args.minutes:g} minutes\n')
    print(table_of(figures))
    return int(any(each.grows for each in figures))


if __name__ == '__main__':
    raise SystemExit(main())
