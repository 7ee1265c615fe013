# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.registry import DefaultScope, init_default_scope

import referformer.registry as registry
from referformer.models import ReferFormer, VisionLanguageFusion
from referformer.testing import demo_refer_inputs, tiny_model_cfg


def test_mmdet_builds_our_model():
    """From a config of mmdet, with mmdet's default scope."""
    init_default_scope('mmdet')
    cfg = tiny_model_cfg()
    cfg['type'] = 'referformer.ReferFormer'
    cfg['backbone']['type'] = 'mmdet.ResNet'
    model = MMDET_MODELS.build(cfg)
    assert type(model) is ReferFormer
    assert type(model.fusion) is VisionLanguageFusion
    assert DefaultScope.get_current_instance().scope_name == 'mmdet'
    losses = model(
        **model.data_preprocessor(demo_refer_inputs(1), True), mode='loss'
    )
    assert all(loss.isfinite() for loss in losses.values())


def test_scope_of_a_failed_build_is_undone():
    cfg = tiny_model_cfg()
    cfg['fusion'] = dict(type='NoSuchFusion')
    init_default_scope('mmdet')
    with pytest.raises(KeyError, match='NoSuchFusion is not in'):
        registry.MODELS.build({**cfg, '_scope_': 'referformer'})
    assert DefaultScope.get_current_instance().scope_name == 'mmdet'


@pytest.mark.parametrize(
    'name', [name for name in registry.__all__ if name.isupper()]
)
def test_registries_are_children_of_the_root(name):
    ours = getattr(registry, name)
    assert ours.scope == 'referformer'
    assert ours.parent.scope == 'mmengine'
    assert ours.parent.children['referformer'] is ours


@pytest.mark.parametrize(
    ('name', 'component'),
    [
        ('MODELS', 'ReferFormer'),
        ('MODELS', 'VideoSwinTransformer'),
        ('TASK_UTILS', 'InstanceSequenceMatcher'),
        ('TASK_UTILS', 'HashTokenizer'),
        ('DATASETS', 'RefYouTubeVOSDataset'),
        ('TRANSFORMS', 'PackReferInputs'),
        ('METRICS', 'ReferVOSMetric'),
        ('HOOKS', 'ReferVisualizationHook'),
        ('VISUALIZERS', 'ReferLocalVisualizer'),
    ],
)
def test_components_are_found_without_imports(name, component):
    ours = getattr(registry, name)
    assert ours.get(component) is not None
    assert ours.get(f'referformer.{component}') is ours.get(component)
    # documented: every component says what it does
    assert ours.get(component).__doc__
