# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A model over videos of any length: windows x expressions.

.. code-block:: text

    frames ─ windows ─ see ──┐         features, once a window
                             ├─ ask ─ predictions, in one copy to the host
    expressions ────── read ─┘         features, once a video

:class:`Predictor` is all there is to it. ``ReferFormer.predict`` runs it over
the videos of a data set, :mod:`~referformer.prediction.stream` over frames as
they are decoded. ``see`` and ``ask`` are generators, so only one window is
alive at a time; a caller that keeps what ``see`` yields can ask it again.
Models are taken in evaluation mode.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Generic, Literal, NamedTuple, get_args

import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from referformer.errors import ConfigError, check_choice
from referformer.models import MeanScoreSelector, ReferFormer
from referformer.prediction.linking import OverlapLinker
from referformer.prediction.windows import Item, Window, cut_windows
from referformer.registry import TASK_UTILS
from referformer.structures import (
    FrameGeometry,
    SequencePredictions,
    SoftMasks,
    TextFeatures,
    VisualFeatures,
    split_expressions,
)

Link = Literal['none', 'overlap']
Precision = Literal['fp32', 'bf16', 'fp16']

#: Frames of a window, where neither the caller nor the model says: that of
#: the published inference on Ref-DAVIS17.
DEFAULT_WINDOW = 36
_DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}


class SeenWindow(NamedTuple, Generic[Item]):
    """A window of frames with what the model read in it."""

    window: Window[Item]
    visual: VisualFeatures


class WindowPredictions(NamedTuple, Generic[Item]):
    """A window of T frames with what was found in it.

    Attributes:
        window (Window): The frames.
        found (SequencePredictions): Of E expressions in them, on the CPU.
    """

    window: Window[Item]
    found: SequencePredictions


