# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Labelling from the shell, with processes that are killed."""

import json
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from mmengine.config import Config

from referformer.errors import DataError
from referformer.formats.manifest import read_manifest
from referformer.testing import tiny_model_cfg
from tests.fixtures.tools import ForkedTool
from tests.fixtures.videos import PIPELINE, moving_square, write_clip

from ..test_apis.conftest import checkpoint  # noqa: F401  (a fixture)

ROOT = Path(__file__).parents[2]


class Farm:
    """Processes that label one list."""

    def __init__(self, folder, checkpoint, videos, lines):  # noqa: F811
        self.folder, self.out = folder, folder / 'out'
        self.manifest = folder / 'list.jsonl'
        config = folder / 'tiny.py'
        cfg = dict(model=tiny_model_cfg(), test_pipeline=PIPELINE)
        Config(cfg).dump(config)
        rng = random.Random(0)
        rows = [
            {
                'path': f'{rng.randrange(videos)}.mkv',
                'id': f'row-{n}',
                'expressions': [f'object {n}'],
            }
            for n in range(lines)
        ]
        rows[lines // 2]['path'] = 'broken.mkv'
        for n in range(videos):
            video = moving_square(2 + n % 3, 16, 24)
            write_clip(folder / f'{n}.mkv', video, 'ffv1', 'yuv444p')
        (folder / 'broken.mkv').write_bytes(b'\0' * 100)
        self.manifest.write_text('\n'.join(map(json.dumps, rows)))
        self.jobs = list(read_manifest(self.manifest))
        self.command = [
            *(sys.executable, str(ROOT / 'tools' / 'label_videos.py')),
            *('--manifest', str(self.manifest), '--out', str(self.out)),
            *('--config', str(config), '--checkpoint', str(checkpoint)),
            *('--device', 'cpu', '--cfg-options', 'model.predictor.window=4'),
        ]

    def start(self, shard):
        return ForkedTool([*self.command, '--shard', shard], self.folder)

    def results(self):
        return list(self.out.glob('??/*.jsonl'))

    def wait_for(self, number, *processes):
        """Wait until there are so many results, or all processes ended."""
        while len(self.results()) < number:
            if all(each.poll() is not None for each in processes):
                return
            time.sleep(0.02)

    def check(self):
        """Every result exists once and is whole; the failure is listed."""
        rows = Counter()
        for path in self.results():
            lines = path.read_text('utf-8').splitlines()
            for entry in map(json.loads, lines):
                rows[entry['video_id']] += 1
                assert len(entry['segmentations']) == len(entry['frames'])
        broken = [job for job in self.jobs if job.path == 'broken.mkv']
        wanted = {job.id for job in self.jobs} - {job.id for job in broken}
        assert rows == dict.fromkeys(wanted, 1)
        [failure] = (self.out / 'failures').iterdir()
        assert json.loads(failure.read_text())['path'] == 'broken.mkv'
        assert not list((self.out / '.work').iterdir())


def run_and_kill(farm, shards, kills, seed):
    """Label with a process a part; kill and restart some of them."""
    rng = random.Random(seed)
    processes = [farm.start(f'{n}/{shards}') for n in range(shards)]
    total = len(farm.jobs)
    for victim in rng.sample(range(shards), kills):
        farm.wait_for(rng.randrange(1, total // 2), *processes)
        processes[victim].send_signal(signal.SIGKILL)
        processes[victim].communicate()
        processes[victim] = farm.start(f'{victim}/{shards}')
    outputs = [process.communicate()[0] for process in processes]
    statuses = [process.returncode for process in processes]
    assert sorted(statuses) == [0] * (shards - 1) + [1], outputs
    assert any('1 failed' in output for output in outputs)


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import label_videos

    return label_videos


def test_killed_processes_lose_nothing(
    tool,
    tmp_path,
    checkpoint,  # noqa: F811
    capsys,
):
    farm = Farm(tmp_path, checkpoint, videos=4, lines=60)
    run_and_kill(farm, shards=2, kills=1, seed=1)
    farm.check()
    summary = json.loads((farm.out / 'summary-0-of-2.json').read_text())
    assert summary['videos'] == 30
    # once more, in one part: nothing is left to do
    assert tool.main(farm.command[2:]) == 1
    output = capsys.readouterr().out
    assert '0 videos labelled' in output
    assert '59 done before' in output


@pytest.mark.slow
def test_ten_thousand_lines(tmp_path, checkpoint):  # noqa: F811
    farm = Farm(tmp_path, checkpoint, videos=50, lines=10_000)
    run_and_kill(farm, shards=4, kills=2, seed=2)
    farm.check()


def test_a_wrong_list_is_refused_at_once(
    tool,
    tmp_path,
    checkpoint,  # noqa: F811
):
    farm = Farm(tmp_path, checkpoint, videos=1, lines=4)
    farm.manifest.write_text('{"path": "0.mkv"}')
    with pytest.raises(DataError, match='line 1 has no "expressions"'):
        tool.main(farm.command[2:])
