# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Parameter groups as few as the settings they differ in."""

from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from referformer.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor with one group for each distinct setting.

    mmengine makes a parameter group of every tensor as soon as
    ``paramwise_cfg`` is used, and an optimizer launches its kernels group by
    group: hundreds of launches where a handful do. Here tensors with equal
    settings share a group, and on CUDA the optimizer runs fused where it can.

    Checkpoints of a run with one group per tensor resume: the optimizer
    rearranges their state when it is loaded, see
    :func:`merge_optimizer_state`; their schedules are rearranged by
    :func:`merge_scheduler_state`.

    Args: see :class:`mmengine.optim.DefaultOptimWrapperConstructor`.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add the parameters of a module, merged for the whole model.

        Args:
            params (list[dict]): Groups, changed in place.
            module (nn.Module): The module.
            prefix (str): Its name; empty for the whole model.
            is_dcn_module (int | float, optional): See the base class.
        """
        super().add_params(params, module, prefix, is_dcn_module)
        if not prefix:
            params[:] = merge_groups(params)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer of a model.

        Args:
            model (nn.Module): The model, on the device to train on.

        Returns:
            OptimWrapper: As configured.
        """
        if 'fused' not in self.optimizer_cfg and self._can_fuse(model):
            self.optimizer_cfg = {**self.optimizer_cfg, 'fused': True}
        wrapper = super().__call__(model)
        sources = [
            group.pop('sources')
            for group in wrapper.optimizer.param_groups
            if 'sources' in group
        ]
        if sources:
            wrapper.merged_groups = sources
            wrapper.optimizer.register_load_state_dict_pre_hook(
                lambda optimizer, state: merge_optimizer_state(state, sources)
            )
        return wrapper

    def _can_fuse(self, model: nn.Module) -> bool:
        """Whether the optimizer has a fused kernel for this model."""
        return self.optimizer_cfg['type'] in ('Adam', 'AdamW', 'SGD') and all(
            param.is_cuda and torch.is_floating_point(param)
            for param in model.parameters()
            if param.requires_grad
        )


def merge_groups(groups: list[dict]) -> list[dict]:
    """Merge the groups whose settings are equal.

    Args:
        groups (list[dict]): Parameter groups, one tensor or more each.

    Returns:
        list[dict]: Groups in the order in which their settings first occur.
        The key ``sources`` lists the positions of the merged groups.
    """
    merged: dict[tuple, dict] = {}
    for position, group in enumerate(groups):
        settings = {k: v for k, v in group.items() if k != 'params'}
        key = tuple(sorted((k, repr(v)) for k, v in settings.items()))
        into = merged.setdefault(
            key, {'params': [], **settings, 'sources': []}
        )
        into['params'] += group['params']
        into['sources'].append(position)
    return list(merged.values())


def merge_optimizer_state(
    state: dict[str, Any], sources: list[list[int]]
) -> dict[str, Any]:
    """Rearrange the saved state of an optimizer with a group per tensor.

    Args:
        state (dict): What :meth:`torch.optim.Optimizer.state_dict` gave,
            then; returned as it is when its groups are merged already.
        sources (list[list[int]]): Positions of the former groups that each
            group of today is made of.

    Returns:
        dict: The same state for the groups of today.
    """
    former = state['param_groups']
    if len(former) != sum(map(len, sources)) or len(former) == len(sources):
        return state
    groups, moved = [], {}
    for positions in sources:
        params = []
        for position in positions:
            for param in former[position]['params']:
                number = len(moved)
                moved[param] = number
                params.append(number)
        groups.append({**former[positions[0]], 'params': params})
    return {
        **state,
        'param_groups': groups,
        'state': {
            moved[param]: value for param, value in state['state'].items()
        },
    }


def merge_scheduler_state(
    state: dict[str, Any], sources: list[list[int]]
) -> dict[str, Any]:
    """Rearrange the saved state of a parameter scheduler likewise.

    Args:
        state (dict): What its ``state_dict`` gave: some values are lists
            with an entry per group.
        sources (list[list[int]]): As for :func:`merge_optimizer_state`.

    Returns:
        dict: The same state for the groups of today.
    """
    former = sum(map(len, sources))
    if former == len(sources):
        return state
    merged = dict(state)
    for key in ('base_values', '_last_value'):
        values = state.get(key, ())
        if len(values) < former:
            continue
        merged[key] = [values[positions[0]] for positions in sources]
        # mmengine appends the settings without multipliers, unless there is
        # a single group
        if len(sources) > 1:
            merged[key] += values[former:]
    return merged
