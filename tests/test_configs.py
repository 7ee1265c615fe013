# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Configs name what they mean; parts are swapped by config alone.

That each config of ``configs/`` runs is in ``test_recipes.py``.
"""

import json
import math
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import TRANSFORMS as MMDET_TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper

import referformer.datasets  # noqa: F401  (registers the transforms)
from referformer.apis import ReferInferencer
from referformer.registry import METRICS, MODELS, TRANSFORMS
from referformer.testing import shrink_model_cfg, try_config
from referformer.visualization import drawing

from .test_evaluation.helpers import make_sample
from .test_recipes import CONFIGS, parse

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).parent / 'data/config'
PROJECTS = sorted((ROOT / 'projects').glob('*/configs/*.py'))
# mmcv's wrappers around other transforms; mmdet has none by these names
WRAPPERS = {'TransformBroadcaster', 'RandomChoice', 'RandomApply'}


def names(paths):
    return [path.stem for path in paths]


def load(path, monkeypatch):
    # projects are imported from the top of the repository
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    return Config.fromfile(path)


def step_and_predict(cfg, **inputs):
    trial = try_config(cfg, **inputs)
    assert math.isfinite(trial.losses['loss'])
    assert trial.trained >= {
        'head',
        'transformer',
        'pixel_decoder',
        'backbone',
    }
    for frame in trial.clip.video_data_samples:
        found = frame.pred_track_instances
        assert found.masks.shape[1:] == frame.ori_shape
        assert found.scores.isfinite().all()
    return trial.model


def walk(node, key=None):
    """Every dict of a config, with the key under which it was found."""
    if isinstance(node, dict):
        yield node
        for name, value in node.items():
            yield from walk(value, name)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from walk(value, key)


def transforms_of(cfg):
    """Types of all transforms in all pipelines of a config."""
    for node in walk(cfg.to_dict()):
        for key, value in node.items():
            if key == 'transforms' or key.endswith('pipeline'):
                yield from (x['type'] for x in walk(value) if 'type' in x)


def strangers(cfg):
    return {
        name
        for name in transforms_of(cfg)
        if '.' not in name
        and name not in WRAPPERS
        and name not in TRANSFORMS.module_dict
    }


@pytest.mark.parametrize('path', PROJECTS, ids=names(PROJECTS))
def test_config_of_a_project(path, monkeypatch):
    step_and_predict(load(path, monkeypatch))


def test_there_are_projects():
    assert 'referformer_dummy-r50_ytvos' in names(PROJECTS)


@pytest.mark.parametrize('path', CONFIGS, ids=names(CONFIGS))
def test_transforms_are_ours_or_say_whose(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = parse(path)
    assert 'PackReferInputs' in set(transforms_of(cfg))
    assert not strangers(cfg)


def test_bare_transforms_of_mmdet_are_noticed():
    """mmcv's Resize would leave the masks as they are, without a word."""
    assert 'Resize' in MMDET_TRANSFORMS.module_dict
    inner = dict(type='RandomChoice', transforms=[[dict(type='Resize')]])
    cfg = Config(dict(train_dataloader=dict(dataset=dict(pipeline=[inner]))))
    assert strangers(cfg) == {'Resize'}
    inner['transforms'][0][0]['type'] = 'mmdet.Resize'
    assert not strangers(Config(dict(train_pipeline=[inner])))


# -- optimiser ---------------------------------------------------------------


@pytest.mark.parametrize(
    'stem',
    [
        'referformer_r50_ytvos',
        'referformer_swin-t_ytvos-scratch',
        'referformer_vswin-b_ytvos',
    ],
)
def test_learning_rates_reach_the_right_parameters(stem, monkeypatch):
    cfg = load(ROOT / f'configs/{stem}.py', monkeypatch)
    cfg.model.text_encoder.frozen = False
    model = MODELS.build(shrink_model_cfg(cfg.model))
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    names_of = {id(param): name for name, param in model.named_parameters()}
    groups = {
        names_of[id(param)]: group
        for group in optim.optimizer.param_groups
        for param in group['params']
    }
    assert set(groups) >= {
        name for name, p in model.named_parameters() if p.requires_grad
    }
    counts = dict.fromkeys((5e-5, 1e-5, 1e-4), 0)
    for name, group in groups.items():
        if name.startswith('backbone.'):
            lr = 5e-5
        elif name.startswith('text_encoder.language_model.'):
            lr = 1e-5
        else:
            lr = 1e-4  # reference_points and sampling_offsets included
        assert group['lr'] == pytest.approx(lr), name
        assert group['weight_decay'] == pytest.approx(5e-4), name
        counts[lr] += 1
    assert min(counts.values()) > 10
    assert optim.clip_grad_kwargs['max_norm'] == 0.1


# -- swapping ----------------------------------------------------------------


def test_swapping_parts_by_inheritance(monkeypatch):
    cfg = load(DATA / 'swapped_r50_ytvos.py', monkeypatch)
    model = step_and_predict(cfg)
    assert type(model.backbone).__name__ == 'RegNet'
    language_model = model.text_encoder.language_model
    assert language_model.config.model_type == 'distilbert'
    assert type(model.fusion).__name__ == 'DummyFusion'


