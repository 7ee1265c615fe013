# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""First training with sentences: pixels say whether they are meant."""

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures import TrackDataSample
from torch import Tensor, nn

from referformer.models.referformer import ReferFormer, annotated_positions
from referformer.registry import MODELS
from referformer.structures import stack_clip_targets


@MODELS.register_module()
class PixelGrounding(ReferFormer):
    """The first half of a ReferFormer, up to the encoder of the transformer.

    A linear layer on the encoded maps tells of every pixel whether it is part
    of the object that the sentence means. The way from a word to the loss is
    short, and the costly second half, the decoders, is left out: words are
    learnt many times faster than by the whole model.

    Args:
        embed_dims (int): Channels C.
        strides (Sequence[int]): Strides of the encoded maps.
        **kwargs: Arguments of :class:`ReferFormer`.
    """

    def __init__(
        self,
        embed_dims: int,
        strides: tuple[int, ...] = (8, 16, 32),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.strides = tuple(strides)
        self.grounding = nn.ModuleList(
            nn.Conv2d(embed_dims, 1, 1) for _ in self.strides
        )

    def loss(
        self, batch_inputs: Tensor, batch_data_samples: list[TrackDataSample]
    ) -> dict[str, Tensor]:
        """Cross-entropy and Dice loss of each level.

        Args:
            batch_inputs (Tensor): Shape (N, T, 3, H, W).
            batch_data_samples (list[TrackDataSample]): N annotated clips.

        Returns:
            dict[str, Tensor]: Losses by name.
        """
        targets = stack_clip_targets(
            batch_data_samples, annotated_positions(batch_data_samples)
        )
        masks = targets.masks.flatten(0, 1).to(batch_inputs)[:, None]
        visual, text = self.encode(batch_inputs, batch_data_samples)
        fused = [
            level._replace(map=self.fusion(level.map, text))
            for level in visual.levels
        ]
        num_frames = len(masks) // len(batch_data_samples)
        queries = self.queries(text.sentence, num_frames)
        memory = self.transformer(
            fused, queries, self.head.reg_branches, visual.padded
        ).memory
        losses = {}
        for stride, layer, level in zip(
            self.strides, self.grounding, memory, strict=True
        ):
            logits = layer(level).flatten(1).float()
            wanted = F.avg_pool2d(masks, stride).flatten(1)
            cross = F.binary_cross_entropy_with_logits(logits, wanted)
            found = logits.sigmoid()
            overlap = 2 * (found * wanted).sum(1) + 1
            dice = 1 - overlap / (found.sum(1) + wanted.sum(1) + 1)
            losses[f'loss_cross_{stride}'] = 4 * cross
            losses[f'loss_dice_{stride}'] = dice.mean()
        with torch.no_grad():
            # whether the surest pixel of the finest level is of the object
            logits = self.grounding[0](memory[0]).flatten(1)
            shown = F.avg_pool2d(masks, self.strides[0]).flatten(1)
            surest = shown.gather(1, logits.argmax(1, keepdim=True))
            losses['hits'] = (surest > 0.5).float().mean()
        return losses
