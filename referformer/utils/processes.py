# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Processes that end with the one that started them.

A data loader's worker whose trainer was killed waits for ever on a full pipe
and keeps its memory. Linux can send a signal to a process when its parent
ends, whatever ended it; elsewhere nothing is done here.
"""

import ctypes
import os
import signal
import sys
import threading

__all__ = [
    'child_environment',
    'end_children_with_this_process',
    'end_with_parent',
    'follow_parent',
]

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
