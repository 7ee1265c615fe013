# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Sampler of what an interrupted test has left to do."""

from collections.abc import Iterator, Sequence, Sized

from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from referformer.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class RemainingSampler(Sampler):
    """Distribute some items of a dataset over the processes, once each.

    Args:
        dataset (Sized): The dataset.
        indices (Sequence[int]): The items.
        seed (int, optional): Part of mmengine's interface, not used.

    Raises:
        IndexError: If the dataset has no such item.
    """

    def __init__(
        self, dataset: Sized, indices: Sequence[int], seed: int | None = None
    ) -> None:
        if indices and max(indices) >= len(dataset):
            raise IndexError(
                f'There is no item {max(indices)} in a dataset of '
                f'{len(dataset)}.'
            )
        rank, world_size = get_dist_info()
        self.indices = list(indices)[rank::world_size]

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this process."""
        return iter(self.indices)

    def __len__(self) -> int:
        """Return the number of items of this process."""
        return len(self.indices)

    def set_epoch(self, epoch: int) -> None:
        """Part of mmengine's interface; the order never changes."""
