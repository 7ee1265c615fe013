# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Four maps out of the one that a plain vision transformer gives."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.registry import MODELS


class _ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of maps (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """The simple feature pyramid of ViTDet.

    `Exploring Plain Vision Transformer Backbones for Object Detection
    <https://arxiv.org/abs/2203.16527>`_ (ECCV 2022, Sec. 3): transposed
    convolutions, nothing, and pooling bring the last map to four strides; a
    1x1 and a 3x3 convolution follow on each, with layer normalisation.

    Args:
        in_channels (int): Channels of the map at stride 16, divisible by 4.
        out_channels (int): Channels of each output.
        init_cfg (dict, optional): Initialisation config of mmengine.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        half, quarter = in_channels // 2, in_channels // 4
        resize = (
            (
                quarter,
                nn.ConvTranspose2d(in_channels, half, 2, stride=2),
                _ChannelNorm(half),
                nn.GELU(),
                nn.ConvTranspose2d(half, quarter, 2, stride=2),
            ),
            (half, nn.ConvTranspose2d(in_channels, half, 2, stride=2)),
            (in_channels,),
            (in_channels, nn.MaxPool2d(2)),
        )
        width = out_channels
        self.levels = nn.ModuleList(
            nn.Sequential(
                *layers,
                nn.Conv2d(channels, width, 1, bias=False),
                _ChannelNorm(width),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                _ChannelNorm(width),
            )
            for channels, *layers in resize
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Make maps at strides 4, 8, 16 and 32.

        Args:
            x (Tensor): At stride 16, shape (B, C_in, h, w), even sides.

        Returns:
            tuple[Tensor]: (B, C, 4h, 4w), (B, C, 2h, 2w), (B, C, h, w) and
            (B, C, h / 2, w / 2).
        """
        return tuple(level(x) for level in self.levels)
