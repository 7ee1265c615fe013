# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Memory for time: activations that are computed twice."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


def run_layer(
    layer: Callable, with_cp: bool, *args: Any, **kwargs: Any
) -> Any:
    """Call a layer, with or without keeping what is in it.

    Args:
        layer (Callable): Module or function to call.
        with_cp (bool): Whether to compute its activations again in the
            backward pass, with the same dropout, instead of keeping them.
        args: Its arguments.
        kwargs: Its arguments by name.

    Returns:
        Any: What it returns.
    """
    if with_cp and torch.is_grad_enabled():
        return checkpoint(layer, *args, use_reentrant=False, **kwargs)
    return layer(*args, **kwargs)
