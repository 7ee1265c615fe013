# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Sine position encoding of word sequences."""

import math

import torch
from mmengine.model import BaseModule
from torch import Tensor


class SinePositionalEncoding1D(BaseModule):
    """Interleaved sine and cosine encoding of token positions.

    Positions run from ``1 / n`` to 1 over the ``n`` tokens of an expression
    and are scaled to a full turn (spec of the published code; the 2-D
    encoding of the maps is mmdet's ``SinePositionalEncoding``).

    Args:
        num_feats (int): Channels C of the encoding; even.
        temperature (float): Base of the wavelengths.
        eps (float): Keeps the division finite.
        init_cfg (dict, optional): Initialisation config of mmengine.

    Raises:
        ValueError: If ``num_feats`` is odd.
    """

    def __init__(
        self,
        num_feats: int,
        temperature: float = 10000.0,
        eps: float = 1e-6,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_feats % 2:
            raise ValueError(f'num_feats must be even, got {num_feats}')
        self.num_feats = num_feats
        self.temperature = temperature
        self.eps = eps

    def forward(self, padding_mask: Tensor) -> Tensor:
        """Encode the positions of the tokens.

        Args:
            padding_mask (Tensor): True where a token is padding,
                shape (N, L).

        Returns:
            Tensor: Float32 encoding, shape (N, L, C).
        """
        steps = (~padding_mask).cumsum(1, dtype=torch.float32)
        steps = steps / (steps[:, -1:] + self.eps) * (2 * math.pi)
        pairs = torch.arange(
            0, self.num_feats, 2, dtype=torch.float32, device=steps.device
        )
        angle = steps[..., None] / self.temperature ** (pairs / self.num_feats)
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(2)
