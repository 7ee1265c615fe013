# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Shared by the model tests."""

import torch

from referformer.registry import MODELS
from referformer.structures import (
    ClipPredictions,
    ClipTargets,
    FrameFeatures,
    TextFeatures,
)
from referformer.testing import tiny_model_cfg


def build_model(**kwargs):
    """A tiny model in which no weight is a special case."""
    model = MODELS.build(tiny_model_cfg(**kwargs))
    randomise(model)
    return model.train()


def randomise(module):
    """Nothing at zero or one: what is multiplied or added must show."""
    gen = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for param in module.parameters():
            noise = torch.randn(param.shape, generator=gen)
            if param.dim() > 1:
                param.copy_(noise / param[0].numel() ** 0.5)
            else:
                param.add_(noise * 0.1)


def random_text(num_clips, channels, length=5, dtype=torch.float32):
    padding = torch.zeros(num_clips, length, dtype=torch.bool)
    padding[0, 3:] = True
    return TextFeatures(
        words=torch.randn(num_clips, length, channels, dtype=dtype),
        word_pos=torch.randn(num_clips, length, channels, dtype=dtype),
        padding_mask=padding,
        sentence=torch.randn(num_clips, channels, dtype=dtype),
    )


def random_frames(num_frames, channels, size, valid=None, dtype=None):
    """Random maps; everything outside ``valid`` (h, w) is padding."""
    mask = torch.zeros(num_frames, *size, dtype=torch.bool)
    if valid is not None:
        mask[:, valid[0] :] = True
        mask[:, :, valid[1] :] = True
    return FrameFeatures(
        torch.randn(num_frames, channels, *size, dtype=dtype),
        mask,
        torch.randn(num_frames, channels, *size, dtype=dtype),
    )


def crop(frames, valid):
    """The same maps without their padding."""
    height, width = valid
    return FrameFeatures(
        frames.map[..., :height, :width],
        frames.padding_mask[..., :height, :width],
        frames.pos[..., :height, :width],
    )


def random_predictions(layers=2, clips=2, frames=3, queries=4, classes=3):
    return ClipPredictions(
        logits=torch.randn(layers, clips, frames, queries, classes),
        boxes=torch.rand(layers, clips, frames, queries, 4) * 0.5 + 0.2,
        masks=torch.randn(layers, clips, frames, queries, 6, 8),
    )


def random_targets(clips=2, frames=3, size=(6, 8), classes=3):
    return ClipTargets(
        labels=torch.arange(clips) % classes,
        boxes=torch.rand(clips, frames, 4) * 0.5 + 0.2,
        masks=(torch.rand(clips, frames, *size) > 0.5).float(),
        valid=torch.ones(clips, frames, dtype=torch.bool),
    )


def large_objects(layers=4, clips=6, frames=8, queries=5, size=(72, 128)):
    """Predictions of objects that fill most of a clip, all queries alike."""
    targets = random_targets(clips, frames, size, classes=1)
    targets.masks[:] = 0
    targets.masks[..., 4:, 8:] = 1
    shape = (layers, clips, frames, queries)
    targets = targets._replace(boxes=targets.boxes * 0 + 0.5)
    masks = targets.masks[None, :, :, None] * 6 - 2
    return (
        ClipPredictions(
            logits=torch.randn(*shape, 1) * 0.01,
            boxes=0.5 + torch.randn(*shape, 4) * 0.01,
            masks=masks + torch.randn(layers, clips, 1, queries, 1, 1) * 0.05,
        ),
        targets,
    )
