# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Packing a clip for the model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData

from referformer.datasets.items import same
from referformer.errors import ConfigError, DataError
from referformer.formats.rle import encode_mask
from referformer.registry import TRANSFORMS
from referformer.structures import RLEMasks


@TRANSFORMS.register_module()
class PackReferInputs(BaseTransform):
    """Pack the frames of a clip into a tensor and a ``TrackDataSample``.

    Output: ``inputs``, uint8, shape (T, 3, H, W), channels as loaded (BGR),
    and ``data_samples`` with

    * ``metainfo``: what is true for the clip, above all ``text``;
    * ``video_data_samples``: T ``DetDataSample`` with the facts of the
      frame and, if annotations were loaded, ``gt_instances`` of ``bboxes``
      (float32, shape (n, 4), x1 y1 x2 y2 in pixels), ``labels`` (int64,
      shape (n,)) and ``masks`` (n x h x w). n is 1 when the object is
      visible in the frame and else 0. A video with all its ``expressions``
      has ``gt_rles`` among the facts of the frame instead.

    In training they are tensors and ``BitmapMasks``. In testing the truth is
    encoded (arrays and ``RLEMasks``): each tensor that leaves a worker
    process occupies a file handle, and a video has hundreds of frames.

    Args:
        test_mode: In training (``False``) an object whose box has lost its
            width or height counts as absent from that frame, and a clip
            without any visible object gives ``None``, whereupon the dataset
            draws another one. In testing all ground truth is kept.
        extra_clip_keys: Facts of the clip to pass on besides ``CLIP_KEYS``,
            such as a category of the expression that a metric reads. Those
            a dataset does not give are left out.
    """

    CLIP_KEYS = (
        'text',
        'video_id',
        'exp_id',
        'obj_id',
        'attributes',
        'video_length',
        'text_obj_id',
        'expressions',
        'annotated_position',
        'image_id',
        'subset',
        'ori_bbox',
    )
    FRAME_KEYS = (
        'frame_name',
        'frame_id',
        'img_path',
        'video_path',
        'mask_path',
        'gt_rles',
        'ori_shape',
        'img_shape',
        'scale_factor',
        'flip',
        'flip_direction',
    )

    def __init__(
        self, test_mode: bool = False, extra_clip_keys: Sequence[str] = ()
    ) -> None:
        self.test_mode = test_mode
        self.clip_keys = (*self.CLIP_KEYS, *extra_clip_keys)

    def transform(self, results: dict[str, list]) -> dict | None:
        """Pack a clip.

        Args:
            results: Lists of length T.

        Returns:
            ``inputs`` and ``data_samples``, or ``None`` (see the class).

        Raises:
            DataError: If the frames differ in size.
            ConfigError: If they differ in what should hold for the clip.
        """
        images = results['img']
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            raise DataError(
                f'The frames of video {results["video_id"][0]} differ in '
                f'size, {sorted(shapes)}; geometric transforms of a clip '
                'need share_random_params=True, and a video frames of one '
                'size.',
                code='frame-size-differs',
            )
        height, width, channels = images[0].shape
        clip = np.empty(
            (len(images), channels, height, width), images[0].dtype
        )
        for frame, image in zip(clip, images, strict=True):
            frame[:] = image.transpose(2, 0, 1)
        sample = TrackDataSample(metainfo=self._clip_facts(results))
        sample.video_data_samples = [
            self._pack_frame({k: v[t] for k, v in results.items()})
            for t in range(len(images))
        ]
        if not self.test_mode and not any(
            len(frame.gt_instances)
            for frame in sample.video_data_samples
            if 'gt_instances' in frame
        ):
            return None
        return {
            'inputs': torch.from_numpy(clip),
            'data_samples': sample,
        }

    def _clip_facts(self, results: dict[str, list]) -> dict[str, Any]:
        """Return the facts of the clip after checking all frames agree."""
        facts = {}
        for key in self.clip_keys:
            if key not in results:
                continue
            first, *others = results[key]
            for other in others:
                if other is not first and not same(other, first):
                    raise ConfigError(
                        f'The frames of a clip of {results["video_id"][0]} '
                        f'disagree on {key!r}: {first!r} and {other!r}; a '
                        'transform that changes it needs '
                        'share_random_params=True.',
                    )
            facts[key] = first
        return facts

    def _pack_frame(self, frame: dict) -> DetDataSample:
        """Pack one frame."""
        facts = {k: frame[k] for k in self.FRAME_KEYS if k in frame}
        sample = DetDataSample(metainfo=facts)
        if 'gt_masks' not in frame:
            return sample
        boxes = frame['gt_bboxes'].tensor.float()
        labels, masks = frame['gt_bboxes_labels'], frame['gt_masks']
        if self.test_mode:
            sample.gt_instances = InstanceData(
                bboxes=boxes.numpy(),
                labels=labels,
                masks=RLEMasks(
                    [encode_mask(mask) for mask in masks.masks],
                    (masks.height, masks.width),
                ),
            )
            return sample
        keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        sample.gt_instances = InstanceData(
            bboxes=boxes[keep],
            labels=torch.from_numpy(labels)[keep],
            masks=masks[keep.numpy()],
        )
        return sample

    def __repr__(self) -> str:
        return f'{type(self).__name__}(test_mode={self.test_mode})'
