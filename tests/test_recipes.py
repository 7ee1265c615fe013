# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Every config trains a step and scores a prediction, on its kind of data.

What runs is the config's own: dataset, pipeline, data loader, optimiser,
metric. The data sets are the tiny ones of ``tests/fixtures``; models and
pictures are shrunk.
"""

import copy
import functools
import importlib
import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

import referformer.evaluation  # noqa: F401  (registers the metrics)
from referformer.registry import DATASETS, METRICS, MODELS
from referformer.testing import shrink_model_cfg
from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos
from referformer.utils.seeding import seed_generators

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs').glob('*.py'))
# the folder that a config names -> what makes its tiny likeness
FIXTURES = {
    'data/ref-youtube-vos/': 'ref_youtube_vos',
    'data/ref-davis/': 'ref_davis',
    'data/mevis/': 'mevis',
    'data/mevis_v2/': 'mevis_v2',
    'data/revos/': 'revos',
    'data/long_rvos/': 'long_rvos',
    'data/ref_sav/': 'ref_sav',
    'data/coco/': 'refcoco',
    'data/a2d_sentences/': 'a2d',
    'data/jhmdb_sentences/': 'jhmdb',
}


# settings in pixels
SIZES = (
    'short_side',
    'max_long_side',
    'short_side_before_crop',
    'crop_size',
    'short_side_after_crop',
    'max_long_side_after_crop',
)


class Recipe(NamedTuple):
    """Numbers of a training, for 8 GPUs; None: it only scores.

    Attributes:
        epochs: How many.
        drops: Epochs after which the learning rate falls tenfold.
        frames: Frames of a clip, T.
        clips: Clips a GPU.
        frozen: Whether the text encoder is.
        pretrained: Whether it begins with image pre-training.
        weight_decay: Of AdamW.
    """

    epochs: int
    drops: list[int]
    frames: int
    clips: int
    frozen: bool = True
    pretrained: bool = False
    weight_decay: float = 5e-4


# the published scripts
RECIPES = {
    'refcoco-pretrain': Recipe(12, [8, 10], 1, 2, frozen=False),
    'ytvos': Recipe(6, [3, 5], 5, 1, pretrained=True),
    'ytvos-scratch': Recipe(10, [6, 8], 5, 1),
    'joint': Recipe(12, [8, 10], 5, 1),
    'a2d': Recipe(6, [3, 5], 5, 2, pretrained=True),
    'a2d-scratch': Recipe(12, [8, 10], 6, 1, weight_decay=1e-4),
    # ours: the paper is older than these data sets
    'mevis': Recipe(6, [3, 5], 5, 1, pretrained=True),
    'mevis-v2': Recipe(6, [3, 5], 5, 1, pretrained=True),
    'revos': Recipe(6, [3, 5], 5, 1, pretrained=True),
    'long-rvos': Recipe(6, [3, 5], 5, 1, pretrained=True),
    'ref-sav': Recipe(6, [3, 5], 5, 1, pretrained=True),
    'davis': None,
    'jhmdb': None,
    'jhmdb-scratch': None,
    'refcoco': None,
}
VIDEO = ['vswin-t', 'vswin-s', 'vswin-b']
ALL = ['r50', 'r101', 'swin-t', 'swin-s', 'swin-b', 'swin-l', *VIDEO]
BACKBONES = dict.fromkeys(RECIPES, ALL) | {
    'a2d': VIDEO,
    'a2d-scratch': VIDEO,
    'jhmdb': VIDEO,
    'jhmdb-scratch': ['vswin-t'],
    'mevis': ['r50', 'swin-t', 'vswin-t', 'vswin-b'],
    'mevis-v2': ['swin-t'],
    'revos': ['swin-t'],
    'long-rvos': ['swin-t'],
    'ref-sav': ['swin-t'],
}
# ours too: backbones of mmpretrain and timm, other language models
OURS = {'convnextv2-t', 'dinov2-b', 'hiera-t', 'r50-clip', 'r50-modernbert'}
# recomputing activations is what fits these onto the authors' GPUs
SAVES_MEMORY = {'swin-l', 'vswin-s', 'vswin-b'}


@functools.cache
def parse(path):
    return Config.fromfile(path)


def load(path):
    return copy.deepcopy(parse(path))


def split(path):
    """Backbone and recipe of a config."""
    _, backbone, recipe = path.stem.split('_')
    return backbone, recipe


def walk(node):
    """Every dict of a config."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            yield from walk(value)


# -- data --------------------------------------------------------------------


@pytest.fixture(scope='session')
def data_of(tmp_path_factory):
    """Where the tiny likeness of a data set lies; made when asked for."""

    @functools.cache
    def make(folder):
        root = tmp_path_factory.mktemp('recipes')
        if folder.startswith('data/quickstart/'):
            size = dict(height=48, width=64, frames=4)
            params = SyntheticParams(train_videos=8, valid_videos=1, **size)
            return make_synthetic_rvos(root / 'x', params, progress=False)
        kind = FIXTURES[folder]
        module = importlib.import_module(f'.fixtures.{kind}', __package__)
        return Path(getattr(module, f'prepare_{kind}')(root))

    return make


