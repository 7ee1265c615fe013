# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the files of a quickstart say, for ``report.json`` and the page."""

import json
import os
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from referformer.testing.report import (
    Bar,
    Chart,
    Clip,
    Figure,
    Report,
    Step,
    plot,
)
from referformer.testing.steps import Steps
from referformer.utils.processor import processor
from referformer.version import __version__

Table = Mapping[str, Any]
Points = list[tuple[float, float]]


class Curves(NamedTuple):
    """Values over the iterations of all trainings, one after the other.

    Attributes:
        loss: Iteration and loss.
        score: Iteration and J&F of the videos watched in training.
        begins: Iteration at which each training begins.
    """

    loss: Points
    score: Points
    begins: list[int]


def read_curves(folders: Sequence[Path]) -> Curves:
    """Read what mmengine logged of trainings that follow each other.

    A resumed training has several logs; the later one is right.

    Args:
        folders: Work directory of each training.
    """
    curves, done = Curves([], [], []), 0
    for folder in folders:
        loss: dict[int, float] = {}
        score: dict[int, float] = {}
        last = 0
        for path in sorted(folder.glob('*/vis_data/scalars.json')):
            for line in path.read_text('utf-8').splitlines():
                entry = json.loads(line)
                if 'loss' in entry:
                    last = entry['step']
                    loss[last] = entry['loss']
                elif 'refer/J&F' in entry:
                    score[last] = entry['refer/J&F']
        curves.begins.append(done)
        for points, values in ((curves.loss, loss), (curves.score, score)):
            points += [(done + step, values[step]) for step in sorted(values)]
        done += max(loss, default=0)
    return curves


def cues_of(name: str, entry: Table, mentions: Mapping[str, list]) -> list:
    """Return what an expression is about.

    The cue that the set says, or else every attribute that it mentions.

    Args:
        name: ``<video>/<expression>``.
        entry: Its entry in a table of scores.
        mentions: Attributes that expressions mention, by their names.
    """
    cue = entry.get('attributes', {}).get('cue')
    return [cue] if cue else mentions.get(name, [])


def read_mentions(path: Path) -> dict[str, list[str]]:
    """Read which attributes the expressions of a drawn set mention.

    Args:
        path: Its ``meta_expressions.json``.
    """
    videos = json.loads(path.read_text('utf-8'))['videos']
    return {
        f'{video}/{number}': expression.get('mentions', [])
        for video, about in videos.items()
        for number, expression in about['expressions'].items()
    }


def score_cues(
    table: Table, mentions: Mapping[str, list]
) -> dict[str, tuple[int, float]]:
    """Return the number of expressions and their J&F in percent by cue."""
    scores: dict[str, list[float]] = {}
    for name, entry in table['per_expression'].items():
        for cue in cues_of(name, entry, mentions):
            scores.setdefault(cue, []).append(entry['J&F'])
    return {
        cue: (len(values), sum(values) / len(values))
        for cue, values in scores.items()
    }


def make_bars(
    right: Table,
    wrong: Table,
    mentions: Mapping[str, list],
    before: Table | None = None,
) -> list[Bar]:
    """Return the scores by cue, the cue with the most expressions first."""
    scored = score_cues(right, mentions)
    others = score_cues(wrong, mentions)
    earlier = score_cues(before, mentions) if before else {}
    return [
        Bar(
            cue,
            count,
            score,
            others.get(cue, (0, 0.0))[1],
            earlier[cue][1] if cue in earlier else None,
        )
        for cue, (count, score) in sorted(
            scored.items(), key=lambda item: -item[1][0]
        )
    ]


def read_clips(
    folder: Path, table: Table, mentions: Mapping[str, list]
) -> tuple[list[Clip], list[Clip]]:
    """Read the drawn clips: the sample, and the worst.

    Args:
        folder: Where ``tools/analysis_tools/draw_overlays.py`` wrote them.
        table: Scores by expression.
        mentions: Attributes that expressions mention, by their names.
    """
    written = json.loads((folder / 'clips.json').read_text('utf-8'))

    def read(entry: Mapping[str, Any]) -> Clip:
        name = entry['name']
        cues = cues_of(name, table['per_expression'][name], mentions)
        picture = (folder / entry['file']).read_bytes()
        about = ', '.join(cues)
        return Clip(entry['text'], name, entry['J'], about, picture)

    sample, worst = (
        [read(entry) for entry in written[kind]]
        for kind in ('sample', 'worst')
    )
    return sample, worst


def make_charts(curves: Curves, names: Sequence[str]) -> list[Chart]:
    """Return the curves of the loss and of J&F, as far as logged.

    Args:
        curves: Values over the iterations.
        names: Of the trainings.
    """
    parts = list(zip(curves.begins, names, strict=True))
    parts = parts if len(parts) > 1 else []
    charts = []
    if curves.loss:
        charts.append(plot('Loss', curves.loss, 'iterations', None, parts))
    if curves.score:
        title = 'J&F on videos watched in training'
        charts.append(plot(title, curves.score, 'iterations', 100, parts))
    return charts


