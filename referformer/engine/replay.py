# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Computing a dumped training step again, see :class:`.BadStepHook`."""

import os
from typing import NamedTuple

import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData

from referformer.checkpoints.initial import whole_checkpoint_follows
from referformer.checkpoints.io import load_checkpoint_safely
from referformer.registry import MODELS
from referformer.utils.seeding import (
    MODEL_STREAM,
    derive_seed,
    seed_generators,
)

#: What a batch is made of besides tensors.
_OF_A_BATCH = (
    TrackDataSample,
    DetDataSample,
    InstanceData,
    PixelData,
    BitmapMasks,
    PolygonMasks,
)


class Replay(NamedTuple):
    """A step that was computed again.

    Attributes:
        recorded: The loss of the training; None if it was not kept.
        losses: Every loss of the step.
        loss: Their sum, as the training makes it.
        bad_inputs: Entries of the batch that are not finite.
        bad_gradients: Parameters whose gradient is not finite.
    """

    recorded: float | None
    losses: dict[str, float]
    loss: float
    bad_inputs: int
    bad_gradients: list[str]


def replay_step(
    path: str | os.PathLike[str], device: str | torch.device = 'cpu'
) -> Replay:
    """Compute a dumped step again: forward, losses, backward.

    Args:
        path (str | PathLike): The dump. No code in it is run.
        device (str | torch.device): Where to compute. Defaults to ``'cpu'``.

    Raises:
        CheckpointError: If the file is no dump.
    """
    dump = load_checkpoint_safely(path, extra_safe_globals=_OF_A_BATCH)
    meta = dump['meta']
    with (
        DefaultScope.overwrite_default_scope('referformer'),
        whole_checkpoint_follows(),
    ):
        model = MODELS.build(meta['model'])
    model.load_state_dict(dump['state_dict'])
    model.to(device).train()
    device = torch.device(device)
    seed_generators(
        derive_seed(
            MODEL_STREAM, meta['seed'], meta['rank'], meta['iteration']
        )
    )
    bf16 = meta['precision'] == 'bf16'
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        data = model.data_preprocessor(dump['batch'], training=True)
        inputs = data['inputs']
        losses = model(**data, mode='loss')
    loss, named = model.parse_losses(losses)
    loss.backward()
    return Replay(
        meta['loss'],
        {name: float(value.detach()) for name, value in named.items()},
        float(loss.detach()),
        int(_count_not_finite(inputs)),
        [
            name
            for name, parameter in model.named_parameters()
            if parameter.grad is not None
            and not torch.isfinite(parameter.grad).all()
        ],
    )


def _count_not_finite(inputs: torch.Tensor | list[torch.Tensor]) -> int:
    """Count the numbers of a batch that are not finite."""
    tensors = [inputs] if isinstance(inputs, torch.Tensor) else inputs
    return sum((~torch.isfinite(each)).sum().item() for each in tensors)
