# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Sampler that gives every sample random numbers of its own."""

from collections.abc import Iterator, Sized
from typing import Any

from mmengine.dist import get_rank
from torch.utils.data import Sampler

from referformer.registry import DATA_SAMPLERS
from referformer.utils.seeding import SAMPLE_STREAM, SeededIndex, derive_seed


@DATA_SAMPLERS.register_module()
class SeededSampler(Sampler):
    """Attach to every index of another sampler the seed of its sample.

    The seed depends on the run's seed, the rank, the epoch and the number of
    the sample in it. So the augmentation of the n-th sample is the same with
    any number of workers and after any number of interruptions, and differs
    from one epoch to the next.

    The dataset must call :func:`referformer.utils.seeding.seed_sample`;
    those of this package do.

    Args:
        dataset (Sized): The dataset to draw from.
        sampler (str): Type of the sampler inside: ``'DefaultSampler'`` for
            epochs, ``'InfiniteSampler'`` for iterations, or another one that
            takes ``dataset``, ``shuffle`` and ``seed``. Defaults to
            ``'DefaultSampler'``.
        shuffle (bool): Whether to shuffle. Defaults to True.
        seed (int, optional): Seed of the order and of the samples; mmengine
            hands over the run's. Defaults to None, a random one.
        **kwargs: Further arguments of the sampler.
    """

    def __init__(
        self,
        dataset: Sized,
        sampler: str = 'DefaultSampler',
        shuffle: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.sampler = DATA_SAMPLERS.build(
            dict(
                type=sampler,
                dataset=dataset,
                shuffle=shuffle,
                seed=seed,
                **kwargs,
            )
        )
        self.rank = get_rank()
        self.epoch = 0
        #: Samples of the epoch that :class:`ResumableTrainLoop` passes over.
        self.skip = 0

    @property
    def seed(self) -> int:
        """Seed of the order and of the samples."""
        return self.sampler.seed

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this rank, each with its seed."""
        for number, index in enumerate(self.sampler):
            if number < self.skip:
                continue
            seed = derive_seed(
                SAMPLE_STREAM, self.seed, self.rank, self.epoch, number
            )
            yield SeededIndex(index, seed)

    def __len__(self) -> int:
        """Return the number of samples of this rank in one epoch."""
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch, hence its order and its seeds."""
        self.epoch = epoch
        self.sampler.set_epoch(epoch)
