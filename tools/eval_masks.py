# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Score folders of predicted masks, of any method, without a model.

python tools/eval_masks.py davis --gt GT --pred PRED --protocol identity \
    --out scores.json
"""

import argparse
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

# Frames a process scores at a time: short enough for a steady progress bar
# and an even load, long enough to make handing them out cheap.
CHUNK = 16
_SCORING = 'referformer_scoring'


def load_scoring() -> ModuleType:
    """Import the scoring code alone, not the package around it.

    Importing ``referformer`` brings PyTorch with it, which takes seconds in
    each process and which people who only score masks need not have.
    """
    if _SCORING not in sys.modules:
        folder = Path(__file__).resolve().parents[1]
        folder = folder / 'referformer' / 'evaluation' / 'functional'
        spec = importlib.util.spec_from_file_location(
            _SCORING,
            folder / '__init__.py',
            submodule_search_locations=[str(folder)],
        )
        if spec is None or spec.loader is None:
            raise ImportError(f'{folder} holds no scoring code.')
        module = importlib.util.module_from_spec(spec)
        sys.modules[_SCORING] = module
        spec.loader.exec_module(module)
    return sys.modules[_SCORING]


class Chunk(NamedTuple):
    """Consecutive frames of one video, the unit of parallel work."""

    video: str
    start: int
    frames: list[str]
    gt: Path
    pred: Path
    protocol: str


class ChunkResult(NamedTuple):
    """What a process sends back.

    Attributes:
        chunk (Chunk): The work that was done.
        scores (list): One ``FrameScores`` a frame.
        gt_void (bool): Whether the ground truth has 255 anywhere.
        pred_void (bool): Whether the prediction has 255 where the ground
            truth has not.
    """

    chunk: Chunk
    scores: list
    gt_void: bool
    pred_void: bool


def score_chunk(chunk: Chunk) -> ChunkResult:
    """Read and score some frames of a video."""
    scoring = load_scoring()
    score_frame = scoring.PROTOCOLS[chunk.protocol].score_frame
    scores, gt_void, pred_void = [], False, False
    for frame in chunk.frames:
        gt_path = chunk.gt / chunk.video / f'{frame}.png'
        pred_path = chunk.pred / chunk.video / f'{frame}.png'
        gt = scoring.read_label_map(gt_path)
        pred = scoring.read_label_map(pred_path)
        if gt.shape != pred.shape:
            raise scoring.MaskFolderError(
                f'{pred_path} is {pred.shape[1]} x {pred.shape[0]} pixels but '
                f'{gt_path} is {gt.shape[1]} x {gt.shape[0]}; write '
                'predictions at the size of the ground truth.'
            )
        void = gt == 255
        gt_void = gt_void or bool(void.any())
        pred_void = pred_void or bool(((pred == 255) & ~void).any())
        scores.append(score_frame(pred, gt))
    return ChunkResult(chunk, scores, gt_void, pred_void)


def start_worker() -> None:
    """Keep a worker to one core: there is one worker a core already."""
    import cv2

    cv2.setNumThreads(1)


class ProgressBar:
    """Done, total, speed and time left on one line of stderr.

    On a terminal the line is redrawn; elsewhere (a log file) a new one
    appears every ten seconds at most.
    """

    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit, self.done = total, unit, 0
        self.start = time.monotonic()
        self.live = sys.stderr.isatty()
        self.period = 0.1 if self.live else 10.0
        self.shown = self.start

    def update(self, amount: int) -> None:
        """Count ``amount`` more units as done."""
        self.done += amount
        now = time.monotonic()
        last = self.done >= self.total
        if now - self.shown < self.period and not last:
            return
        self.shown = now
        speed = self.done / max(now - self.start, 1e-6)
        left = round((self.total - self.done) / speed)
        share = self.done / self.total
        bar = ('#' * round(30 * share)).ljust(30, '.')
        line = (
            f'[{bar}] {self.done}/{self.total} {self.unit}, '
            f'{speed:.0f}/s, {left // 60}:{left % 60:02d} left'
        )
        end = '\n' if last or not self.live else ''
        start = '\r\x1b[K' if self.live else ''
        print(f'{start}{line}', end=end, file=sys.stderr, flush=True)


def run_chunks(chunks: list[Chunk], jobs: int) -> Iterator[ChunkResult]:
    """Score the chunks, in this process or in ``jobs`` others."""
    if jobs == 1:
        start_worker()
        yield from map(score_chunk, chunks)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    with ProcessPoolExecutor(jobs, initializer=start_worker) as pool:
        futures = [pool.submit(score_chunk, chunk) for chunk in chunks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise load_scoring().MaskFolderError(
                'a scoring process was killed, most likely for want of '
                'memory; try again with a smaller --jobs.'
            ) from None
        finally:
            # After an error the rest is pointless; do not sit through it.
            pool.shutdown(cancel_futures=True)


def score_video(video: str, results: list[ChunkResult], protocol: str) -> Any:
    """Pair the objects of a video whose frames are scored.

    Args:
        video (str): Name of the video, for messages.
        results (list[ChunkResult]): All its chunks, in any order.
        protocol (str): A key of ``PROTOCOLS``.

    Returns:
        VideoScores: Scores of its objects.

    Raises:
        MaskFolderError: If the masks do not fit the protocol or are binary
            images rather than label maps.
    """
    scoring = load_scoring()
    results = sorted(results, key=lambda result: result.chunk.start)
    frames = [score for result in results for score in result.scores]
    chunk = results[0].chunk
    no_gt = not any(frame.gt_areas.size for frame in frames)
    no_pred = not any(frame.num_pred for frame in frames)
    for empty, void, root in (
        (no_gt, any(result.gt_void for result in results), chunk.gt),
        (no_pred, any(result.pred_void for result in results), chunk.pred),
    ):
        if empty and void:
            raise scoring.MaskFolderError(
                f'{root / video} has the values 0 and 255 only, and 255 means '
                'void here; write object ids (1, 2, ...) instead of 255.'
            )
    try:
        scores = scoring.PROTOCOLS[protocol].combine(frames)
    except ValueError as error:
        raise scoring.MaskFolderError(
            f'{chunk.pred / video}: {error}'
        ) from None
    if no_gt:
        warn(f'{chunk.gt / video} shows no object; the video does not count.')
    elif scores.never_seen:
        ids = ', '.join(map(str, scores.never_seen))
        warn(
            f'no frame of {chunk.gt / video} shows id {ids}, though higher '
            'ids exist; scored as absent throughout.'
        )
    return scores


def warn(text: str) -> None:
    """Print a remark that does not stop the scoring."""
    print(f'eval_masks.py: warning: {text}', file=sys.stderr)


def run_davis(args: argparse.Namespace) -> None:
    """Score label maps with the DAVIS-2017 measures."""
    scoring = load_scoring()
    plan = scoring.match_frames(args.gt, args.pred)
    chunks = [
        Chunk(
            video,
            start,
            frames[start : start + CHUNK],
            args.gt,
            args.pred,
            args.protocol,
        )
        for video, frames in plan.items()
        for start in range(0, len(frames), CHUNK)
    ]
    begin = time.monotonic()
    progress = ProgressBar(sum(map(len, plan.values())), 'frames')
    results: dict[str, list[ChunkResult]] = {video: [] for video in plan}
    for result in run_chunks(chunks, min(args.jobs, len(chunks))):
        results[result.chunk.video].append(result)
        progress.update(len(result.scores))
    videos = {
        video: score_video(video, parts, args.protocol)
        for video, parts in results.items()
    }
    try:
        summary = scoring.summarize(videos)
    except ValueError as error:
        raise scoring.MaskFolderError(f'{args.gt}: {error}') from None
    scoring.write_atomic(args.out, json.dumps(summary, indent=2) + '\n')

    objects = summary.pop('per_object')
    print(
        f'DAVIS measures, protocol {args.protocol}: {len(videos)} videos, '
        f'{len(objects)} objects, {progress.total} frames, '
        f'{time.monotonic() - begin:.1f} s'
    )
    for name, value in summary.items():
        print(f'{name:9} {100 * value:6.2f}')
    print(f'written to {args.out}')


def count_cores() -> int:
    """Cores this process may use, which a container often limits."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def positive_int(text: str) -> int:
    """Argparse type of a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a whole number of at least 1'
        )
    return int(text)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; imports nothing heavy, so help is instant."""
    parser = argparse.ArgumentParser(
        description='Score predicted masks of any method.'
    )
    commands = parser.add_subparsers(
        dest='command', metavar='COMMAND', required=True
    )
    davis = commands.add_parser(
        'davis',
        help='J and F of folders of indexed PNGs, as DAVIS-2017 has them',
        description='Score <video>/<frame>.png label maps: 0 = background, '
        '255 = void (not scored), other values = object ids. All frames in '
        '--gt are scored; a video or frame missing in --pred is an error.',
    )
    davis.add_argument(
        '--gt', type=Path, required=True, metavar='DIR', help='true masks'
    )
    davis.add_argument(
        '--pred',
        type=Path,
        required=True,
        metavar='DIR',
        help='predicted masks, same names and sizes',
    )
    davis.add_argument(
        '--protocol',
        choices=('identity', 'unsupervised'),
        required=True,
        help='identity: prediction k is object k; unsupervised: the ids are '
        'proposals (at most 20), assigned to objects once a video so that '
        'J&F is largest',
    )
    davis.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='FILE.json',
        help='where to write the scores',
    )
    davis.add_argument(
        '--jobs',
        type=positive_int,
        default=count_cores(),
        metavar='N',
        help='processes (default: one a core, here %(default)s)',
    )
    davis.set_defaults(run=run_davis)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the chosen command.

    Returns:
        int: Exit status: 0 = scored, 1 = something is wrong with the masks,
        2 = wrong command line, 130 = interrupted.
    """
    args = parse_args(argv)
    try:
        args.run(args)
    except KeyboardInterrupt:
        print('\neval_masks.py: interrupted, nothing written', file=sys.stderr)
        return 130
    except (OSError, ImportError) as error:
        print(f'eval_masks.py: error: {error}', file=sys.stderr)
        return 1
    except ValueError as error:
        if not isinstance(error, load_scoring().MaskFolderError):
            raise
        print(f'eval_masks.py: error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
