# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What tests of several data sets share."""

from pathlib import Path

import numpy as np
import torch
from mmdet.structures import TrackDataSample
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from referformer.structures import (
    FrameGeometry,
    SoftMasks,
    split_expressions,
)

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs/_base_/datasets'
#: The sizes of frames that tests use in place of the published ones.
SIZES = dict(short_side=32, max_long_side=64)
CROP_SIZES = dict(
    short_side_before_crop=32,
    crop_size=(24, 40),
    short_side_after_crop=32,
    max_long_side_after_crop=64,
)


class Oracle(BaseModel):
    """A model that has seen the ground truth, and nothing without it.

    Args:
        blind (int, optional): Position of a frame in which it is wrong in
            every pixel.
    """

    def __init__(self, blind: int | None = None) -> None:
        super().__init__()
        self.blind = blind

    def forward(self, inputs, data_samples=None, mode='predict'):
        """Return the ground truth of every expression as prediction."""
        return [clip for video in data_samples for clip in self.see(video)]

    def see(self, video: TrackDataSample) -> list[TrackDataSample]:
        """Return one sample per expression."""
        clips = [video]
        if 'expressions' in video:
            clips = split_expressions(video)
        for clip in clips:
            for t, frame in enumerate(clip.video_data_samples):
                masks = np.zeros((0, *frame.ori_shape), dtype=bool)
                if 'gt_instances' in frame:
                    masks = frame.gt_instances.masks.to_ndarray().astype(bool)
                mask = masks.any(axis=0, keepdims=True) ^ (t == self.blind)
                size = mask.shape[1:]
                logits = torch.from_numpy(mask * 20.0 - 10)
                frame.pred_track_instances = InstanceData(
                    masks=SoftMasks(
                        logits, FrameGeometry(size, size, stride=1)
                    ),
                    scores=torch.ones(1),
                )
        return clips


def shrink(node: dict | list | tuple) -> None:
    """Make every frame of the pipelines small, in place."""
    if isinstance(node, dict):
        if node.get('type') == 'ReferMultiScaleCrop':
            node.update(CROP_SIZES)
        for key, value in node.items():
            if key in SIZES and value is not None:
                node[key] = SIZES[key]
            else:
                shrink(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            shrink(value)


def make_runner(
    fragment: str, data_root: Path, work_dir: Path, options: dict
) -> Runner:
    """Build a runner of the tiny model on a data set.

    Args:
        fragment: Name of a file in ``configs/_base_/datasets``.
        data_root: Folder of the prepared set.
        work_dir: Where the run writes.
        options: What else to change in the config, as ``--cfg-options``.
    """
    bases = [
        f'_base_/{name}.py'
        for name in (
            'models/referformer_tiny',
            f'datasets/{fragment}',
            'schedules/ytvos_6e',
            'default_runtime',
        )
    ]
    bases = [str(ROOT / 'configs' / name) for name in bases]
    path = work_dir / 'config.py'
    path.parent.mkdir(parents=True)
    path.write_text(f'_base_ = {bases!r}')
    cfg = Config.fromfile(path)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if name not in cfg:
            continue
        loader = cfg[name].to_dict()
        shrink(loader)
        loader['dataset']['data_root'] = f'{data_root}/'
        loader.update(num_workers=0, persistent_workers=False)
        cfg[name] = loader
    if 'train_dataloader' not in cfg:
        for name in ('optim_wrapper', 'param_scheduler', 'train_cfg'):
            cfg[name] = None
        cfg.auto_scale_lr = None
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = str(work_dir)
    cfg.visualizer.name = str(work_dir)
    cfg.merge_from_dict(options)
    return Runner.from_cfg(cfg)
