# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""First training of a backbone: it names what every pixel shows."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from referformer.registry import MODELS


@MODELS.register_module()
class ObjectNaming(BaseModel):
    """Backbone with a linear classifier for each attribute on its maps.

    It plays the part that training on ImageNet or Kinetics plays for the
    published models: afterwards the features of a pixel tell its object's
    colour, kind, size, pattern and motion apart, and the training with
    sentences only has to find the words for them.

    Args:
        backbone (dict): Takes clips (N, T, 3, H, W), gives maps.
        in_channels (Sequence[int]): Channels of its maps.
        strides (Sequence[int]): Strides of its maps.
        levels (Sequence[int]): Maps that name the objects.
        classes (Mapping[str, int]): Attribute -> number of its values.
        mean (Sequence[float]): Of R, G and B.
        std (Sequence[float]): Likewise.
    """

    def __init__(
        self,
        backbone: dict,
        in_channels: Sequence[int],
        classes: Mapping[str, int],
        strides: Sequence[int] = (4, 8, 16, 32),
        levels: Sequence[int] = (1, 2, 3),
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__()
        for name, value in (('mean', mean), ('std', std)):
            tensor = torch.tensor(value).view(3, 1, 1)
            self.register_buffer(name, tensor, persistent=False)
        self.backbone = MODELS.build(backbone)
        self.classes = dict(classes)
        self.strides = tuple(strides)
        self.levels = tuple(levels)
        # Value 0 means background. Attribute by attribute, so that a later
        # training with more attributes can begin with these weights.
        self.classifiers = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    nn.Conv2d(in_channels[level], count + 1, 1)
                    for level in self.levels
                )
                for name, count in self.classes.items()
            }
        )

    def forward(
        self,
        inputs: Tensor,
        ids: Tensor,
        values: Tensor,
        mode: str = 'loss',
    ) -> dict[str, Tensor]:
        """Compute the losses.

        Args:
            inputs (Tensor): Clips, uint8, BGR, shape (N, T, 3, H, W).
            ids (Tensor): Number of the object of each pixel, 0 for none,
                shape (N, T, H, W).
            values (Tensor): Value of each attribute of each object, of
                object 0 all 0, shape (N, O + 1, A).
            mode (str): ``'loss'``; there is no other.

        Returns:
            dict[str, Tensor]: The loss of each attribute, averaged over the
            levels, and the accuracy on the pixels of objects at the first.
        """
        clips = (inputs.flip(2).float() - self.mean) / self.std
        maps = self.backbone(clips)
        losses = dict.fromkeys(self.classes, 0.0)
        hits = {}
        for i, level in enumerate(self.levels):
            stride = self.strides[level]
            start = stride // 2
            small = ids[..., start::stride, start::stride].long().flatten(1)
            # [N, T*h*w] -> [N*T*h*w, A]
            wanted = torch.stack(
                [table[row] for table, row in zip(values, small, strict=True)]
            ).flatten(0, 1)
            shown = small.flatten() > 0
            # all objects together count as much as the background
            weight = torch.where(shown, 1.0, shown.float().mean())
            weight = weight / weight.sum()
            for k, (name, layers) in enumerate(self.classifiers.items()):
                logits = layers[i](maps[level]).float()
                logits = logits.permute(0, 2, 3, 1).flatten(0, 2)
                loss = F.cross_entropy(logits, wanted[:, k], reduction='none')
                losses[name] += (loss * weight).sum() / len(self.levels)
                right = logits.argmax(1) == wanted[:, k]
                hits[f'{name}_{stride}'] = right[shown].float().mean()
        return {f'loss_{name}': loss for name, loss in losses.items()} | hits
