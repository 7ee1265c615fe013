# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The errors a user can mend, as types.

Whoever finds the fault raises one of these and names the file, the value and
what to do. Tools print the one sentence; anything else is a bug and keeps its
traceback. Each type is also the built-in error it stands for, so code that
catches ``ValueError`` or ``FileNotFoundError`` goes on working.

This module imports nothing, so that every other may import it.
"""

from typing import Any

__all__ = [
    'CheckpointError',
    'ConfigError',
    'DataError',
    'MediaError',
    'MissingCheckpointError',
    'MissingDataError',
    'MissingMediaError',
    'MissingPackageError',
    'ReferError',
]


class ReferError(Exception):
    """Something the user can mend; the text is one sentence that says how.

    Args:
        message (str): What is wrong, with the file and the value, and what
            to do about it.
        file (Any, optional): The file or folder it is about.
        value (Any, optional): The value that is wrong.
        remedy (str, optional): What to do, where it can be told apart from
            the message; it is printed after it.
    """

    def __init__(
        self,
        message: str = '',
        *,
        file: Any = None,
        value: Any = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = None if file is None else str(file)
        self.value = value
        self.remedy = remedy

    def __str__(self) -> str:
        if not self.remedy:
            return self.message
        return f'{self.message.rstrip(".;")}; {self.remedy}'

    def __reduce__(self) -> tuple:
        # Exception pickles its positional arguments only.
        state = {k: v for k, v in self.__dict__.items() if k != 'message'}
        return type(self), (self.message,), state


class ConfigError(ReferError, ValueError):
    """A setting or an argument that cannot be used."""


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
