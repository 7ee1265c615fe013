# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A tiny model and tiny videos."""

import pytest
import torch

from referformer.apis import ReferInferencer
from referformer.testing import tiny_model_cfg
from tests.fixtures.videos import PIPELINE

from ..test_models.helpers import build_model


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    """Weights of a model in which nothing is a special case."""
    path = tmp_path_factory.mktemp('weights') / 'tiny.pth'
    torch.save({'state_dict': build_model().state_dict()}, path)
    return path


@pytest.fixture(scope='session')
def config():
    return dict(model=tiny_model_cfg(), test_pipeline=PIPELINE)


@pytest.fixture(scope='session')
def inferencer(config, checkpoint):
    return ReferInferencer(config, checkpoint, 'cpu', show_progress=False)
