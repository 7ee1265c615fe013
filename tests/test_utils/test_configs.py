# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
from pathlib import Path

import pytest
from mmengine.config import Config

from referformer.errors import ConfigError
from referformer.utils.configs import adapt_loaders, read_config
from referformer.utils.launch import load_config
from tests.faults import CONFIGS, fault

CONFIG_FILES = Path(__file__).parents[2] / 'configs'


def test_a_missing_package_is_named(tmp_path):
    """mmengine alone says which module of the config failed, not why."""
    file = tmp_path / 'config.py'
    file.write_text("custom_imports = dict(imports=['no_such.models'])\n")
    with pytest.raises(ConfigError, match=r"No module named 'no_such'.*insta"):
        read_config(file)


def roots_of(cfg):
    """Folders of the training, which may have several, and of the test."""
    dataset = cfg.train_dataloader.dataset
    parts = dataset.get('datasets', [dataset])
    return [part.data_root for part in (*parts, cfg.test_dataloader.dataset)]


def write(tmp_path, text, base='referformer_r50_ytvos'):
    path = tmp_path / 'own.py'
    path.write_text(f"_base_ = '{CONFIG_FILES / base}.py'\n{text}")
    return path


def test_data_root_of_a_file_reaches_its_datasets(tmp_path):
    path = write(tmp_path, "data_root = '/my/data'")
    assert roots_of(read_config(path)) == ['/my/data'] * 2
    # and that of a file that builds on it
    child = tmp_path / 'child.py'
    child.write_text("_base_ = './own.py'\ndata_root = '/new'")
    assert roots_of(read_config(child)) == ['/new'] * 2
    # but not where a dataset was told otherwise
    child.write_text(
        "_base_ = './own.py'\ndata_root = '/new'\n"
        "test_dataloader = dict(dataset=dict(data_root='/own'))"
    )
    assert roots_of(read_config(child)) == ['/new', '/own']


def test_data_root_of_the_command_line():
    cfg = load_config('referformer_r50_ytvos', {'data_root': '/my/data'})
    assert roots_of(cfg) == ['/my/data'] * 2
    options = {'data_root': '/a', 'refcoco_root': '/b'}
    cfg = load_config('referformer_r50_joint', options)
    assert roots_of(cfg) == ['/b', '/a', '/a']
    options = {'data_root': '/a', 'test_dataloader.dataset.data_root': '/b'}
    assert roots_of(load_config('referformer_r50_ytvos', options)) == [
        *('/a', '/b')
    ]


@fault(
    CONFIGS,
    '`data_root` is set where no dataset of the config uses it',
    'the error names the settings of the datasets',
)
@pytest.mark.parametrize('data_root', ['', "data_root = '/other'"])
def test_data_root_that_reaches_nothing_is_refused(tmp_path, data_root):
    path = tmp_path / 'own.py'
    path.write_text(
        f"test_dataloader = dict(dataset=dict(data_root='/data'))\n{data_root}"
    )
    assert read_config(path)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path), {'data_root': '/new'})
    assert str(caught.value) == (
        f'data_root=/new reaches no dataset of {path}, which name /data; '
        'set test_dataloader.dataset.data_root.'
    )


@pytest.mark.parametrize(
    'name',
    ['r50_joint', 'swin-t_ref-sav', 'swin-t_mevis-v2', 'tiny_synthetic'],
)
def test_configs_as_they_stand_are_not_changed(name):
    path = CONFIG_FILES / f'referformer_{name}.py'
    assert read_config(path).to_dict() == Config.fromfile(path).to_dict()


@fault(
    CONFIGS,
    '`num_workers=0` beside settings that need workers',
    'these are dropped, and the data is loaded without workers',
)
@pytest.mark.parametrize('workers', [{}, dict(num_workers=0)])
def test_a_loader_without_workers(workers):
    from torch.utils.data import DataLoader

    settings = dict(persistent_workers=True, prefetch_factor=4, timeout=60)
    cfg = Config(
        dict(
            train_dataloader=dict(batch_size=2, **workers, **settings),
            test_dataloader=dict(batch_size=1, num_workers=1, **settings),
            val_dataloader=None,
        )
    )
    adapt_loaders(cfg)
    assert cfg.train_dataloader == dict(batch_size=2, **workers)
    assert len(list(DataLoader([1, 2, 3], **cfg.train_dataloader))) == 2
    assert cfg.test_dataloader.prefetch_factor == 4


def test_no_workers_of_a_published_config():
    cfg = load_config(
        'referformer_r50_ytvos', {'train_dataloader.num_workers': 0}
    )
    assert 'persistent_workers' not in cfg.train_dataloader
    assert cfg.test_dataloader.persistent_workers