def list_steps(steps: Steps) -> list[Step]:
    """Return the steps that were run, with what each took."""
    return [
        Step(
            step['title'],
            f'python {shlex.join(step["command"])}',
            step['seconds'],
        )
        for step in steps.record.values()
    ]


def next_commands(
    config: str, checkpoint: Path, valid: Path, clip: Clip
) -> list[tuple[str, str]]:
    """Return three things to do with the trained model.

    Args:
        config: Its config.
        checkpoint: Its weights.
        valid: Folder of the scored videos.
        clip: One of them.
    """
    model = f'--config {config} --checkpoint {_quoted(checkpoint)}'
    video = valid / 'JPEGImages' / clip.name.split('/')[0]
    return [
        (
            'Ask for other objects, in this video or in one of your own:',
            f'python tools/demo.py {_quoted(video)} {_quoted(clip.text)} '
            f'{model} --out work_dirs/own',
        ),
        (
            'Train longer from these weights, or change a part of the model '
            '(docs/components.md):',
            f'python tools/train.py {config} --work-dir work_dirs/longer '
            f'--cfg-options load_from={_quoted(checkpoint)} '
            f'train_dataloader.dataset.data_root={_quoted(valid.parent)}/',
        ),
        (
            'Go over to real videos: prepare a data set '
            '(docs/datasets/README.md), check it, and train a published '
            'model with tools/train.py:',
            'python tools/misc/check_dataset.py ref-youtube-vos '
            'data/ref-youtube-vos',
        ),
    ]


def _quoted(value: Path | str) -> str:
    """Quote a word for the shell; paths below this folder are shortened."""
    if isinstance(value, Path) and value.is_relative_to(Path.cwd()):
        value = value.relative_to(Path.cwd())
    return shlex.quote(str(value))


def small_print(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return when and on what the run was made, and where its files are."""
    cores = len(os.sched_getaffinity(0))
    return [
        ('Date', time.strftime('%Y-%m-%d %H:%M')),
        (
            'Machine',
            f'{processor().get("model name", platform.machine())}, '
            f'{cores} core{"s" if cores > 1 else ""}',
        ),
        (
            'Software',
            f'ReferFormer-MM {__version__}, torch {metadata.version("torch")}'
            f', Python {platform.python_version()}',
        ),
        ('Weights', str(report['checkpoint'])),
        ('Mosaic', str(report['overlay'])),
    ]


def duration(seconds: float) -> str:
    """Write a time in seconds or minutes."""
    if seconds < 100:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.1f} min'


def _text(value: float | None) -> str:
    return '' if value is None else f'{value:.1f}'


def make_figures(
    report: Mapping[str, Any], bars: Sequence[Bar], videos: int
) -> list[Figure]:
    """Return the numbers of the head of the page."""
    before = report.get('before', {})
    motion = next((bar for bar in bars if bar.name == 'motion'), None)
    figures = [
        Figure(
            'J&F, the right expression',
            _text(report['J&F']),
            _text(before.get('J&F')),
            f'on {videos} unseen videos; 100 at best',
        ),
        Figure(
            'J&F, the wrong expression',
            _text(report['J&F_wrong_expression']),
            _text(before.get('J&F_wrong_expression')),
            'that of another object; the lower, the better',
        ),
    ]
    if motion is not None:
        figures.append(
            Figure(
                'J&F, expressions about motion',
                _text(motion.score),
                _text(motion.before),
                'no single frame shows which object is meant',
            )
        )
    figures.append(
        Figure(
            'All steps together',
            duration(report['seconds']),
            note='from the drawn data to this page',
        )
    )
    return figures


def make_report(
    steps: Steps,
    report: Mapping[str, Any],
    summary: str,
    stages: Sequence[str],
    config: str,
    data: Path,
    videos: int,
) -> Report:
    """Put the page of a quickstart together.

    Args:
        steps: Its steps.
        report: What ``report.json`` says.
        summary: What was done.
        stages: Names of the trainings, which are those of their folders.
        config: Config of the trained model.
        data: The drawn set that was scored.
        videos: Number of its scored videos.
    """
    folder = steps.work_dir
    tables = {
        kind: json.loads(path.read_text('utf-8'))
        for kind in ('self', 'other_object', 'before')
        if (path := folder / f'table_{kind}.json').is_file()
    }
    mentions = read_mentions(
        data / 'meta_expressions/valid/meta_expressions.json'
    )
    right = tables['self']
    bars = make_bars(
        right, tables['other_object'], mentions, tables.get('before')
    )
    sample, worst = read_clips(folder / 'drawn', right, mentions)
    best = max(sample, key=lambda clip: clip.score)
    return Report(
        title='Quickstart report',
        summary=summary,
        figures=make_figures(report, bars, videos),
        charts=make_charts(
            read_curves([folder / name for name in stages]), stages
        ),
        bars=bars,
        clips=sample,
        worst=worst,
        steps=list_steps(steps),
        commands=next_commands(
            config, Path(report['checkpoint']), data / 'valid', best
        ),
        facts=small_print(report),
    )
