# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The errors a user can mend, as types.

Whoever finds the fault raises one of these and names the file, the value and
what to do. Tools print the one sentence; anything else is a bug and keeps its
traceback. Each type is also the built-in error it stands for, so code that
catches ``ValueError`` or ``FileNotFoundError`` goes on working.

A reader that can go on after a fault passes its error to :func:`report_error`,
which raises it; within :func:`collect_errors`, as in the check of a data set,
it notes it instead, so that all faults of a file are found at once.

The types survive the way from another process: a pool pickles them, and a
data loader's worker sends text, which ``ReferError`` reads again.

This module imports nothing of the package, so that every other may import it.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = [
    'CheckpointError',
    'ConfigError',
    'DataError',
    'MediaError',
    'MissingCheckpointError',
    'MissingConfigError',
    'MissingDataError',
    'MissingMediaError',
    'MissingPackageError',
    'ReferError',
    'check_choice',
    'collect_errors',
    'report_error',
]

# How a data loader's worker sends the fields, of which only the text of the
# traceback reaches the main process: JSON, which has no such character.
_FIELDS = re.compile('\x1e([^\x1e]*)\x1e')


class ReferError(Exception):
    """Something the user can mend; the text is one sentence that says how.

    Args:
        message (str): What is wrong, with the file and the value, and what
            to do about it.
        file (Any, optional): The file or folder it is about.
        value (Any, optional): The value that is wrong.
        remedy (str, optional): What to do, where it can be told apart from
            the message; it is printed after it.
        code (str, optional): Name of this kind of fault in the report of
            ``tools/misc/check_dataset.py``, see ``datasets/doctor``.

    Attributes:
        worker_traceback (str | None): The traceback in the data loader's
            worker that raised the error; None for one of this process.
    """

    def __init__(
        self,
        message: str = '',
        *,
        file: Any = None,
        value: Any = None,
        remedy: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = None if file is None else str(file)
        self.value = value
        self.remedy = remedy
        self.code = code
        self.worker_traceback: str | None = None
        sent = _FIELDS.search(message)
        if sent and message.startswith('Caught '):
            # torch makes an error of the worker's type with the traceback as
            # its argument
            self.__dict__.update(json.loads(sent[1]))
            self.worker_traceback = _FIELDS.sub('', message)
        self.args = (self.message,)

    def __str__(self) -> str:
        text = self.message
        if self.remedy:
            text = f'{text.rstrip(".;")}; {self.remedy}'
        if not self._is_being_sent():
            return text
        sent = json.dumps(vars(self), default=repr, skipkeys=True)
        return f'{text}\x1e{sent}\x1e'

    def _is_being_sent(self) -> bool:
        """Whether torch formats what a worker sends about this error."""
        frame = sys._getframe()
        while frame.f_globals.get('__name__') != 'torch._utils':
            frame = frame.f_back
            if frame is None:
                return False
        sent = frame.f_locals.get('exc_info') or (None, None)
        return sent[1] is self

    def __reduce__(self) -> tuple:
        # Exception pickles its positional arguments only.
        return type(self), (self.message,), self.__dict__


class ConfigError(ReferError, ValueError):
    """A setting or an argument that cannot be used."""


class MissingConfigError(ConfigError, FileNotFoundError):
    """A config file is not there."""


class DataError(ReferError, ValueError):
    """A file of a data set, of ground truth or of predictions is wrong."""


class MissingDataError(DataError, FileNotFoundError):
    """A file or folder of data is not there."""


class CheckpointError(ReferError, RuntimeError):
    """A checkpoint that cannot be loaded, or does not fit the model."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """A checkpoint file is not there."""


class MediaError(ReferError, ValueError, OSError):
    """A video, picture or sound that cannot be read or written."""


class MissingMediaError(MediaError, FileNotFoundError):
    """A video, picture or folder of pictures is not there."""


class MissingPackageError(ReferError, ImportError):
    """A package that this task needs is not installed."""


_collected: ContextVar[list[ReferError] | None] = ContextVar(
    'collected', default=None
)


@contextmanager
def collect_errors() -> Iterator[list[ReferError]]:
    """List the errors that are reported within the block; do not raise them.

    Yields:
        list[ReferError]: Grows with every call of :func:`report_error`.
    """
    found: list[ReferError] = []
    token = _collected.set(found)
    try:
        yield found
    finally:
        _collected.reset(token)


def report_error(error: ReferError) -> None:
    """Raise an error, or list it where :func:`collect_errors` asks for that.

    For readers of files with many entries: code after the call runs only
    while errors are collected, and leaves the faulty entry out.

    Args:
        error (ReferError): What is wrong with one entry.
    """
    found = _collected.get()
    if found is None:
        raise error
    found.append(error)


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise ``ConfigError`` unless a setting has one of the values it may."""
    choices = tuple(choices)
    if value not in choices:
        raise ConfigError(
            f'{name} must be one of {choices}, got {value!r}.', value=value
        )
