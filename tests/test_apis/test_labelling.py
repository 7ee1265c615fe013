# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Labelling many videos."""

import json

import pytest
from pycocotools import mask as mask_utils

from referformer.apis import labelling
from referformer.apis.labelling import (
    Labeller,
    find_device,
    find_shard,
    label_shard,
)
from referformer.errors import ConfigError, ReferError
from referformer.formats.manifest import LabelJob, Shard
from referformer.formats.predictions import open_predictions
from tests.fixtures.videos import moving_square, write_clip

TEXTS = ('the white square', 'a grey floor')


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp('videos')
    write_clip(folder / 'a.mkv', moving_square(4, 34, 50), 'ffv1', 'yuv444p')
    write_clip(folder / 'b.mkv', moving_square(3), 'ffv1', 'yuv444p')
    (folder / 'broken.mp4').write_bytes(b'not a video')
    return folder


@pytest.fixture
def make(config, checkpoint, videos, tmp_path):
    def make(**options):
        return Labeller(
            config, checkpoint, tmp_path / 'out', videos, 'cpu', **options
        )

    return make


def test_labels_are_those_of_the_inferencer(make, inferencer, videos):
    labeller = make()
    job = LabelJob('a.mkv', TEXTS, start=0.1)
    outcome = labeller(job)
    assert (outcome.state, outcome.frames) == ('new', 3)
    path = labeller.store.path(job.name)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    [video] = inferencer(videos / 'a.mkv', TEXTS, start=0.1)['predictions']
    for entry, found in zip(entries, video.expressions, strict=True):
        assert entry['expression'] == found.text
        assert entry['frames'] == [1, 2, 3]
        assert entry['scores'] == pytest.approx(found.scores, abs=1e-4)
        for rle, mask in zip(entry['segmentations'], found.masks, strict=True):
            expected = mask_utils.decode(mask)
            assert (rle is None) == (not expected.any())
            if rle is not None:
                assert (mask_utils.decode(rle) == expected).all()


def test_labels_are_read_as_predictions(make):
    labeller = make()
    job = LabelJob('a.mkv', TEXTS)
    labeller(job)
    frames = {'a': [f'{n:05d}' for n in range(4)]}
    masks = open_predictions(labeller.store.path(job.name), frames)
    assert len(masks.list_names(['a/0', 'a/1'])) == 8
    assert masks.read('a/0/00002.png', (34, 50)).shape == (34, 50)


def test_every_state_is_counted(make, capsys):
    labeller = make()
    jobs = [
        LabelJob('a.mkv', TEXTS),
        LabelJob('broken.mp4', TEXTS),
        LabelJob('b.mkv', TEXTS[:1]),
        LabelJob('a.mkv', TEXTS),
        LabelJob('missing.mp4', TEXTS),
        LabelJob('b.mkv', TEXTS[:1], start=9.0),
        LabelJob('b.mkv', TEXTS),
    ]
    with labeller.store.claim(jobs[-1].name):
        summary = label_shard(labeller, jobs)
    assert (summary.new, summary.done, summary.busy) == (2, 1, 1)
    assert (summary.failed, summary.frames) == (3, 7)
    assert summary.videos == 7
    failures = sorted(labeller.store.failure_path('').parent.glob('*.json'))
    records = [json.loads(path.read_text()) for path in failures]
    assert [record['attempts'] for record in records] == [2, 2, 2]
    assert {record['path'] for record in records} == {
        'broken.mp4',
        'missing.mp4',
        'b.mkv',
    }
    again = label_shard(labeller, jobs)
    assert (again.new, again.done, again.busy) == (1, 3, 0)
    assert again.failed == 3
    assert len(list(labeller.store.folder.glob('??/*.jsonl'))) == 3
    assert not list((labeller.store.folder / '.work').iterdir())


def test_a_fault_that_passes_is_no_failure(make, monkeypatch):
    labeller = make()
    label, calls = labeller.label, []

    def once(job):
        calls.append(job)
        if len(calls) == 1:
            raise MemoryError
        return label(job)

    monkeypatch.setattr(labeller, 'label', once)
    job = LabelJob('b.mkv', TEXTS)
    summary = label_shard(labeller, [job])
    assert (summary.new, summary.failed) == (1, 0)
    assert not labeller.store.failure_path(job.name).exists()


def test_many_failures_in_a_row_stop_the_run(make):
    labeller = make()
    jobs = [LabelJob(f'{n}.mp4', TEXTS) for n in range(9)]
    with pytest.raises(ReferError, match='3 videos in a row failed') as caught:
        label_shard(labeller, jobs, max_failures=3)
    assert 'does not exist' in str(caught.value)
    assert labeller.store.attempts(jobs[3].name) == 0


def test_what_the_folder_lacks_is_raised(make, monkeypatch):
    labeller = make()

    def full(*_):
        raise OSError(28, 'No space left on device')

    job = LabelJob('b.mkv', TEXTS)
    monkeypatch.setattr(labelling.LabelStore, 'path', full)
    with pytest.raises(OSError, match='No space'):
        labeller(job)
    assert not labeller.store.failure_path(job.name).exists()


def test_a_folder_holds_labels_of_one_model(make, config):
    make()
    make()
    config['model'] = {**config['model'], 'predictor': {'window': 2}}
    try:
        with pytest.raises(ConfigError, match='labels of another model'):
            make()
    finally:
        del config['model']['predictor']


@pytest.mark.parametrize(
    ('text', 'env', 'shard'),
    [
        (None, {}, Shard(0, 1)),
        ('2/5', {'RANK': '1', 'WORLD_SIZE': '8'}, Shard(2, 5)),
        (None, {'RANK': '1', 'WORLD_SIZE': '8'}, Shard(1, 8)),
        # a shell of salloc is one process, whatever was allocated
        (None, {'SLURM_PROCID': '0', 'SLURM_NTASKS': '8'}, Shard(0, 1)),
        (
            None,
            {'SLURM_PROCID': '3', 'SLURM_STEP_NUM_TASKS': '4'},
            Shard(3, 4),
        ),
    ],
)
def test_the_part_of_a_process(text, env, shard):
    assert find_shard(text, env)[0] == shard


@pytest.mark.parametrize('processes', [1, 3])
@pytest.mark.parametrize(('first', 'step'), [(0, 1), (1, 1), (10, 5)])
def test_arrays_of_slurm_cover_every_part(first, step, processes):
    found = set()
    for task in range(4):
        for rank in range(processes):
            env = {
                'SLURM_ARRAY_TASK_ID': str(first + step * task),
                'SLURM_ARRAY_TASK_MIN': str(first),
                'SLURM_ARRAY_TASK_MAX': str(first + step * 3),
                'SLURM_ARRAY_TASK_COUNT': '4',
                'RANK': str(rank),
                'WORLD_SIZE': str(processes),
            }
            shard, source = find_shard(None, env)
            assert shard.count == 4 * processes
            assert source == 'Slurm array and torchrun'
            found.add(shard.index)
    assert found == set(range(4 * processes))


@pytest.mark.parametrize('text', ['', '1', '3/3', '-1/2', 'a/b', '1/0', '/'])
def test_a_part_that_is_none(text):
    with pytest.raises(ConfigError, match='is not I/N'):
        find_shard(text, {})


def test_a_process_takes_the_device_of_its_rank(monkeypatch):
    assert find_device({}) is None
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('torch.cuda.device_count', lambda: 4)
    assert find_device({'LOCAL_RANK': '3'}) == 'cuda:3'
    assert find_device({'SLURM_LOCALID': '5'}) == 'cuda:1'
    assert find_device({}) is None
