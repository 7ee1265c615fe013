# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Parameters with equal settings merged into one group."""

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from referformer.engine.optim.state_layout import StateLayout, joint_tensors
from referformer.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor with one group for each distinct setting.

    mmengine makes a parameter group of every tensor as soon as
    ``paramwise_cfg`` is used, and an optimizer launches its kernels group by
    group: hundreds of launches where a handful do. Here tensors with equal
    settings share a group, and the optimizer runs fused where it can.

    Checkpoints of earlier versions resume: the optimizer rearranges their
    state when it is loaded, see :class:`StateLayout`.

    Args: see :class:`mmengine.optim.DefaultOptimWrapperConstructor`.
    """

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add the parameters of a module, merged for the whole model."""
        super().add_params(params, module, prefix, is_dcn_module)
        if not prefix:
            params[:] = merge_groups(params)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer of a model.

        Raises:
            KeyError: If there is no such optimizer.
        """
        kind = self.optimizer_cfg['type']
        if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
            # mmengine would inspect None; building it says what is wrong
            OPTIMIZERS.build(self.optimizer_cfg)
        if 'fused' not in self.optimizer_cfg and self._can_fuse(model):
            self.optimizer_cfg = {**self.optimizer_cfg, 'fused': True}
        wrapper = super().__call__(model)
        groups = [
            group.pop('tensors')
            for group in wrapper.optimizer.param_groups
            if 'tensors' in group
        ]
        if groups:
            layout = StateLayout(groups, joint_tensors(model))
            wrapper.state_layout = layout
            wrapper.optimizer.register_load_state_dict_pre_hook(
                lambda optimizer, state: layout.fit_optimizer(state)
            )
        return wrapper

    def _can_fuse(self, model: nn.Module) -> bool:
        """Whether the optimizer has a fused kernel for this model."""
        return self.optimizer_cfg['type'] in ('Adam', 'AdamW', 'SGD') and all(
            (param.is_cuda or param.is_cpu) and torch.is_floating_point(param)
            for param in model.parameters()
            if param.requires_grad
        )


def merge_groups(groups: list[dict]) -> list[dict]:
    """Merge the groups whose settings are equal.

    Args:
        groups (list[dict]): Parameter groups of one tensor each.

    Returns:
        list[dict]: Groups in the order in which their settings first occur.
        The key ``tensors`` lists the positions of the merged groups.
    """
    merged: dict[tuple, dict] = {}
    for position, group in enumerate(groups):
        settings = {k: v for k, v in group.items() if k != 'params'}
        key = tuple(sorted((k, repr(v)) for k, v in settings.items()))
        into = merged.setdefault(
            key, {'params': [], **settings, 'tensors': []}
        )
        into['params'] += group['params']
        into['tensors'].append(position)
    return list(merged.values())
