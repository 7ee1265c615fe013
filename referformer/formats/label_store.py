# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A folder of labels that several processes fill at the same time.

.. code-block:: text

    <folder>/3f/<name>.jsonl        labels of a video, whole or absent
    <folder>/failures/<name>.json   why a video has none
    <folder>/.work/<name>           a process is at work on it, or died of it

The file in ``.work`` is locked by the process that works on the video, and
becomes its result. The system frees the lock when the process ends, whatever
ended it, so nothing has to be cleaned up, and another process goes on.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

from referformer.errors import ConfigError
from referformer.formats.files import write_json

__all__ = ['Claim', 'LabelStore', 'State']

State = Literal['open', 'busy', 'done', 'failed']

#: A video that ended its process so often is given up.
MAX_DEATHS = 3


class LabelStore:
    """Where the labels of each video go.

    Args:
        folder: The folder; it is created.
        max_attempts: How often a video is tried that cannot be labelled.
    """

    def __init__(self, folder: str | Path, max_attempts: int = 2) -> None:
        self.folder = Path(folder)
        self.max_attempts = max_attempts
        (self.folder / '.work').mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """The labels of a video; its last 16 characters are a hash."""
        return self.folder / name[-16:-14] / f'{name}.jsonl'

    def failure_path(self, name: str) -> Path:
        """The file that says why a video has no labels."""
        return self.folder / 'failures' / f'{name}.json'

    def attempts(self, name: str) -> int:
        """How often a video could not be labelled."""
        try:
            return json.loads(self.failure_path(name).read_text())['attempts']
        except FileNotFoundError:
            return 0

    def state(self, name: str) -> State:
        """What is known about a video; ``'open'`` if it is to be labelled."""
        if self.path(name).exists():
            return 'done'
        return 'failed' if self.attempts(name) >= self.max_attempts else 'open'

    @contextmanager
    def claim(self, name: str) -> Iterator['Claim | State']:
        """Take a video for this process, until the block ends.

        Yields:
            Claim | State: The claim, or why there is none: the labels are
            there, another process is at work, or the attempts are used up.

        Raises:
            ConfigError: If the file system knows no locks.
        """
        state = self.state(name)
        if state != 'open':
            yield state
            return
        path = self.folder / '.work' / name
        # 'a' creates the file and keeps what is in it
        with path.open('a+b') as file:
            if not self._lock(file):
                yield 'busy'
                return
            # between the look and the lock, another process may have
            # finished and renamed the file that is open here
            state, current = self.state(name), _is_same(file, path)
            if state != 'open' or not current:
                if current:
                    path.unlink()
                yield 'busy' if state == 'open' else state
                return
            claim = Claim(self, name, path, file)
            if claim.deaths >= MAX_DEATHS:
                claim.fail(
                    f'the process ended {claim.deaths} times while it worked '
                    'on this video',
                    final=True,
                )
                yield 'failed'
                return
            claim.begin()
            try:
                yield claim
            finally:
                # after an error or Ctrl-C: the process lives
                if _is_same(file, path):
                    path.unlink()

    def _lock(self, file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ConfigError(
                f'{self.folder} is on a file system without locks '
                f'({error.strerror}), which keep two processes off one video; '
                'choose another folder.',
                file=self.folder,
            ) from error
        return True


class Claim:
    """The right to write the labels of a video; see :class:`LabelStore`.

    Attributes:
        name: Name of the labels.
        deaths: How many processes ended while they worked on it.
    """

    def __init__(
        self, store: LabelStore, name: str, path: Path, file: BinaryIO
    ) -> None:
        self.name = name
        self._store, self._path, self._file = store, path, file
        file.seek(0)
        text = file.read(8)
        self.deaths = int(text) if text.isdigit() else 0

    def begin(self) -> None:
        """Note that a process works on it, for the case that it ends."""
        self._write(str(self.deaths + 1).encode())

    def finish(self, entries: Iterable[dict[str, Any]]) -> Path:
        """Write the labels, whole or not at all.

        Args:
            entries: What JSON can hold, a line each.

        Returns:
            The file.
        """
        lines = (json.dumps(e, ensure_ascii=False) + '\n' for e in entries)
        self._write(''.join(lines).encode('utf-8', 'backslashreplace'))
        path = self._store.path(self.name)
        path.parent.mkdir(exist_ok=True)
        self._path.replace(path)
        self._store.failure_path(self.name).unlink(missing_ok=True)
        return path

    def fail(self, reason: str, final: bool = False, **details: Any) -> int:
        """Note that the video cannot be labelled.

        Args:
            reason: One sentence.
            final: Whether it must not be tried again.
            **details: What else is known about it.

        Returns:
            How often it was tried.
        """
        attempts = self._store.attempts(self.name) + 1
        if final:
            attempts = max(attempts, self._store.max_attempts)
        record = {
            'error': reason,
            'attempts': attempts,
            'time': time.strftime('%Y-%m-%d %H:%M:%S'),
            **details,
        }
        write_json(self._store.failure_path(self.name), record)
        self._path.unlink(missing_ok=True)
        return attempts

    def _write(self, content: bytes) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(content)
        self._file.flush()
        os.fsync(self._file.fileno())


def _is_same(file: BinaryIO, path: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
