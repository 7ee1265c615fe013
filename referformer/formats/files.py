# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Output files and folders that are either whole or absent."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Hand out a temporary name which becomes ``path`` if all goes well.

    The temporary file or folder lies in the same folder (renaming across file
    systems is not atomic), is hidden, and is unique to the caller, so several
    processes may write the same path. It is removed if the block fails.

    Args:
        path: The final name. Its folder is created.

    Yields:
        Where to write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = f'{os.getpid()}-{secrets.token_hex(4)}'
    # the suffix stays: some writers choose the format by it
    temporary = path.with_name(f'.{unique}-{path.name}')
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        raise


def unfinished_files(folder: str | Path, suffix: str) -> list[Path]:
    """Temporary files that :func:`atomic_path` could not remove.

    That happens when a process is killed while it writes.

    Args:
        folder: Where to look; not below it.
        suffix: Ending of the final names.
    """
    return [
        path
        for path in Path(folder).glob(f'.*{suffix}')
        if re.match(r'\.\d+-[0-9a-f]{8}-', path.name)
    ]


def write_atomic(path: str | Path, content: str | bytes) -> None:
    """Write a whole file, or leave what was there before.

    Args:
        path: The file. Its folder is created.
        content: Text (stored as UTF-8) or bytes.
    """
    if isinstance(content, str):
        content = content.encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON for people to read, or leave what was there before.

    Args:
        path: The file. Its folder is created.
        content: What to write; numpy and torch values become plain.

    Raises:
        TypeError: If something in it has no form in JSON.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, default=_plain)
    write_atomic(path, f'{text}\n')


def _plain(value: Any) -> Any:
    """Return what a numpy or torch value is in JSON."""
    if hasattr(value, 'tolist'):
        return value.tolist()
    raise TypeError(
        f'{type(value).__name__} cannot be written as JSON: {value!r}'
    )
