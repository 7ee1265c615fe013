# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""mmcv without compiled operators.

``mmcv-lite``, and mmcv built without operators, hold all of mmcv but its
compiled extension ``mmcv._ext``. mmdet imports ``mmcv.ops``, and that module
looks its operators up when it is imported. On CPUs this project calls none of
them, so a module that has every name, and says what is missing when one is
called, is enough.
"""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

from referformer.errors import MissingPackageError

__all__ = ['has_compiled_operators', 'replace_missing_extension']

_NAME = 'mmcv._ext'


class _MissingExtension(ModuleType):
    """Has a function of every name; each of them fails when called."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise MissingPackageError(
                f'mmcv.ops.{name} needs an mmcv with compiled operators, and '
                'the installed one has none',
                value=name,
                remedy='run: MMCV_WITH_OPS=1 bash tools/setup_env.sh '
                '(docs/cuda.md).',
            )

        return missing


def has_compiled_operators() -> bool:
    """Tell whether the installed mmcv has its compiled extension.

    Looks at files; neither mmcv nor the extension is imported.
    """
    mmcv = find_spec('mmcv')
    if mmcv is None or mmcv.submodule_search_locations is None:
        return False
    folders = mmcv.submodule_search_locations
    return PathFinder.find_spec(_NAME, folders) is not None


def replace_missing_extension() -> None:
    """Make ``import mmcv.ops`` work where mmcv has no compiled extension.

    Nothing happens without mmcv, with a compiled one, or where something has
    taken the place of the extension already.
    """
    if _NAME in sys.modules or find_spec('mmcv') is None:
        return
    if has_compiled_operators():
        return
    module = _MissingExtension(_NAME)
    # No loader: mmengine asks the specification whether mmcv is compiled.
    module.__spec__ = ModuleSpec(_NAME, None)
    sys.modules[_NAME] = module
