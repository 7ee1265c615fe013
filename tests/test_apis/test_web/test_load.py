# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Eight visitors at the same time, over loopback, without a browser."""

import gc
import json
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from referformer.apis.web.service import SegmentationService
from referformer.utils.freed_memory import return_freed_memory
from tests.fixtures.videos import write_clip

pytest.importorskip('av')
pytest.importorskip('gradio')
psutil = pytest.importorskip('psutil')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
]
VISITORS, ROUNDS = 8, 7
PATIENCE = 300
#: Megabytes of features that are kept, fewer than all videos have.
FEATURE_MB = 3


class Client:
    """A visitor who speaks to the server as the page does."""

    def __init__(self, address):
        import httpx

        self.http = httpx.Client(base_url=address, timeout=PATIENCE)
        self.session = secrets.token_hex(8)
        config = self.http.get('config').json()
        self.ids = {
            component['props'].get('elem_id'): component['id']
            for component in config['components']
        }
        self.functions = config['dependencies']
        self.alive = threading.Event()
        self.gone = threading.Event()
        self.heart = threading.Thread(target=self._beat, daemon=True)
        self.heart.start()
        assert self.alive.wait(PATIENCE)

    def _beat(self):
        """What ends when a browser window closes."""
        url = f'gradio_api/heartbeat/{self.session}'
        with self.http.stream('GET', url) as response:
            for _ in response.iter_raw():
                self.alive.set()
                if self.gone.is_set():
                    break

    def call(self, name, event, *data):
        target = [self.ids[name], event]
        [index] = [
            each['id'] for each in self.functions if target in each['targets']
        ]
        body = dict(data=data, fn_index=index, session_hash=self.session)
        joined = self.http.post('gradio_api/queue/join', json=body)
        joined.raise_for_status()
        query = {'session_hash': self.session}
        messages = []
        with self.http.stream(
            'GET', 'gradio_api/queue/data', params=query
        ) as response:
            for line in response.iter_lines():
                if line.startswith('data:'):
                    messages.append(json.loads(line[5:]))
                    if messages[-1]['msg'] == 'process_completed':
                        assert messages[-1]['success'], messages[-1]
                        return messages
        raise AssertionError(messages[-1:])

    def choose(self, path):
        with path.open('rb') as file:
            [place] = self.http.post(
                'gradio_api/upload', files={'files': (path.name, file)}
            ).json()
        video = {'path': place, 'meta': {'_type': 'gradio.FileData'}}
        self.call('video', 'upload', video)
        return place

    def segment(self, *texts):
        texts = [*texts] + [''] * (6 - len(texts))
        return self.call('go', 'click', None, None, 0, None, *texts)

    def close(self):
        self.gone.set()


def scores_of(video):
    return [
        e.scores.astype(float).round(4).tolist() for e in video.expressions
    ]


def rss():
    gc.collect()
    return_freed_memory()
    return psutil.Process().memory_info().rss / 1e6


def test_eight_visitors(inferencer, tmp_path, capsys):
    from referformer.apis.web.server import serve

    clips = []
    for number in range(VISITORS):
        frames = np.random.default_rng(number).integers(
            0, 256, (12, 32, 48, 3), np.uint8
        )
        path = tmp_path / f'video {number}.mp4'
        clips.append(write_clip(path, frames))
    texts = [
        [f'thing {number} of {round_}' for round_ in range(ROUNDS)]
        for number in range(VISITORS)
    ]
    expected = [
        [
            scores_of(inferencer(clip, text, window=4)['predictions'][0])
            for text in several
        ]
        for clip, several in zip(clips, texts, strict=True)
    ]
    predictor = inferencer.model.predictor.override(window=4)
    memory, waits = [], []
    folder = (tmp_path / 'service').resolve()
    with (
        SegmentationService(
            inferencer, folder, predictor, feature_mb=FEATURE_MB
        ) as service,
        serve(service) as address,
        ThreadPoolExecutor(VISITORS) as pool,
    ):
        clients = list(pool.map(Client, [address] * VISITORS))
        uploads = list(pool.map(lambda c, p: c.choose(p), clients, clips))
        assert len(set(uploads)) == VISITORS

        def visit(number, round_):
            begin = time.monotonic()
            client, text = clients[number], texts[number][round_]
            client.segment(text)
            waits.append(time.monotonic() - begin)
            run = service.visit(client.session).run
            assert run.error is None
            file = client.http.get(
                f'gradio_api/file={run.outcome.files["results"]}'
            ).json()
            assert file['video']['path'] == clips[number].name
            assert [e['text'] for e in file['expressions']] == [text]
            return np.transpose(
                [frame['scores'] for frame in file['frames']]
            ).tolist()

        for round_ in range(ROUNDS):
            found = pool.map(visit, range(VISITORS), [round_] * VISITORS)
            assert list(found) == [each[round_] for each in expected]
            assert service.memory.num_bytes <= service.memory.max_bytes
            memory.append(rss())
        with capsys.disabled():
            print(f'\n{len(waits)} runs of {VISITORS} visitors, wait: median')
            print(f'{np.median(waits):.1f} s, longest {max(waits):.1f} s')
            print('MB after each round:', *map(round, memory))
        # 4 files of the last run and the video of each visitor
        files = [p for p in folder.rglob('*') if p.is_file()]
        assert len(files) == 5 * VISITORS
        for client in clients:
            client.close()
        deadline = time.monotonic() + PATIENCE
        while service.memory.num_bytes or any(
            path.is_file() for path in folder.rglob('*')
        ):
            assert time.monotonic() < deadline, 'something of a visit stays'
            time.sleep(0.2)
    # the first round fills caches
    assert max(memory[2:]) < 1.02 * memory[1]
