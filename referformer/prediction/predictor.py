# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Prediction for videos of any length: windows x expressions.

.. code-block:: text

    frames ─ windows ─ encode_windows ─┐       features, once a window
                                       ├─ predict_windows ─ predictions,
    expressions ──────── encode_text ──┘       in one copy to the host

``data_samples.py`` applies a :class:`Predictor` to the videos of a data set,
``stream.py`` to frames as they are decoded. ``encode_windows`` and
``predict_windows`` are generators, so only one window is alive at a time; the
windows of the former can be kept and used again. Models are expected in
evaluation mode.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, Literal, NamedTuple, get_args

import torch
from mmdet.structures import TrackDataSample
from torch import Tensor

from referformer.errors import ConfigError, check_choice
from referformer.models import MeanScoreSelector, ReferFormer
from referformer.prediction.cuda_graphs import graphed_steps
from referformer.prediction.data_samples import predict_samples
from referformer.prediction.linking import OverlapLinker
from referformer.prediction.propagation import (
    MaskPropagator,
    build_propagator,
)
from referformer.prediction.windows import Item, Window, cut_windows
from referformer.registry import TASK_UTILS
from referformer.structures import (
    FrameGeometry,
    SelectedSequences,
    SequencePredictions,
    SoftMasks,
    TextFeatures,
    VisualFeatures,
)
from referformer.utils.precision import (
    Precision,
    autocast,
    choose_precision,
)

Link = Literal['none', 'overlap']

#: Frames of a window of a stream where none is set: that of the published
#: inference on Ref-DAVIS17.
DEFAULT_WINDOW = 36


class EncodedWindow(NamedTuple, Generic[Item]):
    """A window of frames with its features."""

    window: Window[Item]
    visual: VisualFeatures


class WindowPredictions(NamedTuple, Generic[Item]):
    """A window of T frames with the predictions for E expressions.

    Attributes:
        window (Window): The frames.
        found (SequencePredictions): The predictions, on the CPU.
    """

    window: Window[Item]
    found: SequencePredictions


