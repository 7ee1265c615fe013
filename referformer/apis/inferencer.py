# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Segment objects in any video by describing them."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.infer import BaseInferencer
from tqdm import tqdm

from referformer.apis.model import FramePipeline, init_model
from referformer.apis.outputs import OutputOptions, open_files
from referformer.apis.release import open_release
from referformer.apis.results import Collector, MaskFormat, Sink, VideoResult
from referformer.errors import ConfigError
from referformer.media.sources import FrameSource, open_source
from referformer.models import ReferFormer
from referformer.prediction import FrameResult, Predictor, segment_frames
from referformer.prediction.background import BackgroundWriter, queue_depth
from referformer.prediction.predictor import device_of
from referformer.registry import VISUALIZERS
from referformer.utils.configs import read_config
from referformer.visualization import ReferLocalVisualizer

Video = str | os.PathLike[str] | np.ndarray


class ReferInferencer(BaseInferencer):
    """Segment the objects of expressions in videos of any kind and length.

    Decoding, network and writing run at the same time, in bounded memory.
    What depends on the frames alone is computed once for all expressions.

    Args:
        model (str | PathLike | Config | dict): A config, its file or name.
        weights (str | PathLike): The checkpoint.
        device (str, optional): Where to run. Defaults to None: a GPU, if
            there is one.
        scope (str): Scope of the registries.
        show_progress (bool): Whether to show a bar with the time left.

    Raises:
        ConfigError: If ``model`` or ``weights`` is missing: without weights
            the masks would be random.

    Example:
        >>> inferencer = ReferInferencer(
        ...     'referformer_r50_ytvos', 'checkpoints/r50.pth')
        >>> video = inferencer('dogs.mp4', ['the black dog', 'the white dog'],
        ...                    out_dir='out')['predictions'][0]
        >>> video.expressions[0].scores.mean(), video.files['overlay']
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Config | dict,
        weights: str | os.PathLike[str],
        device: str | None = None,
        scope: str = 'referformer',
        show_progress: bool = True,
    ) -> None:
        if model is None or weights is None:
            raise ConfigError(
                'ReferInferencer needs the config (model=) and the '
                'checkpoint (weights=) trained with it.'
            )
        super().__init__(
            read_config(model), str(weights), device, scope, show_progress
        )

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        device: str | None = None,
        revision: str | None = None,
        show_progress: bool = True,
    ) -> 'ReferInferencer':
        """Load a published model, of the Hugging Face Hub or a folder.

        Nothing of it is run, see :mod:`referformer.apis.release`.

        Args:
            source (str | PathLike): ``'owner/repo'``, an address
                ``'hf://owner/repo@revision'``, or a folder.
            device (str, optional): Where to run. Defaults to None: a GPU, if
                there is one.
            revision (str, optional): Branch, tag or commit of the
                repository.
            show_progress (bool): Whether to show a bar with the time left.

        Raises:
            CheckpointError: If there is no such model, or it is refused.
            ConfigError: If its config is refused.
        """
        cfg, weights = open_release(source, revision)
        return cls(cfg, weights, device, show_progress=show_progress)

    # -- what the constructor of mmengine calls -------------------------------

    def _init_model(
        self, cfg: Config, weights: str, device: str = 'cpu'
    ) -> ReferFormer:
        return init_model(cfg, weights, device)

    def _init_pipeline(self, cfg: Config) -> FramePipeline:
        return FramePipeline(cfg)

    def _init_collate(self, cfg: Config) -> Callable:
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> ReferLocalVisualizer:
        settings = dict(cfg.get('visualizer') or {}, vis_backends=None)
        name = settings.pop('type', 'ReferLocalVisualizer')
        kind = VISUALIZERS.get(name) if isinstance(name, str) else name
        if not issubclass(kind or object, ReferLocalVisualizer):
            raise ConfigError(
                f'visualizer.type is {name}; the overlay needs '
                'ReferLocalVisualizer or a class derived from it.'
            )
        # the registry would return an older instance of the same name
        return kind(**settings)

    # -- inference ------------------------------------------------------------

    def __call__(
        self,
        inputs: Video | Sequence[Video],
        texts: str | Sequence[str] | Sequence[Sequence[str]],
        *,
        out_dir: str | os.PathLike[str] | None = None,
        masks: MaskFormat = 'rle',
        overlay: bool = True,
        boxes: bool = False,
        points: bool = False,
        fps: float | None = None,
        every: int = 1,
        start: float | None = None,
        end: float | None = None,
        partial: bool = False,
        **prediction: Any,
    ) -> dict[str, list]:
        """Segment videos.

        Args:
            inputs: A video file, a folder of pictures, a picture, or an
                array of uint8, BGR, shape (T, H, W, 3) or (H, W, 3); or a
                list of these.
            texts: An expression or several, the same for all videos; or a
                list of several for each video.
            out_dir: Folder for files: ``<out_dir>/<video>/`` gets
                ``results.json``, ``overlay.mp4`` (``.png`` for a picture)
                and, with ``masks='png'``, ``masks/``.
            masks: ``'rle'``, ``'array'``, ``'png'`` or ``'none'``. An array
                of all masks takes T x H x W bytes an expression.
            overlay: Whether to write an overlay to ``out_dir``.
            boxes: Whether to draw boxes on it.
            points: Whether to draw reference points on it.
            fps: Frames per second to process, see
                :func:`~referformer.media.sources.open_source`.
            every: Process every N-th frame only.
            start: Seconds from the beginning at which to start.
            end: Seconds at which to stop.
            partial: Accept a video that is cut off.
            **prediction: ``window``, ``link``, ``overlap``, ``mask_thr``,
                ``score_thr``, ``precision``, ``batch_frames``,
                ``cuda_graphs`` and ``propagator``, in place of those of
                ``model.predictor``, see
                :class:`~referformer.prediction.Predictor`.

        Returns:
            dict: ``predictions``, a :class:`VideoResult` per video, and
            ``visualization``, the names of their overlays (None without).

        Raises:
            ConfigError: If an argument has a wrong value.
            MediaError: If a video cannot be read to its end.
        """
        predictor = self.model.predictor.override(**prediction)
        options = OutputOptions(masks, overlay, boxes, points)
        choice = dict(fps=fps, every=every, start=start, end=end)
        jobs = self.preprocess(inputs, texts, **choice, partial=partial)
        names = _unique(source.name for source, _ in jobs)
        predictions = []
        for (source, expressions), name in zip(jobs, names, strict=True):
            folder = None if out_dir is None else Path(out_dir, name)
            collector = Collector(expressions, masks)
            what = (source, expressions, predictor, [collector.write])
            files = self.run(*what, folder, options)
            predictions.append(collector.result(source, files))
        return self.postprocess(predictions, self.visualize(jobs, predictions))

    @staticmethod
    def preprocess(
        inputs: Video | Sequence[Video],
        texts: str | Sequence[str] | Sequence[Sequence[str]],
        **choice: Any,
    ) -> list[tuple[FrameSource, list[str]]]:
        """Open the videos and pair each with its expressions.

        Arguments are those of :meth:`__call__`, ``choice`` those of
        :func:`~referformer.media.sources.open_source`.

        Returns:
            list: A video and its expressions each.

        Raises:
            ConfigError: If there is no expression, one is empty, or there
                are not as many lists of them as videos.
            MediaError: If a video cannot be read.
        """
        videos = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        if not videos:
            raise ConfigError('no video was given')
        texts = [texts] if isinstance(texts, str) else list(texts)
        expressions = [texts] * len(videos)
        if texts and not any(isinstance(text, str) for text in texts):
            expressions = [list(several) for several in texts]
        if len(expressions) != len(videos):
            raise ConfigError(
                f'{len(expressions)} lists of expressions were given for '
                f'{len(videos)} videos'
            )
        for several in expressions:
            if not several:
                raise ConfigError('no expression was given')
            for text in several:
                if not isinstance(text, str) or not text.strip():
                    raise ConfigError(
                        f'an expression must not be empty, got {text!r}'
                    )
        sources = [open_source(video, **choice) for video in videos]
        return list(zip(sources, expressions, strict=True))

    def forward(
        self,
        source: FrameSource,
        texts: Sequence[str],
        predictor: Predictor | None = None,
        keep_images: bool = True,
    ) -> Iterator[FrameResult]:
        """Segment a video, frame after frame, see :meth:`run`.

        ``keep_images`` says whether results carry the pictures.
        """
        yield from segment_frames(
            self.model,
            source,
            [self.pipeline.normalize(text) for text in texts],
            self.pipeline,
            predictor,
            keep_images,
            source.frame_bytes,
            self._progress,
        )

    def _progress(self, what: str, total: int, steps: Iterable) -> tqdm:
        """Show a bar; a log file gets a line now and then."""
        return tqdm(
            steps,
            what,
            total,
            unit='frame',
            disable=not self.show_progress,
            mininterval=0.1 if sys.stderr.isatty() else 10,
        )

    def run(
        self,
        source: FrameSource,
        texts: Sequence[str],
        predictor: Predictor | None = None,
        sinks: Sequence[Sink] = (),
        folder: Path | None = None,
        options: OutputOptions | None = None,
    ) -> dict[str, str]:
        """Segment a video into sinks and files, in bounded memory.

        Args:
            source (FrameSource): The video.
            texts (Sequence[str]): E expressions.
            predictor (Predictor, optional): Windows, linking, thresholds.
                None is that of the model.
            sinks (Sequence[Sink]): Called with each result, besides files.
            folder (Path, optional): Where files go. None writes none.
            options (OutputOptions, optional): Which files are written.

        Returns:
            dict[str, str]: Files written, see :class:`VideoResult`.
        """
        options = options or OutputOptions()
        if options.masks == 'png' and folder is None:
            raise ConfigError("masks='png' needs a folder: set out_dir")
        predictor = predictor or self.model.predictor
        predictor = predictor.resolved(device_of(self.model))
        keep_images = options.overlay and folder is not None
        files: dict[str, str] = {}
        with ExitStack() as exits:
            sinks = list(sinks)
            if folder is not None:
                what = (source, texts, predictor, options, self.visualizer)
                written, files = exits.enter_context(open_files(folder, *what))
                sinks += written
            bar = self._progress(source.name, len(source), ())
            exits.enter_context(bar)

            def write(result: FrameResult) -> None:
                for sink in sinks:
                    sink(result)
                bar.update()

            depth = queue_depth(predictor.window, source.frame_bytes)
            writer = exits.enter_context(BackgroundWriter(write, depth))
            results = exits.enter_context(
                closing(self.forward(source, texts, predictor, keep_images))
            )
            for result in results:
                writer.put(result)
                del result
        return files

    def visualize(
        self, inputs: list, preds: list[VideoResult], **kwargs: Any
    ) -> list[str | None]:
        """Return the names of the overlays, which are written on the way."""
        return [pred.files.get('overlay') for pred in preds]

    def postprocess(
        self,
        preds: list[VideoResult],
        visualization: list[str | None],
        return_datasample: bool = False,
        **kwargs: Any,
    ) -> dict[str, list]:
        """Put predictions and overlays together, as :meth:`__call__` says."""
        return {'predictions': preds, 'visualization': visualization}


def _unique(names: Iterable[str]) -> list[str]:
    """Number names that come again: a, b, a_2."""
    taken: dict[str, None] = {}
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f'{name}_{number}'
        taken[candidate] = None
    return list(taken)
