# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Multi-head attention on PyTorch's fused kernel."""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.models.layers.checkpointing import run_layer
from referformer.models.layers.linear import linear


class MultiheadAttention(BaseModule):
    """Batch-first multi-head attention that never builds the weight matrix.

    It has the parameters of :class:`torch.nn.MultiheadAttention` under the
    same names, and always calls ``scaled_dot_product_attention``, which picks
    a memory-efficient kernel on CPU and CUDA.

    Args:
        embed_dims (int): Channels of query, key, value and output.
        num_heads (int): Heads; divides ``embed_dims``.
        dropout (float): Dropout rate of the attention weights in training.
        init_cfg (dict, optional): Initialisation config of mmengine.

    Raises:
        ValueError: If ``embed_dims`` is not divisible by ``num_heads``.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        dropout: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if embed_dims % num_heads:
            raise ValueError(
                f'embed_dims={embed_dims} is not divisible by '
                f'num_heads={num_heads}'
            )
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.dropout = dropout
        # The parameters of a torch module, without its forward: its
        # initialisation and names come along.
        donor = nn.MultiheadAttention(embed_dims, num_heads)
        self.in_proj_weight = donor.in_proj_weight
        self.in_proj_bias = donor.in_proj_bias
        self.out_proj = donor.out_proj

    def _heads(self, tokens: Tensor) -> Tensor:
        # [N, L, C] -> [N, heads, L, C / heads]
        return tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            query (Tensor): Shape (N, Lq, C).
            key (Tensor): Shape (N, Lk, C).
            value (Tensor): Shape (N, Lk, C).
            key_padding_mask (Tensor, optional): True where a key is padding,
                shape (N, Lk). None when nothing is padded, which lets the
                fastest kernel run.

        Returns:
            Tensor: Attended values, shape (N, Lq, C).
        """
        c = self.embed_dims
        weight, bias = self.in_proj_weight, self.in_proj_bias
        if query is key:
            q, k = linear(query, weight[: 2 * c], bias[: 2 * c]).chunk(2, -1)
        else:
            q = linear(query, weight[:c], bias[:c])
            k = linear(key, weight[c : 2 * c], bias[c : 2 * c])
        v = linear(value, weight[2 * c :], bias[2 * c :])
        mask = None
        if key_padding_mask is not None:
            mask = ~key_padding_mask[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        # Kernels that never hold the weights know no dropout on CPU; there
        # the weights are computed twice rather than kept.
        out = run_layer(
            F.scaled_dot_product_attention,
            dropout > 0 and query.device.type == 'cpu',
            self._heads(q),
            self._heads(k),
            self._heads(v),
            attn_mask=mask,
            dropout_p=dropout,
        )
        out = out.transpose(1, 2).flatten(2)
        return linear(out, self.out_proj.weight, self.out_proj.bias)
