# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""File formats, scores and commands run where no torch is installed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, pkgutil, sys
from importlib import import_module
from pathlib import Path

# A module that is None cannot be imported.
sys.modules |= dict.fromkeys(('torch', 'mmengine', 'mmcv', 'mmdet'))
import numpy as np
import referformer.evaluation.functional as functional
import referformer.formats as formats
from referformer.formats.label_maps import write_label_map

for package in (functional, formats):
    name = package.__name__ + '.'
    for module in pkgutil.walk_packages(package.__path__, name):
        import_module(module.name)
for name in functional.__all__:
    getattr(functional, name)

root = Path(sys.argv[1])
labels = np.zeros((8, 9), np.uint8)
labels[2:5, 3:7] = 1
for t in range(3):
    for kind in ('gt', 'pred'):
        write_label_map(root / kind / f'v/{t}.png', labels)
sys.path.insert(0, 'tools')
import eval_masks

out = root / 'out.json'
eval_masks.main([
    'davis', '--protocol', 'identity', '--jobs', '2', '--out', str(out),
    '--gt', str(root / 'gt'), '--pred', str(root / 'pred'),
])
assert json.loads(out.read_text())['J&F'] == 1
"""


def test_everything_imports_and_scores(tmp_path):
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
