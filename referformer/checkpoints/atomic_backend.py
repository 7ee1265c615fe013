# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""mmengine's local disk, with files that are either whole or absent."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from referformer.formats.files import atomic_path

__all__ = ['ATOMIC_BACKEND', 'AtomicLocalBackend']

ATOMIC_BACKEND = 'referformer.atomic'


class AtomicLocalBackend(LocalBackend):
    """Writes to a temporary name, syncs, then renames.

    So a file of this name is complete on the disk, whenever the process or
    the machine fails.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes."""
        path = Path(filepath)
        with atomic_path(path) as temporary, temporary.open('wb') as file:
            file.write(obj)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name
        finally:
            os.close(folder)

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Write text."""
        self.put(obj.encode(encoding), filepath)


register_backend(ATOMIC_BACKEND, AtomicLocalBackend, force=True)
