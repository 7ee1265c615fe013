# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the scoring code has to say about the files it is given."""

import sys


class InputError(ValueError):
    """Files cannot be scored; the text says which, why and what to do."""


def warn(text: str) -> None:
    """Print a remark that does not stop the scoring."""
    print(f'warning: {text}', file=sys.stderr)
