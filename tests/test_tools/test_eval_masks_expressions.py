# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""ref-youtube-vos, ref-davis and mevis of tools/eval_masks.py."""

import json
import shutil
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from referformer.errors import ReferError
from referformer.evaluation.functional import sequence_scores
from referformer.evaluation.metrics import ReferSubmission, ReferVOSMetric
from referformer.formats.mask_dict import MaskTable
from referformer.formats.records import write_records
from referformer.formats.tracks import encode_track
from tests.fixtures.mevis import prepare_mevis
from tests.fixtures.ref_davis import prepare_ref_davis
from tests.fixtures.ref_youtube_vos import (
    list_by_object,
    make_ref_youtube_vos,
)
from tests.test_evaluation.helpers import make_sample

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools'))
import eval_masks

from tests.faults import SAFETY, fault

SHAPE = (48, 80)


def run(command, gt, pred, out, *args):
    words = [command, '--gt', gt, '--pred', pred, '--out', out, *args]
    if '--jobs' not in args:
        words += ['--jobs', 1]
    try:
        eval_masks.main(list(map(str, words)))
    except ReferError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


def score(*args):
    assert run(*args) == 0
    return json.loads(args[3].read_text())


def save(path, mask, value=255):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(mask, np.uint8) * value).save(path)


def read_videos(path):
    return json.loads(path.read_text())['videos']


def truths_of_labels(root):
    """True masks by video and expression; layout of Ref-YouTube-VOS."""
    meta = root / 'meta_expressions/valid/meta_expressions.json'
    truths = {}
    for video, entry in read_videos(meta).items():
        for name, expression in entry['expressions'].items():
            if 'obj_id' in expression:
                truths[video, name] = {
                    frame: np.array(
                        Image.open(
                            root / f'valid/Annotations/{video}/{frame}.png'
                        )
                    )
                    == int(expression['obj_id'])
                    for frame in entry['frames']
                }
    return truths


def truths_of_table(root):
    table = MaskTable(root / 'mask_dict.json')
    return {
        (video, name): {
            frame: table.mask(list(map(str, e['anno_id'])), t, SHAPE)
            for t, frame in enumerate(entry['frames'])
        }
        for video, entry in read_videos(root / 'meta_expressions.json').items()
        for name, e in entry['expressions'].items()
    }


class Case:
    """A ground truth and a prediction that is a little off."""

    def __init__(self, command, gt, truths, folder):
        self.command, self.gt, self.truths = command, gt, truths
        self.pred, self.out = folder / 'pred', folder / 'out.json'
        self.args = (
            ('--protocol', 'per-expression') if command == 'ref-davis' else ()
        )
        self.preds = {
            key: {
                frame: np.roll(mask, i % 5, axis=1)
                for i, (frame, mask) in enumerate(masks.items())
            }
            for key, masks in truths.items()
        }
        for (video, name), masks in self.preds.items():
            for frame, mask in masks.items():
                save(self.pred / video / name / f'{frame}.png', mask)

    def score(self, *args, pred=None):
        return score(
            self.command,
            self.gt,
            pred or self.pred,
            self.out,
            *self.args,
            *args,
        )

    def error(self, capsys, *args, pred=None):
        capsys.readouterr()
        status = run(
            self.command,
            self.gt,
            pred or self.pred,
            self.out,
            *self.args,
            *args,
        )
        assert status == 1
        assert not self.out.exists()
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith('error: ')
        return line

    def encode(self, path):
        """Write the predictions run-length encoded."""
        entries = (
            encode_track(*key, masks.values())
            for key, masks in self.preds.items()
        )
        write_records(path, entries)
        return path

    def expected(self):
        scores = [
            sequence_scores(
                self.preds[key].values(), self.truths[key].values()
            )
            for key in self.truths
        ]
        return tuple(
            np.mean([getattr(s, name).mean() for s in scores]) for name in 'jf'
        )


def make_case(command, folder):
    if command == 'mevis':
        gt = prepare_mevis(folder / 'gt') / 'valid_u'
        return Case(command, gt, truths_of_table(gt), folder)
    if command == 'ref-davis':
        gt = prepare_ref_davis(folder / 'gt')
    else:
        gt = make_ref_youtube_vos(folder / 'gt')
    return Case(command, gt, truths_of_labels(gt), folder)


COMMANDS = ('ref-youtube-vos', 'ref-davis', 'mevis')


