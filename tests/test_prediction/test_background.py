# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Threads keep the order, hand on errors and always end."""

import signal
import threading
import time

import pytest

from referformer.prediction.background import (
    BackgroundWriter,
    prefetch,
    queue_depth,
)


def threads():
    return {t.name for t in threading.enumerate()} & {'prefetch', 'write'}


def test_prefetch_keeps_order_and_depth():
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    ahead = prefetch(items(), depth=3)
    assert next(ahead) == 0
    time.sleep(0.1)
    # one taken, three queued, one in the thread's hands
    assert len(made) == 5
    assert list(ahead) == list(range(1, 50))
    assert not threads()


def test_an_error_ahead_comes_after_what_precedes_it():
    def items():
        yield 1
        raise OSError('the file ends here')

    ahead = prefetch(items(), 4)
    assert next(ahead) == 1
    with pytest.raises(OSError, match='ends here'):
        next(ahead)
    assert not threads()


def test_leaving_early_ends_the_thread():
    ahead = prefetch(iter(range(10**9)), 2)
    next(ahead)
    ahead.close()
    assert not threads()


def test_the_writer_writes_all_in_order():
    written = []
    with BackgroundWriter(written.append, 2) as writer:
        for i in range(20):
            writer.put(i)
    assert written == list(range(20))
    assert not threads()


@pytest.mark.parametrize('at', [0, 19])
def test_an_error_of_the_writer_reaches_the_caller(at):
    def write(i):
        if i == at:
            raise OSError('the disk is full')

    def put_all():
        with BackgroundWriter(write, 2) as writer:
            for i in range(20):
                writer.put(i)

    with pytest.raises(OSError, match='disk is full'):
        put_all()
    assert not threads()


def test_an_interrupt_drops_what_is_queued():
    written = []

    def write(i):
        time.sleep(0.02)
        written.append(i)

    def put_some():
        with BackgroundWriter(write, 10) as writer:
            for i in range(10):
                writer.put(i)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put_some()
    assert len(written) < 5
    assert not threads()


def test_an_interrupt_while_the_last_are_written_waits_for_one():
    written = []
    writing = threading.Event()

    def write(i):
        writing.set()
        time.sleep(0.1)
        written.append(i)

    def interrupt():
        writing.wait()
        time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def put_all():
        with BackgroundWriter(write, 10) as writer:
            for i in range(10):
                writer.put(i)

    # a background job of a shell ignores interrupts
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            put_all()
    finally:
        signal.signal(signal.SIGINT, before)
    assert written == [0]
    time.sleep(0.25)
    assert written == [0]
    assert not threads()


def test_large_frames_make_short_queues():
    assert queue_depth(36, 640 * 360 * 3) == 36
    assert queue_depth(36, 3840 * 2160 * 3) == 10
    assert queue_depth(1, 10) == 2
