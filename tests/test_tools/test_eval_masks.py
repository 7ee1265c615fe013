# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from referformer.formats.records import write_records
from referformer.formats.tracks import encode_track

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'eval_masks.py'
GOLDEN = ROOT / 'tests' / 'data' / 'golden' / 'jf'
EXPECTED = json.loads((GOLDEN / 'expected.json').read_text())
KEYS = ['J-Mean', 'J-Recall', 'J-Decay', 'F-Mean', 'F-Recall', 'F-Decay']


def run(*args, python_args=()):
    return subprocess.run(
        [sys.executable, *python_args, str(TOOL), *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def score(gt, pred, protocol, out, jobs=2):
    result = run(
        'davis',
        *('--gt', gt),
        *('--pred', pred),
        *('--protocol', protocol),
        *('--out', out),
        *('--jobs', jobs),
    )
    assert result.returncode == 0, result.stderr
    return json.loads(out.read_text()), result


def error_of(gt, pred, out, protocol='identity', jobs=1):
    result = run(
        'davis',
        *('--gt', gt),
        *('--pred', pred),
        *('--protocol', protocol),
        *('--out', out),
        *('--jobs', jobs),
    )
    assert result.returncode == 1, result.stderr
    assert 'Traceback' not in result.stderr
    assert not out.exists()
    line = result.stderr.splitlines()[-1]
    assert line.startswith('eval_masks.py: ')
    log = out.parent / 'errors.log'
    assert line.endswith(f'(traceback: {log})')
    assert 'Traceback' in log.read_text()
    return line


def save(path, labels, palette=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(labels, np.uint8))
    if palette:
        image.putpalette(list(range(256)) * 3)
    image.save(path)


def check(summary, case):
    """Compare a whole output with the recorded numbers."""
    assert list(summary) == ['J&F', *KEYS, 'per_object']
    expected = {
        f'{video}_{index + 1}': {
            measure: record[case][measure][index] for measure in 'JF'
        }
        for video, record in EXPECTED.items()
        for index in range(len(record[case]['J']))
    }
    assert set(summary['per_object']) == set(expected)
    for name, entry in expected.items():
        for measure in 'JF':
            np.testing.assert_allclose(
                summary['per_object'][name][measure],
                entry[measure],
                rtol=0,
                atol=1e-6,
                err_msg=f'{name} {measure}',
            )
    means = {
        f'{measure}-{name}': np.mean(
            [entry[measure][i] for entry in expected.values()]
        )
        for measure in 'JF'
        for i, name in enumerate(('Mean', 'Recall', 'Decay'))
    }
    assert {key: summary[key] for key in KEYS} == pytest.approx(
        means, abs=1e-6
    )
    assert summary['J&F'] == pytest.approx(
        (means['J-Mean'] + means['F-Mean']) / 2, abs=1e-6
    )


def test_golden_identity(tmp_path):
    for folder in (GOLDEN / 'gt').iterdir():
        frames = sorted(folder.iterdir())
        shifted = tmp_path / 'pred' / folder.name
        shifted.mkdir(parents=True)
        for frame, following in zip(
            frames, [*frames[1:], frames[-1]], strict=True
        ):
            shutil.copyfile(following, shifted / frame.name)
    summary, result = score(
        GOLDEN / 'gt', tmp_path / 'pred', 'identity', tmp_path / 'o.json'
    )
    check(summary, 'shift_identity')
    assert '348/348 frames' in result.stderr
    assert 'protocol identity: 5 videos, 13 objects' in result.stdout


def test_golden_unsupervised(tmp_path):
    for folder in (GOLDEN / 'gt').iterdir():
        for path in sorted(folder.iterdir())[::4]:
            labels = np.array(Image.open(path))
            labels[:20] = 255
            save(tmp_path / 'gt' / folder.name / path.name, labels)
    summary, _ = score(
        tmp_path / 'gt',
        GOLDEN / 'pred',
        'unsupervised',
        tmp_path / 'o.json',
    )
    check(summary, 'unsupervised_every4_void20rows')


@pytest.fixture
def pair(tmp_path):
    """Two short videos of moving squares and a good prediction."""
    for video in ('a', 'b'):
        for t in range(20):
            labels = np.zeros((24, 32), np.uint8)
            labels[t % 8 : 10 + t % 8, 2:12] = 1
            labels[4:20, 18 : 20 + t % 7] = 2
            save(tmp_path / 'gt' / video / f'{t:05d}.png', labels)
            labels = np.roll(labels, 1, axis=1)
            save(tmp_path / 'pred' / video / f'{t:05d}.png', labels, False)
    return tmp_path / 'gt', tmp_path / 'pred', tmp_path / 'out' / 'o.json'


@pytest.mark.parametrize('protocol', ['identity', 'unsupervised'])
def test_jobs_change_nothing(pair, protocol):
    gt, pred, out = pair
    one, _ = score(gt, pred, protocol, out, jobs=1)
    three, _ = score(gt, pred, protocol, out, jobs=3)
    assert one == three
    assert 0.3 < one['J&F'] < 1
    assert [path.name for path in out.parent.iterdir()] == ['o.json']


def imported(result):
    """Names of the modules that a run with ``-X importtime`` imported."""
    assert result.returncode == 0, result.stderr
    return {line.split('|')[-1].strip() for line in result.stderr.split('\n')}


def test_help_imports_nothing_heavy():
    for args in (['--help'], ['davis', '--help'], ['mevis', '--help']):
        result = run(*args, python_args=['-X', 'importtime'])
        assert 'usage' in result.stdout
        assert not imported(result) & {'numpy', 'cv2', 'scipy', 'PIL', 'torch'}


def test_pytorch_is_not_imported(pair):
    gt, pred, out = pair
    result = run(
        *('davis', '--gt', gt, '--pred', pred, '--out', out),
        *('--protocol', 'identity', '--jobs', '1'),
        python_args=['-X', 'importtime'],
    )
    modules = imported(result)
    assert 'cv2' in modules
    assert not modules & {'torch', 'mmengine', 'mmcv', 'mmdet'}


def test_wrong_command_lines(pair):
    gt, pred, out = pair
    assert run().returncode == 2
    result = run('davis', '--gt', gt)
    assert result.returncode == 2
    assert '--protocol' in result.stderr
    for jobs in ('0', '-1', 'many'):
        result = run(
            *('davis', '--gt', gt, '--pred', pred, '--out', out),
            *('--protocol', 'identity', '--jobs', jobs),
        )
        assert result.returncode == 2
        assert 'a whole number above 0' in result.stderr


@pytest.mark.parametrize('jobs', [1, 2])
def test_errors_in_files(pair, jobs):
    gt, pred, out = pair
    frame = pred / 'b' / '00003.png'
    good = frame.read_bytes()

    Image.open(frame).convert('RGB').save(frame)
    text = error_of(gt, pred, out, jobs=jobs)
    assert 'b/00003.png is a PNG of mode RGB' in text

    frame.write_bytes(good[:60])
    assert 'b/00003.png cannot be read' in error_of(gt, pred, out, jobs=jobs)

    save(frame, np.zeros((12, 16)))
    text = error_of(gt, pred, out, jobs=jobs)
    assert 'b/00003.png is 16 x 12 pixels but' in text
    assert '32 x 24' in text

    save(frame, np.full((24, 32), 3))
    text = error_of(gt, pred, out, jobs=jobs)
    assert 'pred/b: the prediction has id 3' in text

    save(frame, np.full((24, 32), 21))
    text = error_of(gt, pred, out, 'unsupervised', jobs)
    assert 'id 21' in text


def test_the_traceback_on_demand(pair):
    gt, _, out = pair
    result = run(
        *('davis', '--gt', gt, '--pred', gt / 'nowhere', '--out', out),
        *('--protocol', 'identity', '--traceback'),
    )
    assert result.returncode == 1
    assert 'Traceback' in result.stderr
    assert result.stderr.splitlines()[-1].startswith('eval_masks.py: ')


def test_suffixes_in_capitals_are_files_too(pair):
    gt, pred, out = pair
    before, _ = score(gt, pred, 'identity', out)
    for root in (gt, pred):
        for path in (root / 'a').iterdir():
            path.rename(path.with_suffix('.PNG'))
        (root / 'a' / '._00000.png').touch()
        (root / '__MACOSX').mkdir()
    assert score(gt, pred, 'identity', out)[0] == before


def test_videos_in_folders_of_videos(pair):
    gt, pred, out = pair
    before, _ = score(gt, pred, 'unsupervised', out)
    for root in (gt, pred):
        (root / 'set').mkdir()
        (root / 'b').rename(root / 'set' / 'b')
    after, _ = score(gt, pred, 'unsupervised', out)
    objects = after.pop('per_object')
    assert list(objects) == ['a_1', 'a_2', 'set/b_1', 'set/b_2']
    assert list(objects.values()) == list(before.pop('per_object').values())
    assert after == before
    (pred / 'set' / 'b' / '00001.png').unlink()
    out.unlink()
    assert 'set/b/00001.png' in error_of(gt, pred, out, 'unsupervised')


def test_errors_in_folders(pair):
    gt, pred, out = pair
    (pred / 'a' / '00019.png').unlink()
    assert 'lacks 1 of 40 frames: a/00019.png' in error_of(gt, pred, out)
    shutil.rmtree(pred / 'a')
    assert 'lacks 1 of 2 videos: a;' in error_of(gt, pred, out)
    assert 'nowhere is not a folder' in error_of(gt, gt / 'nowhere', out)
    assert 'nowhere is not a folder' in error_of(gt / 'nowhere', pred, out)
    assert 'give its parent' in error_of(gt / 'a', pred, out)


def test_binary_masks_are_not_taken_for_void(pair):
    gt, pred, out = pair
    for path in (pred / 'a').iterdir():
        save(path, np.where(np.array(Image.open(path)), 255, 0))
    assert 'pred/a has the values 0 and 255 only' in error_of(gt, pred, out)
    for path in (gt / 'a').iterdir():
        save(path, np.where(np.array(Image.open(path)), 255, 0))
    assert 'gt/a has the values 0 and 255 only' in error_of(gt, pred, out)


def test_remarks(pair):
    gt, pred, out = pair
    for path in (gt / 'a').iterdir():
        save(path, np.zeros((24, 32)))
    for path in (pred / 'a').iterdir():
        save(path, np.zeros((24, 32)))
    for root in (gt, pred):
        for path in (root / 'b').iterdir():
            labels = np.array(Image.open(path))
            save(path, np.where(labels == 2, 2, 0))
    summary, result = score(gt, pred, 'identity', out)
    assert list(summary['per_object']) == ['b_1', 'b_2']
    assert summary['per_object']['b_1']['J'] == [1, 1, 0]
    assert 'gt/a shows no object' in result.stderr
    assert 'gt/b shows id 1, though' in result.stderr
    shutil.rmtree(gt / 'b')
    out.unlink()
    assert 'holds no object' in error_of(gt, pred, out)


def encode(folder, path, change=lambda track: track):
    """Write label maps run-length encoded."""
    entries = []
    for video in sorted(folder.iterdir()):
        files = sorted(video.iterdir())
        maps = np.stack([np.array(Image.open(file)) for file in files])
        for index in np.unique(maps[(maps > 0) & (maps < 255)]):
            track = encode_track(video.name, str(index), maps == index)
            entries.append(change(track))
    write_records(path, entries)
    return path


@pytest.mark.parametrize('protocol', ['identity', 'unsupervised'])
def test_every_form_of_label_maps_scores_the_same(pair, protocol, tmp_path):
    gt, pred, out = pair
    expected, _ = score(gt, pred, protocol, out)
    path = tmp_path / 'labels.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        for file in sorted(pred.rglob('*.png')):
            name = file.relative_to(pred).as_posix()
            archive.write(file, name.replace('.png', '.PNG'))
            archive.writestr(f'__MACOSX/{name}', b'\0')
    assert score(gt, path, protocol, out, jobs=2)[0] == expected
    for suffix in ('json', 'jsonl'):
        path = encode(pred, tmp_path / f'labels.{suffix}')
        assert score(gt, path, protocol, out)[0] == expected


def test_errors_in_files_of_label_maps(pair, tmp_path):
    gt, pred, out = pair
    path = tmp_path / 'labels.json'
    encode(pred, path, lambda t: {**t, 'exp_id': f'dog{t["exp_id"]}'})
    assert "has the exp_id 'dog1'; of label maps" in error_of(gt, path, out)
    encode(pred, path, lambda track: {**track, 'video_id': 'a'})
    assert 'is another one of a/1 with' in error_of(gt, path, out)
    entries = []
    encode(pred, path, lambda track: entries.append(track) or track)
    for index in (1, 3):
        entries[index]['segmentations'] = entries[index - 1]['segmentations']
    write_records(path, entries)
    text = error_of(gt, path, out)
    assert 'object 2 of a overlaps another one in frame 00000' in text
    write_records(path, entries[:2])
    assert 'lacks 1 of 2 videos: b;' in error_of(gt, path, out)
    entries[0]['segmentations'].pop()
    write_records(path, entries)
    assert '19 segmentations, but the video 20' in error_of(gt, path, out)


def test_objects_that_come_late_are_reported(pair):
    gt, pred, out = pair
    for path in (gt / 'a').iterdir():
        labels = np.array(Image.open(path))
        save(path, np.where((labels == 2) & (path.stem < '00010'), 0, labels))
    summary, result = score(gt, pred, 'unsupervised', out)
    assert list(summary['per_object']) == ['a_1', 'b_1', 'b_2']
    assert 'gt/a has ids up to 1, but later frames show id 2' in result.stderr
    summary, result = score(gt, pred, 'identity', out)
    assert list(summary['per_object']) == ['a_1', 'a_2', 'b_1', 'b_2']
    assert 'later frames' not in result.stderr
    # A first frame without any object: the video does not count.
    save(gt / 'a' / '00000.png', np.zeros((24, 32)))
    summary, result = score(gt, pred, 'unsupervised', out)
    assert list(summary['per_object']) == ['b_1', 'b_2']
    assert 'gt/a shows no object, but later frames' in result.stderr


def test_void_in_the_prediction_is_nobody(pair):
    gt, pred, out = pair
    before, _ = score(gt, pred, 'identity', out)
    for path in (pred / 'a').iterdir():
        labels = np.array(Image.open(path))
        save(path, np.where(labels == 0, 255, labels))
    after, _ = score(gt, pred, 'identity', out)
    assert before == after
