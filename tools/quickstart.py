# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Train, score and show a small model on synthetic videos, from nothing.

Writes ``work_dirs/quickstart/report.json`` and ``overlay.mp4``. Every step is
a command of this repository, printed before it runs; a finished step is not
repeated, and an interrupted training goes on where it stopped. ``--fresh``
starts over.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PRETRAIN = 'configs/referformer_tiny_synthetic-pretrain.py'
CONFIG = 'configs/referformer_tiny_synthetic.py'


class Stage(NamedTuple):
    """A training of the quickstart; each starts from the one before.

    Attributes:
        name (str): Name of the step and of its folder.
        title (str): What the user reads.
        config (str): Config file.
        data (str): Synthetic set it learns from.
    """

    name: str
    title: str
    config: str
    data: str


# Easy scenes first: between two objects a single word decides, and within
# minutes the words for colours, shapes and sizes have a meaning. Among four
# objects that share them, learning starts many times slower.
STAGES = (
    Stage('pairs', 'Train on frames of two objects', PRETRAIN, 'pairs'),
    Stage('frames', 'Train on frames of up to four', PRETRAIN, 'scenes'),
    Stage('clips', 'Train on clips', CONFIG, 'scenes'),
)
_ITER = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\]')
_ETA = re.compile(r'eta: ([\d:, day]+?)\s{2}')
_LOSS = re.compile(r'\sloss: ([\d.]+)')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv (list[str], optional): Arguments; ``sys.argv`` when None.

    Returns:
        argparse.Namespace: The options.
    """
    parser = argparse.ArgumentParser(
        description='Train a small model on synthetic videos, score it on '
        'unseen ones and draw the result.'
    )
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs/quickstart')
    )
    parser.add_argument(
        '--data-root', type=Path, default=Path('data/quickstart')
    )
    parser.add_argument(
        '--train-videos', type=int, default=1000, help='videos to learn from'
    )
    parser.add_argument(
        '--valid-videos', type=int, default=50, help='unseen videos to score'
    )
    parser.add_argument(
        '--epochs',
        type=int,
        nargs=len(STAGES),
        metavar=tuple(stage.name.upper() for stage in STAGES),
        help='epochs of each training (default: as configured)',
    )
    parser.add_argument(
        '--fresh', action='store_true', help='forget an earlier run'
    )
    return parser.parse_args(argv)


class Steps:
    """Runs the steps, shows their progress and remembers their time.

    Args:
        work_dir (Path): Where logs and the record of finished steps go.
        total (int): Number of steps.
    """

    def __init__(self, work_dir: Path, total: int) -> None:
        self.work_dir = work_dir
        self.total = total
        self.number = 0
        self.record = work_dir / 'steps.json'
        self.seconds: dict[str, float] = {}
        if self.record.exists():
            self.seconds = json.loads(self.record.read_text())

    def run(self, name: str, title: str, command: Sequence[str]) -> None:
        """Run a command unless it already succeeded.

        Args:
            name (str): Key of the step.
            title (str): What the user reads.
            command (Sequence[str]): Arguments for this Python.

        Raises:
            SystemExit: If the command fails; names its log.
        """
        self.number += 1
        head = f'[{self.number}/{self.total}] {title}'
        if name in self.seconds:
            print(f'{head}: done before', flush=True)
            return
        print(f'{head}\n      python {" ".join(command)}', flush=True)
        log = self.work_dir / f'{name}.log'
        start = time.time()
        with (
            log.open('a') as file,
            subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process,
        ):
            try:
                for line in process.stdout:
                    file.write(line)
                    file.flush()
                    self._show(line)
            except KeyboardInterrupt:
                process.wait()
                raise SystemExit(
                    '\nStopped. The same command goes on from here.'
                ) from None
        if process.returncode:
            tail = ''.join(log.read_text().splitlines(keepends=True)[-15:])
            raise SystemExit(
                f'{tail}\n{title} failed with status {process.returncode}; '
                f'the whole log is {log}'
            )
        elapsed = time.time() - start
        self.seconds[name] = round(elapsed, 1)
        write_whole(self.record, json.dumps(self.seconds, indent=2))
        print(f'      {elapsed:.0f} s', flush=True)

    @staticmethod
    def _show(line: str) -> None:
        """Shorten mmengine's log to a line of progress."""
        match = _ITER.search(line)
        if match is None:
            return
        epoch, step, steps = match.groups()
        eta, loss = _ETA.search(line), _LOSS.search(line)
        print(
            f'      epoch {epoch}  step {step}/{steps}'
            + (f'  loss {loss.group(1)}' if loss else '')
            + (f'  time left {eta.group(1).strip()}' if eta else ''),
            flush=True,
        )


