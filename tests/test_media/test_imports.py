# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Videos and pictures are read and written without a deep-learning stack."""

import subprocess
import sys
from pathlib import Path

import referformer.media

FOLDER = Path(referformer.media.__file__).parent


def test_no_torch_is_needed():
    modules = [f'referformer.media.{p.stem}' for p in FOLDER.glob('[a-z]*.py')]
    heavy = ['torch', 'mmengine', 'mmcv', 'mmdet', 'matplotlib']
    code = (
        f'import importlib, sys\n'
        f'for name in {modules}: importlib.import_module(name)\n'
        f'print(*[name for name in {heavy} if name in sys.modules])'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(modules) > 4
    assert done.stdout.strip() == ''
