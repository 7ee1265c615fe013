# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Convert whole checkpoint files between the authors' code and ours."""

import argparse
from pathlib import Path

from referformer.checkpoints.hub import is_hub_address
from referformer.checkpoints.io import load_checkpoint_safely, save_checkpoint
from referformer.checkpoints.published import from_published, to_published
from referformer.errors import CheckpointError

__all__ = ['convert_file']


def convert_file(src: Path, dst: Path, reverse: bool = False) -> int:
    """Convert a checkpoint of the authors to ours.

    Args:
        src (Path): Checkpoint to read, or an address of the Hugging Face
            Hub; only tensors and the authors' argument namespace are
            unpickled. A safetensors file holds weights of either layout.
        dst (Path): Checkpoint to write.
        reverse (bool): From our layout to the authors'.

    Returns:
        int: Number of tensors written.

    Raises:
        CheckpointError: If ``src`` is missing, unreadable or unsafe, is a
            checkpoint of something else, or has parameters without a place.
    """
    checkpoint = load_checkpoint_safely(
        src, extra_safe_globals=[argparse.Namespace]
    )
    entry, other = (
        ('state_dict', 'model') if reverse else ('model', 'state_dict')
    )
    if str(src).endswith('.safetensors') or is_hub_address(src):
        entry = 'state_dict'  # weights alone
    if entry not in checkpoint:
        owner = 'this package' if reverse else "the authors' code"
        action = 'leave out' if reverse else 'add'
        raise CheckpointError(
            f'{src} is not a checkpoint of {owner}: it has no entry '
            f'{entry!r} but {sorted(checkpoint)}',
            file=src,
            remedy=f'to convert the other way, {action} --reverse.'
            if other in checkpoint
            else None,
        )
    translate = to_published if reverse else from_published
    try:
        weights = translate(checkpoint[entry])
    except CheckpointError as error:
        raise CheckpointError(f'{src}: {error.message}', file=src) from error
    content = (
        {'model': weights}
        if reverse
        else {'state_dict': weights, 'meta': {'converted_from': src.name}}
    )
    save_checkpoint(content, dst)
    return len(weights)
