# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Labelling with the actors of a local Ray, one of which is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ..test_apis.conftest import checkpoint  # noqa: F401  (a fixture)
from ..test_tools.test_label_videos import Farm

ROOT = Path(__file__).parents[2]


def actors():
    """Processes of actors that have begun to work."""
    return [
        process
        for process in psutil.process_iter(['cmdline'])
        if 'LabelActor' in ' '.join(process.info['cmdline'] or ())
    ]


@pytest.mark.slow
def test_a_killed_actor_loses_nothing(tmp_path, checkpoint):  # noqa: F811
    pytest.importorskip('ray', reason='needs ray[data]')
    lines = int(os.environ.get('RAY_LINES', 400))
    farm = Farm(tmp_path, checkpoint, videos=20, lines=lines)
    process = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / 'projects/ray_labelling/label.py')),
            *(str(farm.manifest), str(farm.out), '--actors', '2'),
            *('--config', str(tmp_path / 'tiny.py')),
            *('--checkpoint', str(checkpoint)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    farm.wait_for(lines // 4, process)
    victim, *others = actors()
    assert others
    victim.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "'failed': 1" in output
    farm.check()