@pytest.fixture(params=COMMANDS)
def case(request, tmp_path):
    return make_case(request.param, tmp_path)


@pytest.fixture
def ytvos(tmp_path):
    return make_case('ref-youtube-vos', tmp_path)


def pack(folder, path, prefix=''):
    with zipfile.ZipFile(path, 'w') as archive:
        for file in sorted(folder.rglob('*.png')):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def test_scores_are_means_over_expressions(case):
    scores = case.score()
    j, f = case.expected()
    assert 0.3 < j < 1
    assert scores['J'] == pytest.approx(j, abs=1e-12)
    assert scores['F'] == pytest.approx(f, abs=1e-12)
    assert scores['J&F'] == pytest.approx((j + f) / 2, abs=1e-12)
    names = {f'{video}/{name}' for video, name in case.truths}
    assert set(scores['per_expression']) == names
    assert scores['protocol']['matching'] == 'none'
    assert scores['protocol']['missing'] == 'error'
    assert scores['protocol']['num_expressions'] == len(names)


def test_measures_and_groups(case, capsys):
    plain = case.score()
    path = next(case.gt.glob('meta_expressions*'))
    if path.is_dir():
        path = path / 'valid/meta_expressions.json'
    content = json.loads(path.read_text())
    kinds = {}
    for video, entry in content['videos'].items():
        for name, expression in entry['expressions'].items():
            kind = ('static', 'dynamic')[len(kinds) % 2]
            expression['attributes'] = {'type': kind}
            kinds[f'{video}/{name}'] = kind
    path.write_text(json.dumps(content))
    capsys.readouterr()
    scores = case.score('--group-by', 'type', '--robustness', '--jobs', 2)
    printed = capsys.readouterr().out.splitlines()
    for key in ('J&F', 'J', 'F', 'tIoU', 'vIoU'):
        assert scores[key] == plain[key]
    found = scores['per_attribute']['type']
    for kind in ('static', 'dynamic'):
        rows = [
            entry
            for name, entry in scores['per_expression'].items()
            if kinds[name] == kind
        ]
        group = found['groups'][kind]
        assert group['num_expressions'] == len(rows)
        for key in ('J', 'F', 'tIoU', 'vIoU', 'R'):
            mean = np.mean([row[key] for row in rows])
            assert group[key] == pytest.approx(mean, abs=1e-12)
        assert any(line.startswith(f'type={kind} ') for line in printed)
    assert 'R' in next(line.split() for line in printed if 'tIoU' in line)
    # R, once more from the masks themselves.
    expected = []
    for (video, name), masks in case.truths.items():
        objects = [m for (v, _), m in case.truths.items() if v == video]
        for frame, truth in masks.items():
            pred = case.preds[video, name][frame]
            foreground = np.any([m[frame] for m in objects], axis=0).sum()
            false = (pred & ~truth).sum() / (foreground + 1e-6)
            expected.append((max(1 - false, 0), len(masks)))
    robust, lengths = np.array(expected).T
    mean = (robust / lengths).sum() / len(case.truths)
    assert scores['R'] == pytest.approx(mean, abs=1e-12)
    case.out.unlink()
    assert 'They have type; group' in case.error(capsys, '--group-by', 'kind')


def test_every_form_of_the_prediction_scores_the_same(case, tmp_path):
    scores = case.score()
    nested = tmp_path / 'nested'
    nested.mkdir()
    (nested / 'Annotations').symlink_to(case.pred)
    assert case.score(pred=nested) == scores
    for prefix in ('', 'Annotations/'):
        path = pack(case.pred, tmp_path / 'masks.zip', prefix)
        assert case.score(pred=path) == scores
        # Processes must not share the position in the zip file.
        assert case.score('--jobs', 2, pred=path) == scores
    for suffix in ('json', 'jsonl'):
        path = case.encode(tmp_path / f'masks.{suffix}')
        assert case.score(pred=path) == scores
        assert case.score('--jobs', 2, pred=path) == scores
    assert case.score('--jobs', 2) == scores
    # 0 / 1 instead of 0 / 255, one bit, a palette: the same mask.
    files = sorted(case.pred.rglob('*.png'))
    for index, path in enumerate(files):
        mask = np.array(Image.open(path)) > 0
        if index % 3 == 0:
            save(path, mask, 1)
        elif index % 3 == 1:
            Image.fromarray(mask).save(path)
        else:
            image = Image.fromarray(mask.astype(np.uint8))
            image.putpalette([0, 0, 0, 128, 0, 0])
            image.save(path)
    assert case.score() == scores


