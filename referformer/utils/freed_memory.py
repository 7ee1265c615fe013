# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the allocator of the process does with freed memory (glibc)."""

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@cache
def _libc() -> ctypes.CDLL | None:
    """The C library, if its allocator has the functions of glibc."""
    libc = ctypes.CDLL(None) if sys.platform == 'linux' else None
    return libc if hasattr(libc, 'malloc_trim') else None  # not in musl


@cache
def keep_freed_memory() -> None:
    """Let the process use its freed memory again instead of returning it.

    By default, each block of more than 32 MB is mapped for itself: whenever a
    tensor of this size is made, the system clears its pages, which takes
    longer than filling the tensor. The peak of the memory stays the same.
    """
    if _libc() is not None:
        _libc().mallopt(_M_MMAP_MAX, 0)
        _libc().mallopt(_M_TRIM_THRESHOLD, -1)  # never


def return_freed_memory() -> None:
    """Give freed memory back to the system.

    Frames are allocated in one thread and freed in another. glibc keeps such
    memory fragmented, about 50 MB more for every 2 000 small frames.
    """
    if _libc() is not None:
        _libc().malloc_trim(0)
