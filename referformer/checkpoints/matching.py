# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Whether a file holds the weights of a model, or of a part of one."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from referformer.checkpoints.published import split_joint_projections
from referformer.errors import CheckpointError

__all__ = ['Difference', 'compare_weights', 'require_matching_weights']

# a counter that only some versions of batch norm have
_COUNTER = re.compile(r'num_batches_tracked$')


class Difference(NamedTuple):
    """What keeps the weights of a file from being those of a module.

    Attributes:
        missing (list[str]): Names that only the module has.
        unknown (list[str]): Names that only the file has.
        misshaped (dict[str, str]): Name of a weight that both have, to its
            shapes in words.
        matching (int): How many weights both have in the same shape.
    """

    missing: list[str]
    unknown: list[str]
    misshaped: dict[str, str]
    matching: int

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.misshaped)

    def __str__(self) -> str:
        misshaped = [f'{n}: {shapes}' for n, shapes in self.misshaped.items()]
        return ', '.join(
            f'{len(names)} {fault} (such as {names[0]})'
            for names, fault in (
                (self.missing, 'weights are missing'),
                (misshaped, 'have another shape'),
                (self.unknown, 'are unknown'),
            )
            if names
        )


def compare_weights(
    module: nn.Module,
    weights: Mapping[str, Any],
    optional: re.Pattern[str] = _COUNTER,
    ignored: re.Pattern[str] | None = None,
) -> Difference:
    """Compare names and shapes of weights with those of a module.

    Args:
        module (nn.Module): The module about to receive the weights.
        weights (Mapping[str, Any]): Of a file.
        optional (re.Pattern): Names that may be missing.
        ignored (re.Pattern, optional): Names that the file may have on top.

    Returns:
        Difference: Is false if the weights fit.
    """
    own = module.state_dict()
    misshaped = {
        name: f'{_shape(weights[name])} instead of {tuple(value.shape)}'
        for name, value in own.items()
        if name in weights and _shape(weights[name]) != tuple(value.shape)
    }
    return Difference(
        missing=[
            name
            for name in own
            if name not in weights and not optional.search(name)
        ],
        unknown=[
            name
            for name in weights
            if name not in own and not (ignored and ignored.search(name))
        ],
        misshaped=misshaped,
        matching=len(own.keys() & weights.keys()) - len(misshaped),
    )


def _shape(value: Any) -> tuple[int, ...] | str:
    if hasattr(value, 'shape'):
        return tuple(value.shape)
    return type(value).__name__


def require_matching_weights(
    model: nn.Module,
    weights: Mapping[str, Any],
    source: str,
    strict: bool = True,
) -> None:
    """Refuse weights that were not made for this model.

    mmengine only warns, and an uninitialised model gives meaningless scores.

    Args:
        model (nn.Module): The model about to receive the weights.
        weights (Mapping[str, Any]): Weights by name.
        source (str): Name of the file for the message.
        strict (bool): Whether every weight must match. Otherwise a single
            one of the same name and shape is enough, as when fine-tuning.

    Raises:
        CheckpointError: If the weights do not fit.
    """
    given = dict(weights)
    split_joint_projections(given, keep=model.state_dict())
    found = compare_weights(model, given)
    if found and (strict or not found.matching):
        raise CheckpointError(
            f'{source} does not fit the model of this config: {found}',
            file=source,
            remedy='use the config it was trained with, or convert it first '
            "(tools/model_converters for the authors' files).",
        )