def write_whole(path: Path, text: str) -> None:
    """Write a small text file through a temporary name.

    Args:
        path (Path): The file.
        text (str): Its content.
    """
    part = path.with_name(f'.{path.name}.part')
    part.write_text(text + '\n')
    part.replace(path)


def last_checkpoint(folder: Path) -> Path:
    """The checkpoint a training ended with.

    Args:
        folder (Path): Work directory of the training.

    Returns:
        Path: The file.

    Raises:
        SystemExit: If there is none.
    """
    pointer = folder / 'last_checkpoint'
    if not pointer.exists():
        raise SystemExit(
            f'{folder} holds no checkpoint; run again with --fresh'
        )
    return folder / Path(pointer.read_text().strip()).name


def main(argv: list[str] | None = None) -> None:
    """Run the quickstart.

    Args:
        argv (list[str], optional): Arguments; ``sys.argv`` when None.
    """
    args = parse_args(argv)
    work_dir, data_root = args.work_dir.resolve(), args.data_root.resolve()
    if args.fresh and work_dir.exists():
        shutil.rmtree(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    steps = Steps(work_dir, total=8)
    # the easy set is only learnt from
    for name, options in {
        'pairs': ['--valid-videos=0', '--objects=2'],
        'scenes': [f'--valid-videos={args.valid_videos}'],
    }.items():
        steps.run(
            f'data_{name}',
            f'Draw synthetic referring videos: {name}',
            [
                'tools/dataset_converters/make_synthetic_rvos.py',
                str(data_root / name),
                f'--train-videos={args.train_videos}',
                *options,
                '--frames=8',
                '--height=72',
                '--width=112',
                '--colours=6',
                '--shapes=4',
            ],
        )
    previous = None
    for k, stage in enumerate(STAGES):
        folder = work_dir / stage.name
        options = [
            f'train_dataloader.dataset.data_root={data_root / stage.data}/'
        ]
        if args.epochs:
            options.append(f'train_cfg.max_epochs={args.epochs[k]}')
        if previous is not None:
            options.append(f'load_from={last_checkpoint(previous)}')
        steps.run(
            stage.name,
            stage.title,
            [
                'tools/train.py',
                stage.config,
                f'--work-dir={folder}',
                '--resume',
                '--cfg-options',
                *options,
            ],
        )
        previous = folder
    root = f'test_dataloader.dataset.data_root={data_root / "scenes"}/'
    checkpoint = last_checkpoint(previous)
    scores = {}
    for source, title in {
        'self': 'Score unseen videos',
        'other_object': "Score them with another object's expression",
    }.items():
        out = work_dir / f'scores_{source}.json'
        steps.run(
            f'score_{source}',
            title,
            [
                'tools/test.py',
                CONFIG,
                str(checkpoint),
                f'--work-dir={work_dir / "test"}',
                f'--out={out}',
                '--cfg-options',
                root,
                f'test_dataloader.dataset.expression_from={source}',
            ],
        )
        scores[source] = json.loads(out.read_text())
    overlay = work_dir / 'overlay.mp4'
    steps.run(
        'overlay',
        'Draw the result',
        [
            'tools/analysis_tools/draw_overlays.py',
            CONFIG,
            str(checkpoint),
            f'--out={overlay}',
            '--cfg-options',
            root,
        ],
    )
    report = {
        'J&F': scores['self']['refer/J&F'],
        'J': scores['self']['refer/J'],
        'F': scores['self']['refer/F'],
        'J&F_wrong_expression': scores['other_object']['refer/J&F'],
        'seconds': round(sum(steps.seconds.values()), 1),
        'seconds_by_step': steps.seconds,
        'checkpoint': str(checkpoint),
        'overlay': str(overlay),
    }
    path = work_dir / 'report.json'
    write_whole(path, json.dumps(report, indent=2))
    print(
        f'\nJ&F {report["J&F"]:.1f} on {args.valid_videos} unseen videos '
        f'(J {report["J"]:.1f}, F {report["F"]:.1f}); '
        f'{report["J&F_wrong_expression"]:.1f} when it is told about another '
        f'object\n{path}\n{overlay}\n{overlay.with_suffix(".png")}'
    )


if __name__ == '__main__':
    main()
