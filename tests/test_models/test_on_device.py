# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Runs the tests of ``check_on_device.py`` in a process of their own.

They register a device with PyTorch, which other tests would then see.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKS = 'tests/test_models/check_on_device.py'
#: One of each kind of the paper's backbones; all of them take minutes.
OTHERS = (
    *('r101', 'swin-s', 'swin-b', 'swin-l', 'vswin-s', 'vswin-b'),
    *('convnextv2-t', 'dinov2-b', 'hiera-t'),
)


def run_checks(*options):
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:warnings']
    run = subprocess.run(
        [*command, CHECKS, *options], cwd=ROOT, text=True, capture_output=True
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert ' passed' in run.stdout


def test_model_on_a_device_without_numbers():
    run_checks('-k', ' and '.join(f'not [{name}]' for name in OTHERS))


@pytest.mark.slow
def test_the_other_backbones_and_windows():
    others = ' or '.join(f'[{name}]' for name in OTHERS)
    run_checks('-m', '', '-k', f'{others} or predicted_window')
