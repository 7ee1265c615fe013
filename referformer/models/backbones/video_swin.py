# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Video Swin Transformer that keeps every frame."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks.drop import DropPath
from mmengine.model import BaseModule, ModuleList
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn

from referformer.models.backbones.windows import (
    Size3D,
    WindowPlan,
    attend_in_windows,
    attend_precisely,
    is_narrow,
    plan_windows,
)
from referformer.models.layers import call_checkpointed
from referformer.registry import MODELS
from referformer.utils.attention_windows import relative_position_index
from referformer.utils.kept import is_traced, kept
from referformer.utils.precision import at_least_float32, without_autocast
from referformer.utils.sizes import multiples

#: Of eight shapes of clips; one takes some megabytes.
_kept_plan = kept(maxsize=64)(plan_windows)


class WindowAttention3D(BaseModule):
    """Self-attention inside windows, with a relative position bias.

    Args:
        embed_dims (int): Channels C.
        num_heads (int): Attention heads.
        window_size (tuple[int, int, int]): Largest window (t, h, w).
        attn_drop_rate (float): Dropout rate of the attention weights.
        drop_rate (float): Dropout rate of the output.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: Size3D,
        attn_drop_rate: float = 0.0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.narrow = False  # set by the network
        self.num_heads = num_heads
        self.attn_drop_rate = attn_drop_rate
        self.qkv = nn.Linear(embed_dims, embed_dims * 3)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(drop_rate)
        spans = [2 * side - 1 for side in window_size]
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros(spans[0] * spans[1] * spans[2], num_heads)
        )
        self.register_buffer(
            'relative_position_index',
            relative_position_index(window_size),
            persistent=False,
        )

    def init_weights(self) -> None:
        """Truncated normal bias table."""
        super().init_weights()
        trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend inside windows.

        Args:
            x (Tensor): Tokens of W windows, shape (W, P, C).
            mask (Tensor, optional): True where attention is allowed, (P, P).
        """
        return attend_precisely(self._attend, x, mask, self.narrow)

    def _attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        num_windows, num_tokens, channels = x.shape
        heads = self.num_heads, channels // self.num_heads
        qkv = self.qkv(x).view(num_windows, num_tokens, 3, *heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        # A window smaller than the table's is read from its top-left corner,
        # as the published weights were trained.
        index = self.relative_position_index[:num_tokens, :num_tokens]
        bias = self.relative_position_bias_table[index.flatten()]
        bias = bias.view(num_tokens, num_tokens, -1).permute(2, 0, 1)
        bias = bias[None].to(q.dtype)
        if mask is not None:
            bias = bias.masked_fill(~mask, float('-inf'))
        # [1, heads, P, P]: the same for all windows, never repeated
        if torch.compiler.is_exporting():  # W may be 1, and may be another
            bias = bias.expand(num_windows, -1, -1, -1)
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=bias,
            dropout_p=self.attn_drop_rate if self.training else 0.0,
        )
        out = out.transpose(1, 2).reshape(num_windows, num_tokens, channels)
        return self.proj_drop(self.proj(out))


class _MLP(BaseModule):
    """Two linear layers with GELU."""

    def __init__(self, embed_dims: int, hidden: int, drop_rate: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, embed_dims)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class SwinBlock3D(BaseModule):
    """Pre-norm window attention and MLP.

    Args:
        embed_dims (int): Channels C.
        num_heads (int): Attention heads.
        window_size (tuple[int, int, int]): Largest window (t, h, w).
        mlp_ratio (float): MLP channels over C.
        drop_rate (float): Dropout rate.
        attn_drop_rate (float): Dropout rate of the attention weights.
        drop_path_rate (float): Stochastic depth rate.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: Size3D,
        mlp_ratio: float,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = WindowAttention3D(
            embed_dims, num_heads, window_size, attn_drop_rate, drop_rate
        )
        self.drop_path = DropPath(drop_path_rate)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = _MLP(embed_dims, int(embed_dims * mlp_ratio), drop_rate)

    def _window_attention(self, x: Tensor, plan: WindowPlan) -> Tensor:
        return attend_in_windows(x, plan, self.attn)

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """Transform ``x`` of shape (N, T, h, w, C), cut as planned."""
        x = x + self.drop_path(self._window_attention(self.norm1(x), plan))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class SwinStage3D(BaseModule):
    """Blocks of one resolution, plain and shifted windows in turn.

    Args:
        blocks (Sequence[SwinBlock3D]): The blocks.
        window_size (tuple[int, int, int]): Largest window (t, h, w).
        with_cp (bool): Recompute activations in the backward pass.
    """

    def __init__(
        self,
        blocks: Sequence[SwinBlock3D],
        window_size: Size3D,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        self.blocks = ModuleList(blocks)
        self.window_size = window_size
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``x`` of shape (N, T, h, w, C)."""
        plan = plan_windows if is_traced(x) else _kept_plan
        size = tuple(x.shape[1:4])
        plans = [
            plan(size, tuple(self.window_size), shifted, x.device)
            for shifted in (False, True)
        ]
        for i, block in enumerate(self.blocks):
            x = call_checkpointed(block, self.with_cp, x, plans[i % 2])
        return x


