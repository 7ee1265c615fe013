# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""mmengine's loading of checkpoints, replaced by safe loading.

mmengine 0.10.7 cannot read its own checkpoints from torch 2.6 on, and the
fork falls back to unpickling whatever a file names.
"""

import re
import urllib.parse
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, get_local_rank
from mmengine.runner.checkpoint import CheckpointLoader

from referformer.checkpoints.io import (
    MapLocation,
    first_line,
    listed,
    load_checkpoint_safely,
    state_dict_of,
)
from referformer.errors import CheckpointError

__all__ = ['use_safe_loading']


def use_safe_loading() -> None:
    """Make mmengine load checkpoints through this module.

    Replaces the loaders of local files and of web addresses in mmengine's
    ``CheckpointLoader``, hence what ``Runner.resume``, ``load_from`` and
    ``init_cfg=dict(type='Pretrained')`` use. Called when
    ``referformer.engine`` or ``referformer.models`` is imported; calling it
    again changes nothing.
    """
    CheckpointLoader.register_scheme('', _load_from_local, force=True)
    CheckpointLoader.register_scheme(
        ('http://', 'https://'), _load_from_http, force=True
    )


def _load_from_local(
    filename: str, map_location: MapLocation = None
) -> dict[str, Any]:
    """Load a file for mmengine's ``CheckpointLoader``.

    mmengine looks for weights under ``state_dict`` alone; what else
    :func:`~referformer.checkpoints.io.state_dict_of` finds is put there, so
    that the weights that are checked are those that are loaded.

    Raises:
        CheckpointError: If it holds no weights at all.
    """
    checkpoint = load_checkpoint_safely(filename, map_location)
    weights = state_dict_of(checkpoint)
    if weights is not checkpoint:
        checkpoint['state_dict'] = weights
    if not any(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(
            f'{filename} holds no weights but {listed(list(weights))}.',
            file=filename,
        )
    return checkpoint


def _load_from_http(
    filename: str, map_location: MapLocation = None
) -> dict[str, Any]:
    """Load an address for mmengine's ``CheckpointLoader``.

    A file of that name in ``checkpoints/`` is taken instead, so that machines
    without network can be given one. Otherwise it is kept in torch's hub
    folder and fetched once a machine.

    Raises:
        CheckpointError: If it cannot be fetched.
    """
    name = Path(urllib.parse.urlparse(filename).path).name
    given = Path('checkpoints', name)
    path = Path(torch.hub.get_dir(), 'checkpoints', name)
    if given.is_file():
        path = given
    failure: Exception | None = None
    if get_local_rank() == 0 and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        # torchvision's names end in the beginning of the file's hash
        checksum = re.search(r'-([0-9a-f]{8,})\.', name)
        try:
            # Writes to a temporary name first.
            torch.hub.download_url_to_file(
                filename,
                str(path),
                hash_prefix=checksum and checksum[1],
                progress=True,
            )
        except (OSError, RuntimeError) as error:
            failure = error
    barrier()
    if not path.is_file():
        reason = f' ({first_line(failure)})' if failure else ''
        raise CheckpointError(
            f'{filename} could not be downloaded{reason}',
            file=given,
            value=filename,
            remedy=f'fetch it on another machine and put it at {given}.',
        ) from failure
    return _load_from_local(str(path), map_location)
