# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Less memory for the same results: recomputation, work in parts."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from referformer.utils.kept import is_traced


def call_checkpointed(
    function: Callable, with_cp: bool, *args: Any, **kwargs: Any
) -> Any:
    """Call a function with activation checkpointing where that is wanted.

    Args:
        function (Callable): Module or function to call.
        with_cp (bool): Whether to compute its activations again in the
            backward pass, with the same dropout, instead of keeping them.
        *args (Any): Its arguments.
        **kwargs (Any): Its arguments by name.
    """
    if with_cp and torch.is_grad_enabled():
        return checkpoint(function, *args, use_reentrant=False, **kwargs)
    return function(*args, **kwargs)


def call_in_parts(function: Callable[..., Tensor], *tokens: Tensor) -> Tensor:
    """Call a function on some tokens after the other.

    For functions that treat every token on its own. On CPU what follows from
    a part then stays in the cache, on other devices it stays below 1 GiB. In
    training on CPU, gradients of weights are summed up over the parts, so
    that few and larger parts are faster.

    Args:
        function (Callable): Takes and returns tokens, shape (..., P, C).
        tokens (Tensor): Its arguments, shape (..., L, C) each.

    Returns:
        Tensor: ``function(*tokens)``, shape (..., L, C).
    """
    if is_traced():  # the number of parts may vary
        return function(*tokens)
    size = 2**16
    if tokens[0].device.type == 'cpu':
        size = 2**13 if torch.is_grad_enabled() else 2**10
        size = max(1, size // tokens[0].shape[:-2].numel())
    if tokens[0].shape[-2] <= size:
        return function(*tokens)
    parts = zip(*(x.split(size, -2) for x in tokens), strict=True)
    return torch.cat([function(*part) for part in parts], -2)
