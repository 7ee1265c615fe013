# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""mmpretrain imports beside every transformers, with and without torchvision.

The real mmpretrain is used by the configs of ``tests/test_recipes.py``.
"""

import gc
import importlib
import subprocess
import sys

import mmdet.models
import pytest
import torch
from mmengine.registry import OPTIMIZERS, Registry

from referformer.errors import MissingPackageError
from referformer.registry import MODELS
from referformer.utils import foreign_imports, versions
from referformer.utils.foreign_imports import (
    patch_foreign_imports,
    stand_in_for_torchvision,
)


def test_the_installed_one():
    assert mmdet.models.reid.base_reid.mmpretrain is not None
    assert MODELS.get('mmpretrain.ViTSAM').__module__.startswith('mmpretrain.')
    with pytest.raises(MissingPackageError, match=r"mmpretrain's BlipCaption"):
        MODELS.build(dict(type='mmpretrain.BlipCaption'))


def test_adafactor_is_that_of_transformers():
    weights = [torch.nn.Parameter(torch.ones(2, 2))]
    optimizer = OPTIMIZERS.build(dict(type='Adafactor', params=weights))
    assert type(optimizer).__module__.startswith('transformers.')


def test_garbage_is_collected_after_an_import():
    name = 'transformers.modeling_utils'
    assert name in foreign_imports._PATCHES
    states = []

    def execute(module):
        states.append(gc.isenabled())
        raise ImportError

    with pytest.raises(ImportError):
        foreign_imports._PATCHES[name](execute, gc)
    assert states == [False]
    assert gc.isenabled()


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A mmpretrain of three modules."""
    for name in list(sys.modules):
        if name.split('.')[0] in ('mmpretrain', 'torchvision'):
            monkeypatch.delitem(sys.modules, name)
    for folder in ('utils', 'models/utils'):
        (tmp_path / 'mmpretrain' / folder).mkdir(parents=True)
    (tmp_path / 'mmpretrain/utils/dependency.py').write_text(
        'WITH_MULTIMODAL = True\nregister_multimodal_placeholder = None\n'
    )
    (tmp_path / 'mmpretrain/models/utils/box_utils.py').write_text(
        'import torchvision.ops.boxes as boxes\n'
        'from torchvision.transforms.functional import InterpolationMode\n'
        'class Derived(boxes.Some): pass\n'
        'table = {InterpolationMode.NEAREST: 0, InterpolationMode.CUBIC: 1}\n'
    )
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    importlib.invalidate_caches()
    yield tmp_path
    for name in list(sys.modules):
        if name.split('.')[0] in ('mmpretrain', 'torchvision'):
            del sys.modules[name]


@pytest.mark.parametrize(
    ('packages', 'kept'),
    [
        ({'mmpretrain': '1.2.0', 'transformers': '4.56.0'}, False),
        ({'mmpretrain': '1.2.0', 'transformers': '5.24.0'}, False),
        ({'onedl-mmpretrain': '1.3.6', 'transformers': '5.24.0'}, False),
        ({'onedl-mmpretrain': '1.3.6', 'transformers': '4.56.0'}, True),
    ],
)
def test_models_that_cannot_be_imported(fake, monkeypatch, packages, kept):
    monkeypatch.setattr(versions, 'installed_version', packages.get)
    module = importlib.import_module('mmpretrain.utils.dependency')
    assert kept == module.WITH_MULTIMODAL
    if not kept:
        registry = Registry('model', scope='x')
        module.register_multimodal_placeholder(['A', 'B'], registry)
        with pytest.raises(MissingPackageError) as caught:
            registry.get('A')()
        message = str(caught.value)
        assert message.startswith("mmpretrain's A does not work with trans")
        assert packages['transformers'] in message


def test_without_torchvision(fake):
    module = importlib.import_module('mmpretrain.models.utils.box_utils')
    assert len(module.table) == 2
    with pytest.raises(MissingPackageError, match='box_iou needs'):
        module.boxes.box_iou(1, 2)
    with pytest.raises(MissingPackageError, match='Derived needs torchvi'):
        module.Derived()
    # others see that it is missing
    with pytest.raises(ModuleNotFoundError, match="No module named 'torchvi"):
        importlib.import_module('torchvision')


def test_with_torchvision(fake):
    (fake / 'torchvision').mkdir()
    (fake / 'torchvision/__init__.py').write_text('real = True')
    importlib.invalidate_caches()
    with stand_in_for_torchvision():
        assert importlib.import_module('torchvision').real
    assert 'torchvision' in sys.modules
    with pytest.raises(ModuleNotFoundError, match=r'torchvision\.ops'):
        importlib.import_module('mmpretrain.models.utils.box_utils')


def test_calling_it_again_changes_nothing():
    before = list(sys.meta_path)
    patch_foreign_imports()
    assert sys.meta_path == before


def test_referformer_itself_imports_no_other_package():
    code = (
        'import sys; before = set(sys.modules); import referformer;'
        'new = {name.split(".")[0] for name in set(sys.modules) - before};'
        # the stand-in for mmcv._ext has a name of mmcv
        'ours = {"referformer", "mmcv"};'
        'print(new - set(sys.stdlib_module_names) - ours)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == 'set()'
