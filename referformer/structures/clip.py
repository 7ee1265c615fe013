# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Typed containers that travel between the parts of the model.

Symbols used for shapes throughout the package:

==== =================================================================
N    clips in a batch (one clip carries one expression)
T    frames in a clip
B    ``N * T`` frames, clip-major: frame ``t`` of clip ``n`` is ``n*T + t``
Q    queries per frame; query ``q`` is the same object in every frame
L    words (tokens) of an expression, padded to the longest of the batch
C    channels of the transformer (``embed_dims``)
K    classes (1 in the published models: referred or not)
D    decoder layers
H, W height and width of the padded batch; ``h, w`` those of a feature map
==== =================================================================
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.bbox import bbox_xyxy_to_cxcywh
from mmengine.structures import InstanceData
from torch import Tensor

from referformer.structures.masks import RLEMasks
from referformer.utils.transfer import send


class TextTokens(NamedTuple):
    """Tokenised expressions of a batch.

    Attributes:
        ids (Tensor): Token ids, int64, shape (N, L).
        attention_mask (Tensor): 1 for a token, 0 for padding, shape (N, L).
        padded (bool): Whether there may be padding; to look would mean to
            wait for the device.
    """

    ids: Tensor
    attention_mask: Tensor
    padded: bool = True


class TextFeatures(NamedTuple):
    """What the text encoder hands to the rest of the model.

    Attributes:
        words (Tensor): One feature per token, shape (N, L, C).
        word_pos (Tensor): Position encoding of the tokens, added to
            attention keys only, shape (N, L, C).
        padding_mask (Tensor, optional): True where a token is padding, shape
            (N, L). None where nothing is padded.
        sentence (Tensor): One feature per expression, shape (N, C).
    """

    words: Tensor
    word_pos: Tensor
    padding_mask: Tensor | None
    sentence: Tensor

    def split(self, size: int) -> list['TextFeatures']:
        """Views of at most ``size`` expressions each."""
        words, word_pos, mask, sentence = self
        parts = [part.split(size) for part in (words, word_pos, sentence)]
        masks = [None] * len(parts[0]) if mask is None else mask.split(size)
        return [
            TextFeatures(words, word_pos, mask, sentence)
            for words, word_pos, sentence, mask in zip(
                *parts, masks, strict=True
            )
        ]


class FrameFeatures(NamedTuple):
    """One feature map of every frame, with what attention needs to read it.

    Attributes:
        map (Tensor): Features, shape (B, C_l, h, w).
        padding_mask (Tensor): True on padding, shape (B, h, w).
        pos (Tensor): 2-D sine position encoding, shape (B, C, h, w).
    """

    map: Tensor
    padding_mask: Tensor
    pos: Tensor


class VisualFeatures(NamedTuple):
    """All that is computed from the frames alone, before any word is read.

    It depends on no expression, so one result serves all expressions of a
    video.

    Attributes:
        fine (FrameFeatures): Backbone map at stride 4.
        levels (tuple[FrameFeatures]): Neck maps, finest first, C channels.
        sizes (Tensor): Unpadded (height, width) of each clip in pixels,
            float32, shape (N, 2).
        padded (bool): Whether any pixel of the batch is padding.
    """

    fine: FrameFeatures
    levels: tuple[FrameFeatures, ...]
    sizes: Tensor
    padded: bool

    def repeat(self, times: int) -> 'VisualFeatures':
        """Repeat the clips, to ask them for several expressions at once.

        Args:
            times (int): E, how often.

        Returns:
            VisualFeatures: The same features with N replaced by E * N.
        """

        def repeated(tensor: Tensor) -> Tensor:
            if tensor.stride(0) == 0:  # the same for all frames
                return tensor[:1].expand(
                    times * tensor.shape[0], *tensor.shape[1:]
                )
            return tensor.repeat(times, *[1] * (tensor.ndim - 1))

        return VisualFeatures(
            FrameFeatures(*map(repeated, self.fine)),
            tuple(
                FrameFeatures(*map(repeated, level)) for level in self.levels
            ),
            repeated(self.sizes),
            self.padded,
        )


class ConditionalQueryInputs(NamedTuple):
    """Decoder input made from language (paper Sec. 3.2).

    Attributes:
        content (Tensor): Sentence feature of each query, shape (B, Q, C).
        pos (Tensor): Learned positional part, shape (B, Q, C).
        reference (Tensor): Initial reference points (x, y) in [0, 1],
            shape (B, Q, 2).
    """

    content: Tensor
    pos: Tensor
    reference: Tensor


class DecodedQueries(NamedTuple):
    """Output of the deformable transformer.

    Attributes:
        hidden (Tensor): Query states after each layer, shape (D, B, Q, C).
        init_reference (Tensor): References entering the first layer,
            shape (B, Q, 2).
        references (Tensor): Detached references after each layer, as
            (cx, cy, w, h) in [0, 1], shape (D, B, Q, 4).
        memory (tuple[Tensor]): Encoded maps at strides 8, 16, 32, each of
            shape (B, C, h, w).
    """

    hidden: Tensor
    init_reference: Tensor
    references: Tensor
    memory: tuple[Tensor, ...]


class ClipPredictions(NamedTuple):
    """Predictions for every clip, stacked over the decoder layers.

    Attributes:
        logits (Tensor): Class logits, shape (D, N, T, Q, K).
        boxes (Tensor): (cx, cy, w, h) relative to the unpadded frame,
            shape (D, N, T, Q, 4).
        masks (Tensor): Mask logits at stride 4, shape (D, N, T, Q, h, w).
    """

    logits: Tensor
    boxes: Tensor
    masks: Tensor


