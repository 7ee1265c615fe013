# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Refuse a file that would leave a backbone random.

``init_cfg=dict(type='Pretrained', checkpoint=...)`` loads whatever has the
right name and shape; for the rest there is a line in the log. The file of
another architecture then trains without an error, from random weights.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from torch import nn

from referformer.checkpoints.matching import compare_weights
from referformer.errors import CheckpointError

__all__ = [
    'needs_initial_weights',
    'skip_initial_weights',
    'watch_initial_weights',
    'whole_checkpoint_follows',
]

#: Whether parts that are built should load weights of their own.
_needed = ContextVar('needed', default=True)

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


def _parts_with_files(
    model: nn.Module,
) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield name, module and file of the parts that begin with a file."""
    for name, module in model.named_modules():
        entries = getattr(module, 'init_cfg', None) or []
        if isinstance(entries, Mapping):
            entries = [entries]
        for entry in entries:
            kind = getattr(entry['type'], '__name__', entry['type'])
            if 'Pretrained' in kind and 'checkpoint' in entry:
                part = name.removeprefix('module.') or 'model'
                yield part, module, str(entry['checkpoint'])
                break


@contextmanager
def whole_checkpoint_follows() -> Iterator[None]:
    """Build models in this block without loading weights of parts.

    All of their weights will be loaded from a checkpoint, strictly.
    """
    token = _needed.set(False)
    try:
        yield
    finally:
        _needed.reset(token)


def needs_initial_weights() -> bool:
    """Whether a part should load weights while it is built."""
    return _needed.get()


def skip_initial_weights(model: nn.Module) -> list[str]:
    """Load no files of parts, since a checkpoint of the whole follows.

    Returns the names of the parts; the model is not yet initialised.
    """
    parts = list(_parts_with_files(model))
    for _, module, _ in parts:
        module.init_cfg = None
    return [name for name, _, _ in parts]


def watch_initial_weights(model: nn.Module) -> None:
    """Check files of parts when ``model.init_weights()`` loads them.

    The check sees names and layouts as the part itself has translated them
    (official Swin, Kinetics Video Swin) and stops before anything is copied.
    """
    for name, module, source in _parts_with_files(model):
        # mmengine calls the method of each part on its own, at once
        module.init_weights = partial(_init_with_check, module, name, source)


def _init_with_check(module: nn.Module, part: str, source: str) -> None:
    """Call a part's own ``init_weights`` and check what it loads."""
    del module.init_weights  # this function; below it is the class's again
    refuse = partial(_refusal, module, part, source)
    handle = module.register_load_state_dict_pre_hook(
        partial(_check_before_loading, refuse)
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
        raise refuse(reason) from error
    finally:
        handle.remove()


def _check_before_loading(
    refuse: Callable[[str], CheckpointError],
    module: nn.Module,
    weights: Mapping[str, Any],
    prefix: str,
    *_: Any,
) -> None:
    """Raise unless the weights about to be loaded are this module's."""
    if prefix:  # loaded as a part of something larger
        return
    own = module.state_dict()
    if not own.keys() & weights.keys():
        first = next(iter(weights), 'nothing')
        raise refuse(f'it has no weight of it, but others (such as {first})')
    found = compare_weights(module, weights, _OPTIONAL, _EXTRA)
    if found:
        raise refuse(f'of the {len(own)} weights {found}')


def _refusal(
    module: nn.Module, part: str, source: str, reason: str
) -> CheckpointError:
    """Make the error that says why a part cannot begin with a file."""
    return CheckpointError(
        f'{source} is not a file of the {type(module).__name__} of '
        f'model.{part}: {reason}',
        file=source,
        remedy=f'give a file of this network in model.{part}.init_cfg.',
    )
