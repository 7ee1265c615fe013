# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""ReferFormer: language as queries for referring video segmentation."""

import math
from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from referformer.registry import MODELS
from referformer.structures import (
    ClipPredictions,
    DecodedQueries,
    FrameFeatures,
    FrameGeometry,
    SelectedSequences,
    SoftMasks,
    TextFeatures,
    VisualFeatures,
    split_expressions,
    stack_clip_targets,
)
from referformer.structures.masks import MaskResize


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
        mask_thr (float): Probability above which a pixel is foreground.
        mask_resize (str): How masks get the size of the original frame,
            ``'direct'`` or ``'two_step'``; see
            :data:`~referformer.structures.masks.MaskResize`.
        window (int, optional): Longest clip to predict at once. A longer one
            is cut into windows of this length, each with its own choice of
            the query. Defaults to None, the whole clip.
        data_preprocessor (dict, optional): Normalisation and padding.
        init_cfg (dict, optional): Initialisation config of mmengine.

    Raises:
        ValueError: If ``mask_thr``, ``mask_resize`` or ``window`` is not
            one of the values above.
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
        mask_thr: float = 0.5,
        mask_resize: MaskResize = 'direct',
        window: int | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if not 0 < mask_thr < 1:
            raise ValueError(f'mask_thr must be in (0, 1), got {mask_thr}')
        if mask_resize not in get_args(MaskResize):
            raise ValueError(
                f'mask_resize must be one of {get_args(MaskResize)}, got '
                f'{mask_resize!r}'
            )
        if window is not None and window < 1:
            raise ValueError(f'window must be at least 1, got {window}')
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
        self.mask_logit_thr = math.log(mask_thr / (1 - mask_thr))
        self.mask_resize = mask_resize
        self.window = window

    # -- parts that depend on the frames only ---------------------------------

    def extract_feat(
        self,
        batch_inputs: Tensor,
        sizes: Sequence[tuple[int, int]] | None = None,
        frame_indices: Sequence[int] | None = None,
    ) -> VisualFeatures:
        """Extract what depends on the frames alone.

        Args:
            batch_inputs (Tensor): Normalised clips, shape (N, T, 3, H, W).
            sizes (Sequence[tuple[int, int]], optional): Unpadded (height,
                width) of each clip in pixels; (H, W) when None.
            frame_indices (Sequence[int], optional): The one frame of each
                clip to go on with. A video backbone still sees them all.

        Returns:
            VisualFeatures: For B = N * T frames (T = 1 with
            ``frame_indices``).
        """
        num_clips, num_frames, _, height, width = batch_inputs.shape
        if sizes is None:
            sizes = [(height, width)] * num_clips
        takes_clips = getattr(self.backbone, 'takes_clips', False)
        if frame_indices is not None and not takes_clips:
            clips = range(num_clips)
            batch_inputs = batch_inputs[clips, list(frame_indices)][:, None]
            num_frames, frame_indices = 1, None
        if not takes_clips:
            batch_inputs = batch_inputs.flatten(0, 1)
            training = torch.is_grad_enabled()
            if batch_inputs.device.type == 'cpu' and not training:
                # What oneDNN convolves without rearranging anything. Not in
                # training: some backward pass of PyTorch 2.13 then writes
                # beyond its memory.
                batch_inputs = batch_inputs.contiguous(
                    memory_format=torch.channels_last
                )
        maps = self.backbone(batch_inputs)
        if frame_indices is not None:
            index = [n * num_frames + i for n, i in enumerate(frame_indices)]
            maps = [level[index] for level in maps]
            num_frames = 1
        padding = batch_inputs.new_zeros(num_clips, height, width)
        for n, (clip_height, clip_width) in enumerate(sizes):
            padding[n, clip_height:] = 1
            padding[n, :, clip_width:] = 1

        def describe(level: Tensor) -> FrameFeatures:
            # padding and positions are the same for all frames of a clip
            mask = F.interpolate(padding[None], size=level.shape[-2:])[0] > 0
            pos = self.positional_encoding(mask).to(level.dtype)
            return FrameFeatures(
                level,
                mask.repeat_interleave(num_frames, 0),
                pos.repeat_interleave(num_frames, 0),
            )

        return VisualFeatures(
            fine=describe(maps[0]),
            levels=tuple(describe(level) for level in self.neck(maps[1:])),
            sizes=padding.new_tensor(sizes, dtype=torch.float32),
            padded=any(size != (height, width) for size in map(tuple, sizes)),
        )

    # -- parts that read the expression ---------------------------------------

    def decode(
        self, visual: VisualFeatures, text: TextFeatures
    ) -> tuple[DecodedQueries, Tensor]:
        """Ask the frames for the expressions.

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
        decoded = self.transformer(fused, queries, self.head.reg_branches)
        pyramid = [visual.fine] + [
            level._replace(map=memory)
            for level, memory in zip(fused, decoded.memory, strict=False)
        ]
        return decoded, self.pixel_decoder(pyramid, text, visual.padded)

    # -- the three modes of an mmdet detector ---------------------------------

    def _run(
        self, batch_inputs: Tensor, batch_data_samples: list[TrackDataSample]
    ) -> tuple[DecodedQueries, Tensor, Tensor]:
        """Network output and clip sizes for a batch of samples."""
        visual = self.extract_feat(
            batch_inputs,
            [sample[0].img_shape[:2] for sample in batch_data_samples],
            self._frame_indices(batch_data_samples),
        )
        texts = [sample.text for sample in batch_data_samples]
        text = self.text_encoder(self.text_encoder.tokenize(texts))
        return (*self.decode(visual, text), visual.sizes)

    @staticmethod
    def _frame_indices(
        batch_data_samples: list[TrackDataSample],
    ) -> list[int] | None:
        """The annotated frame of each clip, where only one is annotated."""
        if 'annotated_frame' not in batch_data_samples[0]:
            return None
        return [sample.annotated_frame for sample in batch_data_samples]

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
        decoded, mask_feats, sizes = self._run(
            batch_inputs, batch_data_samples
        )
        targets = stack_clip_targets(
            batch_data_samples,
            batch_inputs.device,
            self._frame_indices(batch_data_samples),
        )
        return self.head.loss(decoded, mask_feats, sizes, targets)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[TrackDataSample]
    ) -> list[TrackDataSample]:
        """Segment the referred objects.

        A sample is a clip with an expression (``text`` in its metainfo) or a
        video with all of its expressions (``expressions``: dicts with
        ``text`` and more). What depends on the frames alone is computed once
        for all expressions of a video.

        Args:
            batch_inputs (Tensor): Shape (N, T, 3, H, W).
            batch_data_samples (list[TrackDataSample]): N clips or videos.

        Returns:
            list[TrackDataSample]: One per expression, every frame with
            ``pred_track_instances``: ``masks`` (k, ori_h, ori_w), bool,
            ``scores`` (k,), ``bboxes`` (k, 4) in pixels of the original
            frame, ``labels`` (k,), best sequence first. The masks of a video
            with several expressions are
            :class:`~referformer.structures.SoftMasks`, as they would not fit
            into memory.
        """
        in_parts = self.window is not None or any(
            'expressions' in sample for sample in batch_data_samples
        )
        frame_indices = self._frame_indices(batch_data_samples)
        if in_parts and frame_indices is None:
            return [
                predicted
                for frames, sample in zip(
                    batch_inputs, batch_data_samples, strict=True
                )
                for predicted in self._predict_video(frames, sample)
            ]
        decoded, mask_feats, sizes = self._run(
            batch_inputs, batch_data_samples
        )
        predictions = self.head.predict(decoded, mask_feats, sizes)
        for n, sample in enumerate(batch_data_samples):
            frames = list(sample.video_data_samples)
            if frame_indices is not None:
                frames = [frames[frame_indices[n]]]
            self._write_instances(frames, n, predictions)
        return batch_data_samples

    def _predict_video(
        self, frames: Tensor, sample: TrackDataSample
    ) -> list[TrackDataSample]:
        """Predict all expressions of a video, window by window.

        Args:
            frames (Tensor): Shape (T, 3, H, W), padded or not.
            sample (TrackDataSample): The video.

        Returns:
            list[TrackDataSample]: One per expression.
        """
        height, width = sample[0].img_shape[:2]
        frames = frames[..., :height, :width]
        grouped = 'expressions' in sample
        outputs = split_expressions(sample) if grouped else [sample]
        texts = [output.text for output in outputs]
        text = self.text_encoder(self.text_encoder.tokenize(texts))
        each = torch.arange(len(texts), device=frames.device).split(1)
        window = self.window or len(frames)
        for start in range(0, len(frames), window):
            part = slice(start, start + window)
            visual = self.extract_feat(frames[None, part])
            for index, output in zip(each, outputs, strict=True):
                decoded, mask_feats = self.decode(
                    visual, text.index_select(index)
                )
                predictions = self.head.predict(
                    decoded, mask_feats, visual.sizes
                )
                self._write_instances(
                    list(output.video_data_samples)[part],
                    0,
                    predictions,
                    lazily=grouped,
                )
        return outputs

    def _write_instances(
        self,
        frames: Sequence[DetDataSample],
        clip: int,
        predictions: tuple[SelectedSequences, Tensor, Tensor],
        lazily: bool = False,
    ) -> None:
        """Write the predictions of a clip into its frames.

        Args:
            frames (Sequence[DetDataSample]): Its T frames.
            clip (int): Its place in the predictions.
            predictions (tuple): What the head returns for N clips.
            lazily (bool): Whether to leave the masks at stride 4.
        """
        selected, boxes, masks = predictions
        for t, frame in enumerate(frames):
            shape, ori_shape = frame.img_shape[:2], frame.ori_shape[:2]
            soft = SoftMasks(
                masks[clip, t],
                FrameGeometry(shape, ori_shape, self.head.mask_head.stride),
                self.mask_logit_thr,
                self.mask_resize,
            )
            scale = boxes.new_tensor([ori_shape[1], ori_shape[0]] * 2)
            frame.pred_track_instances = InstanceData(
                masks=soft if lazily else soft.to_tensor(),
                scores=selected.scores[clip],
                bboxes=bbox_cxcywh_to_xyxy(boxes[clip, t]) * scale,
                labels=selected.labels[clip],
            )

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: list[TrackDataSample]
    ) -> ClipPredictions:
        """Raw predictions of every layer and query.

        Args:
            batch_inputs (Tensor): Shape (N, T, 3, H, W).
            batch_data_samples (list[TrackDataSample]): N clips with ``text``
                in their metainfo.

        Returns:
            ClipPredictions: Stacked over the decoder layers.
        """
        return self.head(*self._run(batch_inputs, batch_data_samples))
