# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Loading of checkpoints that cannot run code.

A checkpoint is a pickle, and a pickle may call any function it names. All
loading here goes through an allow-list of the classes that mmengine writes
into a checkpoint. Since torch 2.5 the list is handed to ``torch.load(...,
weights_only=True)``; older versions of torch cannot extend their safe loader
to such classes, and get an unpickler that looks names up in the same list.

mmengine 0.10.7 calls ``torch.load`` with its default, which refuses
mmengine's own checkpoints from torch 2.6 on. :func:`use_safe_loading` makes
``Runner`` resume through this module.
"""

import os
import pickle
import re
import types
import urllib.parse
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from referformer.checkpoints.published import split_joint_projections
from referformer.errors import CheckpointError

__all__ = [
    'load_checkpoint_safely',
    'require_matching_weights',
    'safe_globals',
    'use_safe_loading',
]

MapLocation = str | torch.device | Callable[..., Any] | None


def safe_globals() -> dict[str, Any]:
    """Return what a checkpoint may name beyond tensors, by full name.

    All of it only holds data: making or filling an instance runs no code of
    the file's choice. numpy's functions appear under the module names of
    both numpy 1 and 2, so that either reads the other's files.

    Returns:
        dict[str, Any]: Full dotted name -> class or function.
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

    Args:
        owner (type): The class to look into.
        name (str): Name of the method.
    """
    from mmengine.logging import HistoryBuffer

    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError('Unsupported global: GLOBAL builtins.getattr')


# Before torch 2.6 an allowed object is known by its own name only.
_statistic_of_history_buffer.__module__ = 'builtins'
_statistic_of_history_buffer.__qualname__ = 'getattr'


def _allow(extra: Sequence[Any]) -> dict[str, Any]:
    """Return the allow-list with ``extra`` classes added, by full name."""
    named = {f'{item.__module__}.{item.__qualname__}': item for item in extra}
    return {**safe_globals(), **named}


def _restricted_pickle(allowed: Mapping[str, Any]) -> types.ModuleType:
    """Return a stand-in for ``pickle`` that finds allowed names only.

    ``torch.load`` takes it as ``pickle_module``.

    Args:
        allowed (Mapping[str, Any]): Full dotted name -> object, on top of
            what torch's own safe loader accepts.
    """
    from torch._weights_only_unpickler import _get_allowed_globals

    names = {**_get_allowed_globals(), **allowed}

    class RestrictedUnpickler(pickle.Unpickler):
        """Unpickler that never imports."""

        def find_class(self, module: str, name: str) -> Any:
            """Look a global up in the allow-list."""
            # torch writes protocol 2, hence Python 2's name of builtins.
            if module == '__builtin__':
                module = 'builtins'
            full_name = f'{module}.{name}'
            if full_name not in names:
                raise pickle.UnpicklingError(
                    f'Unsupported global: GLOBAL {full_name}'
                )
            return names[full_name]

    module = types.ModuleType('restricted_pickle')
    module.Unpickler = RestrictedUnpickler  # type: ignore[attr-defined]
    module.load = (  # type: ignore[attr-defined]
        lambda file, **kwargs: RestrictedUnpickler(file, **kwargs).load()
    )
    return module


def _torch_load(
    path: Path, map_location: MapLocation, extra: Sequence[Any]
) -> Any:
    """Call ``torch.load`` in the safest way this version of torch knows."""
    allowed = _allow(extra)
    if hasattr(torch.serialization, 'safe_globals'):
        entries = [(item, name) for name, item in allowed.items()]
        if not _accepts_names():
            entries = [item for item, _ in entries]
        with torch.serialization.safe_globals(entries):
            return torch.load(
                path, map_location=map_location, weights_only=True
            )
    return torch.load(
        path,
        map_location=map_location,
        pickle_module=_restricted_pickle(allowed),
    )


def _accepts_names() -> bool:
    """Can an entry of torch's allow-list carry a name of its own?

    Added in torch 2.6; before, the name is always where the object lives.
    """
    from packaging.version import Version

    return Version(torch.__version__) >= Version('2.6')


def _foreign_global(error: Exception) -> str | None:
    """Return the name of the refused global from an unpickling error."""
    for pattern in (
        r'GLOBAL ([\w.<>]+)',
        r"<(?:class|function|built-in function) '?([\w.<>]+)",
    ):
        match = re.search(pattern, str(error))
        if match:
            return match[1]
    return None


def load_checkpoint_safely(
    path: str | os.PathLike[str],
    map_location: MapLocation = 'cpu',
    extra_safe_globals: Sequence[Any] = (),
) -> dict[str, Any]:
    """Load a checkpoint without running code from it.

    Args:
        path (str | PathLike): Local file written by mmengine or
            ``torch.save``.
        map_location (str | torch.device | Callable, optional): As in
            ``torch.load``. Defaults to ``'cpu'``.
        extra_safe_globals (Sequence): Classes allowed for this file alone,
            on top of :func:`safe_globals`.

    Returns:
        dict[str, Any]: The content of the file.

    Raises:
        FileNotFoundError: If ``path`` is not a file.
        CheckpointError: If the file is damaged, is no checkpoint, or names a
            class outside the allow-list.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is not a file; give the path of a checkpoint (.pth). '
            'docs/model_zoo.md tells where weights are.'
        )
    other = _other_kind(path)
    if other is not None:
        raise CheckpointError(
            f'{path} is not a readable checkpoint but {other}.'
        )
    try:
        content = _torch_load(path, map_location, extra_safe_globals)
    except pickle.UnpicklingError as error:
        name = _foreign_global(error)
        if name is None:
            raise CheckpointError(
                f'{path} is not a readable checkpoint ({_first_line(error)}); '
                'copy or download it again.'
            ) from error
        raise CheckpointError(
            f'{path} holds an object of "{name}", which is not among the '
            'classes a checkpoint may contain, so nothing of it was loaded; '
            'save the weights alone with torch.save(model.state_dict(), ...) '
            'where you trust the file.'
        ) from error
    except (
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        zipfile.BadZipFile,
    ) as error:
        raise CheckpointError(
            f'{path} is not a readable checkpoint '
            f'({type(error).__name__}: {_first_line(error)}); '
            'copy or download it again.'
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{path} holds a {type(content).__name__} where a checkpoint '
            'holds a dict; give a file written by the training.'
        )
    return content


