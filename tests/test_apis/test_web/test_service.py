# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Visitors get their results, and nothing of one another."""

import json
import shutil
import threading
import zipfile
from collections import defaultdict

import av
import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from referformer.apis.web.service import Limits, SegmentationService
from referformer.apis.web.visit import BUG
from referformer.errors import ConfigError, ReferError
from referformer.media.reader import VideoReader
from referformer.prediction import Predictor
from tests.fixtures.videos import cut_off, moving_square, write_clip

TEXTS = ['the white square', 'a grey floor', 'something else']
PATIENCE = 60


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp('videos') / 'my clip.mp4'
    return write_clip(path, moving_square(10), sound='aac')


@pytest.fixture
def make_service(inferencer, tmp_path):
    services = []

    def make(**options):
        predictor = inferencer.model.predictor.override(window=4)
        folder = tmp_path / f'service{len(services)}'
        service = SegmentationService(inferencer, folder, predictor, **options)
        services.append(service)
        return service

    yield make
    for service in services:
        service.close()


@pytest.fixture
def service(make_service):
    return make_service()


@pytest.fixture
def backbone(inferencer, monkeypatch):
    """Frames that the backbone sees, and a gate in front of it."""

    class Backbone:
        frames = 0
        gate = threading.Event()
        entered = threading.Event()

    Backbone.gate.set()

    def look(module, args):
        Backbone.frames += len(args[0])
        Backbone.entered.set()
        assert Backbone.gate.wait(PATIENCE)

    handle = inferencer.model.backbone.register_forward_pre_hook(look)
    yield Backbone
    Backbone.gate.set()
    handle.remove()


def upload(service, clip, user='one'):
    """What the page's server does with a file of a visitor."""
    path = service.folder / 'uploads' / user / clip.name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(clip, path)
    return path


def finish(run):
    assert run.wait(PATIENCE)
    assert run.error is None
    return run.outcome


def settle(service):
    """Wait until nothing is left to do."""
    done = threading.Event()
    service.later(done.set)
    assert done.wait(PATIENCE)


def files_of(service):
    return sorted(p for p in service.folder.rglob('*') if p.is_file())


def unzip(path):
    masks = defaultdict(list)
    with zipfile.ZipFile(path) as file:
        for name in sorted(file.namelist()):
            if name.endswith('.png'):
                data = np.frombuffer(file.read(name), np.uint8)
                picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
                masks[name.split('/')[1]].append(picture > 0)
    return {name: np.stack(several) for name, several in masks.items()}


# -- results ------------------------------------------------------------------


def test_the_files_are_those_of_the_inferencer(service, inferencer, clip):
    visit = service.visit('me')
    facts = visit.choose(upload(service, clip))
    assert facts == ('my clip.mp4', (48, 32), 1.0, 0)
    outcome = finish(visit.start(TEXTS[:2], 0.2, 0.8))
    alone = [
        inferencer(clip, text, start=0.2, end=0.8, window=4, masks='array')[
            'predictions'
        ][0]
        for text in TEXTS[:2]
    ]
    names = {kind: path.name for kind, path in outcome.files.items()}
    assert names == {
        'overlay': 'my clip_overlay.mp4',
        'masks': 'my clip_masks.zip',
        'results': 'my clip_results.json',
        'coco': 'my clip_coco.json',
    }
    masks = unzip(outcome.files['masks'])
    assert list(masks) == ['00-the-white-square', '01-a-grey-floor']
    content = json.loads(outcome.files['results'].read_text())
    coco = COCO(outcome.files['coco'])
    assert [c['name'] for c in coco.dataset['categories']] == TEXTS[:2]
    assert len(coco.dataset['images']) == 6
    with VideoReader(outcome.files['overlay']) as overlay:
        assert len(overlay) == 6
    assert content['video']['path'] == 'my clip.mp4'
    total = 0
    for e, (video, row) in enumerate(zip(alone, outcome.rows, strict=True)):
        [expected] = video.expressions
        assert (row.scores == expected.scores).all()
        assert row.found == (expected.areas > 0).sum()
        assert row.text == TEXTS[e]
        total += expected.areas.sum()
        np.testing.assert_array_equal(list(masks.values())[e], expected.masks)
        for t, image in enumerate(coco.dataset['images']):
            ids = coco.getAnnIds(image['id'], e + 1)
            assert len(ids) == (expected.areas[t] > 0)
            for annotation in coco.loadAnns(ids):
                mask = coco.annToMask(annotation) > 0
                assert (mask == expected.masks[t]).all()
                assert annotation['score'] == pytest.approx(
                    expected.scores[t], abs=1e-4
                )
    assert total > 0
    assert outcome.seconds == pytest.approx(0.6)
    assert outcome.times == pytest.approx(np.arange(6) / 10)


