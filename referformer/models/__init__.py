# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Registered parts of the model."""

from referformer.checkpoints.mmengine_loader import use_safe_loading
from referformer.models.backbones import *  # noqa: F403
from referformer.models.data_preprocessors import *  # noqa: F403
from referformer.models.fusion import *  # noqa: F403
from referformer.models.heads import *  # noqa: F403
from referformer.models.losses import *  # noqa: F403
from referformer.models.pixel_decoders import *  # noqa: F403
from referformer.models.referformer import ReferFormer
from referformer.models.task_modules import *  # noqa: F403
from referformer.models.text_encoders import *  # noqa: F403
from referformer.models.transformers import *  # noqa: F403

# also for models built outside a Runner: init_cfg may name a file
use_safe_loading()

__all__ = ['ReferFormer']
