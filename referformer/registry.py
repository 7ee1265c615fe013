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

from mmengine import registry as roots  # noqa: E402
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
