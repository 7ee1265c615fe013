# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A recorded training of the published code, repeated with this package.

A record is ``trajectory_<backbone>_<frozen|trained>.json``: whether the text
encoder is frozen or trained. Optimiser, parameter groups, clipping and
schedule are those of the repository's configs.
"""

import json
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

from referformer.checkpoints.published import to_published
from referformer.registry import PARAM_SCHEDULERS
from referformer.structures import ClipTargets, TextTokens

from .golden_case import (
    ROOT,
    build_model,
    draw_clip,
    draw_targets,
    pad_size,
    recorded_weights,
)

SIZES = ((96, 128), (80, 144), (112, 96))
NUM_FRAMES = 3
STEPS_PER_EPOCH = 2


def find_trajectories(golden_dir: Path) -> list[str]:
    """Names of the trajectories in a folder."""
    return [p.stem for p in sorted(golden_dir.glob('trajectory_*.json'))]


class Trajectory:
    """A model in training, step by step, beside its record."""

    def __init__(self, golden_dir: Path, name: str) -> None:
        record = json.loads((golden_dir / f'{name}.json').read_text())
        self.expected_steps = record['steps']
        self.expected_norms = record['norms']
        _, backbone, text = name.split('_')
        self.model = build_model(
            backbone,
            recorded_weights(golden_dir, backbone),
            frozen_text={'frozen': True, 'trained': False}[text],
        ).train()
        cfg = Config.fromfile(ROOT / 'configs/_base_/schedules/ytvos_6e.py')
        self.optimizer = build_optim_wrapper(self.model, cfg.optim_wrapper)
        self.schedulers = [
            PARAM_SCHEDULERS.build(
                scheduler, default_args=dict(optimizer=self.optimizer)
            )
            for scheduler in cfg.param_scheduler
        ]

    def step(self, s: int) -> tuple[float, float]:
        """Train step ``s``; its loss and gradient norm before clipping."""
        seed, size = s % 4, SIZES[s % 3]
        padded = pad_size([size])
        clip = torch.zeros(1, NUM_FRAMES, 3, *padded)
        clip[0, :, :, : size[0], : size[1]] = draw_clip(seed, NUM_FRAMES, size)
        ids = torch.tensor([[0, 5 + seed, 77, 210, 33, 2]])
        targets: ClipTargets = draw_targets(
            seed, NUM_FRAMES, size, padded, absent=1 if seed % 2 else None
        )
        targets.labels[:] = 0
        visual = self.model.extract_feat(clip, [size])
        text = self.model.text_encoder(TextTokens(ids, torch.ones_like(ids)))
        decoded, mask_feats = self.model.decode(visual, text)
        losses = self.model.head.loss(
            decoded, mask_feats, visual.sizes, targets
        )
        loss = sum(losses.values())
        self.optimizer.backward(loss)
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.stack([grad.double().norm() for grad in grads]).norm()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if s % STEPS_PER_EPOCH == STEPS_PER_EPOCH - 1:
            for scheduler in self.schedulers:
                scheduler.step()
        return float(loss.detach()), float(norm)

    def norms(self) -> dict[str, float]:
        """L2 norm of every tensor under the authors' names."""
        weights = to_published(self.model.state_dict())
        return {name: float(x.double().norm()) for name, x in weights.items()}
