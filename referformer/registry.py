# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Registries of this package, children of mmengine's root registries.

A config with ``default_scope = 'referformer'`` finds our components by their
bare name and every other OpenMMLab component by its prefixed one
(``mmdet.Resize``). From inside another package's config, ours are reached as
``referformer.<Name>`` once ``referformer`` has been imported.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='referformer',
    locations=['referformer.models'],
)
TASK_UTILS = Registry(
    'task util',
    parent=MMENGINE_TASK_UTILS,
    scope='referformer',
    locations=['referformer.models'],
)
DATASETS = Registry(
    'dataset',
    parent=MMENGINE_DATASETS,
    scope='referformer',
    locations=['referformer.datasets'],
)
DATA_SAMPLERS = Registry(
    'data sampler',
    parent=MMENGINE_DATA_SAMPLERS,
    scope='referformer',
    locations=['referformer.engine'],
)
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='referformer',
    locations=['referformer.datasets.transforms'],
)
METRICS = Registry(
    'metric',
    parent=MMENGINE_METRICS,
    scope='referformer',
    locations=['referformer.evaluation'],
)
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='referformer',
    locations=['referformer.engine'],
)
VISUALIZERS = Registry(
    'visualizer',
    parent=MMENGINE_VISUALIZERS,
    scope='referformer',
    locations=['referformer.visualization'],
)

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'HOOKS',
    'METRICS',
    'MODELS',
    'TASK_UTILS',
    'TRANSFORMS',
    'VISUALIZERS',
]