def shrink_data_cfg(cfg, data_of):
    """Let a config read the tiny data, at an eighth of its sizes."""
    for node in walk(cfg):
        if 'data_root' in node and 'type' in node:
            node['data_root'] = str(data_of(node['data_root']))
        if 'expected_videos' in node:
            node['expected_videos'] = None
        if node.get('type') == 'ReferMultiScaleCrop':
            node.setdefault('short_side_before_crop', (400, 500, 600))
            node.setdefault('crop_size', (384, 600))
        for key in SIZES:
            value = node.get(key)
            if isinstance(value, int):
                node[key] = value // 8
            elif value is not None:
                node[key] = tuple(number // 8 for number in value)


_BATCHES = {}


def first_batch(cfg, data_of):
    """The first batch of a loader; configs share what they say alike."""
    key = json.dumps(cfg.to_dict(), sort_keys=True)
    if key not in _BATCHES:
        shrink_data_cfg(cfg, data_of)
        cfg.update(num_workers=0, persistent_workers=False)
        seed_generators(0)
        loader = Runner.build_dataloader(cfg, seed=0)
        _BATCHES[key] = next(iter(loader)), loader.dataset.metainfo
    return copy.deepcopy(_BATCHES[key])


# -- every config runs -------------------------------------------------------


def train(model, cfg, data_of):
    """Take one step; names of the parameters that moved."""
    batch, _ = first_batch(cfg.train_dataloader, data_of)
    assert len(batch['inputs']) == cfg.train_dataloader.batch_size
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    model.train()
    log = model.train_step(batch, optim)
    assert log['loss'].isfinite()
    return {
        name
        for name, param in model.named_parameters()
        if not torch.equal(param, before[name])
    }


def score(model, cfg, data_of):
    """Predict one batch and score it with the config's metric."""
    batch, metainfo = first_batch(cfg.test_dataloader, data_of)
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = metainfo
    model.eval()
    with torch.no_grad():
        samples = model.test_step(batch)
    metric.process(batch, [sample.to_dict() for sample in samples])
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('path', CONFIGS, ids=[p.stem for p in CONFIGS])
def test_config(path, data_of, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = load(path)
    assert cfg.default_scope == 'referformer'
    torch.manual_seed(0)
    model = MODELS.build(shrink_model_cfg(cfg.model))
    # what became of each parameter fills the log
    monkeypatch.setattr(model, '_dump_init_info', lambda: None)
    model.init_weights()
    if 'train_dataloader' in cfg:
        moved = train(model, cfg, data_of)
        parts = {name.split('.')[0] for name in moved}
        assert {'head', 'transformer', 'pixel_decoder', 'backbone'} <= parts
        words = [n for n in moved if n.startswith('text_encoder.language')]
        assert bool(words) != cfg.model.text_encoder.get('frozen', False)
    if 'test_dataloader' in cfg:
        scores = score(model, cfg, data_of)
        assert scores
        for name, value in scores.items():
            assert 0 <= value <= 100, name
    assert 'train_dataloader' in cfg or 'test_dataloader' in cfg


@pytest.mark.parametrize(
    ('name', 'frames'),
    [
        ('vswin-t_a2d', 5),
        ('vswin-t_a2d-scratch', 6),
        ('r50_refcoco-pretrain', 1),
    ],
)
def test_training_is_scored_after_every_epoch(
    name, frames, data_of, monkeypatch
):
    """And the score that decides is one of the metric's."""
    monkeypatch.chdir(ROOT)
    cfg = load(ROOT / f'configs/referformer_{name}.py')
    assert cfg.train_cfg.get('val_interval', 1) == 1
    shrink_data_cfg(cfg.val_dataloader, data_of)
    cfg.val_dataloader.update(num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = loader.dataset.metainfo
    torch.manual_seed(0)
    model = MODELS.build(shrink_model_cfg(cfg.model)).eval()
    for batch in loader:
        assert len(batch['inputs'][0]) == frames
        with torch.no_grad():
            samples = model.val_step(batch)
        metric.process(batch, [sample.to_dict() for sample in samples])
    best = cfg.default_hooks.checkpoint
    assert best.rule == 'greater'
    assert best.save_best in metric.evaluate(len(loader.dataset))


# -- and says what was published ---------------------------------------------


@pytest.mark.parametrize(
    ('name', 'split', 'expected'),
    [
        # inference_ytvos.py and inference_davis.py read the file themselves
        ('r50_ytvos', 'test', 'The  LEFT dog'),
        ('r50_joint', 'test', 'The  LEFT dog'),
        ('r50_davis', 'test', 'The  LEFT dog'),
        # the loaders, also of testing, clean up the sentence
        ('r50_ytvos', 'train', 'the left dog'),
        ('vswin-t_a2d', 'train', 'the left dog'),
        ('vswin-t_a2d', 'test', 'the left dog'),
        ('vswin-t_jhmdb', 'test', 'the left dog'),
        ('r50_refcoco', 'test', 'the left dog'),
        ('r50_mevis', 'train', 'the left dog'),
        ('r50_mevis', 'test', 'the left dog'),
    ],
)
def test_sentences_reach_the_model_as_published(
    name, split, expected, data_of
):
    cfg = load(ROOT / f'configs/referformer_{name}.py')
    cfg = cfg[f'{split}_dataloader'].dataset
    shrink_data_cfg(cfg, data_of)
    for node in walk(cfg.pipeline):
        if node['type'] == 'ReferRandomFlip':
            node['prob'] = 0.0
    dataset = DATASETS.build(cfg)
    item = dataset.get_data_info(0)
    for facts in item.get('expressions', [item]):
        facts['text'] = 'The  LEFT dog'
    facts = dataset.pipeline(item)['data_samples'].metainfo
    texts = {clip['text'] for clip in facts.get('expressions', [facts])}
    assert texts == {expected}


def test_every_recipe_is_there():
    wanted = {
        f'referformer_{backbone}_{recipe}'
        for recipe, backbones in BACKBONES.items()
        for backbone in backbones
    }
    there = {path.stem for path in CONFIGS}
    assert wanted <= there
    ours = {
        f'referformer_{model}_{recipe}'
        for model in OURS
        for recipe in ('refcoco-pretrain', 'ytvos')
    }
    assert ours <= there
    others = there - wanted - ours
    assert {stem.split('_')[1] for stem in others} == {'tiny'}


@pytest.mark.parametrize(
    ('recipe', 'backbone'),
    [
        pytest.param(recipe, backbone, id=f'{backbone}_{recipe}')
        for recipe, backbones in BACKBONES.items()
        for backbone in backbones
    ],
)
def test_published_numbers(recipe, backbone, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = load(ROOT / f'configs/referformer_{backbone}_{recipe}.py')
    assert cfg.model.backbone.get('with_cp', False) == (
        backbone in SAVES_MEMORY
    )
    assert cfg.model.backbone.init_cfg.type == 'Pretrained'
    assert cfg.model.queries.num_queries == 5
    assert cfg.model.head.num_classes == 1
    wanted = RECIPES[recipe]
    if wanted is None:
        assert 'train_dataloader' not in cfg
        assert 'train_cfg' not in cfg
        return
    assert cfg.train_cfg.max_epochs == wanted.epochs
    (scheduler,) = cfg.param_scheduler
    assert scheduler.milestones == wanted.drops
    assert scheduler.end == wanted.epochs
    assert cfg.train_dataloader.batch_size == wanted.clips
    assert cfg.auto_scale_lr.base_batch_size == 8 * wanted.clips
    assert not cfg.auto_scale_lr.enable
    assert cfg.model.text_encoder.frozen == wanted.frozen
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr) == ('AdamW', 1e-4)
    assert optimizer.weight_decay == wanted.weight_decay
    assert cfg.optim_wrapper.clip_grad.max_norm == 0.1
    frames = [
        node['num_frames']
        for node in walk(cfg.train_dataloader.to_dict())
        if node.get('type') in ('SampleClipFrames', 'ImageToClip')
    ]
    # an image is sampled as a clip of one before it becomes one of T
    assert max(frames) == wanted.frames
    assert set(frames) <= {1, wanted.frames}
    given = f'checkpoints/referformer_{backbone}_refcoco-pretrain.pth'
    assert cfg.load_from == (given if wanted.pretrained else None)
    hooks = [dict(hook) for hook in cfg.get('custom_hooks', [])]
    dropped = dict(type='DropWeightsHook', prefixes=['head.cls_branches.'])
    assert hooks == ([dropped] if wanted.pretrained else [])


@pytest.mark.parametrize('recipe', ['a2d', 'a2d-scratch', 'jhmdb'])
def test_one_annotated_frame(recipe, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = load(ROOT / f'configs/referformer_vswin-t_{recipe}.py')
    # all five queries are ranked by the published mAP
    assert cfg.model.head.selector.topk == cfg.model.queries.num_queries
    windows = [
        node['num_frames']
        for node in walk(cfg.test_dataloader.to_dict())
        if node.get('type') == 'SampleWindow'
    ]
    assert windows == [6 if 'scratch' in recipe else 5]
    dropout = 0.0 if recipe == 'a2d-scratch' else 0.1
    assert cfg.model.transformer.dropout == dropout


def test_windows_of_36_frames(monkeypatch):
    monkeypatch.chdir(ROOT)
    for stem, window in (('davis', 36), ('ytvos', None), ('joint', None)):
        cfg = load(ROOT / f'configs/referformer_r50_{stem}.py')
        predictor = cfg.model.get('predictor', {})
        assert predictor.get('window') == window


@pytest.mark.parametrize('path', CONFIGS, ids=[p.stem for p in CONFIGS])
def test_the_model_has_the_settings_of_the_protocol(path, monkeypatch):
    """A config that forgets ``model = _base_.protocol`` is noticed."""
    monkeypatch.chdir(ROOT)
    cfg = load(path)
    model = copy.deepcopy(cfg.model)
    cfg.merge_from_dict({'model': cfg.get('protocol', {})})
    assert cfg.model == model
