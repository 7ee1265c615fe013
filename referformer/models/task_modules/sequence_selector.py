# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Choice of the referred sequence at prediction."""

from dataclasses import dataclass

from torch import Tensor

from referformer.registry import TASK_UTILS
from referformer.structures import SelectedSequences


@TASK_UTILS.register_module()
@dataclass(frozen=True)
class MeanScoreSelector:
    """Keep the sequences with the best score averaged over time (Sec. 3.6).

    Args:
        topk (int): Sequences to keep. 1 gives the answer; benchmarks that
            rank proposals (A2D-, JHMDB-Sentences) keep all Q.

    Raises:
        ValueError: If ``topk`` is not positive.
    """

    topk: int = 1

    def __post_init__(self) -> None:
        if self.topk < 1:
            raise ValueError(f'topk must be at least 1, got {self.topk}')

    def __call__(self, logits: Tensor) -> SelectedSequences:
        """Select.

        Args:
            logits (Tensor): Class logits of the last layer, (N, T, Q, K).

        Returns:
            SelectedSequences: The ``min(topk, Q)`` best, best first.
        """
        frame_scores = logits.float().sigmoid()
        scores, labels = frame_scores.mean(1).max(-1)  # [N, Q]
        best, query = scores.topk(min(self.topk, scores.shape[1]), dim=1)
        labels = labels.gather(1, query)
        # [N, T, Q, K] -> [N, T, Q * K] -> [N, T, k]
        index = (query * frame_scores.shape[3] + labels)[:, None]
        chosen = frame_scores.flatten(2).gather(
            2, index.expand(-1, frame_scores.shape[1], -1)
        )
        return SelectedSequences(query, best, labels, chosen)
