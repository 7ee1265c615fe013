# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What one visitor has: a video, expressions, results, files."""

import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from referformer.apis.outputs import (
    OutputOptions,
    coco_sink,
    json_sink,
    mask_sink,
    overlay_sink,
)
from referformer.apis.results import join_expressions
from referformer.apis.web.progress import Progress
from referformer.apis.web.run import (
    Cancelled,
    FileKind,
    Outcome,
    RowResult,
    Run,
)
from referformer.errors import ConfigError, MissingMediaError, ReferError
from referformer.media.sources import FrameSource, open_source
from referformer.prediction import EncodedVideo, FrameResult
from referformer.prediction.background import prefetch, queue_depth
from referformer.utils.cli import sentence_of

if TYPE_CHECKING:
    from referformer.apis.web.service import SegmentationService

#: What visitors read when it is not their fault.
BUG = (
    'Something went wrong on the server. Whoever runs it finds the cause in '
    'its log.'
)
#: Results of expressions that are kept, also when their row was changed.
_KEPT_RESULTS = 24
#: Pixels that the shorter side of an overlay should have.
_SIDE = 360
_PATH = re.compile(r'(?<![\w.:])(?:/[^\s/;,)]+){2,}')


class VideoFacts(NamedTuple):
    """What a visitor is told about a video.

    Attributes:
        name (str): Name of the file.
        size (tuple[int, int]): Width and height.
        seconds (float): How long it is.
        missing (int): Frames lost because the file is cut off.
    """

    name: str
    size: tuple[int, int]
    seconds: float
    missing: int


