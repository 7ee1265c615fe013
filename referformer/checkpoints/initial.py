# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Refuse a file that would leave a backbone random.

``init_cfg=dict(type='Pretrained', checkpoint=...)`` loads whatever has the
right name and shape; for the rest there is a line in the log. The file of
another architecture then trains without a word, from noise.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from referformer.errors import CheckpointError

__all__ = ['skip_initial_weights', 'watch_initial_weights']

# what a file may have around its backbone: heads, norms before a head, and
# buffers that follow from the architecture
_EXTRA = re.compile(
    r'^(backbone\.)?(\w*head|fc|classifier|neck|norm|pre_logits)\.'
    r'|(attn_mask|relative_position_index|num_batches_tracked'
    r'|relative_coords_table)$'
)
# what a backbone may have that classifiers lack: norms of the outputs
_OPTIONAL = re.compile(
    r'^norm\d+\.|(relative_position_index|num_batches_tracked)$'
)


def _pretrained(module: nn.Module) -> list[Mapping[str, Any]]:
    """The ``init_cfg`` entries of a module that load a file."""
    entries = getattr(module, 'init_cfg', None) or []
    if isinstance(entries, Mapping):
        entries = [entries]
    return [
        entry
        for entry in entries
        if 'checkpoint' in entry
        and 'Pretrained' in getattr(entry['type'], '__name__', entry['type'])
    ]


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if _pretrained(module):
            yield re.sub(r'^module\.', '', name), module


def skip_initial_weights(model: nn.Module) -> list[str]:
    """Load no files of parts, since a checkpoint of the whole follows.

    Args:
        model (nn.Module): Not yet initialised.

    Returns:
        list[str]: Names of the parts.
    """
    names = []
    for name, module in list(_modules(model)):
        module.init_cfg = None
        names.append(name)
    return names


def watch_initial_weights(model: nn.Module) -> None:
    """Check files of parts when ``model.init_weights()`` loads them.

    The check sees names and layouts as the part itself has translated them
    (official Swin, Kinetics Video Swin) and stops before anything is copied.

    Args:
        model (nn.Module): Not yet initialised.
    """
    for name, module in _modules(model):
        source = str(_pretrained(module)[-1]['checkpoint'])
        module.init_weights = partial(
            _checked_init, module, name or 'model', source
        )


def _checked_init(module: nn.Module, part: str, source: str) -> None:
    """Stand in for a module's ``init_weights``, once."""
    del module.init_weights
    # public, under the name without underscore, from torch 2.5 on only
    handle = module._register_load_state_dict_pre_hook(
        partial(_compare, module, part, source)
    )
    try:
        module.init_weights()
    except (CheckpointError, OSError):
        raise
    except Exception as error:
        # some parts translate names before anyone can compare them
        reason = f'reading it as one fails ({type(error).__name__}: {error})'
        if isinstance(error, KeyError):
            reason = f'only one of the two has {error}'
        raise CheckpointError(
            f'{source} is not a file of {_kind(module, part)}: {reason}; '
            f'{_advice(part)}.'
        ) from error
    finally:
        handle.remove()


def _kind(module: nn.Module, part: str) -> str:
    return f'the {type(module).__name__} of model.{part}'


def _advice(part: str) -> str:
    return f'give a file of this network in model.{part}.init_cfg'


def _compare(
    module: nn.Module,
    part: str,
    source: str,
    state_dict: Mapping[str, Any],
    prefix: str,
    *args: Any,
) -> None:
    """Raise ``CheckpointError`` unless the weights are this module's."""
    if prefix:  # loaded as a part of something larger
        return
    own = module.state_dict()
    missing = [
        key
        for key in own
        if key not in state_dict and not _OPTIONAL.search(key)
    ]
    foreign = [
        key for key in state_dict if key not in own and not _EXTRA.search(key)
    ]
    misshaped = [
        key
        for key in own
        if key in state_dict and _shape(state_dict[key]) != own[key].shape
    ]
    if not (missing or foreign or misshaped):
        return
    kind, advice = _kind(module, part), _advice(part)
    if not own.keys() & state_dict.keys():
        first = next(iter(state_dict), 'nothing')
        raise CheckpointError(
            f'{source} has no weight of {kind}, but others (such as '
            f'{first}); {advice}.'
        )
    reasons = []
    if missing:
        reasons.append(f'{len(missing)} are missing (such as {missing[0]})')
    if misshaped:
        key = misshaped[0]
        reasons.append(
            f'{len(misshaped)} have another shape (such as {key}: '
            f'{_show(state_dict[key])} instead of {_show(own[key])})'
        )
    if foreign:
        reasons.append(f'{len(foreign)} are unknown (such as {foreign[0]})')
    raise CheckpointError(
        f'{source} is not a file of {kind}: of the {len(own)} weights '
        f'{", ".join(reasons)}; {advice}.'
    )


def _shape(value: Any) -> torch.Size | None:
    return getattr(value, 'shape', None)


def _show(value: Any) -> str:
    shape = _shape(value)
    return type(value).__name__ if shape is None else str(tuple(shape))
