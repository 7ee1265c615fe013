# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Linking of windows: the same object in each of them."""

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

    A window has k candidates for each expression, in any order, and shares its
    first frames with the window before. A track is one candidate from each
    window. Its value is the product of the candidates' scores and of the IoUs
    of successive candidates in the frames that both windows contain:

    .. code-block:: text

        value[q] = score[q] * max_p before[p] * max(iou[p, q], jump)

    In the first window the candidate with the best score is chosen. From then
    on the track of the chosen object is continued, until the value of the best
    track is more than ``1 / jump`` times its value. So the object stays the
    same while another one scores slightly better, and changes when it is lost
    or was wrong from the beginning. Earlier choices are never revised.

    Args:
        jump (float): Factor by which the value of a track is reduced where it
            changes to another object, in (0, 1]. 1 is the choice by score
            alone.

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
