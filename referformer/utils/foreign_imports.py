# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Imports of other packages, made to work and made short.

mmdet imports mmpretrain where it finds it. mmpretrain 1.2.0 then imports
its models of images and text, which fail with every transformers that this
project supports, and with them mmdet; and, as timm does, torchvision. The
backbones use neither: this project leaves the models out, and puts a
stand-in where torchvision is missing.

mmengine imports the training code of transformers for one optimizer, which
is imported here when it is used. Python searches for garbage a thousand times
while the large packages are imported; here it does not until they are.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

from referformer.errors import MissingPackageError

__all__ = ['patch_foreign_imports', 'stand_in_for_torchvision']


def patch_foreign_imports() -> None:
    """Make ``import mmpretrain.models``, hence ``mmdet.models``, work.

    Nothing is imported now: the modules are changed as they are imported.
    Calling it again changes nothing.
    """
    if not any(isinstance(finder, _Patches) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Patches())


class _Patches(MetaPathFinder):
    """Finds the modules that must be executed in another way."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        patch = _PATCHES.get(name)
        if patch is None:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = partial(patch, spec.loader.exec_module)
            spec.loader.exec_module = execute  # type: ignore[method-assign]
        return spec


def _without_torchvision(
    execute: Callable[[ModuleType], None], module: ModuleType
) -> None:
    with stand_in_for_torchvision():
        execute(module)


def _without_multimodal(
    execute: Callable[[ModuleType], None], module: ModuleType
) -> None:
    """Let mmpretrain believe that it lacks what BLIP and others need.

    They import functions that transformers has moved (BLIP of mmpretrain
    1.2.0, before 4.56) or removed (that of the fork, in 5.0).
    """
    # `import referformer` needs no other package
    from referformer.utils.versions import installed_version

    execute(module)
    version = installed_version('transformers') or ''
    if installed_version('mmpretrain') or not version.startswith('4.'):
        module.WITH_MULTIMODAL = False
        module.register_multimodal_placeholder = partial(
            _register_placeholders, version
        )


def _register_placeholders(
    version: str, names: Sequence[str], registry: Any
) -> None:
    from referformer.utils.versions import COMMON

    for name in names:

        def missing(*args: Any, name: str = name, **kwargs: Any) -> NoReturn:
            raise MissingPackageError(
                f"mmpretrain's {name} does not work with transformers "
                f'{version}, and referformer needs '
                f'{COMMON["transformers"].versions}',
                value=name,
                remedy='use it in an environment without referformer.',
            )

        registry.register_module(name=name, module=missing)


def _without_adafactor(
    execute: Callable[[ModuleType], None], module: ModuleType
) -> None:
    """Register Adafactor of transformers, which is imported when called.

    Its module imports that of the trainer, and with it peft, if installed.
    """
    before = sys.modules.get('transformers')
    sys.modules['transformers'] = None  # type: ignore[assignment]
    try:
        execute(module)
    finally:
        del sys.modules['transformers']
        if before is not None:
            sys.modules['transformers'] = before
    if find_spec('transformers') is not None:
        module.OPTIMIZERS.register_module(name='Adafactor', module=_adafactor)
        module.TRANSFORMERS_OPTIMIZERS.append('Adafactor')


def _adafactor(*args: Any, **kwargs: Any) -> Any:
    from transformers import Adafactor

    return Adafactor(*args, **kwargs)


def _without_garbage_collection(
    execute: Callable[[ModuleType], None], module: ModuleType
) -> None:
    # Of two threads, the one that found it enabled enables it again.
    if not gc.isenabled():
        execute(module)
        return
    gc.disable()
    try:
        execute(module)
    finally:
        gc.enable()


_LARGE = (
    *('torch', 'mmengine.model', 'mmengine.runner', 'mmdet.models'),
    'transformers.modeling_utils',
)
_PATCHES = {
    **dict.fromkeys(_LARGE, _without_garbage_collection),
    'mmengine.optim.optimizer.builder': _without_adafactor,
    'mmpretrain.utils.dependency': _without_multimodal,
    'mmpretrain.models.utils.box_utils': _without_torchvision,
    'mmpretrain.evaluation.metrics.visual_grounding_eval': (
        _without_torchvision
    ),
}


@contextmanager
def stand_in_for_torchvision() -> Iterator[None]:
    """Let ``import torchvision`` succeed in this block, if it is missing.

    For modules that import names of torchvision which a backbone does not
    call. Afterwards torchvision is missing again, since other packages look
    whether it is there; a name that was imported says so when it is called.
    """
    if find_spec('torchvision') is not None:
        yield
        return
    finder = _StandInFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [n for n in sys.modules if _is_torchvision(n)]:
            del sys.modules[name]


def _is_torchvision(name: str) -> bool:
    return name.split('.')[0] == 'torchvision'


class _StandInFinder(MetaPathFinder, Loader):
    """Makes torchvision and its modules, with every name in them."""

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if not _is_torchvision(name):
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandInModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _StandInModule(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith('__'):
            raise AttributeError(name)
        return _StandIn(name, (), {})


class _StandIn(type):
    """A class that can be named and derived from, but not called."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith('__'):
            raise AttributeError(name)
        return _StandIn(name, (), {})

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise MissingPackageError(
            f'{cls.__name__} needs torchvision, which is not installed',
            value=cls.__name__,
            remedy='install the torchvision that belongs to your torch.',
        )
