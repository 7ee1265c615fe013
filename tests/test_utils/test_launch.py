# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Configs get the command line's settings; faults are one sentence."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from referformer.errors import ConfigError, MissingConfigError
from referformer.registry import (
    DATASETS,
    HOOKS,
    MODELS,
    TRANSFORMS,
    VISUALIZERS,
)
from referformer.utils.configs import find_config
from referformer.utils.launch import (
    explain_config_errors,
    load_config,
    prepare_processes,
    require_model,
)


def test_load_config(tmp_path):
    path = tmp_path / 'small_x.py'
    path.write_text('a = dict(b=1)\nc = [dict(d=2)]\n')
    cfg = load_config(str(path), {'a.b': 5, 'c.0.d': 6}, launcher='pytorch')
    assert (cfg.a.b, cfg.c[0].d, cfg.launcher) == (5, 6, 'pytorch')
    assert cfg.work_dir == 'work_dirs/small_x'
    assert load_config(str(path), work_dir='w').work_dir == 'w'
    path.write_text("work_dir = 'own'\n")
    assert load_config(str(path)).work_dir == 'own'


def test_configs_have_names():
    path = find_config('referformer_r50_ytvos')
    assert path.parent.name == 'configs'
    assert find_config('referformer_r50_ytvos.py') == path
    assert find_config(path) == path
    with pytest.raises(FileNotFoundError, match=r'r49 is neither .*_r50_ytv'):
        find_config('referformer_r49')
    with pytest.raises(FileNotFoundError, match='neither'):
        find_config('../setup')
    cfg = load_config('referformer_r50_ytvos')
    assert cfg.filename == str(path)
    assert cfg.work_dir == 'work_dirs/referformer_r50_ytvos'


def test_a_missing_config_is_named():
    with pytest.raises(
        MissingConfigError, match=r'nope\.py is neither a config'
    ):
        load_config('nope.py')


