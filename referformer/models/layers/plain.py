# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Modules that may be replaced by a product with their weights."""

from torch import nn


def is_plain(kind: type[nn.Module], *modules: nn.Module) -> bool:
    """Tell whether modules compute what their class says, and no more.

    Adapters and quantisation change the class, others add hooks. Such modules
    have to be called.

    Args:
        kind (type): Class of the modules; subclasses do not count.
        *modules (nn.Module): The modules.
    """
    return all(
        type(module) is kind
        and not module._forward_pre_hooks
        and not module._forward_hooks
        for module in modules
    )
