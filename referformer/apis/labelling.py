# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Labelling many videos: one process a GPU, one file of masks a video.

:class:`Labeller` labels one video; any scheduler may call it.
:func:`label_shard` goes through a part of a list.
"""

import hashlib
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from tqdm import tqdm

from referformer.apis.inferencer import ReferInferencer
from referformer.apis.outputs import OutputOptions
from referformer.apis.results import Collector, VideoResult
from referformer.checkpoints.hub import local_file
from referformer.errors import ConfigError, ReferError
from referformer.formats.files import write_json
from referformer.formats.label_store import LabelStore, State
from referformer.formats.manifest import LabelJob, Shard
from referformer.formats.text_files import read_json
from referformer.utils.cli import sentence_of

#: Where a folder says which model its labels are of.
SETTINGS = 'settings.json'


class Labeller:
    """Labels one video after the other, into one folder.

    Args:
        config (str | PathLike | Config): The config, its file or name.
        checkpoint (str | PathLike): Its weights.
        out (str | PathLike): The folder, see
            :class:`~referformer.formats.label_store.LabelStore`.
        root (str | PathLike): Folder that paths of videos begin at.
        device (str, optional): Where the model runs. None is a GPU, if there
            is one: that of the local rank, if a launcher set it.
        max_attempts (int): How often a video is tried.

    Raises:
        ConfigError: If ``out`` holds the labels of another model.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Config,
        checkpoint: str | os.PathLike[str],
        out: str | os.PathLike[str],
        root: str | os.PathLike[str] = '.',
        device: str | None = None,
        max_attempts: int = 2,
    ) -> None:
        self.root = Path(root)
        self.store = LabelStore(out, max_attempts)
        self.inferencer = ReferInferencer(
            config, checkpoint, device, show_progress=False
        )
        predictor = self.inferencer.model.predictor
        settings = {
            'checkpoint': _hash_file(local_file(checkpoint)),
            'model': _hash_text(str(self.inferencer.cfg.get('model'))),
            'predictor': asdict(predictor),
        }
        _check_settings(Path(out, SETTINGS), settings)

    def __call__(self, job: LabelJob) -> 'Outcome':
        """Label a video, unless it is done or another process is at it.

        Whatever is wrong with the video ends as a failure on file, so that
        the next one can follow. What is wrong with the folder is raised.
        """
        start = time.monotonic()
        with self.store.claim(job.name) as claim:
            if isinstance(claim, str):
                return Outcome(claim)
            try:
                video, entries = self.label(job)
            except Exception as error:
                reason = (
                    sentence_of(error) or f'{type(error).__name__}: {error}'
                )
                claim.fail(
                    reason,
                    path=job.path,
                    expressions=job.expressions,
                    traceback=traceback.format_exc(),
                )
                return Outcome('failed', error=reason)
            claim.finish(entries)
        seconds = time.monotonic() - start
        return Outcome('new', len(video.frame_names), seconds)

    def label(self, job: LabelJob) -> tuple[VideoResult, list[dict[str, Any]]]:
        """Label a video; return its results, and an entry an expression.

        Raises:
            MediaError: If the video cannot be read.
            ConfigError: If it has no frame between start and end.
        """
        choice = dict(fps=job.fps, every=job.every)
        [(source, texts)] = self.inferencer.preprocess(
            self.root / job.path,
            job.expressions,
            **choice,
            start=job.start,
            end=job.end,
        )
        collector = Collector(texts, 'rle')
        options = OutputOptions(overlay=False)
        self.inferencer.run(
            source, texts, sinks=[collector.write], options=options
        )
        video = collector.result(source)
        return video, [_entry(job, video, e) for e in range(len(texts))]


@dataclass(frozen=True)
class Outcome:
    """What became of a video.

    Attributes:
        state (str): ``'new'``, or as in the store: ``'done'`` before,
            ``'busy'`` elsewhere, ``'failed'``.
        frames (int): Frames labelled.
        seconds (float): How long it took.
        error (str): Why it failed; empty if it had failed before.
    """

    state: State | str
    frames: int = 0
    seconds: float = 0.0
    error: str = ''


@dataclass
class Summary:
    """What became of the videos of a part of a list.

    Attributes:
        videos (int): Lines of the part.
        new (int): Labelled now.
        done (int): Labelled before, or listed twice.
        busy (int): Left to another process.
        failed (int): Without labels.
        frames (int): Frames labelled now.
        seconds (float): From the first video to the last.
    """

    videos: int = 0
    new: int = 0
    done: int = 0
    busy: int = 0
    failed: int = 0
    frames: int = 0
    seconds: float = 0.0

    def count(self, outcome: Outcome) -> None:
        """Add an outcome."""
        setattr(self, outcome.state, getattr(self, outcome.state) + 1)
        self.frames += outcome.frames


