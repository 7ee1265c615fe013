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
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = 'configs/referformer_tiny_synthetic'
CONFIG = f'{CONFIGS}.py'


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
    Stage(
        'pairs',
        'Train on frames of two objects',
        f'{CONFIGS}-pairs.py',
        'pairs',
    ),
    Stage(
        'frames',
        'Train on frames of up to four',
        f'{CONFIGS}-frames.py',
        'scenes',
    ),
    Stage('clips', 'Train on clips', CONFIG, 'scenes'),
)
DATA_SETS = ('pairs', 'scenes')
# What mmengine logs: ``Epoch(train) [1][ 50/100]``, ``Epoch(test) [50/150]``.
_ITER = re.compile(
    r'Epoch\((train|test)\)\s*(?:\[\s*(\d+)\])?\[\s*(\d+)/\s*(\d+)\]'
)
_ETA = re.compile(r'eta: ([\d:, days]+?)\s{2}')
_LOSS = re.compile(r'\sloss: (\S+)')
# All that a run leaves in its folder, for --fresh.
_OWN_FILES = ('*.log', 'steps.json', 'scores_*.json', 'report.json')


def positive(text: str) -> int:
    """Read a positive integer from the command line.

    Args:
        text (str): What the user typed.

    Returns:
        int: The number.

    Raises:
        ValueError: If it is none, which argparse reports.
    """
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


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
        '--train-videos',
        type=positive,
        default=1200,
        help='videos to learn from',
    )
    parser.add_argument(
        '--valid-videos',
        type=positive,
        default=50,
        help='unseen videos to score',
    )
    parser.add_argument(
        '--epochs',
        type=positive,
        nargs=len(STAGES),
        metavar=tuple(stage.name.upper() for stage in STAGES),
        help='epochs of each training (default: as configured)',
    )
    parser.add_argument(
        '--fresh',
        action='store_true',
        help='forget an earlier run and draw its videos again',
    )
    return parser.parse_args(argv)


class Steps:
    """Runs the steps, shows their progress and remembers them.

    Args:
        work_dir (Path): Where logs and the record of the steps go.
        total (int): Number of steps.
    """

    def __init__(self, work_dir: Path, total: int) -> None:
        self.work_dir = work_dir
        self.total = total
        self.number = 0
        self.path = work_dir / 'steps.json'
        self.record: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            self.record = json.loads(self.path.read_text())

    @property
    def seconds(self) -> dict[str, float]:
        """Time of each step, interrupted attempts included."""
        return {
            name: round(step['seconds'], 1)
            for name, step in self.record.items()
        }

    def run(
        self, name: str, title: str, command: Sequence[str], output: Path
    ) -> None:
        """Run a command unless it already succeeded.

        Args:
            name (str): Key of the step.
            title (str): What the user reads.
            command (Sequence[str]): Arguments for this Python.
            output (Path): What the command makes; were it deleted, the step
                runs again.

        Raises:
            SystemExit: If the command fails, which names its log; if an
                earlier run had other options; if the user interrupts.
        """
        self.number += 1
        head = f'[{self.number}/{self.total}] {title}'
        command = list(command)
        step = self.record.setdefault(
            name, {'command': command, 'seconds': 0.0, 'done': False}
        )
        if step['command'] != command:
            raise SystemExit(
                f'{self.work_dir} holds a run with other options, in which '
                f'this step was\n  {shlex.join(step["command"])}\n'
                'Start over with --fresh, or choose another --work-dir and '
                '--data-root.'
            )
        if step['done'] and output.exists():
            print(f'{head}: done before', flush=True)
            return
        print(f'{head}\n      python {shlex.join(command)}', flush=True)
        step['done'] = False
        self._save()
        log = self.work_dir / f'{name}.log'
        start = time.time()
        try:
            status = self._call(command, log)
        except KeyboardInterrupt:
            raise SystemExit(
                '\nStopped. The same command goes on from here.'
            ) from None
        finally:
            step['seconds'] += time.time() - start
            self._save()
        if status:
            tail = ''.join(log.read_text().splitlines(keepends=True)[-15:])
            raise SystemExit(
                f'{tail}\n{title} failed with status {status}; the whole log '
                f'is {log}'
            )
        step['done'] = True
        self._save()
        print(f'      {step["seconds"]:.0f} s', flush=True)

    def _save(self) -> None:
        write_whole(self.path, json.dumps(self.record, indent=2))

    def _call(self, command: list[str], log: Path) -> int:
        """Run a command to its end; it does not outlive this process."""
        with (
            log.open('a', encoding='utf-8') as file,
            subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding='utf-8',
                errors='replace',
            ) as process,
        ):
            try:
                for line in process.stdout:
                    file.write(line)
                    file.flush()
                    progress = progress_of(line)
                    if progress:
                        print(f'      {progress}', flush=True)
            except BaseException:
                process.terminate()
                raise
        return process.returncode


