# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Image networks of other packages, on frames of any size."""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from referformer.registry import MODELS


@MODELS.register_module()
class PaddedBackbone(BaseModule):
    """Run a backbone on padded frames, and cut the padding off its maps.

    Frames are predicted at their own size. At a side that is no multiple of
    the stride, networks without padding of their own (ConvNeXt, ViT) leave
    pixels out, which shifts their maps against the frame; some networks fail.

    .. code-block:: text

        frames ── pad ── resize by `scale` ── backbone ── pyramid ── crop

    Args:
        backbone (dict): Any image backbone: four maps at strides 4, 8, 16
            and 32, or with ``pyramid`` one at stride 16.
        pyramid (dict, optional): Makes four maps of the last one.
        scale (float): Factor by which frames are resized for the backbone.
            14 / 16 gives a ViT with patches of 14 pixels the stride 16.
        size_divisor (int): Frames are padded, at the right and the bottom,
            to a multiple of this.
        init_cfg (dict, optional): Initialisation config of mmengine.
    """

    def __init__(
        self,
        backbone: dict,
        pyramid: dict | None = None,
        scale: float = 1.0,
        size_divisor: int = 32,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.backbone = MODELS.build(backbone)
        self.pyramid = MODELS.build(pyramid) if pyramid else None
        self.scale = scale
        self.size_divisor = size_divisor

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode images.

        Args:
            images (Tensor): Normalised, shape (B, 3, H, W).

        Returns:
            tuple[Tensor]: A map per stride s, (B, C_s, ceil(H / s),
            ceil(W / s)).
        """
        height, width = images.shape[-2:]
        divisor = self.size_divisor
        images = F.pad(images, (0, -width % divisor, 0, -height % divisor))
        whole = images.shape[-2:]
        if self.scale != 1:
            size = [round(side * self.scale) for side in whole]
            images = F.interpolate(images, size, mode='bilinear')
        maps = self.backbone(images)
        if self.pyramid is not None:
            maps = self.pyramid(maps[-1])
        cropped = []
        for level in maps:
            rows = -(-height * level.shape[-2] // whole[0])
            cols = -(-width * level.shape[-1] // whole[1])
            cropped.append(level[..., :rows, :cols])
        return tuple(cropped)