def test_an_edit_predicts_that_expression_alone(
    service, clip, backbone, monkeypatch
):
    visit = service.visit('me')
    visit.choose(upload(service, clip))
    predicted = []
    encode_text = Predictor.encode_text

    def note(predictor, model, texts):
        predicted.extend(texts)
        return encode_text(predictor, model, texts)

    first = finish(visit.start(TEXTS[:2]))
    masks = unzip(first.files['masks'])
    assert backbone.frames == 10
    monkeypatch.setattr(Predictor, 'encode_text', note)
    edited = finish(visit.start([TEXTS[0], TEXTS[2]]))
    assert (backbone.frames, predicted) == (10, TEXTS[2:])
    # a fresh visit says the same, bit for bit
    other = service.visit('other')
    other.choose(upload(service, clip))
    fresh = finish(other.start([TEXTS[0], TEXTS[2]]))
    assert backbone.frames == 20
    found, expected = (unzip(o.files['masks']) for o in (edited, fresh))
    assert list(found) == list(expected)
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])
    one, two = (
        json.loads(outcome.files['results'].read_text())
        for outcome in (edited, fresh)
    )
    assert one == two
    # back again, in another order: nothing is left to predict
    predicted.clear()
    back = finish(visit.start([' A grey floor ', TEXTS[0]]))
    assert predicted == []
    old, new = list(masks.values()), list(unzip(back.files['masks']).values())
    np.testing.assert_array_equal(new[::-1], old)


def test_another_part_is_another_video(service, clip, backbone):
    visit = service.visit('me')
    visit.choose(upload(service, clip))
    finish(visit.start(TEXTS[:1]))
    part = finish(visit.start(TEXTS[:1], 0.5))
    assert backbone.frames == 15
    assert len(part.rows[0].scores) == 5
    settle(service)
    # nothing of the former part stays
    assert service.memory.num_bytes == visit._encoded.num_bytes
    assert len(files_of(service)) == 1 + 4


def test_frames_per_second(make_service, clip):
    visit = make_service(fps=5).visit('me')
    visit.choose(upload(visit.service, clip))
    outcome = finish(visit.start(TEXTS[:1]))
    assert outcome.times == pytest.approx(np.arange(5) / 5)


def test_a_video_that_is_cut_off(service, tmp_path):
    visit = service.visit('me')
    facts = visit.choose(upload(service, cut_off(tmp_path)))
    assert 0 < facts.missing < 20
    outcome = finish(visit.start(TEXTS[:1]))
    assert outcome.missing == facts.missing
    assert len(outcome.times) == 20 - facts.missing


# -- turns --------------------------------------------------------------------


def test_visitors_take_turns(service, clip, backbone):
    visits = [service.visit(str(n)) for n in range(3)]
    for visit in visits:
        visit.choose(upload(service, clip))
    backbone.gate.clear()
    runs = [visit.start(TEXTS[:1]) for visit in visits]
    assert backbone.entered.wait(PATIENCE)
    assert [run.status.ahead for run in runs] == [0, 1, 2]
    states = [run.status.state for run in runs]
    assert states == ['working', 'waiting', 'waiting']
    assert TEXTS[0] in runs[0].status.doing
    runs[1].cancel()
    assert [run.status.ahead for run in runs] == [0, 0, 1]
    backbone.gate.set()
    finish(runs[0])
    finish(runs[2])
    assert runs[1].status.state == 'cancelled'
    assert runs[1].outcome is None
    assert runs[0].status.state == 'done'
    settle(service)
    assert backbone.frames == 20


