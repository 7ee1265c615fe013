# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
# The style in which classes are imported instead of named.
from mmengine.config import read_base
from torch.optim import AdamW

with read_base():
    from .pure_python_base import *  # noqa: F403

model.update(queries=dict(type=ConditionalQueries, num_queries=3,  # noqa: F405
                          embed_dims=64))
optim_wrapper = dict(optimizer=dict(type=AdamW, lr=1e-4))
