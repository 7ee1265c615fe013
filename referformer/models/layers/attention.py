# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Multi-head attention on PyTorch's fused kernel."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from referformer.checkpoints.published import split_joint_projections
from referformer.errors import ConfigError
from referformer.models.layers.linear import Linear
from referformer.models.layers.memory import call_checkpointed
from referformer.models.layers.plain import is_plain
from referformer.utils.kept import is_traced
from referformer.utils.precision import at_least_float32, without_autocast


class MultiheadAttention(nn.Module):
    """Batch-first multi-head attention that never builds the weight matrix.

    It computes what :class:`torch.nn.MultiheadAttention` does, always by
    ``scaled_dot_product_attention``, which picks a memory-efficient kernel on
    CPU and CUDA. Its four projections are modules, so that whatever works on
    linear layers (adapters, quantisation, hooks) works here. Weights of the
    PyTorch module, with one joint projection, can be loaded.

    Args:
        embed_dims (int): Channels of query, key, value and output.
        num_heads (int): Heads; divides ``embed_dims``.
        dropout (float): Dropout rate of the attention weights in training.

    Raises:
        ConfigError: If ``embed_dims`` is not divisible by ``num_heads``.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ConfigError(
                f'embed_dims={embed_dims} is not divisible by '
                f'num_heads={num_heads}'
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.q_proj = Linear(embed_dims, embed_dims)
        self.k_proj = Linear(embed_dims, embed_dims)
        self.v_proj = Linear(embed_dims, embed_dims)
        self.out_proj = Linear(embed_dims, embed_dims)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as PyTorch does.

        The published code draws query, key and value projection as one
        matrix of 3C rows: the gain is that of its Xavier distribution. The
        weight of the output projection stays as it is.
        """
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            nn.init.xavier_uniform_(projection.weight, gain=math.sqrt(0.5))
            nn.init.zeros_(projection.bias)
        nn.init.zeros_(self.out_proj.bias)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any
    ) -> None:
        split_joint_projections(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

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
        mask = None
        if key_padding_mask is not None:
            mask = ~key_padding_mask[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        if (
            query.device.type == 'cpu'
            and query is not key
            and dropout == 0
            and not torch.is_grad_enabled()
            and not is_traced()
            and key.shape[1] * self.num_heads <= query.shape[-1]
            and is_plain(Linear, self.q_proj, self.out_proj)
        ):
            return self._attend_few(query, key, value, mask)
        # Kernels that never hold the weights do not support dropout on CPU;
        # there the weights are computed twice rather than kept.
        out = call_checkpointed(
            F.scaled_dot_product_attention,
            dropout > 0 and query.device.type == 'cpu',
            self._heads(self.q_proj(query)),
            self._heads(self.k_proj(key)),
            self._heads(self.v_proj(value)),
            attn_mask=mask,
            dropout_p=dropout,
        )
        return self.out_proj(out.transpose(1, 2).flatten(2))

    def _attend_few(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
    ) -> Tensor:
        """Attend from many queries to a few keys, such as words.

        Products are grouped differently: the query projection is multiplied
        with the keys first, and the values with the output projection, so
        that queries meet two matrices of (keys * heads) rows instead of two
        of C rows, and softmax runs along contiguous queries. In float32
        under any autocast, which costs little for a few keys.
        """
        with without_autocast(query):
            query, key, value = map(at_least_float32, (query, key, value))
            keys = self._heads(self.k_proj(key))  # [N, heads, Lk, D]
            values = self._heads(self.v_proj(value))
            keys = keys / math.sqrt(keys.shape[-1])
            rows = (self.num_heads, -1)
            weight = keys @ self.q_proj.weight.unflatten(0, rows)
            bias = keys @ self.q_proj.bias.view(*rows, 1)
            # [N, heads * Lk, Lq]
            scores = torch.baddbmm(
                bias.flatten(1, 2),
                weight.flatten(1, 2),
                query.transpose(1, 2),
            ).unflatten(1, rows)
            if mask is not None:
                scores = scores.masked_fill_(
                    ~mask.transpose(2, 3), float('-inf')
                )
            weights = scores.softmax(2)
            out = values @ self.out_proj.weight.t().unflatten(0, rows)
            return torch.baddbmm(
                self.out_proj.bias,
                weights.flatten(1, 2).transpose(1, 2),
                out.flatten(1, 2),
            )
