# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Random choices among names."""

from collections.abc import Collection

import numpy as np


def pick(rng: np.random.Generator, values: Collection[str]) -> str:
    """Draw one value."""
    return str(rng.choice(list(values)))


def pick_two(rng: np.random.Generator, values: Collection[str]) -> list[str]:
    """Draw two different values."""
    return [str(v) for v in rng.choice(list(values), 2, replace=False)]
