# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Tensors that depend on shapes alone are computed once and kept.

A recorded CUDA graph reads memory by its address. While it is recorded, it
has to take a reference to every kept tensor that it reads; otherwise a tensor
that is dropped for newer ones would be freed under it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from types import NoneType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from referformer.utils.transfer import send

P = ParamSpec('P')
R = TypeVar('R')
_holder: ContextVar[list[Any] | None] = ContextVar('holder', default=None)


def kept(maxsize: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keep the results of a function, at most ``maxsize`` of them.

    Args:
        maxsize (int): Results to keep; the ones used last stay.

    Returns:
        Callable: A decorator. Arguments of the function must be hashable.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @lru_cache(maxsize)
        def compute(*args: P.args) -> R:
            # also used for gradients, whoever asks first
            with torch.inference_mode(False), torch.no_grad():
                return function(*args)

        @wraps(function)
        def call(*args: P.args) -> R:
            value = compute(*args)
            held = _holder.get()
            if held is not None:
                held.append(value)
            return value

        call.cache_clear = compute.cache_clear
        return call

    return decorate


@contextmanager
def hold_what_is_kept() -> Iterator[list[Any]]:
    """Collect references to the kept values that are used in the context.

    Yields:
        list: The values so far.
    """
    held: list[Any] = []
    token = _holder.set(held)
    try:
        yield held
    finally:
        _holder.reset(token)


def is_traced(tensor: Tensor | None = None) -> bool:
    """Tell whether operations on a tensor are recorded instead of run.

    That is so under ``torch.compile``, ``torch.export``, ``torch.jit.trace``
    and for fake tensors. What is kept must not come from there.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or type(tensor) not in (Tensor, torch.nn.Parameter, NoneType)
    )


@kept(maxsize=512)
def _keep_numbers(
    numbers: tuple, dtype: torch.dtype, device: torch.device
) -> Tensor:
    return send(torch.tensor(numbers, dtype=dtype), device)


def numbers_on_device(
    numbers: tuple, dtype: torch.dtype, like: Tensor
) -> Tensor:
    """A few numbers as a tensor, which is kept and must not be changed.

    Args:
        numbers (tuple): Numbers, or equally long tuples of numbers.
        dtype (torch.dtype): Type of the result.
        like (Tensor): A tensor on the device in question.
    """
    if is_traced(like):
        return send(torch.tensor(numbers, dtype=dtype), like.device)
    return _keep_numbers(numbers, dtype, like.device)
