# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Files of the Hugging Face Hub: ``hf://owner/repo[/file][@revision]``.

Only files that hold data alone are fetched: weights must be safetensors.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from referformer.errors import CheckpointError, MissingCheckpointError

__all__ = [
    'WEIGHTS_FILE',
    'HubAddress',
    'fetch',
    'is_hub_address',
    'local_file',
    'parse_address',
]

WEIGHTS_FILE = 'model.safetensors'
# pathlib makes one slash of two
_PREFIX = re.compile(r'hf:/{1,2}')
_NAME = r'(?!\.)[\w.-]+'
_ADDRESS = re.compile(
    rf'(?P<repo>{_NAME}/{_NAME})(/(?P<file>{_NAME}(/{_NAME})*))?'
    rf'(@(?P<revision>{_NAME}(/{_NAME})*))?'
)


class HubAddress(NamedTuple):
    """A file of a repository.

    Attributes:
        repo (str): ``owner/repo``.
        file (str | None): Name within the repository.
        revision (str | None): Branch, tag or commit.
    """

    repo: str
    file: str | None
    revision: str | None


def is_hub_address(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an address of the Hub."""
    return _PREFIX.match(str(path)) is not None


def parse_address(text: str | os.PathLike[str]) -> HubAddress:
    """Take an address apart, with or without its ``hf://``.

    Raises:
        CheckpointError: If it is not one; no name in it may begin with a
            dot, hence none leaves its folder.
    """
    match = _ADDRESS.fullmatch(_PREFIX.sub('', str(text), count=1))
    if match is None:
        raise CheckpointError(
            f'{text} is not an address of the Hugging Face Hub; write '
            'hf://owner/repo, hf://owner/repo/file.safetensors or '
            'hf://owner/repo@revision.',
            value=str(text),
        )
    return HubAddress(match['repo'], match['file'], match['revision'])


def local_file(path: str | os.PathLike[str]) -> Path:
    """Return where a checkpoint is on this machine; fetch it if necessary.

    Args:
        path (str | PathLike): A file, which may be missing, or an address of
            the Hub; without a file in it, that of ``model.safetensors``.

    Raises:
        CheckpointError: If the address is wrong or the file is a pickle.
        MissingCheckpointError: If it cannot be fetched.
    """
    if not is_hub_address(path):
        return Path(path).expanduser()
    repo, file, revision = parse_address(path)
    file = file or WEIGHTS_FILE
    if not file.endswith('.safetensors'):
        raise CheckpointError(
            f'{path} is no safetensors file; other weights of the Hub are '
            'pickles, which may hold code, and are not fetched',
            file=path,
            value=file,
            remedy='give a .safetensors file, or download this one yourself '
            'where you trust it.',
        )
    return fetch(repo, file, revision)


def fetch(repo: str, file: str, revision: str | None = None) -> Path:
    """Return a file of a repository, from the cache or the network.

    The cache is that of ``huggingface_hub`` (``HF_HUB_CACHE``). Without a
    network, or with ``HF_HUB_OFFLINE=1``, what is in it is used.

    Args:
        repo (str): ``owner/repo``.
        file (str): Name within the repository.
        revision (str, optional): Branch, tag or commit. Defaults to None:
            the main branch.

    Raises:
        MissingCheckpointError: If it is neither there nor in the cache.
    """
    from huggingface_hub import errors, hf_hub_download

    at = f'{repo}@{revision}' if revision else repo
    remedy = None
    try:
        return Path(
            hf_hub_download(
                repo,
                file,
                revision=revision,
                endpoint=os.environ.get('HF_ENDPOINT') or None,
            )
        )
    except errors.LocalEntryNotFoundError as error:
        cause: Exception = error
        reason = 'the Hub cannot be reached, and the cache does not hold it'
        remedy = (
            'fetch it once with a network, or copy the repository to a folder '
            'and give the folder.'
        )
    except errors.GatedRepoError as error:
        cause, reason = error, 'its owner gives access on request only'
        remedy = 'ask for it on its page, then run: hf auth login'
    except errors.RepositoryNotFoundError as error:
        cause, reason = error, f'there is no repository {repo}'
        remedy = 'check the name; for a private one, run: hf auth login'
    except errors.RevisionNotFoundError as error:
        cause, reason = error, f'{repo} has no revision {revision}'
    except errors.EntryNotFoundError as error:
        cause, reason = error, f'{repo} has no such file'
    # the network libraries below raise errors of their own
    except Exception as error:
        cause, reason = error, f'{type(error).__name__}: {error}'
    raise MissingCheckpointError(
        f'{file} of {at} cannot be fetched from the Hugging Face Hub '
        f'({reason})',
        file=file,
        value=at,
        remedy=remedy,
    ) from cause