class SelectedSequences(NamedTuple):
    """The instance sequences kept at prediction, best first.

    Attributes:
        query (Tensor): Index of the chosen queries, int64, shape (N, k).
        scores (Tensor): Score of each sequence in [0, 1], shape (N, k).
        labels (Tensor): Class of each sequence, int64, shape (N, k).
        frame_scores (Tensor): Score of each sequence in each frame in
            [0, 1], shape (N, T, k).
    """

    query: Tensor
    scores: Tensor
    labels: Tensor
    frame_scores: Tensor


class ClipTargets(NamedTuple):
    """Ground truth of a batch: one referred object per clip.

    A frame without the object keeps a zero box and a zero mask and is marked
    in ``valid``: the published criterion counts such frames in the box and
    mask terms, but not in the class terms.

    Attributes:
        labels (Tensor): Class of each clip, int64, shape (N,).
        boxes (Tensor): (cx, cy, w, h) relative to the unpadded frame,
            shape (N, T, 4).
        masks (Tensor): 0/1 masks of the padded frames, of any type,
            shape (N, T, H, W).
        valid (Tensor): True where the object is visible, shape (N, T).
    """

    labels: Tensor
    boxes: Tensor
    masks: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> 'ClipTargets':
        """Copy everything to a device; the host does not wait for it.

        Args:
            device (torch.device): Where to.

        Returns:
            ClipTargets: The same there.
        """
        return ClipTargets(*(send(part, device) for part in self))


def stack_clip_targets(
    data_samples: Sequence[TrackDataSample],
    frame_indices: Sequence[int] | None = None,
) -> ClipTargets:
    """Stack the annotations of a batch into tensors on the CPU.

    Args:
        data_samples (Sequence[TrackDataSample]): N samples of T frames whose
            ``gt_instances`` hold 0 or 1 instance.
        frame_indices (Sequence[int], optional): The one annotated frame of
            each clip (A2D- and JHMDB-Sentences); all frames when None.

    Returns:
        ClipTargets: With T = 1 when ``frame_indices`` is given, masks in
        uint8.

    Raises:
        ValueError: If a frame holds more than one instance, or a clip none
            in any frame.
    """
    clips = [list(sample.video_data_samples) for sample in data_samples]
    if frame_indices is not None:
        clips = [
            [clip[t]] for clip, t in zip(clips, frame_indices, strict=True)
        ]
    shape = (len(clips), len(clips[0]))
    first = clips[0][0]
    padded = first.get('batch_input_shape', first.img_shape[:2])
    targets = ClipTargets(
        labels=torch.zeros(len(clips), dtype=torch.int64),
        boxes=torch.zeros(*shape, 4),
        masks=torch.zeros(*shape, *padded, dtype=torch.uint8),
        valid=torch.zeros(shape, dtype=torch.bool),
    )
    for n, clip in enumerate(clips):
        for t, frame in enumerate(clip):
            instances = frame.gt_instances
            if len(instances) > 1:
                raise ValueError(
                    f'frame {frame.get("img_path", "?")!r} holds '
                    f'{len(instances)} instances; an expression denotes one '
                    'object: merge their masks in the loading transform'
                )
            if len(instances) == 0:
                continue
            if not targets.valid[n].any():
                targets.labels[n] = instances.labels[0]
            targets.valid[n, t] = True
            height, width = frame.img_shape[:2]
            box = bbox_xyxy_to_cxcywh(instances.bboxes[0].cpu().float())
            targets.boxes[n, t] = box / box.new_tensor([width, height] * 2)
            mask = torch.from_numpy(instances.masks.to_ndarray()[0])
            targets.masks[n, t, : mask.shape[0], : mask.shape[1]] = mask
        if not targets.valid[n].any():
            sample = data_samples[n]
            raise ValueError(
                f'the object of {sample.get("text", "?")!r} (video '
                f'{sample.get("video_id", "?")!r}) is visible in no frame of '
                'the clip; the pipeline must drop such clips'
            )
    return targets


def split_expressions(sample: TrackDataSample) -> list[TrackDataSample]:
    """Turn a video with E expressions into E clips with one each.

    Args:
        sample (TrackDataSample): Its metainfo holds ``expressions``, dicts
            with ``text`` and more; its frames may hold ``gt_rles``, an
            encoded mask (or None) per expression.

    Returns:
        list[TrackDataSample]: Each with the facts of its expression in place
        of ``expressions``, and with true masks where there are some. Nothing
        is copied but the facts.
    """
    clips = []
    for e, expression in enumerate(sample.expressions):
        facts = {
            k: v for k, v in sample.metainfo.items() if k != 'expressions'
        }
        clip = TrackDataSample(metainfo={**facts, **expression})
        frames = []
        for frame in sample.video_data_samples:
            facts = {k: v for k, v in frame.metainfo.items() if k != 'gt_rles'}
            single = DetDataSample(metainfo=facts)
            rle = frame.gt_rles[e] if 'gt_rles' in frame else None
            if rle is not None:
                single.gt_instances = InstanceData(
                    masks=RLEMasks([rle], frame.ori_shape[:2])
                )
            frames.append(single)
        clip.video_data_samples = frames
        clips.append(clip)
    return clips