@TASK_UTILS.register_module()
@dataclass(frozen=True)
class Predictor:
    """How videos go through a model.

    What depends on the frames alone is computed once a window, whatever the
    number of expressions, and expressions are decoded in batches. The results
    of a window reach the host in one copy.

    Args:
        window (int, optional): Frames T the model sees at once. None takes
            the model's own window.
        link (Link): How the query of a window is chosen: ``'none'``, each
            window by its scores (as published); ``'overlap'``, windows
            overlap and keep to one object, see
            :class:`~referformer.prediction.linking.OverlapLinker`.
        overlap (int, optional): Frames that linked windows share. None is a
            quarter of the window.
        mask_thr (float, optional): Probability above which a pixel is
            foreground. None takes the model's.
        score_thr (float): Masks of frames that score less are emptied.
        precision (Precision): Type of the model's arithmetic. ``'fp32'``
            leaves an autocast of the caller as it is.
        batch_frames (int, optional): Frames times expressions that are
            decoded at once. None is 64 on a GPU, which many keep busy, and
            one expression on a CPU, whose caches are too small for more.

    Raises:
        ConfigError: If a value is out of range.
    """

    window: int | None = None
    link: Link = 'none'
    overlap: int | None = None
    mask_thr: float | None = None
    score_thr: float = 0.0
    precision: Precision = 'fp32'
    batch_frames: int | None = None

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

    def settled(self, model: ReferFormer) -> 'Predictor':
        """Replace what was left open by what the model says.

        No value is None then but ``batch_frames``; the window is 36 where
        neither says another.

        Raises:
            ConfigError: If the overlap does not fit into the window.
        """
        window = self.window or model.window or DEFAULT_WINDOW
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
            mask_thr=self.mask_thr or model.mask_thr,
        )

    def arithmetic(self, device: torch.device) -> AbstractContextManager:
        """Context in which a model on this device is run."""
        if self.precision == 'fp32':
            return nullcontext()
        return torch.autocast(device.type, _DTYPES[self.precision])

    # -- windows x expressions ------------------------------------------------

    @torch.no_grad()
    def read(self, model: ReferFormer, texts: Sequence[str]) -> TextFeatures:
        """Read E expressions, worded as the model was taught them."""
        with self.arithmetic(_device_of(model)):
            return model.extract_text(texts)

    @torch.no_grad()
    def see(
        self,
        model: ReferFormer,
        frames: Iterable[Item],
        to_clip: Callable[[Sequence[Item]], Tensor],
    ) -> Iterator[SeenWindow[Item]]:
        """Read the frames, window by window.

        Args:
            model (ReferFormer): The model.
            frames (Iterable): The video; anything may stand for a frame.
            to_clip (Callable): T frames -> normalised clip of shape
                (T, 3, H, W) on the model's device.

        Yields:
            SeenWindow: A window and its features. The next one is read when
            it is asked for.
        """
        for window in cut_windows(frames, self.window, self.overlap):
            with self.arithmetic(_device_of(model)):
                visual = model.extract_feat(to_clip(window.frames)[None])
            yield SeenWindow(window, visual)
            del window, visual

    @torch.no_grad()
    def ask(
        self,
        model: ReferFormer,
        seen: Iterable[SeenWindow[Item]],
        text: TextFeatures,
    ) -> Iterator[WindowPredictions[Item]]:
        """Look for the expressions, window by window.

        Args:
            model (ReferFormer): The model.
            seen (Iterable[SeenWindow]): The windows of one video, in order.
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
        for window, visual in seen:
            found = self._decode(model, visual, text, selector).to_host()
            if linker is not None:
                # [E, T, k, h, w] -> [E, k, T, h, w]
                masks = found.masks.transpose(1, 2) > _logit(self.mask_thr)
                chosen = linker.choose(found.scores, masks, self.overlap)
                found = found.choose(chosen)
            found = found.without_doubtful_masks(self.score_thr)
            yield WindowPredictions(window, found)
            del window, visual, found

    def _decode(
        self,
        model: ReferFormer,
        visual: VisualFeatures,
        text: TextFeatures,
        selector: MeanScoreSelector | None,
    ) -> SequencePredictions:
        """Ask one clip for E expressions, in batches; on the device."""
        device = visual.fine.map.device
        default = 1 if device.type == 'cpu' else 64
        batch = (self.batch_frames or default) // len(visual.fine.map)
        each = torch.arange(len(text.sentence), device=device)
        parts = []
        with self.arithmetic(device):
            for index in each.split(max(1, batch)):
                several = len(index) > 1
                clips = visual.repeat(len(index)) if several else visual
                words = text.index_select(index)
                parts.append(model.answer(clips, words, selector))
        return SequencePredictions.cat(parts)

    # -- data samples ---------------------------------------------------------

    @torch.no_grad()
    def predict(
        self,
        model: ReferFormer,
        batch_inputs: Tensor,
        batch_data_samples: list[TrackDataSample],
    ) -> list[TrackDataSample]:
        """Segment the referred objects in the samples of a data set.

        A sample is a clip with an expression (``text`` in its metainfo) or a
        video with all of its expressions (``expressions``: dicts with
        ``text`` and more). Clips are predicted as one batch, unless they are
        to be cut into windows; videos one after the other, unpadded.

        Args:
            model (ReferFormer): The model.
            batch_inputs (Tensor): Shape (N, T, 3, H, W).
            batch_data_samples (list[TrackDataSample]): N clips or videos.

        Returns:
            list[TrackDataSample]: One per expression, every frame with
            ``pred_track_instances`` on the CPU: ``masks`` (k, ori_h, ori_w),
            bool, ``scores`` (k,), ``bboxes`` (k, 4) in pixels of the original
            frame, ``labels`` (k,), best sequence first. Of a clip with one
            annotated frame, that frame only. The masks of a video with
            several expressions are
            :class:`~referformer.structures.SoftMasks`, as they would not fit
            into memory.
        """
        single = 'annotated_frame' in batch_data_samples[0]
        cut = self.window or model.window
        grouped = any('expressions' in s for s in batch_data_samples)
        if single or not (cut or grouped):
            return self._predict_batch(model, batch_inputs, batch_data_samples)
        videos = zip(batch_inputs, batch_data_samples, strict=True)
        return [
            clip
            for frames, sample in videos
            for clip in self._predict_video(model, frames, sample)
        ]

    def _predict_batch(
        self,
        model: ReferFormer,
        batch_inputs: Tensor,
        batch_data_samples: list[TrackDataSample],
    ) -> list[TrackDataSample]:
        """Predict N clips with one expression each."""
        with self.arithmetic(batch_inputs.device):
            found = model.answer(*model.read(batch_inputs, batch_data_samples))
        found = found.to_host().without_doubtful_masks(self.score_thr)
        for n, sample in enumerate(batch_data_samples):
            frames = sample.video_data_samples
            if 'annotated_frame' in sample:
                frames = [frames[sample.annotated_frame]]
            for t, frame in enumerate(frames):
                self.write_instances(model, frame, found, n, t)
        return batch_data_samples

    def _predict_video(
        self, model: ReferFormer, frames: Tensor, sample: TrackDataSample
    ) -> list[TrackDataSample]:
        """Predict the expressions of a video of shape (T, 3, H, W)."""
        height, width = sample[0].img_shape[:2]
        frames = frames[..., :height, :width]
        grouped = 'expressions' in sample
        outputs = split_expressions(sample) if grouped else [sample]
        settled = self
        if not (self.window or model.window):  # one window, nothing to link
            whole = max(1, len(frames))
            settled = replace(self, window=whole, link='none', overlap=None)
        settled = settled.settled(model)
        text = self.read(model, [output.text for output in outputs])
        seen = settled.see(
            model,
            range(len(frames)),
            lambda window: frames[window[0] : window[-1] + 1],
        )
        for window, found in settled.ask(model, seen, text):
            for n, output in enumerate(outputs):
                for t in range(window.start, window.stop):
                    frame = output[window.frames[t]]
                    self.write_instances(model, frame, found, n, t, grouped)
        return outputs

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
            _logit(self.mask_thr or model.mask_thr),
            model.mask_resize,
        )

    def write_instances(
        self,
        model: ReferFormer,
        frame: DetDataSample,
        found: SequencePredictions,
        n: int,
        t: int,
        lazily: bool = False,
    ) -> None:
        """Write into a frame what was found for expression n in frame t.

        Where ``lazily`` is set, masks stay at their stride until they are
        looked at.
        """
        img_shape, ori_shape = frame.img_shape[:2], frame.ori_shape[:2]
        masks = self.soft_masks(model, found.masks[n, t], img_shape, ori_shape)
        size = ori_shape[::-1]
        frame.pred_track_instances = InstanceData(
            masks=masks if lazily else masks.to_tensor(),
            scores=found.scores[n],
            bboxes=found.boxes[n, t] * found.boxes.new_tensor(size * 2),
            labels=found.labels[n],
        )


def _device_of(model: ReferFormer) -> torch.device:
    return next(model.parameters()).device


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
