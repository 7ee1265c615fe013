# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Two torchruns train together, as on two machines; one of them dies."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from tests.faults import NETWORK, fault
from tests.fixtures.trainings import ROOT, Training

from .test_resume import make_config

SECONDS = 600.0  # on a busy machine, a start takes a minute


def write_config(folder):
    """Ten epochs of three steps of one second, for two processes."""
    cfg = make_config(folder / 'run', by_epoch=True, num_workers=1)
    cfg.train_cfg = dict(type='ResumableTrainLoop', max_epochs=10)
    cfg.train_dataloader.batch_size = 2
    cfg.train_dataloader.dataset.seconds = 0.5
    cfg.default_hooks.checkpoint.interval_iters = 2
    cfg.default_hooks.logger.interval = 1
    cfg.custom_hooks[0].path = str(folder / 'run.losses')
    folder.mkdir(exist_ok=True)
    path = folder / 'run.py'
    cfg.dump(path)
    return path


def start(config, port, log):
    """Start a torchrun as on one of two machines."""
    return subprocess.Popen(
        ['bash', ROOT / 'tools/dist_train.sh', config, '1'],
        cwd=ROOT,
        env={
            **os.environ,
            'PYTHON': sys.executable,
            'PYTHONPATH': str(ROOT),
            'NNODES': '2',
            'MASTER_ADDR': '127.0.0.1',
            'MASTER_PORT': str(port),
            'MAX_RESTARTS': '1',
        },
        stdout=log.open('a'),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def until(condition, text):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, text()
        time.sleep(0.1)


def steps(config):
    path = config.with_suffix('.losses')
    return path.read_text().count('\n') if path.exists() else 0


@fault(
    NETWORK,
    '`kill -9` of the torchrun of one of two nodes',
    'its processes end; the other node waits, starts its own again when the '
    'first is back (`MAX_RESTARTS`), and the result has the same bits',
)
@pytest.mark.slow
def test_a_node_is_killed_and_comes_back(tmp_path):
    whole = write_config(tmp_path / 'whole')
    with Training(whole, 2) as training:
        assert training.finish(SECONDS) == [0, 0]
    config = write_config(tmp_path / 'killed')
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    logs = [tmp_path / 'node0.log', tmp_path / 'node1.log']
    nodes = []

    def text():
        return ''.join(log.read_text()[-3000:] for log in logs)

    try:
        nodes.append(start(config, port, logs[0]))
        # the first one holds the place of meeting
        until(lambda: listens(port) or nodes[0].poll() is not None, text)
        nodes.append(start(config, port, logs[1]))
        until(lambda: steps(config) >= 16, text)
        processes = psutil.Process(nodes[1].pid).children(recursive=True)
        os.kill(nodes[1].pid, signal.SIGKILL)
        nodes[1].wait(timeout=SECONDS)
        assert not psutil.wait_procs(processes, timeout=30)[1]
        nodes[1] = start(config, port, logs[1])
        until(lambda: all(n.poll() is not None for n in nodes), text)
        assert [node.returncode for node in nodes] == [0, 0], text()
    finally:
        for node in nodes:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)
                node.wait(timeout=30)
    assert 'resumed epoch' in ''.join(log.read_text() for log in logs)
    ends = [
        torch.load(Path(path.parent, 'run/epoch_10.pth'), weights_only=False)
        for path in (whole, config)
    ]
    for name, value in ends[0]['state_dict'].items():
        assert torch.equal(value, ends[1]['state_dict'][name]), name


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(('127.0.0.1', port)) == 0
