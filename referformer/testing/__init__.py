# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Small models, made-up clips and drawn videos for tests and first trials.

Nothing here needs a network, a GPU, a dataset or weights. The names below are
imported when they are used, so that :mod:`referformer.testing.scenes` draws
videos without waiting for torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    'DEMO_TEXTS': 'inputs',
    'check_channels': 'trial',
    'demo_refer_inputs': 'inputs',
    'offline_model_cfg': 'models',
    'shrink_model_cfg': 'models',
    'tiny_model_cfg': 'models',
    'tiny_text_encoder_cfg': 'models',
    'try_config': 'trial',
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    home = import_module(f'{__name__}.{_HOMES[name]}')
    return getattr(home, name)
