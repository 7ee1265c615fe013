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

from referformer.errors import CheckpointError, ConfigError
from referformer.formats.files import write_atomic, write_json
from referformer.testing.quickstart_report import make_report
from referformer.testing.report import render_report
from referformer.testing.scenes.writing import MANIFEST
from referformer.testing.steps import Steps


class DrawnSet(NamedTuple):
    """A set of drawn videos.

    Attributes:
        name: Name of its folder.
        title: What the user reads.
        command: Tool that draws it, and options; ``{train}`` and ``{valid}``
            stand for numbers of videos.
    """

    name: str
    title: str
    command: tuple[str, ...]


class Stage(NamedTuple):
    """A training; each begins with the weights of the one before.

    Attributes:
        name: Name of the step and of its folder.
        title: What the user reads.
        config: Config file.
        data: The :class:`DrawnSet` it learns from.
    """

    name: str
    title: str
    config: str
    data: str


class Recipe(NamedTuple):
    """A way from drawn videos to a scored model.

    Attributes:
        summary: What is done, for the report.
        sets: Sets to draw; the last one has the videos to score.
        stages: Trainings, one after the other.
        train_videos: Videos of a set to learn from.
        start: Weights that the first training begins with, and that are
            scored before it; None for random ones.
        watched: The :class:`DrawnSet` that is scored during the training;
            None for none.
    """

    summary: str
    sets: tuple[DrawnSet, ...]
    stages: tuple[Stage, ...]
    train_videos: int
    start: Path | None = None
    watched: str | None = None

    @property
    def config(self) -> str:
        """Config of the trained model and of the test."""
        return self.stages[-1].config

    @property
    def scored(self) -> str:
        """Name of the set with the videos to score."""
        return self.sets[-1].name


_SYNTHETIC = 'configs/referformer_tiny_synthetic'
_DRAW_SHAPES = (
    'tools/dataset_converters/make_synthetic_rvos.py',
    *('--train-videos={train}', '--frames=8', '--height=72', '--width=112'),
    *('--colours=6', '--shapes=3'),
)
# Easy scenes first: one word decides between two objects, so the words for
# colours, shapes and sizes are learnt within minutes. Among four objects that
# share them, learning starts many times slower.
_SCRATCH = Recipe(
    'A small 2-D model learnt colours, shapes and sizes from {train} drawn '
    'videos, starting with random weights, and was scored on videos that it '
    'had never seen.',
    (
        DrawnSet(
            'pairs',
            'Draw synthetic referring videos: pairs',
            (*_DRAW_SHAPES, '--valid-videos=0', '--objects=2'),
        ),
        DrawnSet(
            'scenes',
            'Draw synthetic referring videos: scenes',
            (*_DRAW_SHAPES, '--valid-videos={valid}'),
        ),
    ),
    (
        Stage(
            'pairs',
            'Train on frames of two objects',
            f'{_SYNTHETIC}-pairs.py',
            'pairs',
        ),
        Stage(
            'frames',
            'Train on frames of up to four',
            f'{_SYNTHETIC}-frames.py',
            'scenes',
        ),
        Stage('clips', 'Train on clips', f'{_SYNTHETIC}.py', 'scenes'),
    ),
    train_videos=1200,
)
#: Weights of the example model.
_EXAMPLE_MODEL = Path(__file__).parents[1] / 'example_model/model.safetensors'
_DRAW_KINDS = (
    'tools/dataset_converters/make_motion_scenes.py',
    # the last four kinds; the example model has seen the first two of them
    *('--first-kind=8', '--kinds=4'),
)
_NEW_KINDS = Recipe(
    'The example model learnt boats and mushrooms, which it had never seen, '
    'and the words for them from {train} drawn videos. It was scored before '
    'and after, on other videos of these objects.',
    (
        DrawnSet(
            'watched',
            'Draw videos to watch the training with',
            (
                *_DRAW_KINDS,
                '--train-videos=0',
                '--valid-videos=12',
                '--seed=1',
            ),
        ),
        DrawnSet(
            'kinds',
            'Draw videos of new objects that move',
            (
                *_DRAW_KINDS,
                *('--train-videos={train}', '--valid-videos={valid}'),
            ),
        ),
    ),
    (
        Stage(
            'new-kinds',
            'Train the example model on them',
            'configs/example/referformer_temporal-resnet_new-kinds.py',
            'kinds',
        ),
    ),
    train_videos=400,
    start=_EXAMPLE_MODEL,
    watched='watched',
)
#: The first one is what a newcomer gets.
RECIPES = {'new-kinds': _NEW_KINDS, 'scratch': _SCRATCH}
DEFAULT_RECIPE = next(iter(RECIPES))
#: Number of the video that is shown first.
EXAMPLE_NUMBER = '5'
#: Whose expression an object is scored with, and the title of that step.
SCORES = {
    'self': 'Score unseen videos',
    'other_object': "Score them with another object's expression",
}
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
    recipes = RECIPES.values()
    stages = [stage.name for recipe in recipes for stage in recipe.stages]
    for name in (*stages, 'test', 'drawn', 'example'):
        shutil.rmtree(work_dir / name, ignore_errors=True)
    for pattern in _OWN_FILES:
        for path in work_dir.glob(pattern):
            path.unlink()
    for name in {drawn.name for recipe in recipes for drawn in recipe.sets}:
        if (data_root / name / MANIFEST).is_file():
            shutil.rmtree(data_root / name)


