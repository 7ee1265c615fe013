# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""One sentence for what the user can mend, a traceback for the rest.

A wrong path, a misspelt setting or a damaged file ends in an error that names
it; fifty lines of frames above would only hide it. Errors nobody raised on
purpose keep their traceback, for they are bugs.
"""

import dis
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

__all__ = ['expected_message', 'run']

_ROOT = Path(__file__).resolve().parents[1]
# What mmengine raises about a config, and its way to build what a config
# names: a wrong argument is noticed by Python, in that call.
_CONFIG_CODE = re.compile(
    r'mmengine/(config/|registry/|utils/path\.py|runner/runner\.py)'
)
_BUILD_CODE = re.compile(r'mmengine/registry/build_functions\.py')
_FRAME = re.compile(r'^ *File "([^"]+)", line \d+, in .*\n *(.*)\n', re.M)


def run(main: Callable[[], Any]) -> None:
    """Run a script; an expected error becomes one sentence and status 1.

    With ``--traceback`` on the command line nothing is caught.

    Args:
        main (Callable): Takes no argument.

    Raises:
        SystemExit: After an expected error.
    """
    try:
        main()
    except Exception as error:
        message = expected_message(error)
        if message is None or '--traceback' in sys.argv:
            raise
        rank = os.environ.get('RANK', '0')
        where = f' (process {rank})' if rank != '0' else ''
        name = Path(sys.argv[0]).name
        raise SystemExit(f'{name}{where}: {message}') from None
    _leave_process_group()


def _leave_process_group() -> None:
    """Stop the threads of a distributed run before the interpreter ends.

    Those of gloo now and then abort a process that is ending.
    """
    distributed = sys.modules.get('torch.distributed')
    if (
        distributed is not None
        and distributed.is_available()
        and distributed.is_initialized()
    ):
        distributed.destroy_process_group()


def expected_message(error: BaseException) -> str | None:
    """Tell the user's errors from ours.

    Expected is what this project raises on purpose, what mmengine says about
    a config, and a file that cannot be opened.

    Args:
        error (BaseException): As caught.

    Returns:
        str | None: What to print; None for a bug.
    """
    if isinstance(error, AssertionError | NotImplementedError):
        return None
    if 'Original Traceback' in str(error):
        return _from_worker(str(error))
    # A registry raises an error of a constructor once more.
    while error.__context__ is not None and _BUILD_CODE.search(_origin(error)):
        error = error.__context__
    origin = _origin(error)
    if _on_purpose(error) and (
        _is_ours(origin) or _CONFIG_CODE.search(origin)
    ):
        return str(error.args[0]) if error.args else type(error).__name__
    if isinstance(error, TypeError) and _BUILD_CODE.search(origin):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror}.'
    return None


def _last_frame(error: BaseException) -> tuple[CodeType, int] | None:
    """Where an error was raised: the code and the instruction's offset."""
    trace = error.__traceback__
    if trace is None:
        return None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code, trace.tb_lasti


def _origin(error: BaseException) -> str:
    """The file an error was raised in, with slashes."""
    frame = _last_frame(error)
    return '' if frame is None else Path(frame[0].co_filename).as_posix()


def _on_purpose(error: BaseException) -> bool:
    """Whether a ``raise`` statement made this error."""
    frame = _last_frame(error)
    if frame is None:
        return False
    code, offset = frame
    if code.co_name in ('__getattr__', '__missing__'):  # a bug's own words
        return False
    return dis.opname[code.co_code[offset]] == 'RAISE_VARARGS'


def _is_ours(filename: str) -> bool:
    path = Path(filename).resolve()
    if any((_ROOT / name) in path.parents for name in ('tools', 'projects')):
        return True
    package = sys.modules.get('referformer')
    folder = package and Path(package.__file__).resolve().parent
    return bool(folder) and folder in path.parents


def _from_worker(text: str) -> str | None:
    """The same for an error that a data loader's process sent as text."""
    frames = list(_FRAME.finditer(text))
    if not frames or not _is_ours(frames[-1][1]):
        return None
    if not frames[-1][2].startswith('raise '):
        return None
    lines = text[frames[-1].end() :].splitlines()
    message = ' '.join(line for line in lines if line[:1].strip())
    return message.partition(': ')[2] or message
