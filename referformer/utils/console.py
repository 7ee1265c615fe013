# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What commands print besides their result, and how messages list names."""

import sys
from collections.abc import Iterable

_NAMES_SHOWN = 5


def warn(text: str) -> None:
    """Print a remark that does not end the work, on standard error."""
    print(f'warning: {text}', file=sys.stderr)


def shorten(names: Iterable[str]) -> str:
    """A list of names for a message, cut after a few."""
    names = list(names)
    text = ', '.join(names[:_NAMES_SHOWN])
    more = len(names) - _NAMES_SHOWN
    return f'{text} and {more} more' if more > 0 else text
