# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Nothing goes on running after the process that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.faults import PROCESSES, fault

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith('linux'), reason='needs prctl of Linux'
)


def start(code):
    """Start Python; return it and the process id that it prints."""
    process = subprocess.Popen(
        [sys.executable, '-c', code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    return process, int(process.stdout.readline())


def ends(pid, seconds=10.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not psutil.pid_exists(pid):
            return True
        time.sleep(0.02)
    return False


FORK = """
import os, time
from referformer.utils.processes import end_children_with_this_process
{before}
def fork():
    pid = os.fork()
    if not pid:
        time.sleep(100)
        os._exit(0)
    print(pid, flush=True)
{after}
time.sleep(100)
"""


@fault(
    PROCESSES,
    '`kill -9` or SIGTERM of a process that has forked',
    'its children end too',
)
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_fork_ends_with_its_parent(number):
    code = FORK.format(
        before='end_children_with_this_process()', after='fork()'
    )
    process, child = start(code)
    assert psutil.pid_exists(child)
    process.send_signal(number)
    process.wait(timeout=60)
    assert ends(child)


def test_a_fork_of_a_thread_outlives_the_thread():
    code = FORK.format(
        before='end_children_with_this_process()',
        after='import threading\n'
        'thread = threading.Thread(target=fork)\n'
        'thread.start()\nthread.join()',
    )
    process, child = start(code)
    try:
        assert not ends(child, 0.5)
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)
        process.wait(timeout=60)


def test_without_the_call_a_fork_goes_on():
    """What the two tests above would miss if nothing was ever left."""
    process, child = start(FORK.format(before='', after='fork()'))
    process.kill()
    process.wait(timeout=60)
    assert not ends(child, 0.5)
    os.kill(child, signal.SIGKILL)


@fault(
    PROCESSES,
    'the quickstart is killed',
    'the command that it runs ends too',
)
def test_a_command_ends_with_the_quickstart_that_started_it():
    child = (
        'import os, sys, time; sys.argv = ["x"]; '
        'from referformer.utils.cli import run; '
        'run(lambda: (print(os.getpid(), flush=True), time.sleep(100)))'
    )
    code = (
        'import subprocess, sys; '
        'from referformer.utils.processes import child_environment; '
        f'subprocess.run([sys.executable, "-c", {child!r}], '
        'env=child_environment())'
    )
    process, pid = start(code)
    process.kill()
    process.wait(timeout=60)
    assert ends(pid)
