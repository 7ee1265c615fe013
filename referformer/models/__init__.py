# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Registered parts of the model."""

from referformer.utils.checkpoint import use_safe_loading

from .backbones import *  # noqa: F403
from .data_preprocessors import *  # noqa: F403
from .fusion import *  # noqa: F403
from .heads import *  # noqa: F403
from .losses import *  # noqa: F403
from .pixel_decoders import *  # noqa: F403
from .referformer import ReferFormer
from .task_modules import *  # noqa: F403
from .text_encoders import *  # noqa: F403
from .transformers import *  # noqa: F403

# also for models built outside a Runner: init_cfg may name a file
use_safe_loading()

__all__ = ['ReferFormer']
