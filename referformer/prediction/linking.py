# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Keeping one object from window to window."""

import torch
from torch import Tensor

from referformer.errors import ConfigError


def mask_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of mask sequences, over all their frames together.

    Args:
        first (Tensor): bool, shape (E, P, T, h, w).
        second (Tensor): bool, shape (E, Q, T, h, w).

    Returns:
        Tensor: float32, shape (E, P, Q); 1 where both are empty.
    """
    first, second = first.flatten(2).float(), second.flatten(2).float()
    overlap = torch.einsum('epx,eqx->epq', first, second)
    area = first.sum(2)[:, :, None] + second.sum(2)[:, None]
    union = area - overlap
    return torch.where(union > 0, overlap / union.clamp(min=1), 1.0)


class OverlapLinker:
    """Choose the candidate that shows the object of the window before.

    A window offers k candidates an expression, in an order of its own, and
    shares its first frames with the window before. A track is a candidate of
    each window; its value is the product of their scores and of the IoUs
    between its neighbours on the frames they share:

    .. code-block:: text

        value[q] = score[q] * max_p before[p] * max(iou[p, q], jump)

    The first window chooses by score. From then on the chosen object is
    followed, until the best track is worth more than ``1 / jump`` times as
    much as the one that follows it: an object keeps its identity although
    another one scores better for a while, but gives way when it is lost or was
    wrong from the beginning. Nothing that was handed out is taken back.

    Args:
        jump (float): What a track keeps of its value when it goes on with
            another object, in (0, 1]. 1 is the choice by score alone.

    Raises:
        ConfigError: If ``jump`` is not in (0, 1].
    """

    def __init__(self, jump: float = 0.3) -> None:
        if not 0 < jump <= 1:
            raise ConfigError(f'jump must be in (0, 1], got {jump}')
        self.jump = jump
        self._values: Tensor | None = None
        self._tail: Tensor | None = None
        self._chosen: Tensor | None = None

    def choose(self, scores: Tensor, masks: Tensor, overlap: int) -> Tensor:
        """Choose in the next window.

        Args:
            scores (Tensor): In [0, 1], shape (E, k).
            masks (Tensor): bool, shape (E, k, T, h, w); the first frames are
                the last of the window before.
            overlap (int): Frames that the next window will share.

        Returns:
            Tensor: Chosen candidates, int64, shape (E,).
        """
        scores = scores.float().clamp(min=1e-6)
        each = torch.arange(len(scores), device=scores.device)
        if self._chosen is None:
            values = scores
            chosen = values.argmax(1)
        else:
            head = masks[:, :, : self._tail.shape[2]]
            # the last window may be shorter than the overlap
            tail = self._tail[:, :, : head.shape[2]]
            link = mask_iou(tail, head).clamp(min=self.jump)
            # [E, p, q]
            tracks = self._values[:, :, None] * link * scores[:, None]
            values = tracks.amax(1)
            followed, chosen = tracks[each, self._chosen].max(1)
            best, leader = values.max(1)
            chosen = torch.where(best * self.jump > followed, leader, chosen)
        # only ratios matter, and products would vanish
        self._values = values / values.amax(1, keepdim=True)
        self._tail = masks[:, :, masks.shape[2] - overlap :]
        self._chosen = chosen
        return chosen