def test_suffixes_in_capitals_in_a_zip_file(case, tmp_path, capsys):
    scores = case.score()
    path = tmp_path / 'masks.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        for file in sorted(case.pred.rglob('*.png')):
            name = file.relative_to(case.pred).as_posix()
            archive.write(file, name.replace('.png', '.PNG'))
            archive.writestr(f'__MACOSX/{name}', b'\0\5\26\7')
            folder, _, stem = name.rpartition('/')
            archive.writestr(f'{folder}/._{stem}', b'\0')
    assert case.score(pred=path) == scores
    with zipfile.ZipFile(path, 'a') as archive:
        archive.write(file, file.relative_to(case.pred).as_posix())
    case.out.unlink()
    assert 'more than once' in case.error(capsys, pred=path)


def nest(gt):
    """Move the videos of valid one folder down, as ReVOS has them."""
    meta = gt / 'meta_expressions'
    for split in ('valid', 'test'):
        path = meta / split / 'meta_expressions.json'
        videos = {f'set/{k}': v for k, v in read_videos(path).items()}
        path.write_text(json.dumps({'videos': videos}))
    for kind in ('JPEGImages', 'Annotations'):
        folder = gt / 'valid' / kind
        folder.rename(gt / 'valid/videos')
        folder.mkdir()
        (gt / 'valid/videos').rename(folder / 'set')


@pytest.mark.parametrize('nested', [False, True])
def test_submission_scores_like_the_metric(nested, tmp_path):
    gt = make_ref_youtube_vos(tmp_path / 'gt')
    if nested:
        nest(gt)
    case = Case('ref-youtube-vos', gt, truths_of_labels(gt), tmp_path)
    meta = gt / 'meta_expressions'
    for form, layout, first in (
        ('zip', 'ref-youtube-vos', 'Annotations'),
        ('zip', 'mevis', 'set' if nested else '0062f687f1'),
        ('json', 'ref-youtube-vos', None),
        ('jsonl', 'mevis', None),
    ):
        out_dir = tmp_path / f'{form}-{layout}'
        writer = ReferSubmission(
            str(meta / 'valid/meta_expressions.json'),
            str(out_dir),
            form=form,
            exclude_ann_file=str(meta / 'test/meta_expressions.json'),
            layout=layout,
        )
        metric = ReferVOSMetric()
        for (video, name), masks in case.preds.items():
            sample = make_sample(
                video,
                name,
                np.stack(list(masks.values())),
                np.stack(list(case.truths[video, name].values())),
            ).to_dict()
            for frame, data in zip(
                masks, sample['video_data_samples'], strict=True
            ):
                data.set_metainfo({'frame_name': frame})
            writer.process(None, [sample])
            metric.process(None, [sample])
        writer.evaluate(len(case.preds))
        expected = metric.evaluate(len(case.preds))
        preds = [writer.out_file]
        if form == 'zip':
            preds.append(out_dir)
            with zipfile.ZipFile(writer.out_file) as archive:
                names = archive.namelist()
            assert names[0].split('/')[0] == first
            depth = 4 + nested - (layout == 'mevis')
            assert len(names[0].split('/')) == depth
        else:
            # One file an expression, and one of all.
            files = [p for p in out_dir.rglob('*') if p.is_file()]
            assert len(files) == len(case.preds) + 1
        for pred in preds:
            scores = case.score(pred=pred)
            for key in ('J&F', 'J', 'F'):
                assert (
                    abs(100 * scores[key] - expected[f'refer/{key}']) < 1e-10
                )


