# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Cut objects out of any video by describing them."""

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.infer import BaseInferencer
from mmengine.registry import DefaultScope
from tqdm import tqdm

import referformer
from referformer.apis.outputs import (
    Collector,
    JSONSink,
    MaskFormat,
    OverlaySink,
    PNGSink,
    Sink,
    VideoResult,
    staged_folder,
)
from referformer.checkpoints.io import load_weights
from referformer.datasets.transforms.text import normalize_text
from referformer.media.sources import FrameSource, open_source
from referformer.models import ReferFormer
from referformer.prediction.stream import (
    BackgroundWriter,
    FrameResult,
    Link,
    Precision,
    StreamOptions,
    queue_depth,
    segment_frames,
)
from referformer.registry import MODELS, TRANSFORMS
from referformer.visualization import ReferLocalVisualizer

__all__ = ['FramePipeline', 'ReferInferencer', 'find_config', 'init_model']

Video = str | os.PathLike[str] | np.ndarray


def find_config(config: str | os.PathLike[str]) -> Path:
    """Find a config by its file or its name.

    Args:
        config (str | PathLike): A file, or a name such as
            ``'referformer_r50_ytvos'``.

    Returns:
        Path: The file.

    Raises:
        FileNotFoundError: If there is none; similar names are listed.
    """
    path = Path(config).expanduser()
    if path.is_file():
        return path
    package = Path(referformer.__file__).parent
    for folder in (package.parent / 'configs', package / '.mim' / 'configs'):
        named = folder / f'{str(config).removesuffix(".py")}.py'
        if named.is_file() and named.parent == folder:
            return named
    known = sorted(
        path.stem
        for path in (package.parent / 'configs').glob('referformer_*.py')
    )
    listed = f' ({", ".join(known)})' if known else ''
    raise FileNotFoundError(
        f'{config} is neither a config file nor the name of one{listed}.'
    )


def _load_config(config: str | os.PathLike[str] | Config | dict) -> Config:
    """Return a config, whatever it is given as."""
    if isinstance(config, Config):
        return config
    if isinstance(config, dict):
        return Config(dict(config))
    return Config.fromfile(find_config(config))


def init_model(
    config: str | os.PathLike[str] | Config | dict,
    checkpoint: str | os.PathLike[str],
    device: str | torch.device | None = None,
) -> ReferFormer:
    """Build a model and load its weights.

    Args:
        config (str | PathLike | Config | dict): A config, its file or name.
        checkpoint (str | PathLike): Its weights. No code in the file is run.
        device (str | torch.device, optional): Where to put it. Defaults to
            None: a GPU, if there is one.

    Returns:
        ReferFormer: In evaluation mode; ``cfg`` is the config.

    Raises:
        FileNotFoundError: If the config or the checkpoint is missing.
        CheckpointError: If the checkpoint does not belong to the config.
        ValueError: If the config has no model, or there is no such device.
    """
    cfg = _load_config(config)
    if 'model' not in cfg:
        raise ValueError(
            f'{cfg.filename or "the config"} has no "model"; give a config '
            'such as those in configs/.'
        )
    device = device or get_device()
    try:
        torch.empty(0, device=device)
    # PyTorch built without CUDA asserts that there is none
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f'device {str(device)!r} cannot be used ({reason}).'
        ) from error
    with DefaultScope.overwrite_default_scope('referformer'):
        model = MODELS.build(cfg.model)
    load_weights(model, checkpoint)
    model.cfg = cfg
    return model.to(device).eval()


