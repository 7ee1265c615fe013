# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
from pathlib import Path

import pytest
from mmengine.registry import init_default_scope

from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos

PARAMS = SyntheticParams(
    train_videos=12, valid_videos=4, frames=8, height=48, width=80, seed=3
)


@pytest.fixture(autouse=True)
def default_scope():
    init_default_scope('referformer')


@pytest.fixture(scope='session')
def synthetic_params() -> SyntheticParams:
    return PARAMS


@pytest.fixture(scope='session')
def synthetic_root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('data') / 'synthetic'
    return make_synthetic_rvos(out, PARAMS, progress=False)


@pytest.fixture(scope='session')
def golden_dir() -> Path:
    return Path(__file__).parents[1] / 'data' / 'golden'