def progress_of(line: str) -> str | None:
    """Shorten a line of mmengine's log.

    Args:
        line (str): The line.

    Returns:
        str | None: How far the step is; None for any other line.
    """
    match = _ITER.search(line)
    if match is None:
        return None
    mode, epoch, step, steps = match.groups()
    eta, loss = _ETA.search(line), _LOSS.search(line)
    text = f'clip {step}/{steps}'
    if mode == 'train':
        text = f'epoch {epoch}  step {step}/{steps}'
    if loss:
        text += f'  loss {loss.group(1)}'
    if eta:
        text += f'  time left {eta.group(1).strip()}'
    return text


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


def forget(work_dir: Path, data_root: Path) -> None:
    """Delete an earlier run, and nothing else that lies there.

    Args:
        work_dir (Path): Where it wrote.
        data_root (Path): Where it drew its videos; folders without the
            mark of a synthetic set stay.
    """
    for stage in (*STAGES, None):
        shutil.rmtree(
            work_dir / (stage.name if stage else 'test'), ignore_errors=True
        )
    for pattern in (*_OWN_FILES, 'overlay.*'):
        for path in work_dir.glob(pattern):
            path.unlink()
    for name in DATA_SETS:
        if (data_root / name / 'synthetic.json').is_file():
            shutil.rmtree(data_root / name)


def setting(key: str, value: object) -> str:
    """Write a ``--cfg-options`` pair.

    Args:
        key (str): Dotted key.
        value (object): Path; quoted where spaces or commas in it would be
            read otherwise.

    Returns:
        str: The pair.
    """
    text = str(value)
    return (
        f"{key}='{text}'" if re.search(r'[^\w./-]', text) else f'{key}={text}'
    )


def main(argv: list[str] | None = None) -> None:
    """Run the quickstart.

    Args:
        argv (list[str], optional): Arguments; ``sys.argv`` when None.
    """
    args = parse_args(argv)
    work_dir, data_root = args.work_dir.resolve(), args.data_root.resolve()
    if args.fresh:
        forget(work_dir, data_root)
    work_dir.mkdir(parents=True, exist_ok=True)
    steps = Steps(work_dir, total=len(DATA_SETS) + len(STAGES) + 3)
    # the easy set is only learnt from
    for name, options in zip(
        DATA_SETS,
        (
            ['--valid-videos=0', '--objects=2'],
            [f'--valid-videos={args.valid_videos}'],
        ),
        strict=True,
    ):
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
                '--shapes=3',
            ],
            output=data_root / name,
        )
    previous = None
    for k, stage in enumerate(STAGES):
        folder = work_dir / stage.name
        options = [
            setting(
                'train_dataloader.dataset.data_root',
                f'{data_root / stage.data}/',
            )
        ]
        if args.epochs:
            options.append(f'train_cfg.max_epochs={args.epochs[k]}')
        if previous is not None:
            options.append(setting('load_from', last_checkpoint(previous)))
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
            output=folder / 'last_checkpoint',
        )
        previous = folder
    root = setting(
        'test_dataloader.dataset.data_root', f'{data_root / "scenes"}/'
    )
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
            output=out,
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
        output=overlay,
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
    # `kill` and a job's time limit stop the running step too, as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
