# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Arithmetic on sizes that may be symbolic.

While a model is recorded for export, the sides of a tensor are no plain
numbers: ``torch.SymInt`` (``torch.export``) or tensors (``torch.jit.trace``).
Python's ``min`` would compare the sizes at hand and record the winner.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Size = int | torch.SymInt | Tensor


def smaller(a: Size, b: Size) -> Size:
    """The smaller of two sizes."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.minimum(*map(torch.as_tensor, (a, b)))
    return torch.sym_min(a, b)


def larger(a: Size, b: Size) -> Size:
    """The larger of two sizes."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.maximum(*map(torch.as_tensor, (a, b)))
    return torch.sym_max(a, b)


def multiples(size: Size, step: Size) -> Size:
    """How many steps cover a size.

    Integers of ONNX are divided towards zero, so no negative one is.
    """
    return named((size + step - 1) // step)


def named(size: Size, least: int = 1, most: int | None = None) -> Size:
    """The same size; for ``torch.export`` a symbol instead of a formula.

    Formulas of the sides of the frames grow from stage to stage, beyond what
    sympy can handle. A tensor passes on the value without the formula.

    Args:
        size (int | SymInt | Tensor): The size.
        least (int): A lower bound.
        most (int, optional): An upper bound.
    """
    if not _is_formula(size):
        return size
    size = torch.full((), size, dtype=torch.int64).item()
    torch._check(size >= least)
    if most is not None:
        torch._check(size <= most)
    return size


def with_size(x: Tensor, axis: int, size: Size) -> Tensor:
    """Write the size of an axis, which is known to be ``size``, in this way.

    Only ``torch.export`` sees a difference: a shorter formula.
    """
    if not _is_formula(size):
        return x
    return x.index_select(axis, torch.arange(size, device=x.device))


def _is_formula(size: Size) -> bool:
    return isinstance(size, torch.SymInt) and torch.compiler.is_exporting()


def as_tensor(sizes: Any, device: torch.device) -> Tensor:
    """Sizes, or nested sequences of them, as an int64 tensor."""
    if isinstance(sizes, Sequence):
        return torch.stack([as_tensor(size, device) for size in sizes])
    if isinstance(sizes, Tensor):
        return sizes.to(device, torch.int64)
    return torch.full((), sizes, dtype=torch.int64, device=device)


def of_all_frames(tensor: Tensor, num_frames: Size) -> Tensor:
    """Repeat what belongs to clips, (N, ...), for their frames, (N * T, ...).

    Of a single clip no copy is made.
    """
    shape = (-1, num_frames, *tensor.shape[1:])
    return tensor.unsqueeze(1).expand(shape).flatten(0, 1)
