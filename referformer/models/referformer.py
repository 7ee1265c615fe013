# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""ReferFormer: language as queries for referring video segmentation."""

import warnings
from collections.abc import Callable, Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmdet.structures import TrackDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from referformer.errors import ConfigError, DataError, check_choice
from referformer.models.layers.memory_format import suit_convolutions
from referformer.registry import MODELS, TASK_UTILS
from referformer.structures import (
    ClipPredictions,
    DecodedQueries,
    FrameFeatures,
    SelectedSequences,
    SequencePredictions,
    TextFeatures,
    VisualFeatures,
    stack_clip_targets,
)
from referformer.structures.masks import MaskResize
from referformer.utils.freed_memory import keep_freed_memory
from referformer.utils.kept import is_traced, kept, numbers_on_device
from referformer.utils.precision import at_least_float32, without_autocast
from referformer.utils.sizes import of_all_frames


@MODELS.register_module()
class ReferFormer(BaseDetector):
    """Referring video object segmentation with queries made from language.

    `Language as Queries for Referring Video Object Segmentation
    <https://arxiv.org/abs/2201.00487>`_ (CVPR 2022, Fig. 2).

    .. code-block:: text

        frames ── backbone ── neck ──┐
                     │               ├─ fusion ── transformer ── head ─ class
                     │  words ───────┤               │  │       │  └── box
        sentence ── text encoder     └─ queries ─────┘  │       │
                     │                        memory    │   dynamic filters
                     └ stride 4 ──── pixel decoder ─────┘       │
                                          └── mask features ────┴── mask

    Frames of a clip go through the network as a batch of images (unless the
    backbone takes clips); query ``q`` is the same object in all of them.

    Args:
        backbone (dict): Four maps at strides 4, 8, 16, 32.
        neck (dict): Maps at 8, 16, 32 to the transformer's levels.
        text_encoder (dict): Words and sentence features.
        fusion (dict): Early fusion of each level with the words.
        queries (dict): Conditional queries.
        transformer (dict): Deformable transformer.
        pixel_decoder (dict): Cross-modal FPN.
        head (dict): Classes, boxes, masks; owns matcher, losses, selector.
        positional_encoding (dict): 2-D encoding of the maps.
        mask_resize (str): How masks get the size of the original frame,
            ``'direct'`` or ``'two_step'``; see
            :data:`~referformer.structures.masks.MaskResize`.
        predictor (dict, optional): Settings of prediction: windows, linking,
            thresholds. Of type ``'Predictor'``
            (:class:`~referformer.prediction.Predictor`) unless it says
            another.
        window (int, optional): Old place of ``predictor.window``.
        mask_thr (float, optional): Old place of ``predictor.mask_thr``.
        share_frames (bool): Whether training encodes a clip once for all
            expressions of a batch that follow one another and show the same
            frames, as ``ObjectGroupSampler`` gives them, if all of their
            augmentation is the same.
        data_preprocessor (dict, optional): Normalisation and padding.
        init_cfg (dict, optional): Initialisation config of mmengine.

    Raises:
        ConfigError: If ``mask_resize`` or a setting of ``predictor`` is not
            one of its values.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        text_encoder: dict,
        fusion: dict,
        queries: dict,
        transformer: dict,
        pixel_decoder: dict,
        head: dict,
        positional_encoding: dict,
        mask_resize: MaskResize = 'direct',
        predictor: dict | None = None,
        window: int | None = None,
        mask_thr: float | None = None,
        share_frames: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        check_choice('mask_resize', mask_resize, get_args(MaskResize))
        predictor = {'type': 'Predictor', **(predictor or {})}
        for name, value in (('window', window), ('mask_thr', mask_thr)):
            if value is not None:
                warnings.warn(
                    f'model.{name} is now model.predictor.{name}; set it '
                    'there.',
                    FutureWarning,
                    stacklevel=2,
                )
                predictor.setdefault(name, value)
        # Bare names inside the model are ours, whoever builds it: mmdet's
        # registry under its own default scope, for one.
        with DefaultScope.overwrite_default_scope('referformer'):
            super().__init__(data_preprocessor, init_cfg)
            self.backbone = MODELS.build(backbone)
            self.neck = MODELS.build(neck)
            self.text_encoder = MODELS.build(text_encoder)
            self.fusion = MODELS.build(fusion)
            self.queries = MODELS.build(queries)
            self.transformer = MODELS.build(transformer)
            self.pixel_decoder = MODELS.build(pixel_decoder)
            self.head = MODELS.build(head)
            self.positional_encoding = MODELS.build(positional_encoding)
            self.predictor = TASK_UTILS.build(predictor)
        self._in_channels = [
            part.get('in_channels') for part in (pixel_decoder, neck)
        ]
        self.mask_resize = mask_resize
        self.share_frames = share_frames

    # -- features, of the frames and of the words -----------------------------

    def extract_feat(
        self,
        batch_inputs: Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        frame_indices: Sequence[int] | None = None,
        clip_indices: Sequence[int] | None = None,
    ) -> VisualFeatures:
        """Encode the frames: all that depends on them alone.

        Args:
            batch_inputs (Tensor): Normalised clips, shape (N, T, 3, H, W).
            sizes (Sequence[tuple[int, int]], optional): Unpadded (height,
                width) of each clip in pixels; (H, W) when None.
            frame_indices (Sequence[int], optional): The one frame of each
                clip to go on with. A video backbone still sees them all.
            clip_indices (Sequence[int], optional): Clips to go on with, in
                any number and order; each once when None. Where they are
                given, ``sizes`` and ``frame_indices`` are theirs.

        Returns:
            VisualFeatures: For B = N * T frames (T = 1 with
            ``frame_indices``).
        """
        num_clips, num_frames, _, *whole = batch_inputs.shape
        clips = range(num_clips) if clip_indices is None else clip_indices
        if batch_inputs.device.type == 'cpu':
            keep_freed_memory()
        sizes = tuple(tuple(size) for size in sizes or [whole] * len(clips))
        padded = any(size != tuple(whole) for size in sizes)
        size_tensor = numbers_on_device(sizes, torch.float32, batch_inputs)
        padding = _mark_padding(size_tensor, *whole) if padded else None
        if frame_indices is not None or clip_indices is not None:
            each = [range(num_frames)] * len(clips)
            if frame_indices is not None:
                each = [(t,) for t in frame_indices]
            frames = tuple(
                n * num_frames + t
                for n, own in zip(clips, each, strict=True)
                for t in own
            )
        else:
            frames = None
        maps = self.extract_maps(batch_inputs, frames)
        return self.describe_maps(maps, size_tensor, padding)

    def extract_maps(
        self, batch_inputs: Tensor, frames: Sequence[int] | None = None
    ) -> tuple[Tensor, ...]:
        """Run backbone and neck.

        Args:
            batch_inputs (Tensor): Normalised clips, shape (N, T, 3, H, W).
            frames (Sequence[int], optional): Frames to go on with, in any
                number and order; all N * T when None.

        Returns:
            tuple[Tensor]: The backbone's map at stride 4, and the levels of
            the transformer, finest first, shape (B, C_l, h, w) each.
        """

        def select(tensor: Tensor, positions: Sequence[int] | None) -> Tensor:
            if positions is None:
                return tensor
            wanted = numbers_on_device(positions, torch.int64, batch_inputs)
            return tensor.index_select(0, wanted)

        if getattr(self.backbone, 'takes_clips', False):
            maps = self.backbone(batch_inputs)
        else:
            images = batch_inputs.flatten(0, 1)
            if frames is not None:  # each once
                used = tuple(sorted(set(frames)))
                images = select(images, used)
                frames = tuple(map(used.index, frames))
                frames = None if frames == (*range(len(used)),) else frames
            maps = self.backbone(suit_convolutions(images))
        maps = [select(level, frames) for level in maps]
        self._check_channels(tuple(level.shape[1] for level in maps))
        return maps[0], *self._make_levels(maps[1:])

    def describe_maps(
        self,
        maps: Sequence[Tensor],
        sizes: Tensor,
        padding: Tensor | None = None,
    ) -> VisualFeatures:
        """Add what attention needs to read the maps.

        Args:
            maps (Sequence[Tensor]): From :meth:`extract_maps`.
            sizes (Tensor): Unpadded (height, width) of each clip in pixels,
                float32, shape (N, 2).
            padding (Tensor, optional): 1 on padding, shape (N, H, W). None
                where nothing is padded.
        """
        num_frames = maps[0].shape[0] // sizes.shape[0]

        def describe(level: Tensor) -> FrameFeatures:
            size = level.shape[-2:]
            if padding is None:
                mask, pos = self._whole_frame(level)
                shape = (level.shape[0], -1, -1)
                return FrameFeatures(
                    level, mask.expand(shape), pos.expand(*shape, -1)
                )
            mask = F.interpolate(padding[None], size=size)[0] > 0
            pos = self.positional_encoding(mask).to(level.dtype)
            return FrameFeatures(
                level,
                of_all_frames(mask, num_frames),
                of_all_frames(pos, num_frames),
            )

        fine, *levels = map(describe, maps)
        return VisualFeatures(fine, tuple(levels), sizes, padding is not None)

    def _whole_frame(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Mask (1, h, w) and positions (1, C, h, w) of an unpadded map."""
        encoding = self.positional_encoding
        size = tuple(level.shape[-2:])
        learned = next(encoding.parameters(), None) is not None
        if learned or is_traced(level):
            return _encode_frame(encoding, size, level.dtype, level.device)
        return _kept_frame(encoding, size, level.dtype, level.device)

    def _make_levels(self, maps: Sequence[Tensor]) -> Sequence[Tensor]:
        """Run the neck, in float32 under any autocast: it costs little."""
        with without_autocast(maps[0]):
            return self.neck([at_least_float32(level) for level in maps])

    def _check_channels(self, given: tuple[int, ...]) -> None:
        """Compare the backbone's maps with what the next parts expect."""
        pixel_decoder, neck = self._in_channels
        if not pixel_decoder or not neck:  # parts of other interfaces
            return
        if given != (pixel_decoder[0], *neck):
            inputs = given[0], *pixel_decoder[1:]
            raise ConfigError(
                f'the backbone gives {given} channels; set '
                f'model.neck.in_channels={given[1:]} and '
                f'model.pixel_decoder.in_channels={inputs}.'
            )

    def extract_text(self, texts: Sequence[str]) -> TextFeatures:
        """Encode the words of N expressions."""
        return self.text_encoder(self.text_encoder.tokenize(texts))

    def encode(
        self, batch_inputs: Tensor, batch_data_samples: list[TrackDataSample]
    ) -> tuple[VisualFeatures, TextFeatures]:
        """Encode clips that have one expression each.

        Args:
            batch_inputs (Tensor): Shape (N, T, 3, H, W).
            batch_data_samples (list[TrackDataSample]): N clips.

        Returns:
            tuple: ``(visual, text)``.
        """
        # words first: the host is busy with them, the device is not
        text = self.extract_text([s.text for s in batch_data_samples])
        clips = None
        if self.share_frames and self.training:
            batch_inputs, clips = _without_repetition(batch_inputs)
        visual = self.extract_feat(
            batch_inputs,
            [sample[0].img_shape[:2] for sample in batch_data_samples],
            annotated_positions(batch_data_samples),
            clips,
        )
        return visual, text

    # -- the words and the frames together ------------------------------------

    def decode(
        self, visual: VisualFeatures, text: TextFeatures
    ) -> tuple[DecodedQueries, Tensor]:
        """Decode the expressions in the frames.

        Args:
            visual (VisualFeatures): Of N clips.
            text (TextFeatures): Of N expressions, one per clip.

        Returns:
            tuple: ``(decoded, mask_feats)``: decoded queries, and mask
            features at stride 4 of shape (B, C_mask, h, w).
        """
        num_frames = visual.fine.map.shape[0] // text.sentence.shape[0]
        fused = [
            level._replace(map=self.fusion(level.map, text))
            for level in visual.levels
        ]
        queries = self.queries(text.sentence, num_frames)
        decoded = self.transformer(
            fused, queries, self.head.reg_branches, visual.padded
        )
        pyramid = [visual.fine] + [
            level._replace(map=memory)
            for level, memory in zip(fused, decoded.memory, strict=False)
        ]
        return decoded, self.pixel_decoder(pyramid, text, visual.padded)

    def predict_sequences(
        self,
        visual: VisualFeatures,
        text: TextFeatures,
        selector: Callable[[Tensor], SelectedSequences] | None = None,
    ) -> SequencePredictions:
        """Decode, and select the best sequences.

        Args:
            visual (VisualFeatures): Of N clips, or of one clip that all
                expressions are about.
            text (TextFeatures): Of E expressions.
            selector (Callable, optional): Chooses in place of the head's
                own selector.

        Returns:
            SequencePredictions: On the device.
        """
        expressions, clips = text.sentence.shape[0], visual.sizes.shape[0]
        if clips == 1 < expressions:
            visual = visual.repeat(expressions)
        decoded, mask_feats = self.decode(visual, text)
        selected, boxes, masks = self.head.predict(
            decoded, mask_feats, visual.sizes, selector
        )
        # [B, Q, 4] -> [N, T, Q, 2] -> [N, T, k, 2]
        points = decoded.references[-1][..., :2].unflatten(0, boxes.shape[:2])
        query = selected.query[:, None, :, None]
        points = points.gather(2, query.expand(-1, boxes.shape[1], -1, 2))
        return SequencePredictions(
            selected.scores,
            selected.labels,
            selected.frame_scores,
            bbox_cxcywh_to_xyxy(boxes),
            points,
            masks,
        )

    # -- the three modes of an mmdet detector ---------------------------------

    def forward(
        self,
        inputs: Tensor,
        data_samples: list[TrackDataSample] | None = None,
        mode: str = 'tensor',
    ) -> dict | list | ClipPredictions:
        """Run a mode; an error in an expression names its video."""
        try:
            return super().forward(inputs, data_samples, mode)
        except DataError as error:
            names = (
                f'video {sample.get("video_id")}, expression '
                f'{item.get("exp_id")}: '
                for sample in data_samples or ()
                for item in sample.get('expressions', [sample])
                if item.get('text') == error.value
            )
            error.message = next(names, '') + error.message
            raise

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: list[TrackDataSample]
    ) -> dict[str, Tensor]:
        """Training losses.

        Args:
            batch_inputs (Tensor): Shape (N, T, 3, H, W).
            batch_data_samples (list[TrackDataSample]): N annotated clips
                with ``text`` in their metainfo.

        Returns:
            dict[str, Tensor]: Weighted losses by name.
        """
        # what the host has to do comes before what the device has to do
        targets = stack_clip_targets(
            batch_data_samples, annotated_positions(batch_data_samples)
        ).to(batch_inputs.device)
        visual, text = self.encode(batch_inputs, batch_data_samples)
        decoded, mask_feats = self.decode(visual, text)
        return self.head.loss(decoded, mask_feats, visual.sizes, targets)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[TrackDataSample]
    ) -> list[TrackDataSample]:
        """Segment the referred objects.

        Args:
            batch_inputs (Tensor): Shape (N, T, 3, H, W).
            batch_data_samples (list[TrackDataSample]): N clips with ``text``
                in their metainfo, or videos with ``expressions``.

        Returns:
            list[TrackDataSample]: One per expression, see
            :func:`referformer.prediction.data_samples.predict_samples`.
        """
        return self.predictor.predict(self, batch_inputs, batch_data_samples)

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: list[TrackDataSample]
    ) -> ClipPredictions:
        """Raw predictions of every layer and query; arguments as of `loss`."""
        visual, text = self.encode(batch_inputs, batch_data_samples)
        return self.head(*self.decode(visual, text), visual.sizes)