def _setting(key: str, value: Path | str) -> str:
    """Write a ``--cfg-options`` pair.

    Paths are quoted where spaces or commas would be read otherwise.
    """
    text = str(value)
    quote = "'" if re.search(r'[^\w./-]', text) else ''
    return f'{key}={quote}{text}{quote}'


class Quickstart:
    """The steps of a recipe.

    Args:
        root: Top of the repository.
        recipe: What to do.
        work_dir: Where logs, weights and results go.
        data_root: Where the drawn videos go.
        train_videos: Videos of a set to learn from.
        valid_videos: Unseen videos to score.
        epochs: Epochs of each training, as configured when omitted.
    """

    def __init__(
        self,
        root: Path,
        recipe: Recipe,
        work_dir: Path,
        data_root: Path,
        train_videos: int,
        valid_videos: int,
        epochs: Sequence[int] | None,
    ) -> None:
        self.recipe = recipe
        self.work_dir = work_dir
        self.data_root = data_root
        self.videos = {'train': train_videos, 'valid': valid_videos}
        self.epochs = epochs
        scores = len(SCORES) + (recipe.start is not None)
        total = 1 + len(recipe.sets) + len(recipe.stages) + scores + 1
        self.steps = Steps(root, work_dir, total)

    @property
    def data(self) -> Path:
        """The set with the videos to score."""
        return self.data_root / self.recipe.scored

    def _test_data(self) -> str:
        return _setting('test_dataloader.dataset.data_root', f'{self.data}/')

    def run(self) -> dict[str, Any]:
        """Run all steps; return what ``report.json`` holds."""
        self._show_example()
        for drawn in self.recipe.sets:
            self._draw(drawn)
        report = {}
        start = self.recipe.start
        if start is not None:
            title = f'{SCORES["self"]} before the training'
            before = self._score('before', 'self', title, start)
            report['before'] = {'J&F': before['refer/J&F']}
        checkpoint = self._train()
        scores = {
            source: self._score(source, source, title, checkpoint)
            for source, title in SCORES.items()
        }
        overlay = self._overlay(checkpoint)
        seconds = self.steps.seconds
        return report | {
            'J&F': scores['self']['refer/J&F'],
            'J': scores['self']['refer/J'],
            'F': scores['self']['refer/F'],
            'J&F_wrong_expression': scores['other_object']['refer/J&F'],
            'seconds': round(sum(seconds.values()), 1),
            'seconds_by_step': seconds,
            'checkpoint': str(checkpoint),
            'overlay': str(overlay),
        }

    def _show_example(self) -> None:
        """Segment a video with the example model, to see something at once."""
        out = self.work_dir / 'example'
        self.steps.run(
            'example',
            'Cut three objects out of an unseen video, with the example model',
            *('tools/demo.py', '--example', EXAMPLE_NUMBER, f'--out={out}'),
            output=out,
        )
        folder = out / f'example-{EXAMPLE_NUMBER}'
        print(f'      see {folder / "overlay.png"}', flush=True)

    def _draw(self, drawn: DrawnSet) -> None:
        """Draw a set."""
        out = self.data_root / drawn.name
        tool, *options = (x.format(**self.videos) for x in drawn.command)
        command = (tool, out, *options)
        self.steps.run(f'data_{drawn.name}', drawn.title, *command, output=out)

    def _train(self) -> Path:
        """Run the trainings; return the last checkpoint."""
        previous = self.recipe.start
        for k, stage in enumerate(self.recipe.stages):
            folder = self.work_dir / stage.name
            data = f'{self.data_root / stage.data}/'
            options = [_setting('train_dataloader.dataset.data_root', data)]
            if self.recipe.watched is not None:
                data = f'{self.data_root / self.recipe.watched}/'
                options.append(
                    _setting('val_dataloader.dataset.data_root', data)
                )
            if self.epochs:
                options.append(f'train_cfg.max_epochs={self.epochs[k]}')
            if previous is not None:
                options.append(_setting('load_from', previous))
            self.steps.run(
                stage.name,
                stage.title,
                *('tools/train.py', stage.config, f'--work-dir={folder}'),
                *('--resume', '--cfg-options', *options),
                output=folder / 'last_checkpoint',
            )
            previous = last_checkpoint(folder)
        return previous

    def _score(
        self, name: str, source: str, title: str, weights: Path
    ) -> dict[str, float]:
        """Score the unseen videos with a source of expressions."""
        out = self.work_dir / f'scores_{name}.json'
        table = self.work_dir / f'table_{name}.json'
        self.steps.run(
            f'score_{name}',
            title,
            *('tools/test.py', self.recipe.config, weights),
            *(f'--work-dir={self.work_dir / "test"}', f'--out={out}'),
            *('--cfg-options', self._test_data()),
            _setting('test_evaluator.outfile', table),
            f'test_dataloader.dataset.expression_from={source}',
            output=out,
        )
        return json.loads(out.read_text())

    def _overlay(self, checkpoint: Path) -> Path:
        """Draw predictions: a mosaic, and the clips of the page."""
        overlay = self.work_dir / 'overlay.mp4'
        tool = 'tools/analysis_tools/draw_overlays.py'
        self.steps.run(
            'overlay',
            'Draw the result',
            *(tool, self.recipe.config, checkpoint, f'--out={overlay}'),
            f'--clips={self.work_dir / "drawn"}',
            f'--scores={self.work_dir / "table_self.json"}',
            *('--cfg-options', self._test_data()),
            output=overlay,
        )
        return overlay

    def page(self, report: dict[str, Any]) -> str:
        """Return ``report.html``."""
        contents = make_report(
            self.steps,
            report,
            self.recipe.summary.format(**self.videos),
            [stage.name for stage in self.recipe.stages],
            self.recipe.config,
            self.data,
            self.videos['valid'],
        )
        return render_report(contents)


