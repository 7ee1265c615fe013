# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What commands print besides their result."""

import sys


def warn(text: str) -> None:
    """Print a remark that does not end the work, on standard error."""
    print(f'warning: {text}', file=sys.stderr)