def _other_kind(path: Path) -> str | None:
    """Tell what people have saved under the name of a checkpoint."""
    with path.open('rb') as file:
        head = file.read(512)
    if not head:
        return 'empty; copy or download it again'
    text = head.lstrip().lower()
    if text.startswith((b'<!doctype', b'<html', b'<?xml')):
        return (
            'a web page; the server answered with one instead of the file '
            '(Google Drive does for large files): download it in a browser'
        )
    if text.startswith(b'version https://git-lfs'):
        return 'a Git LFS pointer; fetch the file itself with git lfs pull'
    if head.startswith((b'\x1f\x8b', b'BZh', b'\xfd7zXZ', b'7z\xbc\xaf')):
        return 'a compressed archive; unpack it first'
    if head.startswith(b'PK') and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if not any(name.endswith('data.pkl') for name in names):
            return f'a zip archive of {_listed(names)}; unpack it first'
    return None


def _listed(names: Sequence[str]) -> str:
    """Name the first of some files."""
    if not names:
        return 'nothing'
    return names[0] + (f' and {len(names) - 1} more' if names[1:] else '')


def _first_line(error: Exception) -> str:
    """Return the beginning of an error message on one line."""
    text = str(error).strip().split('\n', 1)[0].rstrip('.')
    return text if len(text) <= 160 else f'{text[:157]}...'


def _load_from_local(filename: str, map_location: MapLocation) -> Any:
    """Load a file for mmengine's ``CheckpointLoader``."""
    return _with_weights(
        load_checkpoint_safely(filename, map_location), filename
    )


def _with_weights(checkpoint: dict[str, Any], source: str) -> dict[str, Any]:
    """Return a checkpoint that holds weights at all.

    Raises:
        CheckpointError: If it does not.
    """
    weights = state_dict_of(checkpoint)
    if not any(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(
            f'{source} holds no weights but {_listed(list(weights))}.'
        )
    return checkpoint


def _load_from_http(
    filename: str, map_location: MapLocation = None, **kwargs: Any
) -> Any:
    """Load an address for mmengine's ``CheckpointLoader``.

    A file of that name in ``checkpoints/`` is taken instead, so that machines
    without network can be given one. Otherwise it is kept in torch's hub
    folder and fetched once a machine.

    Raises:
        CheckpointError: If it cannot be fetched.
    """
    from mmengine.dist import barrier, get_local_rank

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
        reason = f' ({_first_line(failure)})' if failure else ''
        raise CheckpointError(
            f'{filename} could not be downloaded{reason}; fetch it on '
            f'another machine and put it at {given}.'
        ) from failure
    return _load_from_local(str(path), map_location)


def use_safe_loading() -> None:
    """Make mmengine load checkpoints through this module.

    Replaces the loaders of local files and of web addresses in mmengine's
    ``CheckpointLoader``, hence what ``Runner.resume``, ``load_from`` and
    ``init_cfg=dict(type='Pretrained')`` use. (The fork's own loader falls
    back to an unsafe one; ours does not.) Called when ``referformer.engine``
    is imported; calling it again changes nothing.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    CheckpointLoader.register_scheme('', _load_from_local, force=True)
    CheckpointLoader.register_scheme(
        ('http://', 'https://'), _load_from_http, force=True
    )


def state_dict_of(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the weights of a checkpoint, whichever key holds them."""
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), Mapping):
            return checkpoint[key]
    return checkpoint


def require_matching_weights(
    model: nn.Module,
    checkpoint: Mapping[str, Any],
    source: str,
    strict: bool = True,
) -> None:
    """Refuse a checkpoint that was not made for this model.

    mmengine only warns, and a model that stayed random scores anything.

    Args:
        model (nn.Module): The model about to receive the weights.
        checkpoint (Mapping[str, Any]): Loaded checkpoint.
        source (str): Name of the file for the message.
        strict (bool): Whether every weight must match. Otherwise a single
            one of the same name and shape is enough, as when fine-tuning.

    Raises:
        CheckpointError: If the weights do not fit.
    """
    if hasattr(model, 'module'):
        model = model.module
    own = model.state_dict()
    given = {
        re.sub(r'^module\.', '', key): value
        for key, value in state_dict_of(checkpoint).items()
    }
    split_joint_projections(given, keep=own)
    missing = [
        key
        for key in own
        if key not in given and not key.endswith('num_batches_tracked')
    ]
    unknown = [key for key in given if key not in own]
    misshaped = [
        key
        for key in own
        if key in given
        and getattr(given[key], 'shape', None) != own[key].shape
    ]
    matching = len(own.keys() & given.keys()) - len(misshaped)
    if not (missing or unknown or misshaped) or (not strict and matching):
        return
    parts = [
        f'{len(keys)} {what} (such as {keys[0]})'
        for keys, what in (
            (missing, 'weights are missing'),
            (unknown, 'are unknown'),
            (misshaped, 'have another shape'),
        )
        if keys
    ]
    raise CheckpointError(
        f'{source} does not fit the model of this config: {", ".join(parts)}; '
        'use the config it was trained with, or convert it first '
        "(tools/model_converters for the authors' files)."
    )
