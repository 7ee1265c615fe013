# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Randomness as a pure function of the position in the training.

A resumed run repeats an uninterrupted one exactly when every random number
depends on *where* it is drawn (seed, rank, iteration, number of the sample)
and not on *what was drawn before*. Then no state needs to be stored, the
number of workers does not matter, and all ranks can resume, although only
rank 0 writes checkpoints.

* The model's draws (dropout ...): ``ReproducibleResumeHook`` seeds each
  iteration.
* The data's draws (sampling, augmentation): ``SeededSampler`` sends a
  :class:`SeededIndex` to the dataset, which calls :func:`seed_sample` first.
"""

import random

import numpy as np
import torch

__all__ = [
    'MODEL_STREAM',
    'SAMPLE_STREAM',
    'SeededIndex',
    'derive_seed',
    'seed_generators',
    'seed_sample',
]

# The first number of a position keeps the two kinds of draws apart.
SAMPLE_STREAM = 1
MODEL_STREAM = 2


class SeededIndex(int):
    """A dataset index that carries the seed of its sample.

    Other code can use it as an ``int``. The seed survives the arithmetic by
    which dataset wrappers (``ConcatDataset``, ``RepeatDataset``) find the
    sample, and the way to a worker process.

    Args:
        index (int): Index of the sample.
        seed (int): Seed of the sample's random numbers.
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> 'SeededIndex':
        """Make the index: an int has its value before ``__init__``."""
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return int(self), self.seed

    def __sub__(self, other: int) -> 'SeededIndex':
        return SeededIndex(int(self) - int(other), self.seed)

    def __mod__(self, other: int) -> 'SeededIndex':
        return SeededIndex(int(self) % int(other), self.seed)


def derive_seed(*position: int) -> int:
    """Mix non-negative integers into one well distributed seed below 2**32.

    Neighbouring positions give unrelated seeds, unlike ``seed + position``,
    where run 0 at step 1 would repeat run 1 at step 0.
    """
    return int(np.random.SeedSequence(position).generate_state(1)[0])


def seed_generators(seed: int) -> None:
    """Seed the global generators of Python, numpy and torch (all devices)."""
    _seed_host(seed)
    torch.manual_seed(seed)


def _seed_host(seed: int) -> None:
    random.seed(seed)
    # Transforms draw from numpy's global generator, so that is the one.
    np.random.seed(seed)  # noqa: NPY002
    # not all devices: that formats three stacks, 0.3 ms for each sample
    torch.default_generator.manual_seed(seed)


def seed_sample(index: int) -> None:
    """Seed the host's generators for a sample whose index carries a seed.

    A dataset calls this first in ``__getitem__``. A plain index leaves the
    generators as they are.
    """
    if isinstance(index, SeededIndex):
        _seed_host(index.seed)
