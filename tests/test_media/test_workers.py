# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Videos in the workers of a data loader."""

import multiprocessing

import numpy as np

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
        assert pool.apply(look_at, (path,)) == (1, total)


def test_every_video_of_a2d_is_listed_once():
    assert index.read_index.cache_parameters()['maxsize'] > 3782