class FramePipeline:
    """The test pipeline of a config, for frames that are read already.

    Its transforms of frames are kept, so that frames get the size the model
    was tested with; reading, sampling and packing are left out.

    Args:
        cfg (Config): A config with ``test_dataloader`` or
            ``test_pipeline``.

    Attributes:
        normalize (Callable): Expression -> expression as the model was
            taught it.

    Raises:
        ValueError: If the config has no test pipeline.
    """

    def __init__(self, cfg: Config | ConfigDict) -> None:
        steps = self._find(cfg)
        self.transforms = []
        self.normalize: Callable[[str], str] = str.strip
        for step in steps:
            name = self._name(step)
            if name == 'NormalizeText':
                self.normalize = normalize_text
            elif name == 'TransformBroadcaster':
                self._add(step['transforms'])
            else:
                self._add([step])

    @staticmethod
    def _find(cfg: Config | ConfigDict) -> Sequence[dict]:
        """Return the test pipeline, within wrapped datasets too."""
        dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
        while 'pipeline' not in dataset and dataset.get('datasets'):
            dataset = dataset['datasets'][0]
        while 'pipeline' not in dataset and dataset.get('dataset'):
            dataset = dataset['dataset']
        pipeline = dataset.get('pipeline') or cfg.get('test_pipeline')
        if pipeline is None:
            raise ValueError(
                'The config has no test_dataloader.dataset.pipeline, which '
                'tells how frames must be resized; add it.'
            )
        return pipeline

    @staticmethod
    def _name(step: dict) -> str:
        """Return the name of a transform; pure-Python configs hold classes."""
        kind = step['type']
        name = kind if isinstance(kind, str) else kind.__name__
        return name.rsplit('.', 1)[-1]

    def _add(self, steps: Sequence[dict]) -> None:
        """Build what changes frames."""
        for step in steps:
            name = self._name(step)
            if not name.startswith(('Load', 'Sample', 'Pack', 'Normalize')):
                with DefaultScope.overwrite_default_scope('referformer'):
                    self.transforms.append(TRANSFORMS.build(step))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Turn a frame into what the network gets.

        Args:
            image (np.ndarray): uint8, BGR, shape (H, W, 3).

        Returns:
            np.ndarray: Likewise, shape (h, w, 3).
        """
        shape = image.shape[:2]
        results = {'img': image, 'img_shape': shape, 'ori_shape': shape}
        for transform in self.transforms:
            results = transform(results)
        return results['img']


class ReferInferencer(BaseInferencer):
    """Segment what expressions mean in videos of any kind and length.

    Frames are decoded, seen and written at the same time in bounded memory.
    What depends on the frames alone is computed once for all expressions.

    Args:
        model (str | PathLike | Config | dict): A config, its file or name.
        weights (str | PathLike): The checkpoint.
        device (str, optional): Where to run. Defaults to None: a GPU, if
            there is one.
        scope (str): Scope of the registries.
        show_progress (bool): Whether to show a bar with the time left.

    Raises:
        ValueError: If ``model`` or ``weights`` is missing: without weights
            the masks would be noise.

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
            raise ValueError(
                'ReferInferencer needs the config (model=) and the '
                'checkpoint (weights=) trained with it.'
            )
        super().__init__(
            _load_config(model), str(weights), device, scope, show_progress
        )

    # -- what mmengine's constructor asks for ---------------------------------

    def _init_model(
        self, cfg: Config, weights: str, device: str = 'cpu'
    ) -> ReferFormer:
        return init_model(cfg, weights, device)

    def _init_pipeline(self, cfg: Config) -> FramePipeline:
        return FramePipeline(cfg)

    def _init_collate(self, cfg: Config) -> Callable:
        return pseudo_collate

    def _init_visualizer(self, cfg: Config) -> ReferLocalVisualizer:
        # one of its own: it needs no back ends and no global name
        alpha = (cfg.get('visualizer') or {}).get('alpha', 0.5)
        return ReferLocalVisualizer(alpha=alpha)

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
        window: int | None = None,
        link: Link = 'none',
        overlap: int | None = None,
        mask_thr: float | None = None,
        score_thr: float = 0.0,
        precision: Precision = 'fp32',
        batch_frames: int | None = None,
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
            fps: See :func:`~referformer.media.sources.open_source`, as for
                ``every``, ``start``, ``end`` and ``partial``.
            every: Likewise.
            start: Likewise.
            end: Likewise.
            partial: Likewise.
            window: As in
                :class:`~referformer.prediction.stream.StreamOptions`,
                for the rest.
            link: Likewise.
            overlap: Likewise.
            mask_thr: Likewise.
            score_thr: Likewise.
            precision: Likewise.
            batch_frames: Likewise.

        Returns:
            dict: ``predictions``, a :class:`VideoResult` per video, and
            ``visualization``, the names of their overlays (None without).

        Raises:
            ValueError: If an argument or a video is unusable.
            OSError: If a video cannot be read to its end.
        """
        options = StreamOptions(
            window,
            link,
            overlap,
            mask_thr,
            score_thr,
            precision,
            batch_frames,
        )
        if masks not in get_args(MaskFormat):
            raise ValueError(
                f'masks must be one of {get_args(MaskFormat)}, got {masks!r}'
            )
        jobs = self.preprocess(
            inputs,
            texts,
            fps=fps,
            every=every,
            start=start,
            end=end,
            partial=partial,
        )
        folders: list[Path | None] = [None] * len(jobs)
        if out_dir is not None:
            names = _unique([source.name for source, _ in jobs])
            folders = [Path(out_dir, name) for name in names]
        predictions = []
        for (source, expressions), folder in zip(jobs, folders, strict=True):
            collector = Collector(expressions, masks)
            files = self.run(
                source,
                expressions,
                options,
                [collector],
                folder,
                masks=masks,
                overlay=overlay,
                boxes=boxes,
                points=points,
            )
            result = collector.result(source)
            result.files = files
            predictions.append(result)
        return self.postprocess(predictions, self.visualize(jobs, predictions))

    @staticmethod
    def preprocess(
        inputs: Video | Sequence[Video],
        texts: str | Sequence[str] | Sequence[Sequence[str]],
        **choice: Any,
    ) -> list[tuple[FrameSource, list[str]]]:
        """Open the videos and hand each its expressions.

        Args:
            inputs: See :meth:`__call__`.
            texts: See :meth:`__call__`.
            **choice: Arguments of
                :func:`~referformer.media.sources.open_source`.

        Returns:
            list: A video and its expressions each.

        Raises:
            ValueError: If there is no expression, one is empty, or there are
                not as many lists of them as videos.
        """
        videos = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        if not videos:
            raise ValueError('no video was given')
        if isinstance(texts, str):
            texts = [texts]
        texts = list(texts)
        if texts and not any(isinstance(text, str) for text in texts):
            expressions = [list(several) for several in texts]
        else:
            expressions = [texts] * len(videos)
        if len(expressions) != len(videos):
            raise ValueError(
                f'{len(expressions)} lists of expressions were given for '
                f'{len(videos)} videos'
            )
        for several in expressions:
            if not several:
                raise ValueError('no expression was given')
            for text in several:
                if not isinstance(text, str) or not text.strip():
                    raise ValueError(
                        f'an expression must say something, got {text!r}'
                    )
        return [
            (open_source(video, **choice), several)
            for video, several in zip(videos, expressions, strict=True)
        ]

    def forward(
        self,
        source: FrameSource,
        texts: Sequence[str],
        options: StreamOptions | None = None,
        keep_images: bool = True,
    ) -> Iterator[FrameResult]:
        """Segment a video, frame after frame.

        Args:
            source (FrameSource): The video.
            texts (Sequence[str]): E expressions.
            options (StreamOptions, optional): Windows, linking, thresholds.
            keep_images (bool): Whether results carry the pictures.

        Yields:
            FrameResult: One per frame, in order.
        """
        yield from segment_frames(
            self.model,
            source,
            [self.pipeline.normalize(text) for text in texts],
            self.pipeline,
            options,
            keep_images,
            source.frame_bytes,
        )

    def run(
        self,
        source: FrameSource,
        texts: Sequence[str],
        options: StreamOptions,
        sinks: Sequence[Sink] = (),
        folder: Path | None = None,
        masks: MaskFormat = 'none',
        overlay: bool = True,
        boxes: bool = False,
        points: bool = False,
    ) -> dict[str, str]:
        """Segment a video into sinks and files, in bounded memory.

        Args:
            source (FrameSource): The video.
            texts (Sequence[str]): E expressions.
            options (StreamOptions): Windows, linking, thresholds.
            sinks (Sequence[Sink]): What gets the results besides files.
            folder (Path, optional): Where files go. Defaults to None, none.
            masks (MaskFormat): ``'png'`` writes files, ``'rle'`` puts masks
                into the JSON file.
            overlay (bool): Whether to write an overlay.
            boxes (bool): Whether to draw boxes.
            points (bool): Whether to draw reference points.

        Returns:
            dict[str, str]: Files written, see :class:`VideoResult`.
        """
        if masks == 'png' and folder is None:
            raise ValueError("masks='png' needs a folder: set out_dir")
        overlay = overlay and folder is not None
        window, overlap = options.window_of(self.model)
        depth = queue_depth(window, source.frame_bytes)
        files: dict[str, str] = {}
        with ExitStack() as exits:
            sinks = list(sinks)

            def add(name: str, key: str, sink: type[Sink], *args: Any) -> None:
                sinks.append(sink(place / name, *args))
                files[key] = str(folder / name)

            if folder is not None:
                place = exits.enter_context(staged_folder(folder))
                thr = options.mask_thr
                if thr is None:  # the model's own
                    thr = 1 / (1 + math.exp(-self.model.mask_logit_thr))
                settings = {
                    **asdict(options),
                    'window': window,
                    'overlap': overlap,
                    'mask_thr': thr,
                }
                about = (source, texts, settings, masks == 'rle')
                add('results.json', 'json', JSONSink, *about)
            if masks == 'png':
                add('masks', 'masks', PNGSink, texts)
            if overlay:
                name = 'overlay.png' if source.is_picture else 'overlay.mp4'
                how = (source, texts, self.visualizer, boxes, points)
                add(name, 'overlay', OverlaySink, *how)
            for sink in sinks:
                exits.enter_context(sink)
            bar = exits.enter_context(
                tqdm(
                    total=len(source),
                    desc=source.name,
                    unit='frame',
                    disable=not self.show_progress,
                    # a log file gets a line now and then
                    mininterval=0.1 if sys.stderr.isatty() else 10,
                )
            )

            def write(result: FrameResult) -> None:
                for sink in sinks:
                    sink.write(result)
                bar.update()

            writer = exits.enter_context(BackgroundWriter(write, depth))
            results = exits.enter_context(
                closing(self.forward(source, texts, options, overlay))
            )
            for result in results:
                writer.put(result)
                del result
        return files

    def visualize(
        self, inputs: list, preds: list[VideoResult], **kwargs: Any
    ) -> list[str | None]:
        """Return the names of the overlays, which are written on the way.

        Args:
            inputs (list): The videos.
            preds (list[VideoResult]): Their results.
            **kwargs: None.

        Returns:
            list[str | None]: One per video.
        """
        return [pred.files.get('overlay') for pred in preds]

    def postprocess(
        self,
        preds: list[VideoResult],
        visualization: list[str | None],
        return_datasample: bool = False,
        **kwargs: Any,
    ) -> dict[str, list]:
        """Put predictions and overlays together.

        Args:
            preds (list[VideoResult]): Results of the videos.
            visualization (list[str | None]): Their overlays.
            return_datasample (bool): Not supported; results are typed.
            **kwargs: None.

        Returns:
            dict[str, list]: ``predictions`` and ``visualization``.
        """
        return {'predictions': preds, 'visualization': visualization}


def _unique(names: Sequence[str]) -> list[str]:
    """Number names that come again: a, b, a_2."""
    taken: set[str] = set()
    result = []
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f'{name}_{number}'
        taken.add(candidate)
        result.append(candidate)
    return result
