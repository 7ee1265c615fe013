# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Language as queries: decoder queries from the sentence."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.registry import MODELS
from referformer.structures import ConditionalQueryInputs
from referformer.utils.precision import without_autocast
from referformer.utils.sizes import of_all_frames


@MODELS.register_module()
class ConditionalQueries(BaseModule):
    """Queries whose content is the sentence (paper Sec. 3.2).

    All Q queries of a frame ask for the same expression; they differ only by
    a learned positional part, shared by all frames, so query ``q`` means the
    same candidate throughout the clip.

    Args:
        num_queries (int): Queries per frame, Q.
        embed_dims (int): Channels C.
        init_cfg (dict, optional): Initialisation config of mmengine.
    """

    def __init__(
        self,
        num_queries: int = 5,
        embed_dims: int = 256,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_queries = num_queries
        self.query_embed = nn.Embedding(num_queries, embed_dims)
        self.reference_points = nn.Linear(embed_dims, 2)

    def init_weights(self) -> None:
        """Reset the reference projection."""
        super().init_weights()
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)

    def forward(
        self, sentence: Tensor, num_frames: int
    ) -> ConditionalQueryInputs:
        """Make the decoder input of every frame.

        Args:
            sentence (Tensor): Sentence features, shape (N, C).
            num_frames (int): Frames per clip, T.

        Returns:
            ConditionalQueryInputs: For B = N * T frames.
        """
        pos = self.query_embed.weight
        with without_autocast(pos):
            reference = self.reference_points(pos).sigmoid()
        # [N, C] -> [B, Q, C]: a view per clip, repeated over frames
        content = of_all_frames(sentence, num_frames)[:, None]
        shape = (content.shape[0], self.num_queries, -1)
        return ConditionalQueryInputs(
            content=content.expand(shape),
            pos=pos.expand(shape),
            reference=reference.expand(shape),
        )
