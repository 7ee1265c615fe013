# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Files of Hugging Face models, from a folder or from the hub."""

import os
from pathlib import Path
from typing import Any

from referformer.errors import MissingCheckpointError


def from_pretrained(
    loader: type,
    name: str,
    local_root: str | os.PathLike[str] = 'checkpoints',
    **options: Any,
) -> Any:
    """Load from a folder, the local root or the hub, in this order.

    Args:
        loader (type): A class of transformers with ``from_pretrained``.
        name (str): Name on the hub, or a folder.
        local_root (str | PathLike): The folder ``<local_root>/<name>`` is
            taken if there is one.
        **options: Further arguments of ``from_pretrained``.

    Raises:
        MissingCheckpointError: If the files can be had neither locally nor
            from the hub.
    """
    local = Path(local_root, name)
    source = str(local) if local.is_dir() else name
    try:
        return loader.from_pretrained(source, **options)
    # transformers wraps network failures differently in each version;
    # ValueError is what a folder without a usable config raises
    except (OSError, ValueError, ConnectionError) as error:
        raise MissingCheckpointError(
            f'cannot load {name!r} with {loader.__name__}: it is neither a '
            'complete folder nor reachable on the hub',
            file=local,
            remedy='download its files (config, weights, tokenizer if any) on '
            f'a machine with network access and put them into {local}/',
        ) from error
