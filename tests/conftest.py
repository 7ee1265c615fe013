# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Options, markers and the state every test starts from."""

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos
from referformer.utils.parallel import count_cores

DEFAULT_GOLDEN_DIR = Path(__file__).parent / 'data' / 'golden'

SYNTHETIC_PARAMS = SyntheticParams(
    train_videos=12, valid_videos=4, frames=8, height=48, width=80, seed=3
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        '--golden-dir',
        type=Path,
        default=DEFAULT_GOLDEN_DIR,
        help='folder of the recorded numbers (default: tests/data/golden)',
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What ``-n auto`` means: also here, cores that containers allow."""
    return count_cores()


def pytest_configure(config: pytest.Config) -> None:
    # Small tensors: a team of threads costs more than it gives, most of all
    # when tests start further processes.
    if 'OMP_NUM_THREADS' not in os.environ:
        os.environ['OMP_NUM_THREADS'] = '1'
        torch.set_num_threads(1)
    # So long torch waits for each worker of a loader that is collected in a
    # cycle of references, as that of a Runner is, and then ends it.
    torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5
    golden_dir = config.getoption('--golden-dir')
    if not golden_dir.is_dir() and golden_dir != DEFAULT_GOLDEN_DIR:
        raise pytest.UsageError(f'--golden-dir {golden_dir} is not a folder')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason='no CUDA device')
    for item in items:
        if 'cuda' in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope='session')
def golden_dir(request: pytest.FixtureRequest) -> Path:
    """Folder of the recorded numbers."""
    return request.config.getoption('--golden-dir').resolve()


@pytest.fixture(autouse=True)
def _fresh_state() -> None:
    """The default scope and the seeds are the same for every test."""
    from mmengine.registry import init_default_scope

    import referformer.engine  # noqa: F401  (installs the safe loader)

    init_default_scope('referformer')
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def synthetic_params() -> SyntheticParams:
    return SYNTHETIC_PARAMS


@pytest.fixture(scope='session')
def synthetic_root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('data') / 'synthetic'
    return make_synthetic_rvos(out, SYNTHETIC_PARAMS, progress=False)
