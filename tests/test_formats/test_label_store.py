# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Labels that several processes write at the same time."""

import fcntl
import json
import multiprocessing
import os
import random
import signal
import time

import pytest

from referformer.errors import ConfigError
from referformer.formats.label_store import MAX_DEATHS, LabelStore
from tests.faults import PROCESSES, fault

NAME = 'video-0123456789abcdef'
ENTRIES = [{'exp_id': '0'}, {'exp_id': 'é'}]


def die_at_work(folder):
    """Claim a video and end at once, as by `kill -9`."""
    with LabelStore(folder).claim(NAME):
        os.kill(os.getpid(), signal.SIGKILL)


def run_and_die(folder):
    process = multiprocessing.get_context('fork').Process(
        target=die_at_work, args=(folder,)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def work_files(folder):
    return list((folder / '.work').iterdir())


def test_labels_are_written_once(tmp_path):
    store = LabelStore(tmp_path)
    with store.claim(NAME) as claim:
        assert work_files(tmp_path)
        path = claim.finish(ENTRIES)
    assert path == tmp_path / '01' / f'{NAME}.jsonl'
    lines = path.read_text('utf-8').splitlines()
    assert [json.loads(line) for line in lines] == ENTRIES
    assert not work_files(tmp_path)
    with store.claim(NAME) as claim:
        assert claim == 'done'


def test_only_one_process_works_on_a_video(tmp_path):
    store = LabelStore(tmp_path)
    with store.claim(NAME) as first, store.claim(NAME) as second:
        assert second == 'busy'
        with store.claim('other-0123456789abcdef') as third:
            assert not isinstance(third, str)
        first.finish(ENTRIES)
    assert store.state(NAME) == 'done'


@fault(
    PROCESSES,
    'labelling is interrupted in the middle of a video',
    'nothing of this video is left',
)
def test_nothing_stays_of_an_interrupted_video(tmp_path):
    store = LabelStore(tmp_path)
    with pytest.raises(KeyboardInterrupt), store.claim(NAME):
        raise KeyboardInterrupt
    assert not work_files(tmp_path)
    assert store.state(NAME) == 'open'


def test_an_error_while_writing_leaves_nothing(tmp_path):
    store = LabelStore(tmp_path)
    with pytest.raises(TypeError), store.claim(NAME) as claim:
        claim.finish([{'not': {1, 2}}])
    assert not work_files(tmp_path)
    assert store.state(NAME) == 'open'


def test_failures_are_kept_until_it_works(tmp_path):
    store = LabelStore(tmp_path, max_attempts=2)
    for attempts, state in ((1, 'open'), (2, 'failed')):
        with store.claim(NAME) as claim:
            assert claim.fail('it is damaged', path='a.mp4') == attempts
        assert store.state(NAME) == state
        assert not work_files(tmp_path)
    record = json.loads(store.failure_path(NAME).read_text())
    assert record['error'] == 'it is damaged'
    assert record['path'] == 'a.mp4'
    with store.claim(NAME) as claim:
        assert claim == 'failed'
    with LabelStore(tmp_path, max_attempts=3).claim(NAME) as claim:
        claim.finish(ENTRIES)
    assert not store.failure_path(NAME).exists()


@fault(
    PROCESSES,
    'a video kills the process that labels it',
    'it is tried a few times, then given up and listed',
)
def test_a_video_that_kills_is_given_up(tmp_path):
    for deaths in range(MAX_DEATHS):
        run_and_die(tmp_path)
        assert len(work_files(tmp_path)) == 1
        assert LabelStore(tmp_path).state(NAME) == 'open', deaths
    store = LabelStore(tmp_path)
    with store.claim(NAME) as claim:
        assert claim == 'failed'
    record = json.loads(store.failure_path(NAME).read_text())
    assert 'ended 3 times' in record['error']
    assert not work_files(tmp_path)


@fault(
    PROCESSES,
    'a process that labels dies',
    'another one takes its video over',
)
def test_a_video_whose_process_died_is_taken_over(tmp_path):
    run_and_die(tmp_path)
    with LabelStore(tmp_path).claim(NAME) as claim:
        assert claim.deaths == 1
        claim.finish(ENTRIES)
    assert not work_files(tmp_path)


def test_no_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, 'Function not implemented')

    monkeypatch.setattr(fcntl, 'flock', refuse)
    with (
        pytest.raises(ConfigError, match='file system without locks'),
        LabelStore(tmp_path).claim(NAME),
    ):
        pass


def race(folder, seed, names, log):
    """Work on all videos, slowly; note what was written."""
    rng = random.Random(seed)
    store = LabelStore(folder, max_attempts=10**6)
    todo = list(names)
    while todo:
        name = rng.choice(todo)
        with store.claim(name) as claim:
            if claim == 'done':
                todo.remove(name)
            elif not isinstance(claim, str):
                time.sleep(rng.random() / 500)
                if rng.random() < 0.2:
                    claim.fail('by chance')
                elif rng.random() < 0.9:
                    claim.finish([{'seed': seed}] * 3)
                    with log.open('a') as file:
                        file.write(f'{name}\n')


def test_many_processes_write_everything_once(tmp_path):
    names = [f'v{n}-{n:016x}' for n in range(40)]
    context = multiprocessing.get_context('fork')
    log = tmp_path / 'log'
    workers = [
        context.Process(
            target=race,
            args=(tmp_path / 'out', seed, names, log),
            daemon=True,  # ended, not waited for, if it hangs
        )
        for seed in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert sorted(log.read_text().split()) == sorted(names)
    assert not work_files(tmp_path / 'out')
    store = LabelStore(tmp_path / 'out')
    for name in names:
        assert len(set(store.path(name).read_text().splitlines())) == 1