@pytest.mark.parametrize(
    ('content', 'options', 'reason'),
    [
        ('a = (', {}, r'cannot be read .*SyntaxError: .*line 1'),
        ("_base_ = './gone.py'", {}, r'cannot be read .*gone\.py'),
        (
            'a = 1 / 0',
            {},
            r'cannot be read as a config \(ZeroDivisionError: division',
        ),
        (
            "custom_imports = dict(imports=['gone_module'])",
            {},
            'names a module that cannot be .*gone_module',
        ),
        (
            'a = [1]',
            {'a.5': 1},
            r'cannot take --cfg-options a\.5=1: Index 5 exceeds',
        ),
    ],
)
def test_a_wrong_config_is_one_sentence(tmp_path, content, options, reason):
    path = tmp_path / 'x.py'
    path.write_text(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        load_config(str(path), options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert '\n' not in message
    assert caught.value.file == str(path)


class Refusing:
    def __init__(self):
        raise ConfigError('no such thing')


@pytest.mark.parametrize(
    ('registry', 'part', 'message'),
    [
        (
            MODELS,
            dict(type='VisionLanguageFusoin'),
            'x.py (model.fusion): there is no model of type '
            '"VisionLanguageFusoin"; the nearest name is '
            'VisionLanguageFusion.',
        ),
        (
            MODELS,
            dict(type='mmdet.ResNeet'),
            'x.py (model.fusion): there is no model of type "mmdet.ResNeet"; '
            'the nearest names are mmdet.ResNe',
        ),
        (
            DATASETS,
            dict(type='Qqq'),
            'x.py (model.fusion): there is no dataset of type "Qqq"; name '
            'the module that registers it in custom_imports',
        ),
        (
            MODELS,
            dict(type='ConditionalQueries', queries=5),
            'x.py (model.fusion): ConditionalQueries.__init__() got an '
            "unexpected keyword argument 'queries'",
        ),
        (
            MODELS,
            dict(type='ConditionalQueries', num_queries='five'),
            'x.py (model.fusion): TypeError: ',
        ),
        (
            TRANSFORMS,
            dict(
                type='TransformBroadcaster',
                transforms=[dict(type='LoadReferFrmae')],
            ),
            'x.py (model.fusion.transforms.0): there is no transform of type '
            '"LoadReferFrmae"; the nearest names are LoadReferFrame',
        ),
        (
            HOOKS,
            dict(a=1),
            'x.py (model.fusion): `cfg` or `default_args` must contain',
        ),
    ],
)
def test_what_cannot_be_built_is_one_sentence(registry, part, message):
    import mmdet.models  # noqa: F401  (registers)

    cfg = Config(dict(model=dict(type='X', fusion=part)))
    with (
        pytest.raises(ConfigError) as caught,
        explain_config_errors('x.py', cfg),
    ):
        registry.build(part)
    assert str(caught.value).startswith(message)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('registry', 'name', 'remedy'),
    [
        (VISUALIZERS, 'ReferLocalVisualizer', 'write referformer.ReferLocal'),
        (
            VISUALIZERS,
            'ReferLocalVisualiser',
            'names are referformer.ReferLoc',
        ),
        (MODELS, 'ResNeet', 'names are ResNe'),
        (MODELS, 'mmdet.VideoSwinTransformer', 'write referformer.Video'),
    ],
)
def test_names_in_the_scope_of_another_package(registry, name, remedy):
    with (
        DefaultScope.overwrite_default_scope('mmdet'),
        pytest.raises(ConfigError, match=remedy),
        explain_config_errors('x.py', Config({})),
    ):
        registry.parent.build(dict(type=name))


def test_the_key_of_one_of_several_parts():
    cfg = Config(
        dict(
            a=dict(type='ConditionalQueries'),
            b=[dict(type='ConditionalQueries', embed_dims='x')],
        )
    )
    with (
        pytest.raises(ConfigError, match=r'^x\.py \(b\.0\): TypeError: '),
        explain_config_errors('x.py', cfg),
    ):
        MODELS.build(cfg.b[0])


@pytest.mark.parametrize(
    ('cfg', 'reason'),
    [
        (dict(default_scope='mmdet'), 'has no model; give'),
        (
            dict(default_scope='mmdet', model=dict(type='FasterRCNN')),
            'is a config of mmdet: its model is a FasterRCNN',
        ),
        (dict(model=dict(type='mmdet.FasterRCNN')), 'is a config of mmdet'),
        (dict(model=dict(type='ReferFromer')), None),
        (dict(default_scope='mmdet', model=dict(type='ReferFormer')), None),
        (dict(model=dict(type='my_package.models.Net')), None),
    ],
)
def test_the_framework_of_a_config(cfg, reason):
    if reason is None:
        require_model('x.py', Config(cfg))
        return
    with pytest.raises(ConfigError, match=rf'^x\.py {reason}'):
        require_model('x.py', Config(cfg))


@pytest.mark.parametrize(
    ('action', 'kind'),
    [
        (lambda: MODELS.build(dict(type=Refusing)), ConfigError),
        (lambda: Config(dict(a=1))['b'], KeyError),
        (lambda: torch.ones(2) @ torch.ones(3), RuntimeError),
    ],
)
def test_other_errors_stay(action, kind):
    with (
        pytest.raises(kind) as caught,
        explain_config_errors('x.py', Config({})),
    ):
        action()
    assert 'x.py' not in str(caught.value)


def test_a_runner_says_what_its_config_lacks(tmp_path):
    from mmengine.runner import Runner

    cfg = Config(
        dict(
            model=dict(type='ConditionalQueries'),
            work_dir=str(tmp_path),
            train_cfg=dict(by_epoch=True, max_epochs=1),
        )
    )
    with (
        pytest.raises(ConfigError, match=r'^x\.py: train_dataloader, train'),
        explain_config_errors('x.py', cfg),
    ):
        Runner.from_cfg(cfg)


def test_one_process_changes_nothing():
    cfg = Config(dict(launcher='none', env_cfg={}))
    prepare_processes(cfg)
    assert 'model_wrapper_cfg' not in cfg


def test_slurm_without_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ConfigError, match='"slurm" needs CUDA'):
        prepare_processes(Config(dict(launcher='slurm')))
