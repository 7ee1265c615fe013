# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""File formats, scores and commands run where no torch is installed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from referformer.formats.label_maps import write_binary_mask, write_label_map
from tests.fixtures.mevis import prepare_mevis
from tests.fixtures.ref_davis import prepare_ref_davis
from tests.fixtures.ref_youtube_vos import prepare_ref_youtube_vos
from tests.test_evaluation.helpers import GOLDEN

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


# Lets only some of the installed packages be imported.
ONLY = """
import runpy, sys
from importlib.machinery import PathFinder

allowed, sys.argv = sys.argv[1].split(','), sys.argv[2:]

class Finder:
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or path is not None or name in allowed:
            return spec
        return None if 'site-packages' in str(spec.origin) else spec

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
runpy.run_path(sys.argv[0], run_name='__main__')
"""
ALWAYS = {'numpy', 'opencv-python-headless', 'pycocotools'}
NAMES = {'opencv-python-headless': 'cv2', 'pillow': 'PIL'}


def predict_nothing(meta, folder, shape):
    """Write an empty mask for each expression and frame of a set."""
    for video, entry in json.loads(meta.read_text())['videos'].items():
        for expression in entry['expressions']:
            for frame in entry['frames']:
                path = folder / video / expression / f'{frame}.png'
                write_binary_mask(path, np.zeros(shape, bool))


def expressions_of_davis(root):
    root = prepare_ref_davis(root)
    meta = root / 'meta_expressions/valid/meta_expressions.json'
    predict_nothing(meta, root / 'pred', (48, 80))
    return root, root / 'pred'


def maps_of_davis(root):
    root = prepare_ref_davis(root)
    for annotator in range(4):
        for path in root.glob('valid/Annotations/*/*.png'):
            folder = root / f'pred/anno_{annotator}' / path.parent.name
            write_label_map(folder / path.name, np.zeros((48, 80), np.uint8))
    return root, root / 'pred'


def ref_youtube_vos(root):
    root = prepare_ref_youtube_vos(root)
    meta = root / 'meta_expressions/valid/meta_expressions.json'
    predict_nothing(meta, root / 'pred', (48, 80))
    return root, root / 'pred'


def mevis(root):
    root = prepare_mevis(root) / 'valid_u'
    predict_nothing(root / 'meta_expressions.json', root / 'p', (48, 80))
    return root, root / 'p'


def label_maps(root):
    for kind in ('gt', 'pred'):
        labels = np.eye(8, 9, dtype=np.uint8)
        write_label_map(root / kind / 'v/0.png', labels)
    return root / 'gt', root / 'pred'


def coco(root):
    case = json.loads((GOLDEN / 'a2d_metric.json').read_text())
    (root / 'gt.json').write_text(json.dumps(case['gt']))
    (root / 'pred.json').write_text(json.dumps(case['predictions']))
    return root / 'gt.json', root / 'pred.json'


@pytest.mark.parametrize(
    ('command', 'make', 'packages'),
    [
        ('davis --protocol identity', label_maps, {'pillow'}),
        ('davis --protocol unsupervised', label_maps, {'pillow', 'scipy'}),
        ('ref-youtube-vos', ref_youtube_vos, {'pillow'}),
        ('ref-davis --protocol published', maps_of_davis, {'pillow', 'scipy'}),
        (
            'ref-davis --protocol per-expression',
            expressions_of_davis,
            {'pillow'},
        ),
        ('mevis', mevis, {'pillow'}),
        ('a2d', coco, set()),
        ('jhmdb', coco, set()),
        ('refcoco', coco, set()),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_packages_that_a_command_needs(tmp_path, command, make, packages):
    """What docs/evaluation.md says; all are in requirements/scoring.txt."""
    listed = (ROOT / 'requirements/scoring.txt').read_text()
    packages = packages | ALWAYS
    assert all(f'\n{name}' in listed for name in packages)
    gt, pred = make(tmp_path)
    names = ','.join(NAMES.get(name, name) for name in packages)
    options = [*command.split(), '--gt', gt, '--pred', pred]
    result = subprocess.run(
        [
            *(sys.executable, '-c', ONLY, names, ROOT / 'tools/eval_masks.py'),
            *(*options, '--out', tmp_path / 'scores.json'),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / 'scores.json').read_text())
