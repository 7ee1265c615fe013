# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The steps of the quickstart, each a command of this repository.

Draw videos, train a small model on them, score it on unseen ones, draw its
predictions, and put everything on a page. A finished step is not repeated, and
an interrupted training goes on where it stopped.
"""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from referformer.errors import CheckpointError
from referformer.formats.files import write_atomic, write_json
from referformer.testing.quickstart_report import make_report
from referformer.testing.report import render_report
from referformer.testing.scenes.writing import MANIFEST
from referformer.testing.steps import Steps

CONFIGS = 'configs/referformer_tiny_synthetic'
CONFIG = f'{CONFIGS}.py'


class Stage(NamedTuple):
    """A training; each begins with the weights of the one before.

    Attributes:
        name: Name of the step and of its folder.
        title: What the user reads.
        config: Config file.
        data: Set of drawn videos it learns from, one of :data:`DATA_SETS`.
    """

    name: str
    title: str
    config: str
    data: str


# Easy scenes first: one word decides between two objects, so the words for
# colours, shapes and sizes are learnt within minutes. Among four objects that
# share them, learning starts many times slower.
_PAIRS, _FRAMES = f'{CONFIGS}-pairs.py', f'{CONFIGS}-frames.py'
STAGES = (
    Stage('pairs', 'Train on frames of two objects', _PAIRS, 'pairs'),
    Stage('frames', 'Train on frames of up to four', _FRAMES, 'scenes'),
    Stage('clips', 'Train on clips', CONFIG, 'scenes'),
)
#: Sets of drawn videos.
DATA_SETS = ('pairs', 'scenes')
#: Whose expression an object is scored with, and the title of that step.
SCORES = {
    'self': 'Score unseen videos',
    'other_object': "Score them with another object's expression",
}
NUM_STEPS = len(DATA_SETS) + len(STAGES) + len(SCORES) + 1
# All files that a run leaves in its folder.
_OWN_FILES = ('*.log', 'overlay.*', 'steps.json', 'report.*')
_OWN_FILES += ('scores_*.json', 'table_*.json')


def last_checkpoint(folder: Path) -> Path:
    """Return the checkpoint a training ended with."""
    pointer = folder / 'last_checkpoint'
    if not pointer.exists():
        raise CheckpointError(
            f'{folder} holds no checkpoint; run again with --fresh',
            file=folder,
        )
    return folder / Path(pointer.read_text().strip()).name


def forget(work_dir: Path, data_root: Path) -> None:
    """Delete an earlier run, and nothing else in its folders.

    Args:
        work_dir: Where it wrote.
        data_root: Where it drew its videos; folders without the manifest of
            a drawn set stay.
    """
    for name in (*(stage.name for stage in STAGES), 'test', 'drawn'):
        shutil.rmtree(work_dir / name, ignore_errors=True)
    for pattern in _OWN_FILES:
        for path in work_dir.glob(pattern):
            path.unlink()
    for name in DATA_SETS:
        if (data_root / name / MANIFEST).is_file():
            shutil.rmtree(data_root / name)


def _setting(key: str, value: Path | str) -> str:
    """Write a ``--cfg-options`` pair.

    Paths are quoted where spaces or commas would be read otherwise.
    """
    text = str(value)
    quote = "'" if re.search(r'[^\w./-]', text) else ''
    return f'{key}={quote}{text}{quote}'


def _draw_videos(
    steps: Steps, data_root: Path, train_videos: int, valid_videos: int
) -> None:
    """Draw the sets; the easy one has no videos to score."""
    own_options = {
        'pairs': ['--valid-videos=0', '--objects=2'],
        'scenes': [f'--valid-videos={valid_videos}'],
    }
    for name in DATA_SETS:
        steps.run(
            f'data_{name}',
            f'Draw synthetic referring videos: {name}',
            'tools/dataset_converters/make_synthetic_rvos.py',
            data_root / name,
            f'--train-videos={train_videos}',
            *own_options[name],
            *('--frames=8', '--height=72', '--width=112'),
            *('--colours=6', '--shapes=3'),
            output=data_root / name,
        )


def _train(
    steps: Steps, data_root: Path, epochs: Sequence[int] | None
) -> Path:
    """Run the trainings; return the last checkpoint."""
    previous = None
    for k, stage in enumerate(STAGES):
        folder = steps.work_dir / stage.name
        data = f'{data_root / stage.data}/'
        options = [_setting('train_dataloader.dataset.data_root', data)]
        if epochs:
            options.append(f'train_cfg.max_epochs={epochs[k]}')
        if previous is not None:
            options.append(_setting('load_from', previous))
        steps.run(
            stage.name,
            stage.title,
            *('tools/train.py', stage.config, f'--work-dir={folder}'),
            *('--resume', '--cfg-options', *options),
            output=folder / 'last_checkpoint',
        )
        previous = last_checkpoint(folder)
    return previous


def _score(steps: Steps, checkpoint: Path, data: str) -> dict[str, dict]:
    """Score unseen videos; return the scores by source of expressions."""
    scores = {}
    for source, title in SCORES.items():
        out = steps.work_dir / f'scores_{source}.json'
        table = steps.work_dir / f'table_{source}.json'
        steps.run(
            f'score_{source}',
            title,
            *('tools/test.py', CONFIG, checkpoint),
            *(f'--work-dir={steps.work_dir / "test"}', f'--out={out}'),
            *('--cfg-options', data),
            _setting('test_evaluator.outfile', table),
            f'test_dataloader.dataset.expression_from={source}',
            output=out,
        )
        scores[source] = json.loads(out.read_text())
    return scores


def run_quickstart(
    root: Path,
    work_dir: Path,
    data_root: Path,
    train_videos: int = 1200,
    valid_videos: int = 50,
    epochs: Sequence[int] | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Run all steps and write ``report.html``, its numbers and a mosaic.

    Args:
        root: Top of the repository.
        work_dir: Where logs, weights and results go.
        data_root: Where the drawn videos go.
        train_videos: Videos to learn from.
        valid_videos: Unseen videos to score.
        epochs: Epochs of each training, as configured when omitted.
        fresh: Forget an earlier run and draw its videos again.

    Returns:
        What ``report.json`` holds: scores, seconds, paths.

    Raises:
        ReferError: If a step fails or cannot begin.
    """
    work_dir, data_root = work_dir.resolve(), data_root.resolve()
    if fresh:
        forget(work_dir, data_root)
    work_dir.mkdir(parents=True, exist_ok=True)
    steps = Steps(root, work_dir, total=NUM_STEPS)
    _draw_videos(steps, data_root, train_videos, valid_videos)
    checkpoint = _train(steps, data_root, epochs)
    data = _setting(
        'test_dataloader.dataset.data_root', f'{data_root / "scenes"}/'
    )
    scores = _score(steps, checkpoint, data)
    overlay = work_dir / 'overlay.mp4'
    steps.run(
        'overlay',
        'Draw the result',
        *('tools/analysis_tools/draw_overlays.py', CONFIG, checkpoint),
        *(f'--out={overlay}', f'--clips={work_dir / "drawn"}'),
        f'--scores={work_dir / "table_self.json"}',
        *('--cfg-options', data),
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
    write_json(work_dir / 'report.json', report)
    page = make_report(
        steps,
        report,
        f'A small model learnt from {train_videos} drawn videos, starting '
        'from random weights, and was scored on videos that it had never '
        'seen.',
        [stage.name for stage in STAGES],
        CONFIG,
        data_root / 'scenes',
        valid_videos,
    )
    path = work_dir / 'report.html'
    write_atomic(path, render_report(page).encode())
    print(
        f'\nJ&F {report["J&F"]:.1f} on {valid_videos} unseen videos '
        f'(J {report["J"]:.1f}, F {report["F"]:.1f}); '
        f'{report["J&F_wrong_expression"]:.1f} when it is told about another '
        f'object\n{overlay}\n{path} shows it all: open it in a browser'
    )
    return report