def test_sentences_by_object_supply_the_objects(ytvos, tmp_path, capsys):
    expected = ytvos.score()
    usual = ytvos.gt / 'meta_expressions/valid/meta_expressions.json'
    listed = list_by_object(ytvos.gt, 'valid', tmp_path / 'listed.json')
    frames = read_videos(listed)['01c88b5b60']['objects']['1']['frames']
    assert len(frames) < len(read_videos(usual)['01c88b5b60']['frames'])
    content = json.loads(usual.read_text())
    for video in content['videos'].values():
        for expression in video['expressions'].values():
            expression.pop('obj_id', None)
    usual.write_text(json.dumps(content))
    assert ytvos.score('--expressions', listed) == expected
    # Other words in the usual file: not the same expressions.
    content['videos']['01c88b5b60']['expressions']['1']['exp'] = 'a cat'
    usual.write_text(json.dumps(content))
    ytvos.out.unlink()
    line = ytvos.error(capsys, '--expressions', listed)
    assert 'different editions' in line
    # Without it, the true masks tell which frames there are.
    usual.unlink()
    assert ytvos.score('--expressions', listed) == expected
    masks = ytvos.gt / 'valid/Annotations/01c88b5b60'
    (masks / f'{frames[0]}.png').unlink()
    ytvos.out.unlink()
    line = ytvos.error(capsys, '--expressions', listed)
    assert '1 of' in line
    assert 'no ground truth' in line


def test_ref_davis_published(tmp_path, capsys):
    gt = prepare_ref_davis(tmp_path / 'gt')
    rng = np.random.default_rng(0)
    for annotator in range(4):
        # Proposals have no order; void may be copied, it is nobody's.
        ids = np.arange(256)
        ids[1:21] = rng.permutation(20) + 1
        for path in sorted((gt / 'valid/Annotations').glob('*/*.png')):
            labels = np.array(Image.open(path))
            folder = tmp_path / f'run/valid/anno_{annotator}'
            pred = ids[np.roll(labels, annotator, axis=1)]
            save(folder / path.parent.name / path.name, pred, 1)
    out = tmp_path / 'out.json'
    args = ('ref-davis', gt, tmp_path / 'run', out, '--protocol', 'published')
    scores = score(*args)
    per_annotator = scores['per_annotator']
    assert list(per_annotator) == [f'anno_{i}' for i in range(4)]
    assert per_annotator['anno_0']['J&F'] == 1
    values = [entry['J'] for entry in per_annotator.values()]
    assert values == sorted(values, reverse=True)
    assert values[3] < 0.8
    assert scores['J'] == pytest.approx(np.mean(values), abs=1e-12)
    # One annotator is what the DAVIS command makes of the folder.
    davis = score(
        'davis',
        gt / 'valid/Annotations',
        tmp_path / 'run/valid/anno_2',
        tmp_path / 'davis.json',
        *('--protocol', 'unsupervised'),
    )
    assert davis['per_object'] == per_annotator['anno_2']['per_object']
    assert davis['J-Mean'] == pytest.approx(values[2], abs=1e-12)
    assert score(*args, '--jobs', 2) == scores
    # An annotator's label maps may be a zip or a JSON file.
    folder = tmp_path / 'run/valid'
    pack(folder / 'anno_1', folder / 'anno_1.zip')
    (folder / 'anno_1').rename(tmp_path / 'gone')
    tracks = []
    for video in sorted((folder / 'anno_2').iterdir()):
        maps = [np.array(Image.open(p)) for p in sorted(video.iterdir())]
        tracks += [
            encode_track(video.name, str(i), [m == i for m in maps])
            for i in range(1, 21)
        ]
    write_records(folder / 'anno_2.jsonl', tracks)
    (folder / 'anno_2').rename(tmp_path / 'gone too')
    assert score(*args, '--jobs', 2) == scores
    printed = capsys.readouterr()
    assert 'published protocol, matching = unsupervised' in printed.out
    assert 'has 30, so the score is not comparable' in printed.err

    out.unlink()
    assert run(*args, '--missing', 'zero') == 1
    assert 'complete label maps' in capsys.readouterr().err
    shutil.rmtree(tmp_path / 'run/valid/anno_3')
    assert run(*args) == 1
    assert 'lacks anno_3; the published' in capsys.readouterr().err
    assert not out.exists()


def test_protocol_of_ref_davis_must_be_named(capsys):
    with pytest.raises(SystemExit):
        run('ref-davis', 'gt', 'pred', 'out.json')
    assert '--protocol' in capsys.readouterr().err


