# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Videos in the workers of a data loader."""

import gc
import multiprocessing
import os
import time

import numpy as np
import pytest

from referformer.media import index
from referformer.media.index import open_video, video_stream
from referformer.media.reader import VideoReader
from referformer.media.writer import write_video


def look_at(path):
    """Threads of the decoder, and the sum of all frames."""
    with open_video(path) as container:
        threads = video_stream(container, path).codec_context.thread_count
    with VideoReader(path) as video:
        return threads, int(sum(f.sum(dtype=int) for f in video.frames()))


def test_one_thread_each(tmp_path):
    path = str(tmp_path / 'a.mp4')
    frames = np.random.default_rng(0).integers(0, 255, (8, 64, 96, 3), 'u1')
    write_video(path, frames, 5)
    threads, total = look_at(path)
    # Here, FFmpeg takes as many as there are cores.
    assert threads != 1
    with multiprocessing.get_context('fork').Pool(1) as pool:
        assert pool.apply_async(look_at, (path,)).get(60) == (1, total)


def leave_decoders(path):
    """Leave cycles that hold decoders and converters with threads."""
    for _ in range(4):
        container = open_video(path)
        stream = video_stream(container, path)
        stream.thread_type = 'FRAME'
        for frame in container.decode(stream):
            frame.reformat(width=32, format='bgr24', threads=4)
        cycle = [container, frame, frame.side_data]
        cycle.append(cycle)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
def test_a_fork_does_not_wait_for_its_parents_decoders(tmp_path):
    """It would for ever: their threads are in the parent alone."""
    path = str(tmp_path / 'a.mp4')
    write_video(path, np.zeros((8, 64, 96, 3), 'u1'), 5)
    gc.disable()
    try:
        leave_decoders(path)
        child = os.fork()
        if not child:
            gc.collect()
            os._exit(0)
        assert not gc.isenabled()
    finally:
        gc.enable()
    until = time.monotonic() + 30
    ended = 0
    while not ended and time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    if not ended:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended
    assert status == 0


def is_collecting():
    return gc.isenabled(), gc.get_freeze_count() > 0


@pytest.mark.parametrize('is_on', [True, False])
def test_the_collector_is_as_it_was(is_on):
    (gc.enable if is_on else gc.disable)()
    try:
        with multiprocessing.get_context('fork').Pool(1) as pool:
            found = pool.apply_async(is_collecting).get(30)
        assert found == (is_on, True)
        assert is_collecting() == (is_on, False)
    finally:
        gc.enable()


def test_every_video_of_a2d_is_listed_once():
    assert index.read_index.cache_parameters()['maxsize'] > 3782
