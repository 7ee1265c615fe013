# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
from pathlib import Path

import pytest
from mmengine.registry import init_default_scope


@pytest.fixture(autouse=True)
def default_scope():
    init_default_scope('referformer')


@pytest.fixture(scope='session')
def golden_dir() -> Path:
    return Path(__file__).parents[1] / 'data' / 'golden'