def test_missing_expressions_in_one_file(case, tmp_path, capsys):
    full = case.score()
    (video, name), masks = case.preds.popitem()
    path = case.encode(tmp_path / 'masks.json')
    case.out.unlink()
    line = case.error(capsys, pred=path)
    assert f'lacks {len(masks)} of' in line
    assert f'{video}/{name}/{next(iter(masks))}.png' in line
    scores = case.score('--missing', 'zero', pred=path)
    assert scores['per_expression'][f'{video}/{name}']['J&F'] == 0
    assert scores['protocol']['num_missing'] == len(masks)
    del full['per_expression'][f'{video}/{name}']
    del scores['per_expression'][f'{video}/{name}']
    assert scores['per_expression'] == full['per_expression']
    # Nothing found is not the same as nothing predicted.
    case.preds[video, name] = {k: ~m & m for k, m in masks.items()}
    path = case.encode(tmp_path / 'masks.json')
    scores = case.score(pred=path)
    assert scores['protocol']['num_missing'] == 0
    write_records(path, [])
    case.out.unlink()
    assert 'holds none of the' in case.error(capsys, pred=path)


def test_frames_left_out_keep_the_places_of_others(ytvos, tmp_path):
    path = ytvos.encode(tmp_path / 'masks.json')
    masks = ytvos.gt / 'valid/Annotations/0062f687f1'
    sorted(masks.iterdir())[1].unlink()
    args = ('--unannotated', 'skip')
    assert ytvos.score(*args, pred=path) == ytvos.score(*args)


def test_places_are_checked_before_scores_are_computed(ytvos, capsys):
    (ytvos.gt / 'file').touch()
    out = ytvos.gt / 'file/scores.json'
    assert run('ref-youtube-vos', ytvos.gt, 'gone', out) == 1
    assert 'choose another --out.' in capsys.readouterr().err
    assert run('ref-youtube-vos', ytvos.gt, 'gone', ytvos.gt / 'x.json') == 1
    printed = capsys.readouterr().err
    assert 'gone' in printed
    assert 'the score covers' not in printed


def test_missing_masks(case, capsys):
    full = case.score()
    (video, name), masks = next(iter(case.truths.items()))
    shutil.rmtree(case.pred / video / name)
    case.out.unlink()
    line = case.error(capsys)
    assert f'lacks {len(masks)} of' in line
    assert f'{video}/{name}/{next(iter(masks))}.png' in line
    scores = case.score('--missing', 'zero')
    lost = full['per_expression'].pop(f'{video}/{name}')
    zero = scores['per_expression'].pop(f'{video}/{name}')
    assert zero == {
        **dict.fromkeys(('J&F', 'J', 'F', 'tIoU', 'vIoU'), 0),
        'num_frames': len(masks),
        'has_target': lost['has_target'],
        # "Nothing is there" would have to be written, too.
        'answered': not lost['has_target'],
    }
    assert lost['J'] > 0
    assert scores['per_expression'] == full['per_expression']
    assert scores['J'] == pytest.approx(
        full['J'] - lost['J'] / len(case.truths), abs=1e-12
    )
    assert scores['protocol']['missing'] == 'zero'
    assert scores['protocol']['num_missing'] == len(masks)
    shutil.rmtree(case.pred)
    case.out.unlink()
    assert 'neither a folder nor a file' in case.error(capsys)
    case.pred.mkdir()
    line = case.error(capsys, '--missing', 'zero')
    assert 'holds none of the' in line


@pytest.mark.parametrize(
    ('jobs', 'zipped'), [(1, False), (1, True), (2, True)]
)
def test_unusable_masks(ytvos, capsys, jobs, zipped, tmp_path):
    file = sorted(ytvos.pred.rglob('*.png'))[-1]
    good = file.read_bytes()
    name = '/'.join(file.parts[-3:])

    def error():
        path = ytvos.pred
        if zipped:
            path = pack(ytvos.pred, tmp_path / 'masks.zip', 'Annotations/')
        line = ytvos.error(capsys, '--jobs', jobs, pred=path)
        assert name in line
        return line

    Image.open(file).convert('RGB').save(file)
    assert 'is a PNG of mode RGB' in error()
    file.write_bytes(good[:60])
    assert 'cannot be read' in error()
    file.write_bytes(b'not a picture')
    assert 'is not an image' in error()
    save(file, np.zeros((12, 16)))
    assert 'is 16 x 12 pixels but the ground truth is 80 x 48' in error()
    ramp = np.arange(48 * 80).reshape(SHAPE) // 20
    save(file, ramp, 1)
    assert 'has several values besides 0 (up to 191)' in error()
    file.write_bytes(picture_bomb())
    line = error()
    assert '60000 x 60000' in line or 'exceeds limit' in line


