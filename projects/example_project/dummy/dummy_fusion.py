# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A fusion to copy: a gate from the sentence scales the channels."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.registry import MODELS
from referformer.structures import TextFeatures


@MODELS.register_module()
class DummyFusion(BaseModule):
    """Scale each channel by a gate computed from the sentence.

    Args:
        embed_dims (int): Channels C.
        init_cfg (dict, optional): Initialisation config of mmengine.
    """

    def __init__(self, embed_dims: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.gate = nn.Linear(embed_dims, embed_dims)

    def forward(self, feats: Tensor, text: TextFeatures) -> Tensor:
        """Fuse maps (B, C, h, w) with N expressions; B = N * T frames."""
        num_frames = feats.shape[0] // text.sentence.shape[0]
        gate = self.gate(text.sentence).sigmoid()  # [N, C]
        gate = gate.repeat_interleave(num_frames, 0)  # [B, C]
        return feats * gate[..., None, None]
