# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The trainings that only the example model has."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

import referformer.testing.shuffle_frames  # noqa: F401
from referformer.registry import DATASETS, MODELS, TRANSFORMS
from referformer.testing import demo_refer_inputs
from referformer.testing.motion_scenes import MotionSceneParams
from referformer.testing.naming import ObjectNamingDataset
from referformer.testing.scenes import make_synthetic_rvos

CONFIGS = Path(__file__).parents[2] / 'configs/example'
WIDTHS = (4, 6, 8, 10)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    params = MotionSceneParams(
        train_videos=2, valid_videos=0, height=64, width=96
    )
    out = tmp_path_factory.mktemp('naming') / 'set'
    return make_synthetic_rvos(out, params, progress=False)


def load(name, root):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg.train_dataloader.dataset.data_root = f'{root}/'
    return cfg


@pytest.mark.parametrize('frames', [1, None])
def test_naming_learns(root, frames):
    cfg = load('temporal-resnet_naming', root)
    cfg.train_dataloader.dataset.num_frames = frames
    cfg.model.update(in_channels=WIDTHS)
    cfg.model.backbone.update(widths=WIDTHS)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('referformer'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        model = MODELS.build(cfg.model)
    frames = frames or 8
    item = dataset[0]
    assert item['inputs'].shape == (frames, 3, 64, 96)
    assert item['ids'].shape == (frames, 64, 96)
    assert item['values'].shape == (5, 5)
    assert (item['values'][0] == 0).all()
    count = int(item['ids'].max())
    assert (item['values'][1 : count + 1] > 0).all()
    batch = default_collate([dataset[0], dataset[1]])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    sums = []
    for _ in range(8):
        losses = model(**batch, mode='loss')
        total = sum(v for k, v in losses.items() if 'loss' in k)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        sums.append(total.item())
    assert sums[-1] < 0.8 * sums[0]
    assert losses.keys() >= {'loss_kind', 'loss_motion', 'kind_8', 'size_32'}


def test_later_trainings_begin_with_earlier_weights():
    """Backbone and encoder keep their names from one training to the next."""
    names = []
    for name in (
        'temporal-resnet_naming',
        'referformer_temporal-resnet_grounding',
        'referformer_temporal-resnet_example',
    ):
        cfg = Config.fromfile(CONFIGS / f'{name}.py')
        with DefaultScope.overwrite_default_scope('referformer'):
            names.append(set(MODELS.build(cfg.model).state_dict()))
    naming, grounding, example = names
    backbone = {name for name in example if name.startswith('backbone.')}
    assert backbone == naming & example
    assert example < grounding


def test_values_count_from_one(root):
    dataset = ObjectNamingDataset(
        'train/meta.json', data_root=f'{root}/', attributes=('colour', 'size')
    )
    item, entry = dataset[1], dataset.get_data_info(1)
    for number, obj in entry['objects'].items():
        for k, name in enumerate(('colour', 'size')):
            values = ObjectNamingDataset.VALUES[name]
            value = int(item['values'][int(number), k])
            assert values[value - 1] == obj['attributes'][name]


def test_grounding_trains_the_first_half(root):
    cfg = load('referformer_temporal-resnet_grounding', root)
    with DefaultScope.overwrite_default_scope('referformer'):
        model = MODELS.build(cfg.model).train()
    data = demo_refer_inputs(
        2, 3, (64, 96), ori_scale=1.0, annotated_positions=[0, 2]
    )
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    assert 0 <= losses['hits'] <= 1
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    for name, param in model.named_parameters():
        trained = name.split('.')[0] in (
            *('grounding', 'neck', 'fusion', 'text_encoder'),
        ) or name.startswith('transformer.encoder')
        if name.startswith(('backbone', 'head', 'pixel_decoder')):
            assert param.grad is None, name
        elif trained and 'pooler' not in name:
            assert param.grad is not None, name


def test_the_last_training_runs(root):
    cfg = load('referformer_temporal-resnet_example', root)
    cfg.train_dataloader.update(
        batch_size=8, num_workers=0, persistent_workers=False
    )
    with DefaultScope.overwrite_default_scope('referformer'):
        model = MODELS.build(cfg.model).train()
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    clips = []
    model.backbone.register_forward_hook(
        lambda module, args, maps: clips.append(args[0].shape[:2])
    )
    data = model.data_preprocessor(next(iter(loader)), True)
    losses = model(**data, mode='loss')
    # one sentence about each object of two videos; all frames are seen
    assert clips == [(2, 8)]
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert model.backbone.stem[0].conv.weight.grad is None
    assert model.head.mask_head.controller[0].weight.grad is not None


def test_shuffled_frames_keep_their_facts():
    shuffle = TRANSFORMS.build(dict(type='ShuffleFrames', seed=1))
    item = {'frame_id': [*range(8)], 'frame_name': list('abcdefgh')}
    found = shuffle(item)
    assert found['frame_id'] != item['frame_id']
    assert sorted(found['frame_id']) == item['frame_id']
    names = np.array(item['frame_name'])[found['frame_id']]
    assert found['frame_name'] == names.tolist()
    assert shuffle(item) == found