@TASK_UTILS.register_module()
@dataclass(frozen=True)
class Predictor:
    """Settings of prediction, and its loops over windows and expressions.

    What depends on the frames alone is computed once a window, whatever the
    number of expressions, and expressions are decoded in batches. The results
    of a window reach the host in one copy.

    Args:
        window (int, optional): Frames T the model sees at once. None is the
            whole video in a test, and 36 frames of a stream, whose length
            has no bound.
        link (Link): How the query of a window is chosen: ``'none'``, each
            window by its scores (as published); ``'overlap'``, windows
            overlap and keep to one object, see
            :class:`~referformer.prediction.linking.OverlapLinker`.
        overlap (int, optional): Frames that linked windows share. None is a
            quarter of the window.
        mask_thr (float): Probability above which a pixel is foreground.
        score_thr (float): Masks of frames that score less are emptied.
        precision (Precision): Type of the model's arithmetic. ``'auto'`` is
            ``'bf16'`` where the hardware is made for it, else ``'fp32'``,
            which leaves an autocast of the caller as it is.
        batch_frames (int, optional): Frames times expressions that are
            decoded at once. None is 64 on a GPU, which many keep busy, and
            one expression on a CPU, whose caches are too small for more.
        cuda_graphs (bool): Whether steps whose shapes come again are recorded
            and replayed on a GPU, see
            :class:`~referformer.prediction.cuda_graphs.GraphedSteps`.
        propagator (MaskPropagator | dict | str, optional): Carries the mask
            of the best frame through the video, after everything else; what
            :func:`~referformer.prediction.propagation.build_propagator`
            takes.

    Raises:
        ConfigError: If a value is out of range.
    """

    window: int | None = None
    link: Link = 'none'
    overlap: int | None = None
    mask_thr: float = 0.5
    score_thr: float = 0.0
    precision: Precision = 'fp32'
    batch_frames: int | None = None
    cuda_graphs: bool = False
    propagator: MaskPropagator | dict | str | None = None

    def __post_init__(self) -> None:
        check_choice('link', self.link, get_args(Link))
        check_choice('precision', self.precision, get_args(Precision))
        for name, fits, range_ in (
            ('window', lambda value: value >= 1, 'at least 1'),
            ('batch_frames', lambda value: value >= 1, 'at least 1'),
            ('mask_thr', lambda value: 0 < value < 1, 'in (0, 1)'),
            ('score_thr', lambda value: 0 <= value <= 1, 'in [0, 1]'),
        ):
            value = getattr(self, name)
            if value is not None and not fits(value):
                raise ConfigError(f'{name} must be {range_}, got {value}')
        if self.overlap and self.link == 'none':
            raise ConfigError("overlap can be set with link='overlap' only")
        built = build_propagator(self.propagator)
        object.__setattr__(self, 'propagator', built)

    def settings(self) -> dict[str, Any]:
        """Return all settings by name, the propagator as its config."""
        settings = {
            each.name: getattr(self, each.name) for each in fields(self)
        }
        if self.propagator is not None:
            settings['propagator'] = self.propagator.cfg
        return settings

    def override(self, **settings: Any) -> 'Predictor':
        """Return a copy with other settings; those that are None stay."""
        settings = {k: v for k, v in settings.items() if v is not None}
        if settings.get('link') == 'none':
            settings.setdefault('overlap', None)
        return replace(self, **settings)

    def resolved(self, device: torch.device) -> 'Predictor':
        """Return a copy in which nothing is left to be chosen.

        Args:
            device (torch.device): Where the model runs.

        Raises:
            ConfigError: If the overlap does not fit into the window.
        """
        window = self.window or DEFAULT_WINDOW
        overlap = self.overlap
        if overlap is None:
            overlap = max(1, window // 4) if self.link == 'overlap' else 0
        if self.link == 'overlap' and not 0 < overlap < window:
            raise ConfigError(
                f'windows of {window} frames cannot be linked by {overlap} '
                'of them; the overlap must be shorter than the window'
            )
        return replace(
            self,
            window=window,
            overlap=overlap,
            precision=choose_precision(self.precision, device),
        )

    def arithmetic(self, device: torch.device) -> AbstractContextManager:
        """Context in which a model on this device is run."""
        return autocast(self.precision, device)

    def call(self, model: ReferFormer, step: str, *args: Any) -> Any:
        """Call a step of a model, as a CUDA graph if that is wanted.

        Args:
            model (ReferFormer): The model.
            step (str): Name of its method or part.
            *args (Any): See
                :class:`~referformer.prediction.cuda_graphs.GraphedSteps`.
        """
        if self.cuda_graphs:
            return graphed_steps(model)(model, step, *args)
        return getattr(model, step)(*args)

    # -- windows x expressions ------------------------------------------------

    @torch.no_grad()
    def encode_text(
        self, model: ReferFormer, texts: Sequence[str]
    ) -> TextFeatures:
        """Encode E expressions, normalised as in training."""
        tokens = model.text_encoder.tokenize(texts)
        with self.arithmetic(device_of(model)):
            return self.call(model, 'text_encoder', tokens)

    @torch.no_grad()
    def encode_windows(
        self,
        model: ReferFormer,
        frames: Iterable[Item],
        to_clip: Callable[[Sequence[Item]], Tensor],
        first: int = 0,
    ) -> Iterator[EncodedWindow[Item]]:
        """Encode the frames, window by window.

        Args:
            model (ReferFormer): The model.
            frames (Iterable): The video; anything may stand for a frame.
            to_clip (Callable): T frames -> normalised clip of shape
                (T, 3, H, W) on the model's device.
            first (int): Number of the first window, with whose first frame
                ``frames`` begin.

        Yields:
            EncodedWindow: A window and its features. The next one is encoded
            when it is asked for.
        """
        device = device_of(model)
        settings = self.resolved(device)
        cut = settings.window, settings.overlap, first
        for window in cut_windows(frames, *cut):
            clip = to_clip(window.frames)[None]
            with self.arithmetic(device):
                visual = self.call(model, 'extract_feat', clip)
            del clip
            yield EncodedWindow(window, visual)
            del window, visual

    @torch.no_grad()
    def predict_windows(
        self,
        model: ReferFormer,
        encoded: Iterable[EncodedWindow[Item]],
        text: TextFeatures,
    ) -> Iterator[WindowPredictions[Item]]:
        """Predict the expressions, window by window.

        Args:
            model (ReferFormer): The model.
            encoded (Iterable[EncodedWindow]): The windows of one video, in
                order.
            text (TextFeatures): E expressions.

        Yields:
            WindowPredictions: Of every window: the k sequences that the
            model selects, or the one that was linked.
        """
        selector = linker = None
        if self.link == 'overlap':
            # the link chooses among all queries, not the model's selector
            selector = MeanScoreSelector(model.queries.num_queries)
            linker = OverlapLinker()
        overlap = self.resolved(device_of(model)).overlap
        for window, visual in encoded:
            found = self.decode(model, visual, text, selector).to_host()
            if linker is not None:
                # [E, T, k, h, w] -> [E, k, T, h, w]
                masks = found.masks.transpose(1, 2) > _logit(self.mask_thr)
                chosen = linker.choose(found.scores, masks, overlap)
                found = found.choose(chosen)
            found = found.suppress_low_scores(self.score_thr)
            yield WindowPredictions(window, found)
            del window, visual, found

    @torch.no_grad()
    def decode(
        self,
        model: ReferFormer,
        visual: VisualFeatures,
        text: TextFeatures,
        selector: Callable[[Tensor], SelectedSequences] | None = None,
    ) -> SequencePredictions:
        """Decode expressions in one clip, in batches.

        Args:
            model (ReferFormer): The model.
            visual (VisualFeatures): Of the clip.
            text (TextFeatures): E expressions.
            selector (Callable, optional): Chooses in place of the model's
                own selector.

        Returns:
            SequencePredictions: On the device.
        """
        device = visual.fine.map.device
        default = 1 if device.type == 'cpu' else 64
        batch = (self.batch_frames or default) // len(visual.fine.map)
        with self.arithmetic(device):
            parts = [
                self.call(model, 'predict_sequences', visual, part, selector)
                for part in text.split(max(1, batch))
            ]
        return SequencePredictions.cat(parts)

    def soft_masks(
        self,
        model: ReferFormer,
        logits: Tensor,
        img_shape: tuple[int, int],
        ori_shape: tuple[int, int],
    ) -> SoftMasks:
        """Masks (k, ori_h, ori_w) of a frame, made when they are looked at.

        Args:
            model (ReferFormer): The model that the logits are of.
            logits (Tensor): Shape (k, h, w).
            img_shape (tuple[int, int]): Height and width of the frame as the
                model saw it, without padding.
            ori_shape (tuple[int, int]): Those of the original frame.
        """
        return SoftMasks(
            logits,
            FrameGeometry(img_shape, ori_shape, model.head.mask_head.stride),
            _logit(self.mask_thr),
            model.mask_resize,
        )

    def predict(
        self,
        model: ReferFormer,
        batch_inputs: Tensor,
        batch_data_samples: list[TrackDataSample],
    ) -> list[TrackDataSample]:
        """Predict the data samples of a test.

        See :func:`~referformer.prediction.data_samples.predict_samples`.
        """
        return predict_samples(self, model, batch_inputs, batch_data_samples)


def device_of(model: ReferFormer) -> torch.device:
    """Return the device that a model is on."""
    return next(model.parameters()).device


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