class PatchMerging3D(BaseModule):
    """Halve height and width, double channels; time is kept.

    Args:
        embed_dims (int): Input channels C.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * embed_dims)
        self.reduction = nn.Linear(4 * embed_dims, 2 * embed_dims, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Merge (N, T, h, w, C) into (N, T, ceil(h/2), ceil(w/2), 2C)."""
        height, width = (multiples(side, 2) for side in x.shape[2:4])
        x = F.pad(
            x, (0, 0, 0, 2 * width - x.shape[3], 0, 2 * height - x.shape[2])
        )
        x = x.unflatten(2, (height, 2)).unflatten(4, (width, 2))
        # column by column: the order of the published weights
        corners = [x[:, :, :, i, :, j] for j in (0, 1) for i in (0, 1)]
        merged = self.norm(torch.cat(corners, -1))
        with without_autocast(merged):  # the residual stream goes on here
            return self.reduction(at_least_float32(merged))


class PatchEmbed3D(BaseModule):
    """Patches of one frame each to tokens.

    Args:
        embed_dims (int): Output channels.
        patch_size (tuple[int, int, int]): Patch size; the first must be 1.
    """

    def __init__(self, embed_dims: int, patch_size: Size3D) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(3, embed_dims, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(embed_dims)

    def forward(self, clips: Tensor) -> Tensor:
        """Embed (N, T, 3, H, W) as (N, T, ceil(H/4), ceil(W/4), C)."""
        _, ph, pw = self.patch_size
        height, width = clips.shape[-2:]
        pad_h = multiples(height, ph) * ph - height
        pad_w = multiples(width, pw) * pw - width
        clips = F.pad(clips, (0, pad_w, 0, pad_h))
        with without_autocast(clips):  # the residual stream begins here
            x = self.proj(at_least_float32(clips).transpose(1, 2))
            return self.norm(x.permute(0, 2, 3, 4, 1))


def adapt_kinetics_weights(state_dict: dict[str, Tensor], prefix: str) -> None:
    """Bring action-recognition weights into our layout, in place.

    Those checkpoints hold a whole recogniser, merge patches inside a stage,
    and embed patches of two frames; the latter are summed over time, so that
    a still clip is embedded as before. Other state dicts are left alone.

    Args:
        state_dict (dict[str, Tensor]): Being loaded.
        prefix (str): Of this backbone's parameters.
    """
    recogniser = prefix + 'backbone.'
    for name in list(state_dict):
        if not name.startswith(prefix):
            continue
        ours = name
        if name.startswith(recogniser):
            ours = prefix + name[len(recogniser) :]
        ours = re.sub(r'layers\.(\d+)\.downsample\.', r'downsamples.\1.', ours)
        if ours != name:
            state_dict[ours] = state_dict.pop(name)
    weight = state_dict.get(prefix + 'patch_embed.proj.weight')
    if weight is not None and weight.shape[2] > 1:
        state_dict[prefix + 'patch_embed.proj.weight'] = weight.sum(
            2, keepdim=True
        )


@MODELS.register_module()
class VideoSwinTransformer(BaseModule):
    """Video Swin Transformer with one output per frame.

    Patches cover one frame, so time is never reduced; windows reach over up
    to ``window_size[0]`` frames. Stage outputs are taken before the patch
    merging, without a norm (published code of the paper). Weights of a
    recogniser trained on Kinetics load as they are.

    Args:
        arch (str | dict): ``'tiny'``, ``'small'``, ``'base'``, or a dict
            with ``embed_dims``, ``depths`` and ``num_heads``.
        patch_size (tuple[int, int, int]): Patch size (t, h, w).
        window_size (tuple[int, int, int]): Window size (t, h, w).
        mlp_ratio (float): MLP channels over C.
        drop_rate (float): Dropout rate.
        attn_drop_rate (float): Dropout rate of the attention weights.
        drop_path_rate (float): Stochastic depth rate of the last block.
        with_cp (bool): Recompute activations in the backward pass to save
            memory.
        init_cfg (dict, optional): Initialisation config of mmengine.

    Raises:
        ValueError: If ``arch`` is unknown or patches span several frames.
    """

    #: The detector hands over clips (N, T, 3, H, W) instead of frames.
    takes_clips = True
    arch_zoo: ClassVar[dict[str, dict]] = {
        'tiny': {
            'embed_dims': 96,
            'depths': (2, 2, 6, 2),
            'num_heads': (3, 6, 12, 24),
        },
        'small': {
            'embed_dims': 96,
            'depths': (2, 2, 18, 2),
            'num_heads': (3, 6, 12, 24),
        },
        'base': {
            'embed_dims': 128,
            'depths': (2, 2, 18, 2),
            'num_heads': (4, 8, 16, 32),
        },
    }

    def __init__(
        self,
        arch: str | dict = 'tiny',
        patch_size: Size3D = (1, 4, 4),
        window_size: Size3D = (8, 7, 7),
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(arch, str):
            if arch not in self.arch_zoo:
                raise ValueError(
                    f'arch={arch!r} is not one of {sorted(self.arch_zoo)}'
                )
            arch = self.arch_zoo[arch]
        if patch_size[0] != 1:
            raise ValueError(
                f'patch_size={patch_size} merges frames; masks are needed '
                'for each of them, so its first number must be 1'
            )
        depths, num_heads = arch['depths'], arch['num_heads']
        channels = [arch['embed_dims'] * 2**i for i in range(len(depths))]
        rates = torch.linspace(0, drop_path_rate, sum(depths)).tolist()
        self.patch_embed = PatchEmbed3D(channels[0], tuple(patch_size))
        self.pos_drop = nn.Dropout(drop_rate)
        self.layers = ModuleList()
        self.downsamples = ModuleList()
        for i, depth in enumerate(depths):
            blocks = [
                SwinBlock3D(
                    channels[i],
                    num_heads[i],
                    tuple(window_size),
                    mlp_ratio=mlp_ratio,
                    drop_rate=drop_rate,
                    attn_drop_rate=attn_drop_rate,
                    drop_path_rate=rates[sum(depths[:i]) + j],
                )
                for j in range(depth)
            ]
            self.layers.append(
                SwinStage3D(blocks, tuple(window_size), with_cp)
            )
            if i < len(depths) - 1:
                self.downsamples.append(PatchMerging3D(channels[i]))
        for part in self.modules():
            if isinstance(part, WindowAttention3D):
                part.narrow = is_narrow(channels[0])

    def init_weights(self) -> None:
        """Truncated normal linear layers, unless ``init_cfg`` says else."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        super().init_weights()

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any
    ) -> None:
        adapt_kinetics_weights(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        """Extract feature maps.

        Args:
            clips (Tensor): Normalised frames, shape (N, T, 3, H, W).

        Returns:
            tuple[Tensor]: Four maps at strides 4, 8, 16, 32, each of shape
            (N * T, C * 2^i, h, w).
        """
        x = self.pos_drop(self.patch_embed(clips))
        outs = []
        for i, stage in enumerate(self.layers):
            x = stage(x)
            outs.append(x.flatten(0, 1).permute(0, 3, 1, 2).contiguous())
            if i < len(self.downsamples):
                x = self.downsamples[i](x)
        return tuple(outs)
