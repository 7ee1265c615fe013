# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Twelve steps of the published training, followed with the configs here."""

from pathlib import Path

import numpy as np
import pytest

from .trajectory import Trajectory, find_trajectories


def pytest_generate_tests(metafunc):
    folder = Path(metafunc.config.getoption('--golden-dir'))
    metafunc.parametrize('name', find_trajectories(folder))


def test_training_follows_the_record(golden_dir, name):
    trajectory = Trajectory(golden_dir, name)
    steps = range(len(trajectory.expected_steps))
    actual = np.array([trajectory.step(s) for s in steps])
    error = np.abs(actual / trajectory.expected_steps - 1)
    # rounding grows from step to step, and more so in gradients
    (loss, norm), (last_loss, last_norm) = error[:4].max(0), error.max(0)
    assert loss < 2e-5
    assert norm < 1e-4
    assert last_loss < 1.2e-3
    assert last_norm < 2e-2
    norms = trajectory.norms()
    expected = trajectory.expected_norms
    assert expected.keys() <= norms.keys()
    for key, value in expected.items():
        assert norms[key] == pytest.approx(value, rel=2e-5), key
