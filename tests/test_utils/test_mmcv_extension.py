# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Compiled or not is seen in the files of mmcv, whoever distributes it."""

import importlib.machinery
import importlib.util
import sys

import pytest

from referformer.errors import MissingPackageError
from referformer.utils import mmcv_extension
from referformer.utils.mmcv_extension import (
    has_compiled_operators,
    replace_missing_extension,
)

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Pretend that a distribution, and nothing else, brought mmcv."""
    for name in [n for n in sys.modules if n.split('.')[0] == 'mmcv']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])

    def pretend(distribution, compiled):
        (tmp_path / 'mmcv').mkdir()
        (tmp_path / 'mmcv/__init__.py').touch()
        (tmp_path / f'{distribution}-2.1.0.dist-info').mkdir()
        if compiled:
            (tmp_path / f'mmcv/_ext{SUFFIX}').touch()

    return pretend


@pytest.mark.parametrize(
    ('distribution', 'compiled'),
    [
        ('mmcv', True),
        ('mmcv', False),
        ('mmcv_lite', False),
        ('onedl_mmcv', True),
        ('onedl_mmcv', False),
    ],
)
def test_every_distribution(install, distribution, compiled):
    install(distribution, compiled)
    assert has_compiled_operators() == compiled
    replace_missing_extension()
    # a compiled one is left alone, and not imported either
    assert ('mmcv._ext' in sys.modules) == (not compiled)
    replace_missing_extension()
    assert has_compiled_operators() == compiled
    sys.modules.pop('mmcv._ext', None)


def test_without_mmcv(install):
    assert not has_compiled_operators()
    replace_missing_extension()
    assert 'mmcv._ext' not in sys.modules


def test_a_missing_operator_says_what_is_missing():
    extension = mmcv_extension._MissingExtension('mmcv._ext')
    with pytest.raises(MissingPackageError, match=r'ops\.nms needs .* run: '):
        extension.nms(1, top=2)
    assert not hasattr(extension, '__path__')


def test_operators_of_mmcv_can_be_imported():
    """With whatever is installed here."""
    importlib.import_module('mmcv.ops')
    importlib.import_module('mmdet.models')
    spec = importlib.util.find_spec('mmcv._ext')
    assert (spec.loader is not None) == has_compiled_operators()
