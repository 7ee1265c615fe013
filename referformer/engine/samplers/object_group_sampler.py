# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Sampler that puts the objects of a video side by side."""

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from referformer.errors import ConfigError
from referformer.registry import DATA_SAMPLERS
from referformer.utils.seeding import derive_seed


@DATA_SAMPLERS.register_module()
class ObjectGroupSampler(Sampler):
    """Draw one expression for each object of a clip, one after another.

    A batch then holds the same frames under different expressions, and the
    only way to lower its loss is to read them. An epoch visits every (video,
    start frame) at most once, each time with other expressions.

    Args:
        dataset (BaseDataset): Its items have ``video_id``, ``obj_id`` and
            ``start_frame``.
        group_size (int): Most objects drawn from one clip.
        samples_per_epoch (int, optional): End an epoch after so many samples
            of all ranks; None for all clips. Short epochs mean frequent
            checkpoints.
        shuffle (bool): Whether clips come in random order.
        seed (int, optional): Seed of the order and of the draws; mmengine
            hands over the run's.

    Raises:
        ConfigError: If ``group_size`` is not positive.
    """

    def __init__(
        self,
        dataset: BaseDataset,
        group_size: int = 4,
        samples_per_epoch: int | None = None,
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        if group_size < 1:
            raise ConfigError(f'group_size must be positive, got {group_size}')
        self.rank, self.world_size = get_dist_info()
        self.group_size = group_size
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        clips = defaultdict(lambda: defaultdict(list))
        for index in range(len(dataset)):
            item = dataset.get_data_info(index)
            # Two sets joined into one may give their videos the same names.
            video = item.get('img_dir'), item['video_id']
            clip = clips[video, item['start_frame']]
            clip[item['obj_id']].append(index)
        # per clip, the items of each object
        self.clips = [list(objects.values()) for objects in clips.values()]
        total = sum(min(group_size, len(clip)) for clip in self.clips)
        if samples_per_epoch is not None:
            total = min(total, samples_per_epoch)
        self.num_samples = math.ceil(total / self.world_size)

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this rank."""
        rng = np.random.default_rng(derive_seed(self.seed, self.epoch))
        order = np.arange(len(self.clips))
        if self.shuffle:
            rng.shuffle(order)
        indices = []
        for position in order:
            objects = self.clips[position]
            for k in rng.permutation(len(objects))[: self.group_size]:
                indices.append(int(rng.choice(objects[k])))
        # every rank gets as many, in one piece, so that groups stay together
        total = self.num_samples * self.world_size
        indices = (indices + indices[: total - len(indices)])[:total]
        start = self.rank * self.num_samples
        return iter(indices[start : start + self.num_samples])

    def __len__(self) -> int:
        """Return the number of samples of this rank in one epoch."""
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Select the epoch, hence its order and its draws."""
        self.epoch = epoch
