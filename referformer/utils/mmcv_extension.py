# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""mmcv without compiled operators.

``mmcv-lite`` holds all of mmcv but its compiled extension, ``mmcv._ext``.
mmdet imports ``mmcv.ops``, and that module looks its operators up when it is
imported. On CPUs this project calls none of them, so a module that has every
name, and says what is missing when one is called, is enough.
"""

import sys
from collections.abc import Callable
from importlib import metadata
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from referformer.errors import MissingPackageError

_NAME = 'mmcv._ext'


class _MissingExtension(ModuleType):
    """Has a function of every name; each of them fails when called."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise MissingPackageError(
                f'mmcv.ops.{name} needs compiled mmcv, but mmcv-lite is '
                'installed; run: pip uninstall mmcv-lite && MMCV_WITH_OPS=1 '
                'pip install --no-build-isolation mmcv==2.1.0'
            )

        return missing


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def has_compiled_operators() -> bool:
    """Tell whether mmcv's compiled operators can be called.

    Returns:
        bool: False with mmcv-lite, or without mmcv.
    """
    if isinstance(sys.modules.get(_NAME), _MissingExtension):
        return False
    return _is_installed('mmcv') or _is_installed('onedl-mmcv')


def replace_missing_extension() -> None:
    """Make ``import mmcv.ops`` work where mmcv-lite is installed.

    Nothing happens where a compiled mmcv is, or where the extension has been
    imported already.
    """
    if _NAME in sys.modules or not _is_installed('mmcv-lite'):
        return
    if _is_installed('mmcv') or _is_installed('onedl-mmcv'):
        return
    module = _MissingExtension(_NAME)
    # No loader: mmengine asks the specification whether mmcv is compiled.
    module.__spec__ = ModuleSpec(_NAME, None)
    sys.modules[_NAME] = module
