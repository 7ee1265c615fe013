# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading checkpoints without running code, and writing them whole.

A checkpoint is a pickle, and a pickle may call any function it names.
Everything here is read by ``torch.load(..., weights_only=True)``, which is
told the classes that mmengine writes into a checkpoint beside tensors.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from referformer.checkpoints.hub import local_file
from referformer.errors import CheckpointError, MissingCheckpointError
from referformer.formats.files import atomic_path

__all__ = [
    'load_checkpoint_safely',
    'safe_globals',
    'save_checkpoint',
    'state_dict_of',
]

MapLocation = str | torch.device | Callable[..., Any] | None


def safe_globals() -> dict[str, Any]:
    """Return what a checkpoint may name beyond tensors, by full dotted name.

    All of it only holds data: making or filling an instance runs no code of
    the file's choice. numpy's functions appear under the module names of
    both numpy 1 and 2, so that either reads the other's files.
    """
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer

    allowed: dict[str, Any] = {
        'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
        'mmengine.config.config.ConfigDict': ConfigDict,
        'builtins.getattr': _statistic_of_history_buffer,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
    }
    # Recorded by pickling, since the functions moved between versions.
    reconstruct = np.empty(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        allowed[f'{module}._reconstruct'] = reconstruct
        allowed[f'{module}.scalar'] = scalar
    for kind in np.typecodes['AllInteger'] + np.typecodes['AllFloat'] + '?U':
        dtype_class = type(np.dtype(kind))
        allowed[f'numpy.dtypes.{dtype_class.__name__}'] = dtype_class
    return allowed


def _statistic_of_history_buffer(owner: type, name: str) -> Any:
    """Stand in for ``getattr``, which a pickled ``HistoryBuffer`` asks for.

    It names its statistics as ``getattr(HistoryBuffer, 'min')``. The real
    ``getattr`` would lead from any allowed class to everything else.
    """
    from mmengine.logging import HistoryBuffer

    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError('Unsupported global: GLOBAL builtins.getattr')


def load_checkpoint_safely(
    path: str | os.PathLike[str],
    map_location: MapLocation = 'cpu',
    extra_safe_globals: Sequence[type] = (),
) -> dict[str, Any]:
    """Load a checkpoint without running code from it.

    Weights of a model that was wrapped for several processes lose their
    ``module.``, so that every reader meets the same names.

    Args:
        path (str | PathLike): File written by mmengine, ``torch.save`` or
            safetensors, or an address of the Hugging Face Hub
            (``hf://owner/repo``).
        map_location (str | torch.device | Callable, optional): As in
            ``torch.load``. Defaults to ``'cpu'``.
        extra_safe_globals (Sequence[type]): Classes allowed for this file
            alone, on top of :func:`safe_globals`.

    Returns:
        dict[str, Any]: The content of the file.

    Raises:
        MissingCheckpointError: If ``path`` is not a file.
        CheckpointError: If the file is damaged, is no checkpoint, or names a
            class outside the allow-list.
    """
    path = local_file(path)
    if not path.is_file():
        raise MissingCheckpointError(
            f'{path} is not a file; give the path of a checkpoint (.pth). '
            'docs/model_zoo.md tells where weights are.',
            file=path,
        )
    if path.suffix == '.safetensors':
        return {'state_dict': _load_safetensors(path, map_location)}
    other = _other_kind(path)
    if other is not None:
        raise CheckpointError(
            f'{path} is not a readable checkpoint: it {other}.', file=path
        )
    allowed = [(item, name) for name, item in safe_globals().items()]
    try:
        with torch.serialization.safe_globals([*allowed, *extra_safe_globals]):
            content = torch.load(
                path, map_location=map_location, weights_only=True
            )
    except Exception as error:  # a damaged file may raise anything
        foreign = re.search(
            r'GLOBAL ([\w.<>]+)|<(?:class|(?:built-in )?function) '
            r"'?([\w.<>]+)",
            str(error),
        )
        if foreign is None or not isinstance(error, pickle.UnpicklingError):
            raise CheckpointError(
                f'{path} is not a readable checkpoint ({first_line(error)})',
                file=path,
                remedy='copy or download it again.',
            ) from error
        name = foreign[1] or foreign[2]
        raise CheckpointError(
            f'{path} holds an object of "{name}", which is not among the '
            'classes a checkpoint may contain, so nothing of it was loaded',
            file=path,
            value=name,
            remedy='save the weights alone with '
            'torch.save(model.state_dict(), ...) where you trust the file.',
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{path} holds a {type(content).__name__} where a checkpoint '
            'holds a dict; give a file written by the training.',
            file=path,
        )
    for weights in (content.get('state_dict'), content.get('model'), content):
        if isinstance(weights, dict):
            _unwrap(weights)
    return content


def _unwrap(weights: dict[str, Any]) -> None:
    """Take ``module.`` from the names of a wrapped model's weights."""
    prefix = 'module.'
    while weights and all(str(name).startswith(prefix) for name in weights):
        # versions of layers, by which they read older weights
        versions = getattr(weights, '_metadata', {})
        for names in (weights, versions):
            for name in list(names):
                names[name.removeprefix(prefix)] = names.pop(name)


def _load_safetensors(
    path: Path, map_location: MapLocation
) -> dict[str, torch.Tensor]:
    """Load a file that can hold nothing but tensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    device = 'cpu' if callable(map_location) else map_location or 'cpu'
    try:
        return load_file(path, device=str(device))
    except SafetensorError as error:
        raise CheckpointError(
            f'{path} is not a readable safetensors file ({first_line(error)})',
            file=path,
            remedy='copy or download it again.',
        ) from error


def save_checkpoint(
    content: Mapping[str, Any], path: str | os.PathLike[str]
) -> None:
    """Write a checkpoint under a temporary name, then rename it."""
    with atomic_path(Path(path)) as temporary:
        torch.save(content, temporary)


def state_dict_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the weights of a checkpoint, whichever key holds them."""
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), dict):
            return checkpoint[key]
    return checkpoint


def _other_kind(path: Path) -> str | None:
    """Tell what people have saved under the name of a checkpoint."""
    with path.open('rb') as file:
        head = file.read(512)
    if not head:
        return 'is empty; copy or download it again'
    text = head.lstrip().lower()
    if text.startswith((b'<!doctype', b'<html', b'<?xml')):
        return (
            'is a web page; the server answered with one instead of the file '
            '(Google Drive does for large files): download it in a browser'
        )
    if text.startswith(b'version https://git-lfs'):
        return 'is a Git LFS pointer; fetch the file with git lfs pull'
    if head.startswith((b'\x1f\x8b', b'BZh', b'\xfd7zXZ', b'7z\xbc\xaf')):
        return 'is a compressed archive; unpack it first'
    if head.startswith(b'PK'):
        if not zipfile.is_zipfile(path):
            return 'is truncated; copy or download it again'
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if not any(name.endswith('data.pkl') for name in names):
            return f'is a zip archive of {listed(names)}; unpack it first'
    elif not head.startswith(b'\x80'):  # as files of PyTorch before 1.6 do
        begin = head[:20].decode(errors='replace')
        return f'is not a file of torch.save (it begins with {begin!r})'
    return None


def listed(names: Sequence[str]) -> str:
    """Name the first of some files."""
    if not names:
        return 'nothing'
    return names[0] + (f' and {len(names) - 1} more' if names[1:] else '')


def first_line(error: Exception) -> str:
    """Return the beginning of an error message on one line."""
    text = str(error).strip().split('\n', 1)[0].rstrip('.')
    text = text or type(error).__name__
    return text if len(text) <= 160 else f'{text[:157]}...'