def test_pure_python_style(monkeypatch):
    cfg = load(DATA / 'pure_python.py', monkeypatch)
    model = step_and_predict(cfg)
    assert model.queries.num_queries == 3


def test_a_typo_is_named(monkeypatch):
    cfg = load(ROOT / 'configs/referformer_r50_ytvos.py', monkeypatch)
    model_cfg = shrink_model_cfg(cfg.model)
    model_cfg.queries.num_querys = 7
    with pytest.raises(TypeError, match=r'ConditionalQueries.*num_querys'):
        MODELS.build(model_cfg)
    del model_cfg.queries['num_querys']
    model_cfg.queries.type = 'ConditionalQuerys'
    with pytest.raises(KeyError, match='ConditionalQuerys is not in'):
        MODELS.build(model_cfg)


def test_backbone_of_mmpretrain(monkeypatch):
    cfg = load(ROOT / 'configs/referformer_r50_ytvos.py', monkeypatch)
    cfg.model.backbone = dict(
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=[1, 1, 1, 1], channels=[8, 16, 32, 64]),
        out_indices=(0, 1, 2, 3),
        gap_before_final_norm=False,
    )
    cfg.model.neck.in_channels = [16, 32, 64]
    cfg.model.pixel_decoder.in_channels[0] = 8
    step_and_predict(cfg)


# -- documents ---------------------------------------------------------------


@pytest.fixture(scope='module')
def guide_files(tmp_path_factory):
    """The python blocks of docs/components.md as files of a folder."""
    root = tmp_path_factory.mktemp('guide')
    text = (ROOT / 'docs/components.md').read_text()
    blocks = re.findall(r'```python\n# (\S+\.py)\n(.*?)```', text, re.S)
    assert len(blocks) == text.count('```python')
    for name, body in blocks:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
    (root / 'configs').symlink_to(ROOT / 'configs')
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        patch.setenv('REFERFORMER', str(ROOT))
        # an example replaces it when it is imported
        patch.setattr(drawing, 'PALETTE', drawing.PALETTE)
        yield root


@pytest.fixture
def guide(guide_files, monkeypatch):
    monkeypatch.chdir(guide_files)
    return guide_files


def test_component_guide_runs(guide):
    configs = sorted(guide.glob('*/configs/*.py'))
    assert len(configs) >= 8
    for path in configs:
        step_and_predict(Config.fromfile(path))


def test_the_test_of_the_guide(guide):
    path = guide / 'my_project/tests/test_my_project.py'
    tests = runpy.run_path(str(path))
    tests['test_a_training_step_and_a_prediction']()


def test_the_metric_of_the_guide(guide):
    cfg = Config.fromfile('my_project/configs/referformer_tiou-r50_ytvos.py')
    metric = METRICS.build(cfg.test_evaluator[1])
    seen, unseen = np.ones((8, 9), bool), np.zeros((8, 9), bool)
    preds = [seen, seen, unseen, unseen]
    for exp_id, truth in {
        '0': [seen, unseen, seen, unseen],  # one frame of three
        '1': preds,
        '2': [unseen] * 4,
    }.items():
        found = [unseen] * 4 if exp_id == '2' else preds
        sample = make_sample('v', exp_id, found, truth).to_dict()
        # a distributed sampler may repeat an item
        metric.process(None, [sample, sample])
    # as a repeated test reads them
    metric.results = json.loads(json.dumps(metric.results))
    mean = pytest.approx(100 * (1 / 3 + 1 + 1) / 3)
    assert metric.evaluate(3) == {'refer/tIoU': mean}


def test_the_visualizer_of_the_guide(guide):
    path = 'my_project/configs/referformer_spotlight-r50_ytvos.py'
    cfg = Config.fromfile(path)
    inferencer = ReferInferencer.__new__(ReferInferencer)
    visualizer = inferencer._init_visualizer(cfg)
    assert type(visualizer).__name__ == 'SpotlightVisualizer'
    assert visualizer.alpha == 0.3
    frame = np.full((40, 60, 3), 90, np.uint8)
    masks = np.zeros((1, 40, 60), bool)
    masks[0, 10:30, 10:30] = True
    drawn = visualizer.draw_expressions(frame, ['a thing'], masks)
    assert (drawn[0, 0] == 30).all()
    # the object, under 30 percent of white
    assert abs(drawn[20, 20].astype(int) - (0.7 * 90 + 0.3 * 255)).max() < 2


def test_the_kernel_command_of_the_guide(capsys):
    text = (ROOT / 'docs/components.md').read_text()
    (code,) = re.findall(r'python -c "(.*)"', text)
    exec(code, {})
    assert capsys.readouterr().out.strip() in ('True', 'False')


@pytest.mark.parametrize('document', ['architecture.md', 'components.md'])
def test_documents_name_files_that_exist(document):
    text = (ROOT / 'docs' / document).read_text()
    paths = re.findall(
        r'(?<![\w/.])(?:referformer|configs|tools|tests|projects)/[\w./-]+\w',
        text,
    )
    assert len(paths) > 5
    missing = [p for p in paths if not (ROOT / p).exists()]
    assert not missing
