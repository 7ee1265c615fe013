# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Both sets of distributions pass, everything else is told in a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

from referformer.errors import MissingPackageError
from referformer.utils import versions
from referformer.utils.versions import check_versions

ROOT = Path(__file__).parents[2]
COMMON = {'torch': '2.13.0+cpu', 'transformers': '5.23.0'}
OPENMMLAB = COMMON | {'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '3.3.0'}
ONEDL = COMMON | {
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
}


@pytest.fixture
def install(monkeypatch):
    """Pretend that exactly these distributions are installed."""

    def pretend(packages):
        monkeypatch.setattr(versions, 'installed_version', packages.get)

    return pretend


@pytest.mark.parametrize(
    'packages',
    [
        OPENMMLAB,
        ONEDL,
        OPENMMLAB | {'torch': '2.6.0', 'transformers': '4.56.0'},
        OPENMMLAB | {'mmcv': '2.0.0rc4'},
        OPENMMLAB | {'mmcv': None, 'mmcv-lite': '2.1.0'},
        OPENMMLAB | {'torch': '2.14.0a0+git123'},
    ],
)
def test_supported_sets(install, packages):
    install(packages)
    check_versions()


@pytest.mark.parametrize(
    ('packages', 'sentence'),
    [
        (
            OPENMMLAB | {'mmcv': '2.2.0'},
            r'needs mmcv >=2\.0\.0rc4,<2\.2\.0 but found 2\.2\.0; run: '
            r'MMCV_WITH_OPS=1 pip install --no-build-isolation mmcv==2\.1\.0',
        ),
        (OPENMMLAB | {'torch': '2.5.1'}, r'torch >=2\.6 but found 2\.5\.1'),
        (
            OPENMMLAB | {'transformers': '6.0.0'},
            r'found 6\.0\.0; run: pip install "transformers>=4\.56,<6"',
        ),
        (
            {k: v for k, v in OPENMMLAB.items() if k != 'mmdet'},
            r'mmdet >=3\.3\.0,<3\.4, which is not installed; run: pip',
        ),
        (
            ONEDL | {'onedl-mmcv': None},
            r'onedl-mmcv .* not installed; run: .* onedl-mmcv==2\.3\.6',
        ),
        (OPENMMLAB | {'onedl-mmcv': '2.3.6'}, r'must not be mixed'),
        (
            {k: v for k, v in OPENMMLAB.items() if k != 'mmcv'},
            r'mmcv-lite .* not installed; run: pip install mmcv-lite==2\.1\.0',
        ),
        (
            OPENMMLAB | {'mmcv': None, 'mmcv-lite': '2.2.0'},
            r'mmcv-lite >=2\.0\.0rc4,<2\.2\.0 but found 2\.2\.0',
        ),
        (
            OPENMMLAB | {'mmcv-lite': '2.1.0'},
            r'mmcv and mmcv-lite .* must not be mixed.*; run: pip uninstall',
        ),
        (
            ONEDL | {'mmcv-lite': '2.1.0'},
            r'onedl-mmcv and mmcv-lite are both installed',
        ),
    ],
)
def test_a_mismatch_is_one_sentence(install, packages, sentence):
    install(packages)
    with pytest.raises(MissingPackageError, match=sentence) as caught:
        check_versions()
    assert '\n' not in str(caught.value)


def test_the_requirement_files_are_supported(install):
    """What requirements/mminstall*.txt names passes the check."""
    for path in sorted((ROOT / 'requirements').glob('mminstall*.txt')):
        lines = path.read_text().splitlines()
        pins = [line.split('==') for line in lines if line[:1].isalpha()]
        assert len(pins) == 3
        install(COMMON | dict(pins))
        check_versions()


def test_the_import_is_light():
    """``import referformer`` brings in neither torch nor torchvision."""
    code = (
        'import sys, referformer;'
        'print(sorted({"torch", "torchvision", "cv2", "transformers"}'
        ' & set(sys.modules)))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == '[]'