def _encode_frame(
    encoding: nn.Module,
    size: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Padding mask and position encoding of a frame without padding."""
    mask = torch.zeros(1, *size, dtype=torch.bool, device=device)
    return mask, encoding(mask).to(dtype)


#: Five maps of four sizes of frames, 80 MB where these have 360 x 640 pixels.
_kept_frame = kept(maxsize=20)(_encode_frame)


def _mark_padding(sizes: Tensor, height: int, width: int) -> Tensor:
    """Ones on the padding of clips of ``sizes``, shape (N, height, width)."""
    rows = torch.arange(height, device=sizes.device)[:, None]
    columns = torch.arange(width, device=sizes.device)
    padding = rows >= sizes[:, :1, None]
    return (padding | (columns >= sizes[:, 1:, None])).float()


def _without_repetition(clips: Tensor) -> tuple[Tensor, list[int]]:
    """Leave out clips (N, ...) that equal the one before.

    Returns:
        tuple: The clips that remain, and which of them each one was.
    """
    # read from the device at once
    differs = (clips[1:] != clips[:-1]).flatten(1).any(1).tolist()
    kept, indices = [0], [0]
    for n, new in enumerate(differs, 1):
        if new:
            kept.append(n)
        indices.append(len(kept) - 1)
    return clips[kept], indices


def annotated_positions(
    batch_data_samples: list[TrackDataSample],
) -> list[int] | None:
    """The annotated frame of each clip, where only one is annotated."""
    if 'annotated_position' not in batch_data_samples[0]:
        return None
    return [sample.annotated_position for sample in batch_data_samples]
