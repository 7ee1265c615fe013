# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Clips for the tests of the metrics, made of moving rectangles."""

import json
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

GOLDEN = Path(__file__).parents[1] / 'data' / 'golden'
SHAPE = (40, 60)


def random_masks(rng, num_frames, shape=SHAPE):
    """bool [T, H, W]: a rectangle a frame, now and then none."""
    masks = np.zeros((num_frames, *shape), bool)
    for mask in masks:
        top, left = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        height, width = rng.integers(0, shape[0], 2)
        mask[top : top + height, left : left + width] = True
    return masks


def make_sample(video, expression, preds, gts=None, text='a thing'):
    """A predicted clip as the model hands it to the evaluator."""
    frames = []
    for index, pred in enumerate(preds):
        frame = DetDataSample(
            metainfo={
                'frame_name': f'{5 * index:05d}',
                'frame_id': index,
                'ori_shape': pred.shape,
            }
        )
        frame.pred_track_instances = InstanceData(
            masks=torch.from_numpy(pred)[None]
        )
        if gts is not None:
            gt = gts[index]
            # Nothing to see means no instance, not an empty one.
            masks = gt[None].astype(np.uint8)[: int(gt.any())]
            frame.gt_instances = InstanceData(
                masks=BitmapMasks(masks, *gt.shape)
            )
        frames.append(frame)
    sample = TrackDataSample(
        metainfo={'video_id': video, 'exp_id': expression, 'text': text}
    )
    sample.video_data_samples = frames
    return sample


class ClipSet:
    """Clips with odd lengths and their ``meta_expressions.json``."""

    def __init__(self, num_clips=5, seed=0):
        rng = np.random.default_rng(seed)
        self.keys, self.preds, self.gts = [], [], []
        for index in range(num_clips):
            # Two expressions a video, so videos share frames.
            num_frames = 2 + index // 2
            self.keys.append((f'video{index // 2}', str(index % 2)))
            self.preds.append(random_masks(rng, num_frames))
            self.gts.append(random_masks(rng, num_frames))

    def __len__(self):
        return len(self.keys)

    def sample(self, index):
        return make_sample(
            *self.keys[index], self.preds[index], self.gts[index]
        ).to_dict()

    def write_expressions(self, path):
        videos = {}
        for (video, expression), preds in zip(
            self.keys, self.preds, strict=True
        ):
            entry = videos.setdefault(
                video,
                {
                    'frames': [f'{5 * t:05d}' for t in range(len(preds))],
                    'expressions': {},
                },
            )
            entry['expressions'][expression] = {'exp': 'a thing'}
        path.write_text(json.dumps({'videos': videos}))
        return str(path)
