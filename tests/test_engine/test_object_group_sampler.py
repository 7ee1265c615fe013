# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The objects of a clip come side by side, each rank its share."""

from itertools import groupby

import pytest

from referformer.engine import ObjectGroupSampler
from referformer.engine.samplers import object_group_sampler as module

OBJECTS = {'a': 3, 'b': 1, 'c': 4, 'd': 2}


class FakeDataset:
    """Videos of one to four objects, two expressions each, two clips."""

    def __init__(self):
        self.items = [
            dict(
                video_id=video,
                obj_id=str(k),
                start_frame=start_frame,
                exp_id=str(e),
            )
            for video, count in OBJECTS.items()
            for k in range(count)
            for e in range(2)
            for start_frame in (0, 4)
        ]

    def __len__(self):
        return len(self.items)

    def get_data_info(self, index):
        return self.items[index]


def clips(dataset, indices):
    """(video, start_frame) and objects of each run of one clip."""
    items = [dataset.items[i] for i in indices]
    runs = groupby(
        items, key=lambda item: (item['video_id'], item['start_frame'])
    )
    return [(key, [item['obj_id'] for item in run]) for key, run in runs]


def test_every_clip_once_each_object_once():
    dataset = FakeDataset()
    sampler = ObjectGroupSampler(dataset, group_size=4, seed=1)
    runs = clips(dataset, sampler)
    assert len(runs) == 2 * len(OBJECTS)
    for (video, _), objects in runs:
        assert sorted(objects) == [str(k) for k in range(OBJECTS[video])]
    assert sum(len(objects) for _, objects in runs) == len(sampler) == 20


def test_videos_of_two_sets_may_share_a_name():
    dataset = FakeDataset()
    first, second = dataset.items, [dict(i) for i in dataset.items]
    for items, folder in ((first, 'one'), (second, 'other')):
        for item in items:
            item['img_dir'] = f'{folder}/{item["video_id"]}'
    dataset.items = first + second
    sampler = ObjectGroupSampler(dataset, group_size=4, seed=1)
    assert len(sampler) == 2 * 20
    chosen = [dataset.items[i] for i in sampler]
    runs = groupby(chosen, key=lambda i: (i['img_dir'], i['start_frame']))
    assert len(list(runs)) == 2 * 2 * len(OBJECTS)


def test_group_size_bounds_the_objects():
    dataset = FakeDataset()
    runs = clips(dataset, ObjectGroupSampler(dataset, group_size=2, seed=1))
    assert max(len(objects) for _, objects in runs) == 2


def test_epochs_differ_and_repeat():
    dataset = FakeDataset()
    sampler = ObjectGroupSampler(dataset, seed=1)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(ObjectGroupSampler(dataset, seed=2)) != first


def test_a_short_epoch():
    sampler = ObjectGroupSampler(FakeDataset(), samples_per_epoch=7, seed=1)
    assert len(list(sampler)) == len(sampler) == 7


@pytest.mark.parametrize('world_size', [2, 3])
def test_ranks_share_an_epoch(monkeypatch, world_size):
    dataset = FakeDataset()
    whole = list(ObjectGroupSampler(dataset, seed=1))
    shares = []
    for rank in range(world_size):
        monkeypatch.setattr(
            module, 'get_dist_info', lambda rank=rank: (rank, world_size)
        )
        sampler = ObjectGroupSampler(dataset, seed=1)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    together = [index for share in shares for index in share]
    assert together[: len(whole)] == whole
    assert len(together) - len(whole) < world_size


def test_wrong_group_size():
    with pytest.raises(ValueError, match='group_size must be positive'):
        ObjectGroupSampler(FakeDataset(), group_size=0)
