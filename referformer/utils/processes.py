# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Processes that end with the one that started them, and signals to them.

A data loader's worker whose trainer was killed waits for ever on a full pipe
and keeps its memory. Linux can send a signal to a process when its parent
ends, whatever ended it; elsewhere nothing is done here.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

__all__ = [
    'INTERRUPTED',
    'child_environment',
    'children_of_this_process',
    'end_children_with_this_process',
    'end_with_parent',
    'follow_parent',
    'heed_interruptions',
    'kill_workers',
    'wait_for',
]

#: Status of a training that saved and left; the same command with
#: ``--resume`` goes on. It is EX_TEMPFAIL of sysexits.h.
INTERRUPTED = 75

_PR_SET_PDEATHSIG = 1
_VARIABLE = 'REFERFORMER_PARENT'
_watched = False
_parent: int | None = None


def end_with_parent(parent: int) -> None:
    """Let the system kill this process when its parent ends.

    Args:
        parent: Process that started this one. If it has ended already, so
            does this one.
    """
    if not sys.platform.startswith('linux'):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # it may have ended before the call
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def child_environment() -> dict[str, str]:
    """Environment of a command of this repository that must not outlive us.

    :func:`follow_parent`, which every tool calls first, reads it.
    """
    return {**os.environ, _VARIABLE: str(os.getpid())}


def follow_parent() -> None:
    """End with the process that asked for it by :func:`child_environment`."""
    parent = os.environ.pop(_VARIABLE, '')
    if parent.isdecimal():
        end_with_parent(int(parent))


def end_children_with_this_process() -> None:
    """Let all processes that are forked from now on end with this one.

    Those forked by a thread that is not the main one are left alone: the
    system watches the thread, which may end long before the process.
    """
    global _watched
    if not _watched:
        _watched = True
        os.register_at_fork(before=_note_parent, after_in_child=_follow)


def _note_parent() -> None:
    global _parent
    is_main = threading.current_thread() is threading.main_thread()
    _parent = os.getpid() if is_main else None


def _follow() -> None:
    if _parent is not None:
        end_with_parent(_parent)


def heed_interruptions() -> None:
    """Let SIGINT reach this process where a shell has it ignored.

    That is what a shell does for a command in the background (``&``).
    """
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):
        signal.signal(signal.SIGINT, signal.default_int_handler)


def kill_workers() -> None:
    """Kill what multiprocessing has started, such as loaders' workers.

    When Python ends, it waits for them without a limit, also for one that
    hangs.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    multiprocessing = sys.modules.get('multiprocessing')
    children = multiprocessing.active_children() if multiprocessing else ()
    if children:
        # PyTorch's handler would report them
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in children:
        child.kill()


def children_of_this_process() -> list[int]:
    """Processes that this one has started and not yet buried; on Linux."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        with suppress(OSError):  # it has ended by now
            # the name, in brackets, may hold anything
            fields = path.read_text().rpartition(')')[2].split()
            if int(fields[1]) == os.getpid():
                found.append(int(path.parent.name))
    return found


def wait_for(
    children: Collection[int], seconds: float, grace: float
) -> dict[int, int]:
    """Wait until children of this process have ended; do not bury them.

    Args:
        children (Collection[int]): Their numbers.
        seconds (float): How long to wait for the first one.
        grace (float): How long to wait for the others then.

    Returns:
        dict[int, int]: The status of those that have ended, negative after a
        signal.
    """
    ended: dict[int, int] = {}
    until = time.monotonic() + seconds
    while len(ended) < len(children) and time.monotonic() < until:
        for child in set(children) - set(ended):
            how = os.waitid(
                os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT
            )
            if how is not None:
                exited = how.si_code == os.CLD_EXITED
                if not ended:
                    until = min(until, time.monotonic() + grace)
                ended[child] = how.si_status if exited else -how.si_status
        time.sleep(0.05)
    return ended
