# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Parameters and operations of a model, part by part.

Convolutions, matrix products and attention are counted (a multiplication and
an addition are two operations); sampling, norms and activations are not.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmengine.config import ConfigDict
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from referformer.registry import MODELS
from referformer.structures import TextTokens
from referformer.testing.models import offline_model_cfg

# once per clip; the other parts once per expression
FRAME_PARTS = ('backbone', 'neck')
PARTS = (
    *FRAME_PARTS,
    'text_encoder',
    'fusion',
    'queries',
    'transformer',
    'pixel_decoder',
    'head',
)


class PartCost(NamedTuple):
    """Cost of a part of the model.

    Attributes:
        name (str): Its key in the model config.
        params (int): Number of parameters.
        flops (int): Operations for one clip and one expression.
    """

    name: str
    params: int
    flops: int


def build_without_weights(model_cfg: ConfigDict) -> nn.Module:
    """Build a model without weights, to evaluate and without gradients."""
    try:
        model = MODELS.build(model_cfg)
    except OSError as error:
        if model_cfg.text_encoder.get('pretrained') is None:
            raise
        reason = str(error).split(':', 1)[0]
        print(f'{reason}; RoBERTa-base takes its place.', file=sys.stderr)
        model = MODELS.build(offline_model_cfg(model_cfg))
    # the counter follows modules by their gradients, which are not needed
    return model.eval().requires_grad_(False)


@contextmanager
def _count_parts(model: nn.Module) -> Iterator[dict[str, int]]:
    """Count operations per part while the model runs."""
    counter = FlopCounterMode(display=False)
    flops = dict.fromkeys(PARTS, 0)
    handles = []
    for name in PARTS[:-1]:
        module = getattr(model, name)

        def start(*_: object, name: str = name) -> None:
            flops[name] -= counter.get_total_flops()

        def stop(*_: object, name: str = name) -> None:
            flops[name] += counter.get_total_flops()

        handles.append(module.register_forward_pre_hook(start))
        handles.append(module.register_forward_hook(stop))
    try:
        # the plain kernel is made of products the counter knows
        with sdpa_kernel(SDPBackend.MATH), counter:
            yield flops
            # the head predicts by a method of its own, past any hook
            flops['head'] = counter.get_total_flops() - sum(flops.values())
    finally:
        for handle in handles:
            handle.remove()


def count_cost(
    model: nn.Module, shape: tuple[int, int, int], num_words: int = 12
) -> list[PartCost]:
    """Run one clip with one expression, as for a prediction.

    Args:
        model (nn.Module): A ``ReferFormer`` without gradients.
        shape (tuple[int, int, int]): Frames, height and width of the clip.
        num_words (int): Tokens of the expression.
    """
    num_frames, height, width = shape
    clip = torch.zeros(1, num_frames, 3, height, width)
    # beyond the special ids, within any vocabulary
    ids = torch.full((1, num_words), 5)
    with _count_parts(model) as flops:
        visual = model.extract_feat(clip)
        text = model.text_encoder(TextTokens(ids, torch.ones_like(ids)))
        decoded, mask_feats = model.decode(visual, text)
        model.head.predict(decoded, mask_feats, visual.sizes)
    return [
        PartCost(
            name,
            sum(p.numel() for p in getattr(model, name).parameters()),
            flops[name],
        )
        for name in PARTS
    ]


def format_costs(
    costs: list[PartCost], shape: tuple[int, int, int], expressions: int
) -> str:
    """Lay the costs out as a table."""
    frames = sum(c.flops for c in costs if c.name in FRAME_PARTS)
    each = sum(c.flops for c in costs) - frames
    total = frames + expressions * each
    lines = [f'{"part":<14}{"params (M)":>12}{"GFLOPs":>12}{"share":>9}']
    for name, params, flops in costs:
        times = 1 if name in FRAME_PARTS else expressions
        lines.append(
            f'{name:<14}{params / 1e6:>12.2f}{times * flops / 1e9:>12.2f}'
            f'{times * flops / total:>9.1%}'
        )
    params = sum(c.params for c in costs)
    lines += [
        f'{"total":<14}{params / 1e6:>12.2f}{total / 1e9:>12.2f}{1:>9.1%}',
        '',
        f'clip of {shape[0]} frames of {shape[1]} x {shape[2]}, '
        f'{expressions} expression(s)',
        f'frames, once per clip:        {frames / 1e9:.2f} GFLOPs',
        f'text to mask, per expression: {each / 1e9:.2f} GFLOPs',
    ]
    return '\n'.join(lines)
