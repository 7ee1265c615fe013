# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Masks that get their full size only when they are looked at.

A video with all its expressions has E x T masks. At the size of the frames
they would not fit into memory; at stride 4, or run-length encoded, they do.
Both containers index like a tensor and turn into an array by
``to_ndarray()``, as mmdet's mask structures do, so ``InstanceData`` and the
metrics take them in place of tensors.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch.nn.functional as F
from pycocotools import mask as mask_utils
from torch import Tensor

MaskResize = Literal['direct', 'two_step']
"""How mask logits become masks of the original frame.

``'direct'``: bilinear to the original size, then the threshold (published
Ref-YouTube-VOS and Ref-DAVIS17 inference). ``'two_step'``: bilinear to the
size of the network's input, the threshold, then nearest to the original size
(published A2D-, JHMDB-Sentences and RefCOCO evaluation).
"""


class FrameGeometry(NamedTuple):
    """How a map of mask logits lies on its frame.

    Attributes:
        img_shape (tuple[int, int]): Height and width of the frame as the
            network saw it, without padding.
        ori_shape (tuple[int, int]): Height and width of the original frame.
        stride (int): Pixels of the network's input per cell of the map.
    """

    img_shape: tuple[int, int]
    ori_shape: tuple[int, int]
    stride: int


class SoftMasks:
    """Mask logits of one frame at the stride of the mask head.

    Args:
        logits (Tensor): Shape (k, h, w); cells beyond the frame are cut off.
        geometry (FrameGeometry): Where they lie on the frame.
        logit_thr (float): Logit above which a pixel is foreground.
        resize (MaskResize): See :data:`MaskResize`.
    """

    def __init__(
        self,
        logits: Tensor,
        geometry: FrameGeometry,
        logit_thr: float = 0.0,
        resize: MaskResize = 'direct',
    ) -> None:
        height, width = (
            -(-side // geometry.stride) for side in geometry.img_shape
        )
        self.logits = logits[:, :height, :width]
        self.geometry = geometry
        self.logit_thr = logit_thr
        self.resize = resize

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, index: int | slice | Tensor) -> 'SoftMasks':
        logits = self.logits[index]
        if logits.ndim == 2:
            logits = logits[None]
        return SoftMasks(logits, self.geometry, self.logit_thr, self.resize)

    @property
    def shape(self) -> tuple[int, int, int]:
        """k, and height and width of the original frame."""
        return (len(self), *self.geometry.ori_shape)

    def _interpolate(self, size: tuple[int, int]) -> Tensor:
        return F.interpolate(
            self.logits[None].float(),
            size=size,
            mode='bilinear',
            align_corners=False,
        )[0]

    def to_tensor(self) -> Tensor:
        """Masks of the original frame, bool, shape (k, ori_h, ori_w)."""
        shape, ori_shape, stride = self.geometry
        if self.resize == 'direct':
            return self._interpolate(ori_shape) > self.logit_thr
        height, width = self.logits.shape[-2:]
        masks = self._interpolate((height * stride, width * stride))
        masks = masks[:, : shape[0], : shape[1]] > self.logit_thr
        return F.interpolate(masks[None].float(), size=ori_shape)[0] > 0.5

    def to_ndarray(self) -> np.ndarray:
        """Masks of the original frame, bool, shape (k, ori_h, ori_w)."""
        return self.to_tensor().cpu().numpy()

    def probabilities(self) -> np.ndarray:
        """Foreground probability, float32, shape (k, ori_h, ori_w)."""
        logits = self._interpolate(self.geometry.ori_shape)
        return logits.sigmoid().cpu().numpy()


class RLEMasks:
    """Masks of one frame, run-length encoded.

    Args:
        rles (Sequence[dict]): n encoded masks of COCO.
        shape (tuple[int, int]): Height and width of the frame, needed when
            there is none.
    """

    def __init__(self, rles: Sequence[dict], shape: tuple[int, int]) -> None:
        self.rles = list(rles)
        self.height, self.width = shape

    def __len__(self) -> int:
        return len(self.rles)

    def __getitem__(self, index: int | slice) -> 'RLEMasks':
        chosen = self.rles[index]
        chosen = [chosen] if isinstance(chosen, dict) else chosen
        return RLEMasks(chosen, (self.height, self.width))

    @property
    def shape(self) -> tuple[int, int, int]:
        """n, height and width."""
        return (len(self), self.height, self.width)

    def to_ndarray(self) -> np.ndarray:
        """Masks, bool, shape (n, H, W)."""
        if not self.rles:
            return np.zeros(self.shape, bool)
        # COCO has the masks in the last dimension
        masks = mask_utils.decode(self.rles).transpose(2, 0, 1)
        return np.ascontiguousarray(masks).astype(bool)

    def areas(self) -> np.ndarray:
        """Pixels of each mask, shape (n,)."""
        return np.array([int(mask_utils.area(rle)) for rle in self.rles], int)

    def boxes(self) -> np.ndarray:
        """Boxes around them, x1, y1, x2, y2 in pixels, float32, (n, 4)."""
        boxes = [mask_utils.toBbox(rle) for rle in self.rles]
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return boxes

    def new_boxes(self, old: 'RLEMasks', boxes: np.ndarray) -> np.ndarray:
        """Put boxes around those masks that are not as before.

        Args:
            old (RLEMasks): The n masks before.
            boxes (np.ndarray): Their boxes, x1, y1, x2, y2 in pixels, of
                shape (n, 4). An empty mask keeps its box.
        """
        changed = [a != b for a, b in zip(self.rles, old.rles, strict=True)]
        changed = np.array(changed) & (self.areas() > 0)
        return np.where(changed[:, None], self.boxes(), boxes)


class ScoredRLEMasks(RLEMasks):
    """Encoded masks with scores, for protocols that compare probabilities.

    Args:
        rles (Sequence[dict]): n encoded masks of COCO.
        shape (tuple[int, int]): Height and width of the frame.
        scores (np.ndarray): In [0, 1], shape (n,).
    """

    def __init__(
        self,
        rles: Sequence[dict],
        shape: tuple[int, int],
        scores: np.ndarray,
    ) -> None:
        super().__init__(rles, shape)
        self.scores = scores

    def __getitem__(self, index: int | slice) -> 'ScoredRLEMasks':
        chosen = super().__getitem__(index)
        scores = np.atleast_1d(self.scores[index])
        return ScoredRLEMasks(chosen.rles, chosen.shape[1:], scores)

    def probabilities(self) -> np.ndarray:
        """Foreground probability, float32, shape (n, H, W).

        Above one half in a mask, and the more the better its score, so that
        of masks that overlap the best one wins.
        """
        inside = (1 + self.scores.astype(np.float32)) / 2
        return self.to_ndarray() * inside[:, None, None]


def to_numpy(value: Any) -> np.ndarray:
    """Masks of any container (ours, mmdet's), or a tensor, as an array."""
    if hasattr(value, 'to_ndarray'):
        return value.to_ndarray()
    if isinstance(value, Tensor):
        value = value.detach().cpu()
    return np.asarray(value)
