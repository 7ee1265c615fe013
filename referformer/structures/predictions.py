# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Predictions of the model for a clip."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: Logit of a mask that was emptied; a finite number, so that interpolation
#: stays one.
EMPTY_LOGIT = -1e4


class SequencePredictions(NamedTuple):
    """The k best sequences of each of E expressions in T frames, best first.

    Attributes:
        scores (Tensor): Mean score of each sequence in [0, 1], shape (E, k).
        labels (Tensor): Class of each sequence, int64, shape (E, k).
        frame_scores (Tensor): Score in each frame in [0, 1], shape (E, T, k).
        boxes (Tensor): x1, y1, x2, y2 relative to the frame, not clamped,
            shape (E, T, k, 4).
        points (Tensor): Reference point x, y of each query, relative to the
            frame, shape (E, T, k, 2).
        masks (Tensor): Logits at the stride of the mask head, shape
            (E, T, k, h, w).
    """

    scores: Tensor
    labels: Tensor
    frame_scores: Tensor
    boxes: Tensor
    points: Tensor
    masks: Tensor

    @classmethod
    def cat(
        cls, parts: Sequence['SequencePredictions']
    ) -> 'SequencePredictions':
        """Join the predictions of several batches of expressions."""
        return cls(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def to_host(self) -> 'SequencePredictions':
        """Copy everything to the CPU at once, in float32.

        The host waits for the device at every copy, so all tensors travel in
        one. The result shares no memory with this.
        """
        # labels are small numbers, which float32 holds exactly
        packed = torch.cat([part.flatten().float() for part in self]).cpu()
        parts = packed.split([part.numel() for part in self])
        host = SequencePredictions(
            *(a.view(b.shape) for a, b in zip(parts, self, strict=True))
        )
        return host._replace(labels=host.labels.long())

    def choose(self, sequence: Tensor) -> 'SequencePredictions':
        """Keep one sequence of each expression.

        Args:
            sequence (Tensor): Its position among the k, int64, shape (E,).
        """
        each = torch.arange(len(sequence), device=sequence.device)
        return SequencePredictions(
            self.scores[each, sequence, None],
            self.labels[each, sequence, None],
            *(part[each, :, sequence].unsqueeze(2) for part in self[2:]),
        )

    def suppress_low_scores(self, score_thr: float) -> 'SequencePredictions':
        """Empty the masks of frames with a score below ``score_thr``."""
        if not score_thr:
            return self
        low = self.frame_scores[..., None, None] < score_thr
        return self._replace(masks=self.masks.masked_fill(low, EMPTY_LOGIT))
