# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Decoders of a process whose data loader forks workers.

A decoder that is freed waits for its threads to end. A fork has a copy of
its parent's decoders but not of the threads, so a worker that frees one waits
for ever. Python frees what is in reference cycles, as PyAV's objects are, at
any later moment, also in a worker. What the parent left is therefore taken
out of the worker's garbage collection.
"""

import gc
import os

__all__ = ['leave_decoders_to_their_process']

#: Whether the collector was on, once for each fork that is under way.
_was_on: list[bool] = []


def leave_decoders_to_their_process() -> None:
    """From now on, no fork of this process frees a decoder of it."""
    os.register_at_fork(
        before=_pause, after_in_parent=_go_on, after_in_child=_forget
    )


def _pause() -> None:
    # other functions of the fork may come first in the child
    _was_on.append(gc.isenabled())
    gc.disable()


def _go_on() -> None:
    if _was_on.pop():
        gc.enable()


def _forget() -> None:
    gc.freeze()
    # two threads may fork at once: only the first saw the true state
    was_on = _was_on[0]
    _was_on.clear()
    if was_on:
        gc.enable()