def label_shard(
    labeller: Labeller, jobs: Sequence[LabelJob], max_failures: int = 20
) -> Summary:
    """Label the videos of a part of a list; those that failed once more.

    Args:
        labeller (Labeller): Labels one video.
        jobs (Sequence[LabelJob]): The videos.
        max_failures (int): Give up after so many failures in a row: then it
            is not the videos.

    Raises:
        ReferError: If too many videos in a row fail.
    """
    start = time.monotonic()
    summary = Summary(videos=len(jobs))
    in_row, again = 0, []
    with tqdm(total=len(jobs), unit='video', mininterval=1) as bar:
        for job in jobs:
            outcome = labeller(job)
            bar.update()
            if outcome.error:
                tqdm.write(f'failed: {job.path}: {outcome.error}')
                again.append(job)
                in_row += 1
            elif outcome.state == 'new':
                in_row = 0
            if in_row >= max_failures:
                raise ReferError(
                    f'{in_row} videos in a row failed, the last with: '
                    f'{outcome.error}',
                    remedy='mend the cause and run the same command again; '
                    'what is done stays.',
                )
            if not outcome.error:
                summary.count(outcome)
    # a file system that hangs, a full memory: many faults pass
    for job in again:
        summary.count(labeller(job))
    summary.seconds = round(time.monotonic() - start, 1)
    return summary


def find_shard(text: str | None, env: Mapping[str, str]) -> tuple[Shard, str]:
    """Return the part of the list for this process, and who chose it.

    Args:
        text (str, optional): ``I/N``, I from 0 to N - 1.
        env (Mapping[str, str]): Without ``text``, torchrun, ``srun`` and
            Slurm's job arrays say there which process this is.

    Raises:
        ConfigError: If ``text`` is wrong.
    """
    if text is not None:
        index, slash, count = text.partition('/')
        if not (slash and index.isdecimal() and count.isdecimal()) or not (
            int(index) < int(count)
        ):
            raise ConfigError(
                f'--shard {text} is not I/N with I from 0 to N - 1.'
            )
        return Shard(int(index), int(count)), '--shard'
    shard, sources = Shard(), []
    if 'SLURM_ARRAY_TASK_COUNT' in env:
        first = int(env['SLURM_ARRAY_TASK_MIN'])
        count = int(env['SLURM_ARRAY_TASK_COUNT'])
        last = int(env['SLURM_ARRAY_TASK_MAX'])
        step = (last - first) // (count - 1) if count > 1 else 1
        index = (int(env['SLURM_ARRAY_TASK_ID']) - first) // step
        shard = Shard(index, count)
        sources.append('Slurm array')
    for rank, size, source in (
        ('RANK', 'WORLD_SIZE', 'torchrun'),
        ('SLURM_PROCID', 'SLURM_STEP_NUM_TASKS', 'srun'),
    ):
        if rank in env and size in env:
            index, count = int(env[rank]), int(env[size])
            shard = Shard(shard.index * count + index, shard.count * count)
            sources.append(source)
            break
    return shard, ' and '.join(sources) or 'all lines'


def find_device(env: Mapping[str, str]) -> str | None:
    """Return the device of this process, None if nobody numbers them."""
    import torch

    local = env.get('LOCAL_RANK', env.get('SLURM_LOCALID'))
    if local is None or not torch.cuda.is_available():
        return None
    return f'cuda:{int(local) % torch.cuda.device_count()}'


def _entry(job: LabelJob, video: VideoResult, e: int) -> dict[str, Any]:
    """Describe the labels of an expression, as ``formats/tracks.py`` does."""
    found = video.expressions[e]
    return {
        'video_id': job.id or video.name,
        'exp_id': str(e),
        'score': round(float(found.scores.mean()), 4),
        'expression': found.text,
        'path': job.path,
        'fps': round(video.fps, 6),
        'frames': video.frame_indices.tolist(),
        'times': video.times.round(6).tolist(),
        'scores': found.scores.astype(float).round(4).tolist(),
        'segmentations': [
            mask if area else None
            for mask, area in zip(found.masks, found.areas, strict=True)
        ],
    }


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Note which model the labels of a folder are of, or compare it."""
    if not path.exists():
        write_json(path, settings)
    older = read_json(path)
    for key, value in settings.items():
        if older.get(key) != value:
            raise ConfigError(
                f'{path.parent} holds labels of another {key}; choose another '
                'folder.',
                file=path,
                value=key,
            )


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()[:16]
