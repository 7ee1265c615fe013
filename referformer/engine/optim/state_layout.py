# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Optimizer and schedule states of earlier versions, for resuming."""

from itertools import chain
from typing import Any, NamedTuple

from torch import Tensor, nn

from referformer.models.layers import MultiheadAttention


class StateLayout(NamedTuple):
    """Where the state of each trained tensor is in a checkpoint.

    Earlier versions kept a parameter group of every tensor, and query, key
    and value projections of an attention layer as one tensor. Tensors are
    numbered in the order of ``model.named_parameters()``.

    Attributes:
        groups (list[list[int]]): Tensors of each parameter group of today.
        joint (list[list[int]]): Tensors of today that each tensor of the
            earlier versions became: itself, or three projections.
    """

    groups: list[list[int]]
    joint: list[list[int]]

    def fit_optimizer(self, state: dict[str, Any]) -> dict[str, Any]:
        """Rearrange the state of an optimizer.

        Args:
            state (dict): What :meth:`torch.optim.Optimizer.state_dict` gave.
                A state of today is returned as it is, as is one of another
                model, which the optimizer then refuses.

        Returns:
            dict: The same state for the groups of today.
        """
        settings, values = state['param_groups'], state['state']
        if len(settings) == len(self.groups):
            return state
        if len(settings) == len(self.joint):
            settings = self._split(settings)
            values = {
                tensor: _part(values[number], place, len(tensors))
                for number, tensors in enumerate(self.joint)
                if number in values
                for place, tensor in enumerate(tensors)
            }
        order = list(chain.from_iterable(self.groups))
        if len(settings) != len(order):
            return state
        place = {tensor: number for number, tensor in enumerate(order)}
        return {
            **state,
            'state': {place[k]: value for k, value in values.items()},
            'param_groups': [
                {**settings[group[0]], 'params': [place[t] for t in group]}
                for group in self.groups
            ],
        }

    def fit_scheduler(self, state: dict[str, Any]) -> dict[str, Any]:
        """Rearrange the state of a parameter scheduler likewise.

        Args:
            state (dict): What its ``state_dict`` gave: two of its values are
                lists with an entry per parameter group.

        Returns:
            dict: The same state for the groups of today.
        """
        fitted = dict(state)
        for key in ('base_values', '_last_value'):
            values = list(state.get(key, ()))
            # mmengine appends the settings without multipliers
            for former in (self.joint, [*chain.from_iterable(self.groups)]):
                if len(values) == len(former) + 1 != len(self.groups) + 1:
                    *values, base = values
                    if former is self.joint:
                        values = self._split(values)
                    values = [values[group[0]] for group in self.groups]
                    # ... unless there is a single group
                    fitted[key] = values + [base] * (len(values) > 1)
                    break
        return fitted

    def _split(self, entries: list) -> list:
        """Entries per tensor of today from those of earlier versions."""
        by_tensor = {
            tensor: entry
            for entry, tensors in zip(entries, self.joint, strict=True)
            for tensor in tensors
        }
        return [by_tensor[tensor] for tensor in range(len(by_tensor))]


def _part(state: dict[str, Any], place: int, parts: int) -> dict[str, Any]:
    """State of one of the tensors that a joint tensor became."""
    own = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            # the count of steps is a scalar, one for each of them
            value = value.chunk(parts)[place] if value.dim() else value
            value = value.clone()
        own[key] = value
    return own


def joint_tensors(model: nn.Module) -> list[list[int]]:
    """Tell which trained tensors were one in earlier versions.

    Args:
        model (nn.Module): The model.

    Returns:
        list[list[int]]: See :attr:`StateLayout.joint`.
    """
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    number = {name: i for i, name in enumerate(names)}
    stems = [
        f'{name}.' if name else ''
        for name, module in model.named_modules()
        if isinstance(module, MultiheadAttention)
    ]
    joined = {
        f'{stem}{part}_proj.{kind}'
        for stem in stems
        for part in 'qkv'
        for kind in ('weight', 'bias')
    }
    joint = []
    for name in names:
        if name not in joined:
            joint.append([number[name]])
        elif '.q_proj.' in f'.{name}':
            stem, kind = name.rsplit('q_proj.', 1)
            parts = [f'{stem}{part}_proj.{kind}' for part in 'qkv']
            joint.append([number[part] for part in parts])
    return joint
