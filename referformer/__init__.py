# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""ReferFormer: referring video object segmentation on OpenMMLab.

Importing the package itself imports neither torch nor mmengine, so that file
formats, scores and command-line help work without them and without waiting.
"""

from importlib import import_module
from typing import Any

from referformer.utils.foreign_imports import patch_foreign_imports
from referformer.utils.mmcv_extension import replace_missing_extension
from referformer.version import __version__

replace_missing_extension()
patch_foreign_imports()

__all__ = ['__version__', 'registry']


def __getattr__(name: str) -> Any:
    if name == 'registry':
        return import_module('referformer.registry')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