def picture_bomb():
    """A PNG of 3.6 gigapixels in a few kilobytes, were it complete."""

    def part(kind, data):
        checksum = zlib.crc32(kind + data)
        return (
            struct.pack('>I', len(data))
            + kind
            + data
            + struct.pack('>I', checksum)
        )

    header = struct.pack('>IIBBBBB', 60000, 60000, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20))
    return (
        b'\x89PNG\r\n\x1a\n'
        + part(b'IHDR', header)
        + part(b'IDAT', pixels)
        + part(b'IEND', b'')
    )


@fault(
    SAFETY,
    'a zip file of masks has names that lead out of it, masks that unpack to '
    '128 MB, encrypted or broken ones',
    'nothing is unpacked to the disk, and the entry is named',
)
def test_zip_files_of_strangers(ytvos, capsys, tmp_path):
    path = pack(ytvos.pred, tmp_path / 'masks.zip')
    whole = path.read_bytes()

    for name in ('../../evil.png', '/etc/evil.png', 'a\\..\\evil.png'):
        path.write_bytes(whole)
        with zipfile.ZipFile(path, 'a') as archive:
            archive.writestr(name, b'evil')
        line = ytvos.error(capsys, pred=path)
        assert 'evil.png' in line
        assert 'leads out of it' in line
    assert not list(tmp_path.parent.rglob('evil.png'))

    path.write_bytes(whole)
    with zipfile.ZipFile(path) as archive:
        first = archive.namelist()[0]
    with (
        pytest.warns(UserWarning, match='Duplicate'),
        zipfile.ZipFile(path, 'a') as archive,
    ):
        archive.writestr(first, b'again')
    line = ytvos.error(capsys, pred=path)
    assert f'holds 1 masks more than once: {first}' in line

    # What nobody asks for is left alone; so are the files of a Mac.
    path.write_bytes(whole)
    with zipfile.ZipFile(path, 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('huge.png', bytes(1 << 27))
        archive.writestr('__MACOSX/._masks.png', b'')
        archive.writestr('notes.txt', b'')
    expected = ytvos.score()
    assert ytvos.score(pred=path) == expected
    ytvos.out.unlink()

    # A mask that unpacks to 128 MB.
    (ytvos.pred / first).unlink()
    pack(ytvos.pred, path)
    with zipfile.ZipFile(path, 'a', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(first, bytes(1 << 27))
    assert 'no mask is that large' in ytvos.error(capsys, pred=path)

    path.write_bytes(whole[: len(whole) // 2])
    assert 'is no readable zip file' in ytvos.error(capsys, pred=path)
    broken = bytearray(whole)
    broken[60:90] = bytes(30)
    path.write_bytes(broken)
    line = ytvos.error(capsys, pred=path)
    assert 'cannot be unpacked' in line
    # The mark of encryption, in the central directory and at the file.
    locked = bytearray(whole)
    locked[6] |= 1
    directory = whole.index(b'PK\x01\x02')
    locked[directory + 8] |= 1
    path.write_bytes(locked)
    line = ytvos.error(capsys, pred=path)
    assert 'encrypted' in line


def test_broken_expression_files(ytvos, capsys):
    path = ytvos.gt / 'meta_expressions/valid/meta_expressions.json'
    good = json.loads(path.read_text())
    video = next(iter(ytvos.truths))[0]

    for text, said in (
        ('{', 'is not valid JSON'),
        ('[]', 'has no table "videos"'),
        ('{"videos": 3}', 'has no table "videos"'),
        ('{"videos": {"a": {}}}', 'video a needs a list "frames"'),
        ('[' * 99999, 'nested too deeply'),
    ):
        path.write_text(text)
        assert said in ytvos.error(capsys)

    def changed(change):
        content = json.loads(json.dumps(good))
        change(content['videos'])
        path.write_text(json.dumps(content))
        return ytvos.error(capsys)

    line = changed(lambda v: v.update({'../../etc': v.pop(video)}))
    assert "'../../etc' is no name of a folder" in line
    line = changed(lambda v: v[video]['frames'].append('..'))
    assert "'..', which is no name" in line
    line = changed(lambda v: v[video]['frames'].append(v[video]['frames'][0]))
    assert 'lists a frame twice' in line
    line = changed(lambda v: v[video]['expressions']['0'].pop('obj_id'))
    assert f'{video}/0 has no obj_id' in line
    assert 'give the file released with the ground truth' in line
    for wrong in (0, 255, '1 (copy)', None, [1], '-1', 1.0, True):
        line = changed(
            lambda v, w=wrong: v[video]['expressions']['0'].update(obj_id=w)
        )
        assert f'{video}/0 has obj_id {wrong!r}' in line
    path.write_text(
        path.read_text().replace(
            '"expressions":', '"frames": ["a"], "frames":'
        )
    )
    assert "the key 'frames' twice" in ytvos.error(capsys)
    path.unlink()
    assert 'does not exist' in ytvos.error(capsys)


def test_where_the_truth_of_ref_youtube_vos_is(tmp_path, capsys):
    inside = make_case('ref-youtube-vos', tmp_path / 'a')
    expected = inside.score()
    assert 'valid has 202, so the score is' in capsys.readouterr().err
    gt = make_ref_youtube_vos(tmp_path / 'gt', valid_obj_ids='separate')
    case = Case('ref-youtube-vos', gt, {}, tmp_path)
    args = (
        '--expressions',
        gt / 'meta_expressions/valid/meta_expressions_gt.json',
    )
    assert 'give the file released' in case.error(capsys, pred=inside.pred)
    assert case.score(*args, pred=inside.pred) == expected
    moved = tmp_path / 'elsewhere'
    shutil.move(gt / 'valid/Annotations', moved)
    case.out.unlink()
    line = case.error(capsys, *args, pred=inside.pred)
    assert 'Give their place by --masks' in line
    args += ('--masks', moved)
    assert case.score(*args, pred=inside.pred) == expected
    # Videos may be left out of any file by naming another.
    video = next(iter(inside.truths))[0]
    content = json.loads(args[1].read_text())
    other = tmp_path / 'other.json'
    other.write_text(json.dumps({'videos': {video: content['videos'][video]}}))
    scores = case.score(*args, '--exclude', other, pred=inside.pred)
    assert {n.split('/')[0] for n in scores['per_expression']} == {
        v for v, _ in inside.truths
    } - {video}
    case.out.unlink()
    line = case.error(capsys, *args, '--exclude', args[1], pred=inside.pred)
    assert 'no expression to score' in line


def test_frames_without_truth(ytvos, capsys):
    full = ytvos.score()
    video, name = next(iter(ytvos.truths))
    frame = list(ytvos.truths[video, name])[2]
    (ytvos.gt / f'valid/Annotations/{video}/{frame}.png').unlink()
    ytvos.out.unlink()
    line = ytvos.error(capsys)
    assert f'1 of 12 frames have no ground truth: {video}/{frame};' in line
    scores = ytvos.score('--unannotated', 'skip')
    assert scores['protocol']['unannotated'] == 'skip'
    assert scores['protocol']['num_unannotated_frames'] == 1
    key = f'{video}/{name}'
    frames = full['per_expression'][key]['num_frames']
    assert scores['per_expression'][key]['num_frames'] == frames - 1
    for masks in (ytvos.truths, ytvos.preds):
        for (other, _), found in masks.items():
            if other == video:
                found.pop(frame)
    assert scores['J'] == pytest.approx(ytvos.expected()[0], abs=1e-12)


def test_objects_no_frame_shows_are_named(ytvos, capsys):
    for path in (ytvos.gt / 'valid/Annotations').rglob('*.png'):
        save(path, np.array(Image.open(path)) == 2, 2)
    ytvos.score()
    assert 'no frame shows what 4 expressions mean' in capsys.readouterr().err


def test_mevis_tables(tmp_path, capsys):
    case = make_case('mevis', tmp_path)
    # Expressions without target are scored, and two objects are united.
    assert any(
        not any(mask.any() for mask in masks.values())
        for masks in case.truths.values()
    )
    table = case.gt / 'mask_dict.json'
    table.rename(case.gt / 'other.json')
    assert 'mask_dict.json does not exist' in case.error(capsys)
    (case.gt / 'other.json').rename(table)
    meta = case.gt / 'meta_expressions.json'
    text = meta.read_text()
    meta.write_text(text.replace('"anno_id"', '"other"'))
    assert 'has anno_id None; expected a list' in case.error(capsys)
    meta.write_text(text.replace('"anno_id": [0', '"anno_id": [999'))
    assert 'has 0 masks of annotation 999' in case.error(capsys)