def test_cancelling_answers_at_once(service, clip, backbone):
    visit = service.visit('me')
    visit.choose(upload(service, clip))
    backbone.gate.clear()
    run = visit.start(TEXTS)
    assert backbone.entered.wait(PATIENCE)
    visit.cancel()
    assert run.over
    backbone.gate.set()
    settle(service)
    assert backbone.frames == 4
    assert files_of(service) == [visit.video]
    # what was encoded is not lost
    finish(visit.start(TEXTS[:1]))
    assert backbone.frames == 10
    visit.cancel()  # too late
    assert visit.run.status.state == 'done'


def test_a_new_run_takes_the_place_of_the_old(service, clip, backbone):
    visit = service.visit('me')
    visit.choose(upload(service, clip))
    backbone.gate.clear()
    old = visit.start(TEXTS[:1])
    new = visit.start(TEXTS[1:2])
    backbone.gate.set()
    assert finish(new).rows[0].text == TEXTS[1]
    assert old.status.state == 'cancelled'


def test_progress_is_told(service, clip, backbone):
    visit = service.visit('me')
    visit.choose(upload(service, clip))
    finish(visit.start(TEXTS[:1]))
    assert set(service.rates) == {'encode', 'predict', 'write'}
    backbone.gate.clear()
    backbone.entered.clear()
    visit.choose(upload(service, clip))
    run = visit.start(TEXTS[:1])
    assert backbone.entered.wait(PATIENCE)
    assert 0 <= run.status.fraction < 1
    assert run.status.seconds_left > 0
    backbone.gate.set()
    finish(run)
    assert run.progress.fraction == 1


# -- limits and errors --------------------------------------------------------


def test_limits(make_service, clip, backbone):
    service = make_service(
        limits=Limits(max_seconds=0.5, max_expressions=2, max_waiting=1)
    )
    visit = service.visit('me')
    with pytest.raises(ConfigError, match='video first'):
        visit.start(TEXTS[:1])
    visit.choose(upload(service, clip))
    with pytest.raises(ConfigError, match=r'3 expressions.*at most 2'):
        visit.start(TEXTS)
    for texts in ([], ['']):
        with pytest.raises(ConfigError, match='at least one object'):
            visit.start(texts)
    run = visit.start(TEXTS[:1])
    assert run.wait(PATIENCE)
    assert run.status.state == 'failed'
    assert 'This part of my clip.mp4 has 1.0 seconds; at most 0.5' in run.error
    finish(visit.start(TEXTS[:1], 0.2, 0.7))
    backbone.gate.clear()
    visit.start(TEXTS[1:2], 0.1, 0.3)
    for key in 'ab':
        other = service.visit(key)
        other.choose(upload(service, clip, key))
        if key == 'a':
            other.start(TEXTS[:1], 0, 0.5)
    with pytest.raises(ConfigError, match='2 runs are waiting'):
        other.start(TEXTS[:1], 0, 0.5)


def test_a_file_that_is_too_large(make_service, clip):
    service = make_service(limits=Limits(max_mb=1e-4))
    visit = service.visit('me')
    with pytest.raises(ReferError, match=r'at most 0\.0001 MB'):
        visit.choose(upload(service, clip))
    assert files_of(service) == []


def test_errors_name_no_folder_of_the_server(service, clip, tmp_path):
    visit = service.visit('me')
    broken = tmp_path / 'broken.mp4'
    broken.write_bytes(b'not a video ' * 99)
    with pytest.raises(ReferError, match=r'broken\.mp4') as caught:
        visit.choose(upload(service, broken))
    assert str(tmp_path) not in str(caught.value)
    assert '/' not in str(caught.value)
    assert files_of(service) == []
    with pytest.raises(ReferError, match=r'^gone\.mp4 is no longer'):
        visit.choose(tmp_path / 'gone.mp4')
    visit.choose(upload(service, clip))
    run = visit.start(TEXTS[:1], 5)
    assert run.wait(PATIENCE)
    assert run.error.startswith('my clip.mp4 has no frame between start=5')
    assert 'its last is at 0.900' in run.error
    # the next one is right
    finish(visit.start(TEXTS[:1]))


