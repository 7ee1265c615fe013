# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Computing a dumped training step again, see :class:`.BadStepHook`."""

import os
from typing import Any, NamedTuple

import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData

from referformer.checkpoints.initial import whole_checkpoint_follows
from referformer.checkpoints.io import load_checkpoint_safely
from referformer.errors import CheckpointError
from referformer.registry import (
    MODELS,
    TASK_UTILS,
    WEIGHT_INITIALIZERS,
    is_registered,
)
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
        CheckpointError: If the file is no dump, or its model is not made of
            registered components.
    """
    dump = load_checkpoint_safely(path, extra_safe_globals=_OF_A_BATCH)
    meta = dump.get('meta')
    if not isinstance(meta, dict) or not {'model', 'iteration'} <= meta.keys():
        raise CheckpointError(
            f'{path} is no dump of a step',
            file=path,
            remedy='give a file of <work dir>/bad_steps.',
        )
    _check_types(path, meta['model'], 'model')
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


# Settings by which mmengine or transformers run code that a file brings.
_RUN_CODE = {'_scope_', 'auto_map', 'custom_imports', 'trust_remote_code'}


def _check_types(path: str | os.PathLike[str], value: Any, where: str) -> None:
    """Refuse a model that is not made of registered components alone.

    Raises:
        CheckpointError: For a type that would be imported, or a setting that
            runs code.
    """
    if isinstance(value, list | tuple):
        for item in value:
            _check_types(path, item, where)
        return
    if not isinstance(value, dict):
        return
    kinds = (MODELS, TASK_UTILS, WEIGHT_INITIALIZERS)
    for key, item in value.items():
        # those of transformers are no components
        named = key == 'type' and '.hf_config' not in where
        known = not named or is_registered(item, *kinds)
        if key in _RUN_CODE or not known:
            raise CheckpointError(
                f'{path}: {where}.{key} is {item!r}, which could run code, '
                'so nothing was built',
                file=path,
                value=item,
                remedy='if it is a component of yours, name its module in '
                '--imports.',
            )
        _check_types(path, item, f'{where}.{key}')
