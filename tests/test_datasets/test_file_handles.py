# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Long videos leave worker processes under the usual limit of handles."""

import json
import resource

import cv2
import numpy as np
import pytest
import torch.multiprocessing as mp
from mmengine.runner import Runner

from referformer.evaluation.metrics.predicted_clip import read_clip
from referformer.structures import split_expressions
from tests.faults import PROCESSES, fault

FRAMES = 300
PIPELINE = [
    dict(type='SampleAllFrames'),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='LoadReferAnnotations'),
        ],
    ),
    dict(type='PackReferInputs', test_mode=True),
]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('long')
    frames = [str(t) for t in range(FRAMES)]
    for video in 'ab':
        for kind, suffix in (('img', 'jpg'), ('masks', 'png')):
            (root / kind / video).mkdir(parents=True)
            picture = np.zeros((8, 8), np.uint8)
            if kind == 'masks':
                picture[:2], picture[5:] = 1, 2
            for name in frames:
                file = root / kind / video / f'{name}.{suffix}'
                cv2.imwrite(str(file), picture)
    expressions = {
        str(k): {'exp': 'a dog', 'obj_id': str(k + 1)} for k in range(2)
    }
    table = {v: dict(frames=frames, expressions=expressions) for v in 'ab'}
    (root / 'a.json').write_text(json.dumps({'videos': table}))
    return root


def load(rank, root, kind, out):
    """Write the area of each object in all frames, under the usual limit."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    dataset = dict(
        type='RefYouTubeVOSDataset',
        data_root=str(root),
        ann_file='a.json',
        data_prefix=dict(img='img', mask='masks'),
        test_mode=True,
        group_by_video=kind == 'grouped',
        pipeline=PIPELINE,
    )
    loader = Runner.build_dataloader(
        dict(
            batch_size=1,
            num_workers=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dataset,
        )
    )
    kept, areas = [], []
    for batch in loader:
        kept.append(batch)
        (sample,) = batch['data_samples']
        clips = [sample]
        if 'expressions' in sample:
            clips = split_expressions(sample)
        for clip in clips:
            clip = read_clip(clip.to_dict())
            masks = map(clip.true_mask, range(len(clip.frames)))
            areas.append(sum(int(mask.sum()) for mask in masks))
    out.write_text(json.dumps(areas))


@fault(
    PROCESSES,
    'few open files are allowed (`ulimit -n`)',
    'videos of 300 frames load in two workers',
)
@pytest.mark.parametrize('kind', ['grouped', 'single'])
def test_300_frames_and_two_workers(root, tmp_path, kind):
    out = tmp_path / 'areas.json'
    # the limit holds in that process
    mp.start_processes(load, (root, kind, out), 1, start_method='fork')
    assert json.loads(out.read_text()) == [16 * FRAMES, 24 * FRAMES] * 2