class Visit:
    """A visitor's video and results; no other visitor sees them.

    Args:
        service (SegmentationService): Whose model is used.
        folder (Path): Where the visitor's files go.
    """

    def __init__(self, service: 'SegmentationService', folder: Path) -> None:
        self.service = service
        self.folder = folder
        self.video: Path | None = None
        self.run: Run | None = None
        #: Seconds at which it was used last.
        self.used = 0.0
        self._part: tuple[float | None, float | None] | None = None
        self._encoded: EncodedVideo | None = None
        self._tracks: dict[str, list[FrameResult]] = {}
        self._files: Path | None = None

    # -- for the page ---------------------------------------------------------

    def choose(self, path: Path) -> VideoFacts:
        """Take a video, in place of the one before.

        Raises:
            ReferError: If it is too large or cannot be read; the sentence is
                one for the visitor.
        """
        self.service.take(path)  # first: it may be the same file again
        self.leave_video()
        self.video = path
        try:
            if not path.is_file():
                raise MissingMediaError(
                    f'{path.name} is no longer on the server; upload it again.'
                )
            megabytes = path.stat().st_size / 1e6
            if megabytes > self.service.limits.max_mb:
                raise ConfigError(
                    f'{path.name} has {megabytes:.0f} MB; at most '
                    f'{self.service.limits.max_mb:g} MB are taken here.'
                )
            source = open_source(path, partial=True)
            frame = next(source.read(source.indices[:1].tolist()))
        except BaseException as error:
            sentence = self.explain(error)
            self.leave_video()
            raise ReferError(sentence) from error
        seconds = float(source.times[-1]) + 1 / source.fps
        size = frame.shape[1], frame.shape[0]
        return VideoFacts(path.name, size, seconds, source.missing)

    def start(
        self,
        texts: Sequence[str],
        start: float | None = None,
        end: float | None = None,
    ) -> Run:
        """Ask for a run; a former one that is not over is cancelled.

        Args:
            texts (Sequence[str]): The expressions.
            start (float, optional): Seconds at which the part starts.
            end (float, optional): Seconds at which it ends.

        Raises:
            ConfigError: If there is no video or expression, or there are too
                many of them.
        """
        if self.video is None:
            raise ConfigError('Choose a video first.')
        texts = [text.strip() for text in texts]
        if not texts or '' in texts:
            raise ConfigError(
                'Describe at least one object, and leave no row empty.'
            )
        limits = self.service.limits
        if len(texts) > limits.max_expressions:
            raise ConfigError(
                f'{len(texts)} expressions were given; at most '
                f'{limits.max_expressions} are taken here.'
            )
        self.cancel()
        self.run = Run(self, texts, start, end)
        self.service.submit(self.run)
        return self.run

    def cancel(self) -> None:
        """Cancel the run, if there is one."""
        if self.run is not None:
            self.run.cancel()

    def leave_video(self) -> None:
        """Forget the video, its features, results and files."""
        self.cancel()
        video, self.video = self.video, None
        if video is not None:
            self.service.leave(video)
        self.replace_files(None)
        # a run may be at work; what it uses is dropped after it
        self.service.later(self._drop)

    def explain(self, error: BaseException) -> str:
        """Say what is wrong, without the paths of the server."""
        sentence = sentence_of(error)
        if not isinstance(error, ReferError):
            self.service.report(error)
            sentence = None
        if sentence is None:
            return BUG
        if self.video is not None:
            sentence = sentence.replace(str(self.video), self.video.name)
        return _PATH.sub(lambda found: Path(found[0]).name, sentence)

    # -- in the thread that owns the model ------------------------------------

    def segment(self, run: Run, folder: Path) -> Outcome:
        """Predict what is not known yet, and write the files.

        Args:
            run (Run): What is wanted.
            folder (Path): Where the files go.

        Raises:
            Cancelled: If the visitor wants it no longer.
            ReferError: If the video cannot be read, or the part is too long.
        """
        encoded = self._select(*run.part)
        source = encoded.source
        normalize = self.service.inferencer.pipeline.normalize
        words = [normalize(text) for text in run.texts]
        new = [w for w in dict.fromkeys(words) if w not in self._tracks]
        frames = len(source)
        run.progress = Progress(
            dict(predict=frames * len(new), write=frames), self.service.rates
        )
        for number, text in enumerate(new):
            left = encoded.frames_left * (len(new) - number if number else 1)
            run.progress.todo['encode'] = left
            run.doing = f'Looking for “{run.texts[words.index(text)]}”'
            track = []
            # each one alone, so that none depends on the others
            results = encoded.predict([text], partial(run.tick, 'encode'))
            with closing(results):
                for result in results:
                    track.append(result.encoded())
                    run.tick('predict')
                    del result
            self._tracks[text] = track
        for text in words:  # those used last come last
            self._tracks[text] = self._tracks.pop(text)
        while len(self._tracks) > max(_KEPT_RESULTS, len(words)):
            del self._tracks[next(iter(self._tracks))]
        run.doing = 'Writing the files'
        tracks = [self._tracks[text] for text in words]
        files = self._write(run, folder, source, tracks)
        times = source.times - source.times[0]
        rows = []
        for text, track in zip(run.texts, tracks, strict=True):
            scores = np.array([result.scores[0] for result in track])
            found = sum(result.soft_masks.areas()[0] > 0 for result in track)
            rows.append(RowResult(text, scores, int(found)))
        seconds = float(times[-1]) + 1 / source.fps
        return Outcome(rows, times, seconds, files, source.missing)

    def _select(self, start: float | None, end: float | None) -> EncodedVideo:
        """Open a part of the video, unless it is open."""
        if self._encoded is not None and self._part == (start, end):
            return self._encoded
        self._drop()
        service = self.service
        if self.video is None:
            raise Cancelled
        source = open_source(
            self.video, fps=service.fps, start=start, end=end, partial=True
        )
        seconds = float(source.times[-1] - source.times[0]) + 1 / source.fps
        longest = service.limits.max_seconds
        if seconds > longest + 1 / source.fps:
            raise ConfigError(
                f'This part of {self.video.name} has {seconds:.1f} seconds; '
                f'at most {longest:g} are taken here. Choose a shorter part.'
            )
        self._part = (start, end)
        self._encoded = EncodedVideo(
            service.inferencer.model,
            source,
            service.inferencer.pipeline,
            service.memory,
            service.predictor,
        )
        return self._encoded

    def _write(
        self,
        run: Run,
        folder: Path,
        source: FrameSource,
        tracks: list[list[FrameResult]],
    ) -> dict[FileKind, Path]:
        """Write the files to download."""
        name, texts = source.name, run.texts
        files: dict[FileKind, Path] = {
            'overlay': folder / f'{name}_overlay.mp4',
            'masks': folder / f'{name}_masks.zip',
            'results': folder / f'{name}_results.json',
            'coco': folder / f'{name}_coco.json',
        }
        folder.mkdir(parents=True)
        side = min(tracks[0][0].frame.shape)
        # the server's folders are nobody's business
        public = replace(source, path=Path(source.path).name)
        with ExitStack() as exits:
            sinks = [
                exits.enter_context(sink)
                for sink in (
                    overlay_sink(
                        files['overlay'],
                        source,
                        texts,
                        self.service.inferencer.visualizer,
                        OutputOptions(scale=max(1, _SIDE // side)),
                    ),
                    json_sink(
                        files['results'],
                        public,
                        texts,
                        self.service.predictor,
                        with_masks=False,
                    ),
                    coco_sink(files['coco'], source, texts),
                )
            ]
            sinks.append(mask_sink(folder / 'masks', texts))
            depth = queue_depth(len(source), source.frame_bytes)
            frames = exits.enter_context(closing(prefetch(source, depth)))
            for result in join_expressions(tracks, frames):
                for sink in sinks:
                    sink(result)
                run.tick('write')
        pictures = files['masks'].with_suffix('')
        shutil.make_archive(str(pictures), 'zip', folder, 'masks')
        shutil.rmtree(folder / 'masks')
        return files

    def replace_files(self, folder: Path | None) -> None:
        """Remove the files of the run before; ``folder`` has the new ones."""
        former, self._files = self._files, folder
        if former is not None:
            shutil.rmtree(former, ignore_errors=True)

    def _drop(self) -> None:
        """Forget features and results."""
        self._tracks = {}
        self._part = None
        encoded, self._encoded = self._encoded, None
        if encoded is not None:
            encoded.close()
