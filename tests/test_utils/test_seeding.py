# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Seeds depend on the position alone, and survive the way to the dataset."""

import pickle
import random

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from referformer.engine import SeededSampler
from referformer.utils.seeding import (
    SeededIndex,
    derive_seed,
    seed_generators,
    seed_sample,
)


class Noise(Dataset):
    """Returns its index and one draw of each generator."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        seed_sample(index)
        draws = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
        return torch.tensor([index, *draws], dtype=torch.float64)


def epoch(sampler, number, num_workers=0):
    sampler.set_epoch(number)
    loader = DataLoader(
        sampler.dataset, 2, sampler=sampler, num_workers=num_workers
    )
    return torch.cat(list(loader))


def make_sampler(dataset, **kwargs):
    sampler = SeededSampler(dataset, seed=3, **kwargs)
    sampler.dataset = dataset
    return sampler


def test_seeded_index_is_an_int_with_a_seed():
    index = pickle.loads(pickle.dumps(SeededIndex(5, 99)))
    assert index == 5
    assert index.seed == 99
    assert (index - 2, (index - 2).seed) == (3, 99)
    assert (index % 4, (index % 4).seed) == (1, 99)
    assert 'abcdef'[index] == 'f'


def test_derive_seed_tells_positions_apart():
    seeds = {
        derive_seed(a, b, c)
        for a in range(1, 4)
        for b in range(8)
        for c in range(64)
    }
    assert len(seeds) == 3 * 8 * 64
    assert derive_seed(1, 2) != derive_seed(2, 1)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_seed_generators_covers_all_three():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    seed_generators(4)
    first = draw()
    assert draw() != first
    seed_generators(4)
    assert draw() == first


def test_a_plain_index_leaves_the_generators_alone():
    seed_generators(4)
    expected = random.random()
    seed_generators(4)
    seed_sample(2)
    assert random.random() == expected


def test_samples_repeat_per_epoch_whatever_happened_before():
    sampler = make_sampler(Noise())
    first, second = epoch(sampler, 0), epoch(sampler, 1)
    random.random()
    torch.rand(7)
    assert torch.equal(epoch(sampler, 1), second)
    assert torch.equal(epoch(sampler, 0, num_workers=2), first)
    # Another epoch: another order, and no draw comes twice.
    assert not torch.equal(first[:, 0], second[:, 0])
    draws = torch.cat([first, second])[:, 1:]
    assert draws.flatten().unique().numel() == draws.numel()


def test_the_order_is_that_of_the_sampler_inside():
    from mmengine.dataset import DefaultSampler

    for shuffle in (True, False):
        ours = make_sampler(Noise(), shuffle=shuffle)
        theirs = DefaultSampler(Noise(), shuffle=shuffle, seed=3)
        assert list(ours) == list(theirs)
        assert len(ours) == len(theirs)


def test_a_seed_survives_concatenation():
    both = make_sampler(ConcatDataset([Noise(), Noise()]), shuffle=False)
    first = epoch(both, 0)
    assert torch.equal(epoch(both, 0), first)
    assert first[:, 1].unique().numel() == 12


def test_infinite_sampler():
    from itertools import islice

    sampler = SeededSampler(Noise(), 'InfiniteSampler', seed=1)
    indices = list(islice(sampler, 15))
    assert len({index.seed for index in indices}) == 15
    assert set(indices) == set(range(6))