def run_quickstart(
    root: Path,
    work_dir: Path,
    data_root: Path,
    recipe: str = DEFAULT_RECIPE,
    train_videos: int | None = None,
    valid_videos: int = 50,
    epochs: Sequence[int] | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Run all steps and write ``report.html``, its numbers and a mosaic.

    Args:
        root: Top of the repository.
        work_dir: Where logs, weights and results go.
        data_root: Where the drawn videos go.
        recipe: One of :data:`RECIPES`.
        train_videos: Videos of a set to learn from, those of the recipe when
            omitted.
        valid_videos: Unseen videos to score.
        epochs: Epochs of each training, as configured when omitted.
        fresh: Forget an earlier run and draw its videos again.

    Returns:
        What ``report.json`` holds: scores, seconds, paths.

    Raises:
        ConfigError: If the number of epochs is not that of the trainings.
        ReferError: If a step fails or cannot begin.
    """
    chosen = RECIPES[recipe]
    if epochs is not None and len(epochs) != len(chosen.stages):
        raise ConfigError(
            f'--epochs has {len(epochs)} numbers; the recipe {recipe} has '
            f'{len(chosen.stages)} trainings.'
        )
    work_dir, data_root = work_dir.resolve(), data_root.resolve()
    if fresh:
        forget(work_dir, data_root)
    work_dir.mkdir(parents=True, exist_ok=True)
    train_videos = train_videos or chosen.train_videos
    videos = (train_videos, valid_videos)
    run = Quickstart(root, chosen, work_dir, data_root, *videos, epochs)
    report = run.run()
    write_json(work_dir / 'report.json', report)
    path = work_dir / 'report.html'
    write_atomic(path, run.page(report).encode())
    print(
        f'\nJ&F {report["J&F"]:.1f} on {valid_videos} unseen videos '
        f'(J {report["J"]:.1f}, F {report["F"]:.1f}); '
        f'{report["J&F_wrong_expression"]:.1f} when it is told about another '
        f'object\n{report["overlay"]}\n{path} shows it all: open it in a '
        'browser'
    )
    return report
