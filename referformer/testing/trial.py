# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A first trial of a config: one training step and one prediction."""

from typing import Any, NamedTuple

import torch
from mmdet.structures import TrackDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from referformer.models import ReferFormer
from referformer.registry import MODELS
from referformer.testing.inputs import demo_refer_inputs
from referformer.testing.models import shrink_model_cfg


class Trial(NamedTuple):
    """What a config did on a made-up clip.

    Attributes:
        model (ReferFormer): The small model, after the training step.
        losses (dict[str, float]): Losses of the step by name; ``loss`` is
            their sum.
        trained (set[str]): Parts of the model with changed parameters.
        clip (TrackDataSample): The prediction.
    """

    model: ReferFormer
    losses: dict[str, float]
    trained: set[str]
    clip: TrackDataSample


def check_channels(cfg: Config) -> None:
    """Run backbone and neck in their real size on a small picture.

    :func:`try_config` shrinks the backbone, and gives the channels of what
    remains to the parts behind it. So it cannot tell whether those of the
    config fit.

    Args:
        cfg (Config): Config with ``model``.

    Raises:
        ConfigError: If the backbone gives other channels than expected.
    """
    model = MODELS.build(shrink_model_cfg(cfg.model, backbone=False)).eval()
    with torch.no_grad():
        model.extract_maps(torch.zeros(1, 1, 3, 64, 96))


def try_config(cfg: Config, **inputs: Any) -> Trial:
    """Train a small model of a config for one step, then predict.

    Needs no data, no weights and no GPU; takes a few seconds.

    Args:
        cfg (Config): Config with ``model`` and ``optim_wrapper``.
        **inputs: Arguments of :func:`demo_refer_inputs`; one clip by
            default.

    Returns:
        Trial: Losses, trained parts and prediction.
    """
    model = MODELS.build(shrink_model_cfg(cfg.model))
    model.init_weights()
    with DefaultScope.overwrite_default_scope('referformer'):
        optim = build_optim_wrapper(model, cfg.optim_wrapper)
    inputs = dict(batch_size=1, **inputs)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.train()
    losses = model.train_step(demo_refer_inputs(**inputs), optim)
    trained = {
        name.split('.')[0]
        for name, parameter in model.named_parameters()
        if not torch.equal(parameter, before[name])
    }
    model.eval()
    with torch.no_grad():
        clip, *_ = model.test_step(demo_refer_inputs(**inputs))
    losses = {name: loss.item() for name, loss in losses.items()}
    return Trial(model, losses, trained, clip)