def test_a_bug_tells_nothing(service, clip, monkeypatch, caplog):
    visit = service.visit('me')
    visit.choose(upload(service, clip))

    def fail(*args):
        raise RuntimeError('secret of the server')

    with monkeypatch.context() as patch:
        patch.setattr(service.inferencer.pipeline, 'normalize', fail)
        run = visit.start(TEXTS[:1])
        assert run.wait(PATIENCE)
    assert run.error == BUG
    assert 'secret of the server' in caplog.text
    finish(visit.start(TEXTS[:1]))


# -- what stays ---------------------------------------------------------------


def test_nothing_stays_of_a_visit(service, clip):
    visit = service.visit('me')
    visit.choose(upload(service, clip))
    for texts in (TEXTS[:1], TEXTS[:2]):
        outcome = finish(visit.start(texts))
    settle(service)
    # those of the last run alone
    assert files_of(service) == sorted([*outcome.files.values(), visit.video])
    assert service.memory.num_bytes > 0
    service.end('me')
    settle(service)
    assert files_of(service) == []
    assert service.memory.num_bytes == 0
    assert service.visit('me') is not visit


def test_a_visit_that_ends_at_work(service, clip, backbone):
    visit = service.visit('me')
    visit.choose(upload(service, clip))
    backbone.gate.clear()
    visit.start(TEXTS)
    assert backbone.entered.wait(PATIENCE)
    service.end('me')
    backbone.gate.set()
    settle(service)
    assert files_of(service) == []
    assert service.memory.num_bytes == 0


def test_visits_without_action_end(make_service, clip):
    service = make_service(limits=Limits(max_idle=0))
    visit = service.visit('me')
    visit.choose(upload(service, clip))
    service.visit('other')
    settle(service)
    assert files_of(service) == []


def test_names_cannot_be_guessed(service, clip):
    folders = set()
    for key in 'ab':
        visit = service.visit(key)
        visit.choose(upload(service, clip))
        outcome = finish(visit.start(TEXTS[:1]))
        parts = outcome.files['overlay'].relative_to(service.folder).parts
        assert len(parts) == 4
        folders.update(parts[1:3])
    assert len(folders) == 4
    assert all(len(name) >= 22 for name in folders)


def test_one_file_of_two_visitors(service, clip):
    path = upload(service, clip)
    for key in 'ab':
        service.visit(key).choose(path)
    service.end('a')
    finish(service.visit('b').start(TEXTS[:1]))
    service.end('b')
    settle(service)
    assert files_of(service) == []


def test_the_same_file_again(service, clip):
    visit = service.visit('a')
    for _ in range(2):
        visit.choose(upload(service, clip))
        finish(visit.start(TEXTS[:1]))
    visit.choose(visit.video)
    service.end('a')
    settle(service)
    assert files_of(service) == []


def test_examples_stay(service, clip):
    path = service.folder / 'examples' / clip.name
    path.parent.mkdir(parents=True)
    shutil.copy(clip, path)
    for each in (path, clip):  # nor is a file from elsewhere removed
        service.visit('a').choose(each)
        service.end('a')
        assert each.is_file()


def test_the_memory_is_shared(make_service, clip):
    service = make_service(feature_mb=0.4)
    for key in 'abc':
        visit = service.visit(key)
        visit.choose(upload(service, clip, key))
        finish(visit.start(TEXTS[:1]))
        assert service.memory.num_bytes <= service.memory.max_bytes
    assert service.memory.num_bytes > 0


def test_the_sound_is_kept(service, clip):
    visit = service.visit('me')
    visit.choose(upload(service, clip))
    outcome = finish(visit.start(TEXTS[:1]))
    with av.open(str(outcome.files['overlay'])) as overlay:
        assert len(overlay.streams.audio) == 1
