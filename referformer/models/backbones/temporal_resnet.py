# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A small ResNet that sees time."""

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmdet.models.backbones.resnet import BasicBlock
from mmdet.models.layers import ResLayer
from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.errors import ConfigError
from referformer.registry import MODELS


@MODELS.register_module()
class TemporalResNet(BaseModule):
    """Basic blocks on frames; after a stage, a 3-D convolution on the clip.

    The 3-D convolutions are residual and begin as zero. So single frames
    train a plain ResNet, and clips then teach it time without a loss of what
    it knows. Small enough to learn motion on a CPU.

    Args:
        widths (Sequence[int]): Channels of each stage; the first map has
            stride 4, each next one twice the stride.
        depths (Sequence[int]): Basic blocks of each stage.
        temporal_stages (Sequence[int]): Stages that a 3-D convolution
            follows. It has the channels of the stage, so late stages take
            most weights.
        temporal_kernel (Sequence[int]): Frames, rows and columns of the 3-D
            convolutions, odd numbers.
        norm_cfg (dict, optional): Normalisation; batch statistics if None.
        norm_eval (bool): Whether statistics stay as they are in training,
            for batches of few clips.
        frozen (bool): Whether training leaves the backbone as it is; its
            backward pass is saved.
        init_cfg (dict, optional): Initialisation config of mmengine.

    Raises:
        ConfigError: If the lengths of ``widths`` and ``depths`` differ, a
            side of the kernel is even, or there is no such stage.
    """

    takes_clips = True

    def __init__(
        self,
        widths: Sequence[int] = (24, 48, 96, 128),
        depths: Sequence[int] = (2, 2, 2, 1),
        temporal_stages: Sequence[int] = (0, 1, 2),
        temporal_kernel: Sequence[int] = (3, 3, 3),
        norm_cfg: dict | None = None,
        norm_eval: bool = False,
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if len(widths) != len(depths):
            raise ConfigError(
                f'widths has {len(widths)} stages, depths {len(depths)}; '
                'give one number for each stage in both.'
            )
        if any(side % 2 == 0 for side in temporal_kernel):
            raise ConfigError(
                f'temporal_kernel is {tuple(temporal_kernel)}; its sides '
                'must be odd.'
            )
        if not set(temporal_stages) <= set(range(len(widths))):
            raise ConfigError(
                f'temporal_stages is {tuple(temporal_stages)}; the stages '
                f'are 0 to {len(widths) - 1}.'
            )
        norm_cfg = norm_cfg or {'type': 'BN'}
        self.norm_eval = norm_eval or frozen
        half = {'kernel_size': 3, 'stride': 2, 'padding': 1}
        self.stem = nn.Sequential(
            ConvModule(3, widths[0], **half, norm_cfg=norm_cfg),
            ConvModule(widths[0], widths[0], **half, norm_cfg=norm_cfg),
        )
        self.stages = nn.ModuleList(
            ResLayer(
                BasicBlock,
                inplanes=widths[max(i - 1, 0)],
                planes=width,
                num_blocks=depths[i],
                stride=2 if i else 1,
                norm_cfg=norm_cfg,
            )
            for i, width in enumerate(widths)
        )
        padding = tuple(side // 2 for side in temporal_kernel)
        self.temporal_convs = nn.ModuleDict(
            {
                str(i): nn.Conv3d(
                    widths[i], widths[i], tuple(temporal_kernel), 1, padding
                )
                for i in temporal_stages
            }
        )
        if frozen:
            self.requires_grad_(False)

    def init_weights(self) -> None:
        """Zeros in the 3-D convolutions, then what ``init_cfg`` says."""
        for conv in self.temporal_convs.values():
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
        super().init_weights()

    def train(self, mode: bool = True) -> 'TemporalResNet':
        """Switch modes; with ``norm_eval``, batch statistics stay."""
        super().train(mode)
        for module in self.modules() if mode and self.norm_eval else ():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        """Encode clips (N, T, 3, H, W) to maps (N * T, C_i, h, w)."""
        x = self.stem(clips.flatten(0, 1))
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if str(i) in self.temporal_convs:
                # [N*T, C, h, w] -> [N, C, T, h, w]
                clip = x.unflatten(0, clips.shape[:2]).transpose(1, 2)
                seen = self.temporal_convs[str(i)](clip)
                x = x + seen.transpose(1, 2).flatten(0, 1)
            maps.append(x)
        return tuple(maps)
