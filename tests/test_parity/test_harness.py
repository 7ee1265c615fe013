# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The harness takes whatever a folder of cases holds."""

import inspect

import numpy as np
import pytest

from . import test_golden
from .golden_case import GoldenCase, find_cases
from .recording import record_case

NAME = 'r50_alone'
CHECKS = [
    check
    for name, check in inspect.getmembers(test_golden, inspect.isfunction)
    if name.startswith('test_')
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """One clip of two frames, and no ``r50.npz``."""
    folder = tmp_path_factory.mktemp('golden')
    record_case(folder, NAME, [(64, 90)], num_frames=2)
    return folder


@pytest.fixture(scope='module')
def case(folder):
    return GoldenCase(folder, NAME)


def test_the_folder_is_read(folder, case):
    assert find_cases(folder) == [NAME]
    assert case.batch.shape == (1, 2, 3, 64, 96)
    assert case.targets.valid.all()


@pytest.mark.parametrize('check', CHECKS, ids=lambda check: check.__name__)
def test_one_clip(case, check):
    check(case)


def test_a_wrong_gradient_is_noticed(case):
    parameter = case.model.neck.convs[0].conv.weight
    assert case.losses
    parameter.grad *= 1.01
    with pytest.raises(AssertionError, match='input_proj'):
        test_golden.test_gradient_norms(case)


def test_a_wrong_prediction_is_noticed(case):
    record = dict(case.record)
    case.record['out/pred_boxes'] = record['out/pred_boxes'] + np.float32(1e-3)
    with pytest.raises(AssertionError, match='relative error'):
        test_golden.test_predictions(case)
    case.record = record
