# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Registries of this package, children of mmengine's root registries.

A config with ``default_scope = 'referformer'`` finds our components by their
bare name and every other OpenMMLab component by its prefixed one
(``mmdet.Resize``). From inside another package's config, ours are reached as
``referformer.<Name>`` once ``referformer`` has been imported.
"""

# The check comes before everything that imports mmengine, so that a missing
# or foreign version is reported in words instead of a traceback from inside.
from referformer.utils.versions import check_versions

check_versions()

import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import suppress  # noqa: E402
from importlib import import_module  # noqa: E402

from mmengine import registry as roots  # noqa: E402
from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402
from mmengine.registry import Registry  # noqa: E402

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'EVALUATOR',
    'HOOKS',
    'LOG_PROCESSORS',
    'LOOPS',
    'METRICS',
    'MODELS',
    'MODEL_WRAPPERS',
    'OPTIMIZERS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'PARAM_SCHEDULERS',
    'RUNNERS',
    'TASK_UTILS',
    'TRANSFORMS',
    'VISBACKENDS',
    'VISUALIZERS',
    'WEIGHT_INITIALIZERS',
    'is_registered',
    'registries_like',
]


def _child(parent: Registry, *packages: str) -> Registry:
    """Make a registry whose components are in these packages of ours."""
    locations = [f'referformer.{name}' for name in packages]
    return Registry(
        parent.name, parent=parent, scope='referformer', locations=locations
    )


MODELS = _child(roots.MODELS, 'models')
TASK_UTILS = _child(roots.TASK_UTILS, 'models', 'prediction')
DATASETS = _child(roots.DATASETS, 'datasets')
DATA_SAMPLERS = _child(roots.DATA_SAMPLERS, 'engine')
TRANSFORMS = _child(roots.TRANSFORMS, 'datasets.transforms')
METRICS = _child(roots.METRICS, 'evaluation.metrics')
HOOKS = _child(roots.HOOKS, 'engine')
LOOPS = _child(roots.LOOPS, 'engine')
OPTIM_WRAPPERS = _child(roots.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(roots.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
VISUALIZERS = _child(roots.VISUALIZERS, 'visualization')

# Without components of ours. They exist because mmengine warns, on every
# start, of each registry in which it does not find the default scope.
EVALUATOR = _child(roots.EVALUATOR)
LOG_PROCESSORS = _child(roots.LOG_PROCESSORS)
MODEL_WRAPPERS = _child(roots.MODEL_WRAPPERS)
OPTIMIZERS = _child(roots.OPTIMIZERS)
PARAM_SCHEDULERS = _child(roots.PARAM_SCHEDULERS)
RUNNERS = _child(roots.RUNNERS)
VISBACKENDS = _child(roots.VISBACKENDS)
WEIGHT_INITIALIZERS = _child(roots.WEIGHT_INITIALIZERS)


def registries_like(registry: Registry) -> Iterator[tuple[str, Registry]]:
    """Yield our registry and those of other packages, with their prefixes."""
    yield '', registry
    yield '', registry.root
    for scope, child in registry.root.children.items():
        yield f'{scope}.', child


def is_registered(name: object, *registries: Registry) -> bool:
    """Return whether a type of a config names a component that is known.

    For any other name, a registry of mmengine imports what has this path:
    ``dict(type='os.system', command=...)`` runs the command.

    Args:
        name: The type, as a config from elsewhere has it.
        *registries: Ours, in which it may be.
    """
    if not isinstance(name, str):
        return False
    scope = name.split('.')[0]
    if scope in MODULE2PACKAGE:
        with suppress(ImportError):
            import_module(f'{scope}.registry')
    module, _, attribute = name.rpartition('.')
    # as a config in the pure Python style has it
    imported = getattr(sys.modules.get(module), attribute, None)
    for registry in registries:
        for prefix, found in registries_like(registry):
            with suppress(ImportError):
                found.import_from_location()
            own = prefix or f'{found.scope}.'
            bare = name.removeprefix(own)
            if bare in found.module_dict and name in (
                prefix + bare,
                own + bare,
            ):
                return True
            if imported and found.module_dict.get(attribute) is imported:
                return True
    return False
