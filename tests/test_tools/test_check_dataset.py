# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``tools/misc/check_dataset.py``: one fault at a time, and none."""

import itertools
import json
import os
import runpy
import shutil
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from mmengine.config import Config
from PIL import Image

from referformer.datasets.doctor import KINDS, PROBLEMS
from referformer.errors import ConfigError, MissingPackageError
from tests.fixtures.a2d import make_a2d, prepare_a2d
from tests.fixtures.jhmdb import make_jhmdb, prepare_jhmdb
from tests.fixtures.long_rvos import prepare_long_rvos
from tests.fixtures.mevis import prepare_mevis
from tests.fixtures.mevis_v2 import prepare_mevis_v2
from tests.fixtures.ref_davis import prepare_ref_davis
from tests.fixtures.ref_sav import prepare_ref_sav
from tests.fixtures.ref_youtube_vos import (
    make_ref_youtube_vos,
    prepare_ref_youtube_vos,
)
from tests.fixtures.refcoco import make_refcoco, prepare_refcoco
from tests.fixtures.revos import prepare_revos

TOOL = Path(__file__).parents[2] / 'tools/misc/check_dataset.py'
CONFIGS = Path(__file__).parents[2] / 'configs/_base_/datasets'
MAIN = runpy.run_path(str(TOOL))['main']
PREPARE = {
    'ref-youtube-vos': prepare_ref_youtube_vos,
    'ref-davis': prepare_ref_davis,
    'a2d': prepare_a2d,
    'jhmdb': prepare_jhmdb,
    'refcoco': prepare_refcoco,
    'mevis': prepare_mevis,
    'mevis-v2': prepare_mevis_v2,
    'revos': prepare_revos,
    'long-rvos': prepare_long_rvos,
    'ref-sav': prepare_ref_sav,
}


@pytest.fixture(scope='session')
def prepared(tmp_path_factory):
    """Every kind, prepared when it is asked for."""
    done = {}

    def get(kind):
        if kind not in done:
            folder = tmp_path_factory.mktemp(kind)
            # the folder to copy, and the data set below it
            done[kind] = folder, PREPARE[kind](folder)
        return done[kind]

    return get


@pytest.fixture(scope='module', autouse=True)
def _configs_are_read_once():
    read = Config.fromfile
    read_once = cache(read)

    def fromfile(path):
        if Path(path).parent != CONFIGS:  # a test may change it
            return read(path)
        return deepcopy(read_once(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, 'fromfile', fromfile)
        yield


@pytest.fixture
def copy(prepared, tmp_path):
    def get(kind):
        folder, root = prepared(kind)
        # Ref-DAVIS17 is links into the original, relative ones
        shutil.copytree(folder, tmp_path / 'copy', symlinks=True)
        return tmp_path / 'copy' / root.relative_to(folder)

    return get


def doctor(kind, root, *options):
    """Exit code and what was found, by code."""
    out = root.parent / 'report.json'
    status = MAIN([kind, str(root), '--jobs=1', f'--out={out}', *options])
    (report,) = json.loads(out.read_text())
    return status, {f['code']: f for f in report['findings']}


def edit(path, change):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


def repaint(path, change, **kwargs):
    """Change the pixels of an indexed PNG."""
    with Image.open(path) as image:
        palette, ids = image.getpalette(), np.array(image)
    painted = Image.fromarray(np.ascontiguousarray(change(ids)))
    if painted.mode == 'L':
        painted.putpalette(palette)
    painted.save(path, **kwargs)


def cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize('kind', KINDS)
def test_silent_on_clean_data(prepared, kind, capsys):
    _, root = prepared(kind)
    status, found = doctor(kind, root)
    loud = {c: f for c, f in found.items() if f['level'] != 'note'}
    assert loud == {}
    assert status == 0
    assert 'usable' in capsys.readouterr().out
    # ... and says that this is a small part of the set.
    # (how many videos Ref-SAV has is not known)
    assert ('count-differs' in found) != (kind == 'ref-sav')


@pytest.mark.parametrize('kind', KINDS)
def test_quick_is_silent_too(prepared, kind):
    _, root = prepared(kind)
    status, found = doctor(kind, root, '--quick')
    assert status == 0
    assert all(f['level'] == 'note' for f in found.values())


FAULTS = []


def fault(kind, code, path, status=1):
    """Register a fault, the code and path it must be found by."""

    def register(plant):
        name = f'{kind}: {plant.__name__}'
        FAULTS.append(pytest.param(kind, plant, code, path, status, id=name))
        return plant

    return register


@pytest.mark.parametrize(('kind', 'plant', 'code', 'path', 'status'), FAULTS)
def test_fault_is_found(copy, kind, plant, code, path, status, capsys):
    root = copy(kind)
    plant(root)
    got, found = doctor(kind, root)
    assert code in found, found
    assert found[code]['path'] == path
    assert found[code]['count'] >= 1
    assert found[code]['level'] == ('error' if status else 'warning')
    assert got == status, found
    # Nothing else is blamed, but for what follows from the fault.
    others = {
        c for c, f in found.items() if f['level'] != 'note' and c != code
    }
    assert others <= FOLLOWS.get(code, set())
    assert code in capsys.readouterr().out


#: Code -> what a fault of this kind may entail.
FOLLOWS = {
    'object-id-wrong': {'meta-object-unseen'},
    'object-not-in-meta': {'object-never-seen'},
    'expression-none': {'meta-object-unseen'},
    'row-wrong': {'truth-differs'},
    'instance-copy': {'truth-differs'},
    'instance-missing': {'truth-differs'},
    'frames-from-zero': {'truth-differs'},
    'path-outside': {'truth-differs'},
    'split-overlap': {'split-wrong', 'annotation-shared'},
}


def test_at_least_thirty_faults():
    assert len(FAULTS) >= 30
    assert all(param.values[2] in PROBLEMS for param in FAULTS)


# ---------------------------------------------------------------- videos
YTVOS = 'ref-youtube-vos'
TRAIN_JSON = 'meta_expressions/train/meta_expressions.json'
VALID_JSON = 'meta_expressions/valid/meta_expressions.json'
TEST_JSON = 'meta_expressions/test/meta_expressions.json'
VIDEO = '003234408d'
FRAMES = f'train/JPEGImages/{VIDEO}'
MASKS = f'train/Annotations/{VIDEO}'


@fault(YTVOS, 'frame-missing', f'{FRAMES}/00010.jpg')
def frame_missing(root):
    (root / FRAMES / '00010.jpg').unlink()


@fault(YTVOS, 'frame-broken', f'{FRAMES}/00010.jpg')
def frame_cut_off(root):
    cut(root / FRAMES / '00010.jpg')


@fault(YTVOS, 'frame-broken', f'{FRAMES}/00015.jpg')
def frame_is_a_web_page(root):
    (root / FRAMES / '00015.jpg').write_text('<html>not found</html>')


@fault(YTVOS, 'frame-size-differs', f'{FRAMES}/00010.jpg')
def frame_of_another_size(root):
    Image.new('RGB', (40, 24)).save(root / FRAMES / '00010.jpg')
    Image.new('P', (40, 24), 1).save(root / MASKS / '00010.png')


@fault(YTVOS, 'frame-unlisted', f'{FRAMES}/00001.jpg', 0)
def frame_unlisted(root):
    shutil.copy(root / FRAMES / '00010.jpg', root / FRAMES / '00001.jpg')


@fault(YTVOS, 'video-missing', FRAMES)
def video_missing(root):
    shutil.rmtree(root / FRAMES)


@fault(YTVOS, 'folder-missing', 'train/Annotations')
def masks_missing(root):
    shutil.rmtree(root / 'train/Annotations')


@fault(YTVOS, 'mask-missing', f'{MASKS}/00005.png')
def mask_missing(root):
    (root / MASKS / '00005.png').unlink()


@fault(YTVOS, 'mask-broken', f'{MASKS}/00005.png')
def mask_cut_off(root):
    cut(root / MASKS / '00005.png')


@fault(YTVOS, 'mask-size-differs', f'{MASKS}/00005.png')
def mask_of_another_size(root):
    repaint(root / MASKS / '00005.png', lambda ids: ids[::2, ::2])


@fault(YTVOS, 'mask-transposed', f'{MASKS}/00005.png')
def mask_on_its_side(root):
    repaint(root / MASKS / '00005.png', lambda ids: ids.T)


@fault(YTVOS, 'mask-not-indexed', f'{MASKS}/00005.png')
def mask_in_colour(root):
    path = root / MASKS / '00005.png'
    with Image.open(path) as image:
        image.convert('RGB').save(path)


@fault(YTVOS, 'mask-binary', 'train/Annotations/0043f083b5')
def masks_black_and_white(root):
    for path in (root / 'train/Annotations/0043f083b5').iterdir():
        repaint(path, lambda ids: (ids > 0).astype(np.uint8) * 255)


@fault(YTVOS, 'mask-unlisted', f'{MASKS}/00002.png', 0)
def mask_unlisted(root):
    shutil.copy(root / MASKS / '00005.png', root / MASKS / '00002.png')


@fault(YTVOS, 'mask-id-unknown', MASKS, 0)
def mask_id_not_in_meta(root):
    def change(ids):
        ids[0, 0] = 9
        return ids

    repaint(root / MASKS / '00005.png', change)


@fault(YTVOS, 'object-never-seen', MASKS, 0)
def object_in_no_mask(root):
    for path in (root / MASKS).iterdir():
        repaint(path, lambda ids: np.where(ids == 2, 0, ids))


@fault(YTVOS, 'object-not-in-meta', 'train/meta.json')
def object_without_category(root):
    def change(content):
        del content['videos'][VIDEO]['objects']['2']

    edit(root / 'train/meta.json', change)
    for path in (root / MASKS).iterdir():
        repaint(path, lambda ids: np.where(ids == 2, 0, ids))


@fault(YTVOS, 'meta-object-unseen', MASKS, 0)
def object_of_meta_unseen(root):
    def change(content):
        content['videos'][VIDEO]['objects']['5'] = {'category': 'dog'}

    edit(root / 'train/meta.json', change)


@fault(YTVOS, 'meta-missing', 'train/meta.json')
def meta_missing(root):
    (root / 'train/meta.json').unlink()


@fault(YTVOS, 'meta-video-missing', 'train/meta.json')
def meta_of_other_videos(root):
    edit(root / 'train/meta.json', lambda c: c['videos'].pop(VIDEO) and None)


@fault(YTVOS, 'category-unknown', 'train/meta.json', 0)
def category_unknown(root):
    def change(content):
        content['videos'][VIDEO]['objects']['2']['category'] = 'unicorn'

    edit(root / 'train/meta.json', change)


def change_expression(root, **kwargs):
    def change(content):
        content['videos'][VIDEO]['expressions']['0'].update(kwargs)

    edit(root / TRAIN_JSON, change)


@fault(YTVOS, 'expression-empty', TRAIN_JSON)
def expression_blank(root):
    change_expression(root, exp='  \t')


@fault(YTVOS, 'expression-empty', TRAIN_JSON)
def expression_no_text(root):
    change_expression(root, exp=None)


@fault(YTVOS, 'expression-garbled', TRAIN_JSON, 0)
def expression_utf8_as_latin1(root):
    change_expression(root, exp='a décor'.encode().decode('latin-1'))


@fault(YTVOS, 'expression-none', TRAIN_JSON)
def expressions_missing(root):
    def change(content):
        content['videos'][VIDEO]['expressions'] = {}

    edit(root / TRAIN_JSON, change)


@fault(YTVOS, 'object-id-missing', TRAIN_JSON)
def object_id_missing(root):
    def change(content):
        del content['videos'][VIDEO]['expressions']['0']['obj_id']

    edit(root / TRAIN_JSON, change)


@fault(YTVOS, 'object-id-wrong', TRAIN_JSON)
def object_id_zero(root):
    change_expression(root, obj_id='0')


@fault(YTVOS, 'frame-listed-twice', TRAIN_JSON)
def frame_twice(root):
    def change(content):
        content['videos'][VIDEO]['frames'].append('00000')

    edit(root / TRAIN_JSON, change)


@fault(YTVOS, 'frames-unsorted', TRAIN_JSON, 0)
def frames_unsorted(root):
    edit(root / TRAIN_JSON, lambda c: c['videos'][VIDEO]['frames'].reverse())


@fault(YTVOS, 'frames-none', TRAIN_JSON)
def frames_none(root):
    edit(root / TRAIN_JSON, lambda c: c['videos'][VIDEO].pop('frames') and {})


@fault(YTVOS, 'name-unsafe', TRAIN_JSON)
def name_leads_out(root):
    def change(content):
        content['videos']['../../etc'] = content['videos'].pop(VIDEO)

    edit(root / TRAIN_JSON, change)


@fault(YTVOS, 'json-broken', TRAIN_JSON)
def json_cut_off(root):
    cut(root / TRAIN_JSON)


@fault(YTVOS, 'table-wrong', TRAIN_JSON)
def json_of_something_else(root):
    (root / TRAIN_JSON).write_text('[1, 2]')


@fault(YTVOS, 'test-list-missing', TEST_JSON)
def no_json_of_test(root):
    shutil.rmtree(root / 'meta_expressions/test')


@fault(YTVOS, 'test-list-foreign', TEST_JSON)
def foreign_json_of_test(root):
    def change(content):
        content['videos'] = {'f': content['videos']['0390fabe58']}

    edit(root / TEST_JSON, change)
    folder = root / 'test/JPEGImages'
    (folder / '0390fabe58').rename(folder / 'f')
    shutil.copytree(folder / 'f', root / 'valid/JPEGImages/0390fabe58')
    (root / 'valid/Annotations/0390fabe58').mkdir()


@fault(YTVOS, 'split-overlap', VALID_JSON)
def train_video_in_valid(root):
    video = json.loads((root / TRAIN_JSON).read_text())['videos'][VIDEO]
    edit(root / VALID_JSON, lambda c: c['videos'].update({VIDEO: video}))
    for kind in ('JPEGImages', 'Annotations'):
        shutil.copytree(
            root / 'train' / kind / VIDEO, root / 'valid' / kind / VIDEO
        )


def test_a_copied_frame_is_a_remark(copy):
    root = copy(YTVOS)
    shutil.copy(root / FRAMES / '00010.jpg', root / FRAMES / '00015.jpg')
    status, found = doctor(YTVOS, root)
    assert status == 0
    assert f'{FRAMES}/00015.jpg' in found['frame-copied']['examples']


def test_the_file_of_objects_under_the_name_of_the_docs(tmp_path):
    root = make_ref_youtube_vos(tmp_path / 'set', valid_obj_ids='separate')
    folder = root / 'meta_expressions/valid'
    (folder / 'meta_expressions_gt.json').rename(folder / 'with_obj_id.json')
    _, found = doctor(YTVOS, root)
    lacking = found['truth-absent']['examples']
    assert lacking == ['test/Annotations: split test']


def test_advice_fits_the_file(copy, capsys):
    root = copy(YTVOS)
    path = root / TRAIN_JSON
    text = path.read_text()
    # Whole, but edited wrongly: to get it again would not help.
    path.write_text(text.replace('"frames":', '"frames"', 1))
    _, found = doctor(YTVOS, root)
    (example,) = found['json-broken']['examples']
    assert example.endswith('correct this place')
    assert '003234408d' not in example
    assert 'again' not in capsys.readouterr().out.split('json-broken')[1]
    cut(path)
    _, found = doctor(YTVOS, root)
    (example,) = found['json-broken']['examples']
    assert 'ends in the middle, download or extract it again' in example


def test_notes_name_what_is_missing(copy):
    root = copy(YTVOS)
    shutil.rmtree(root / 'train')
    _, found = doctor(YTVOS, root)
    # The expressions of the split are there.
    assert found['split-absent']['examples'] == ['train/JPEGImages: train']
    shutil.rmtree(root / 'meta_expressions/train')
    _, found = doctor(YTVOS, root)
    assert found['split-absent']['examples'] == [f'{TRAIN_JSON}: train']
    root = make_ref_youtube_vos(root / 'other', valid_obj_ids='none')
    (root / 'valid/Annotations').mkdir()
    _, found = doctor(YTVOS, root)
    assert f'{VALID_JSON}: no obj_id' in found['truth-absent']['examples']


def test_examples_are_in_natural_order(copy):
    root = copy(YTVOS)
    folder = root / FRAMES
    for number in (7, 100, 9):
        shutil.copy(folder / '00010.jpg', folder / f'x{number}.jpg')
    _, found = doctor(YTVOS, root)
    assert found['frame-unlisted']['examples'] == [
        f'{FRAMES}/x{number}.jpg' for number in (7, 9, 100)
    ]


def test_valid_without_truth_is_no_fault(tmp_path):
    for mode in ('none', 'separate'):
        root = make_ref_youtube_vos(tmp_path / mode, valid_obj_ids=mode)
        status, found = doctor(YTVOS, root)
        assert status == 0
        lacking = found['truth-absent']['examples']
        absent = 'valid/Annotations: split valid' in lacking
        assert absent == (mode == 'none')


# --------------------------------------------------------------- Ref-DAVIS17
DAVIS = 'ref-davis'
SWAN = 'valid/Annotations/blackswan'


@fault(DAVIS, 'annotators-incomplete', VALID_JSON)
def an_annotator_is_missing(root):
    edit(
        root / VALID_JSON,
        lambda c: c['videos']['blackswan']['expressions'].pop('3') and {},
    )


@fault(DAVIS, 'annotators-incomplete', VALID_JSON)
def numbered_by_object_id(root):
    def change(content):
        video = content['videos']['blackswan']
        video['expressions'] = {
            str(int(k) + 2): v for k, v in video['expressions'].items()
        }

    edit(root / VALID_JSON, change)


@fault(DAVIS, 'video-misspelt', TRAIN_JSON)
def video_misspelt(root):
    def change(content):
        videos = content['videos']
        videos['clasic-car'] = videos.pop('classic-car')

    edit(root / TRAIN_JSON, change)
    edit(root / 'train/meta.json', change)
    for kind in ('JPEGImages', 'Annotations'):
        folder = root / 'train' / kind
        (folder / 'classic-car').rename(folder / 'clasic-car')


@fault(DAVIS, 'masks-semisupervised', SWAN)
def masks_of_the_other_edition(root):
    target = (root / SWAN).resolve()
    other = target.parents[2] / 'Annotations/480p/blackswan'
    other.parent.mkdir(parents=True)
    shutil.copytree(target, other)
    (root / SWAN).unlink()
    (root / SWAN).symlink_to(other)


@fault(DAVIS, 'object-never-seen', SWAN, 0)
def masks_with_other_ids(root):
    masks = [(p.name, p) for p in (root / SWAN).resolve().iterdir()]
    (root / SWAN).unlink()
    (root / SWAN).mkdir()
    for name, path in masks:
        shutil.copy(path, root / SWAN / name)
        repaint(root / SWAN / name, lambda ids: np.where(ids == 1, 2, ids))


@fault(DAVIS, 'expression-garbled', TRAIN_JSON, 0)
def latin1_read_as_utf8(root):
    text = 'the décor'.encode('latin-1').decode('utf-8', 'replace')

    def change(content):
        video = content['videos']['classic-car']
        video['expressions']['3']['exp'] = text

    edit(root / TRAIN_JSON, change)


def test_davis_not_converted(copy):
    root = copy(DAVIS).parent / 'raw'
    status, found = doctor(DAVIS, root)
    assert status == 1
    assert found['not-converted']['path'] == 'DAVIS'


# --------------------------------------------------------------------- MeViS
MEVIS = 'mevis'
META, TABLE = 'train/meta_expressions.json', 'train/mask_dict.json'
CLIP = '0ab4afe7fb46'


@fault(MEVIS, 'annotation-unknown', META)
def annotation_unknown(root):
    edit(root / TABLE, lambda c: c.pop('1') and {})


@fault(MEVIS, 'masks-of-frames-differ', TABLE)
def a_mask_too_few(root):
    edit(root / TABLE, lambda c: c['0'].pop() and {})


@fault(MEVIS, 'mask-size-differs', TABLE)
def rle_of_another_size(root):
    def change(content):
        content['0'][3]['size'] = [47, 80]

    edit(root / TABLE, change)


@fault(MEVIS, 'mask-transposed', TABLE)
def rle_on_its_side(root):
    def change(content):
        content['0'][3]['size'].reverse()

    edit(root / TABLE, change)


@fault(MEVIS, 'rle-broken', TABLE)
def rle_cut_off(root):
    def change(content):
        content['0'][3]['counts'] = content['0'][3]['counts'][:-2]

    edit(root / TABLE, change)


@fault(MEVIS, 'annotation-never-seen', TABLE, 0)
def null_everywhere(root):
    def change(content):
        content['0'] = [None] * len(content['0'])

    edit(root / TABLE, change)


@fault(MEVIS, 'target-wrong', META)
def object_id_is_no_list(root):
    def change(content):
        content['videos'][CLIP]['expressions']['0']['obj_id'] = 0

    edit(root / META, change)


@fault(MEVIS, 'frames-disordered', META)
def mevis_frames_reversed(root):
    edit(root / META, lambda c: c['videos'][CLIP]['frames'].reverse())


@fault(MEVIS, 'table-wrong', TABLE)
def table_cut_off(root):
    cut(root / TABLE)


@fault(MEVIS, 'file-missing', TABLE)
def table_missing(root):
    (root / TABLE).unlink()


@fault(MEVIS, 'annotation-shared', META, 0)
def annotation_of_two_videos(root):
    def change(content):
        expressions = content['videos']['2a6bf9f4ccde']['expressions']
        expressions['0']['anno_id'] = [5]

    def shorten(content):
        content['5'] = content['4'] = content['5'][:1]

    edit(root / META, change)
    edit(root / TABLE, shorten)
    edit(
        root / META,
        lambda c: (
            [
                c['videos'].pop('0fea0cb75a25'),
                c['videos'].update(
                    twin={**c['videos']['2a6bf9f4ccde'], 'vid_id': 9}
                ),
            ]
            and c
        ),
    )
    folder = root / 'train/JPEGImages'
    shutil.copytree(folder / '2a6bf9f4ccde', folder / 'twin')


# ----------------------------------------------------------------------- A2D
A2D = 'a2d'
TRUTH = 'a2d_sentences_test_annotations_in_coco_format.json'
ROWS = 'a2d_sentences_single_frame_{}_annotations.json'
A2D_TRAIN, A2D_TEST = ROWS.format('train'), ROWS.format('test')
MP4 = 'Release/clips320H/_0djE279Srg.mp4'
H5 = 'text_annotations/a2d_annotation_with_instances/_0djE279Srg/00006.h5'


def change_masks(path, change):
    with h5py.File(path, 'r+') as file:
        masks = change(np.array(file['reMask']))
        del file['reMask']
        file['reMask'] = masks


@fault(A2D, 'video-missing', MP4)
def mp4_missing(root):
    (root / MP4).unlink()


@fault(A2D, 'video-broken', MP4)
def mp4_cut_off(root):
    cut(root / MP4)


@fault(A2D, 'video-broken', MP4)
def mp4_is_a_web_page(root):
    (root / MP4).write_text('<html>not found</html>')


@fault(A2D, 'video-short', 'Release/clips320H/_0djE279Srg.mp4')
def mp4_short(root):
    shutil.copy(root / 'Release/clips320H/T6bNPuKV-wY.mp4', root / MP4)


@fault(A2D, 'mask-missing', H5)
def h5_missing(root):
    (root / H5).unlink()


@fault(A2D, 'mask-broken', H5)
def h5_cut_off(root):
    cut(root / H5)


@fault(A2D, 'mask-transposed', H5)
def h5_not_transposed(root):
    change_masks(root / H5, lambda masks: masks.transpose(0, 2, 1))


@fault(A2D, 'mask-size-differs', H5)
def h5_of_another_size(root):
    change_masks(root / H5, lambda masks: masks[:, ::2, ::2])


@fault(A2D, 'mask-empty', H5, 0)
def h5_empty(root):
    change_masks(root / H5, np.zeros_like)


@fault(A2D, 'instance-missing', H5)
def instance_missing(root):
    def change(rows):
        row = next(r for r in rows if r[1] == '_0djE279Srg' and r[2] == 6)
        row[3] = 7

    edit(root / A2D_TRAIN, change)


@fault(A2D, 'instance-copy', A2D_TRAIN)
def one_copy(root):
    edit(
        root / A2D_TRAIN,
        lambda rows: [*rows, ['a box', 'T6bNPuKV-wY', 1, '1 (copy)']],
    )


@fault(A2D, 'frames-from-zero', A2D_TRAIN)
def frame_zero(root):
    edit(
        root / A2D_TRAIN,
        lambda rows: [*rows, ['a box', 'T6bNPuKV-wY', 0, 1]],
    )


@fault(A2D, 'row-wrong', A2D_TRAIN)
def row_of_three(root):
    edit(root / A2D_TRAIN, lambda rows: [*rows, rows[0][:3]])


@fault(A2D, 'row-repeated', A2D_TEST)
def row_twice(root):
    edit(root / A2D_TEST, lambda rows: [*rows, rows[0]])


@fault(A2D, 'folder-misplaced', 'clips320H')
def clips_in_the_root(root):
    (root / 'Release/clips320H').rename(root / 'clips320H')


@fault(A2D, 'truth-differs', TRUTH)
def truth_of_other_sentences(root):
    edit(root / TRUTH, lambda c: c['images'].pop() and {})


@fault(A2D, 'split-overlap', A2D_TEST)
def trained_on_a_test_video(root):
    test = json.loads((root / A2D_TEST).read_text())
    edit(root / A2D_TRAIN, lambda rows: [*rows, test[0]])


@fault(A2D, 'split-wrong', A2D_TRAIN)
def splits_of_another_release(root):
    path = root / 'Release/videoset.csv'
    path.write_text(
        ''.join(
            line[:-1] + '1\n' if line.startswith('T6b') else f'{line}\n'
            for line in path.read_text().splitlines()
        )
    )


def test_both_names_of_the_folder_of_clips(copy):
    root = copy(A2D)
    (root / 'Release/clips320H').rename(root / 'Release/CLIPS320')
    status, found = doctor(A2D, root)
    assert status == 0
    assert set(found) <= {'count-differs'}


# --------------------------------------------------------------------- JHMDB
JHMDB = 'jhmdb'
META_JHMDB = 'jhmdb_sentences_samples_metadata.json'
CATCH = 'catch/catch_ball_f_nm_np1_le_bad_2'
MAT = f'puppet_mask/{CATCH}/puppet_mask.mat'


def change_mat(path, change):
    masks = scipy.io.loadmat(path)['part_mask']
    scipy.io.savemat(path, {'part_mask': change(masks)})


@fault(JHMDB, 'mask-missing', MAT)
def mat_missing(root):
    (root / MAT).unlink()


@fault(JHMDB, 'mask-broken', MAT)
def mat_cut_off(root):
    cut(root / MAT)


@fault(JHMDB, 'mask-transposed', MAT)
def mat_transposed(root):
    change_mat(root / MAT, lambda masks: masks.transpose(2, 0, 1))


@fault(JHMDB, 'mask-size-differs', MAT)
def mat_of_another_size(root):
    change_mat(root / MAT, lambda masks: masks[::2, ::2])


@fault(JHMDB, 'masks-short', MAT)
def mat_short(root):
    change_mat(root / MAT, lambda masks: masks[..., :3])


@fault(JHMDB, 'mask-empty', MAT, 0)
def mat_empty(root):
    change_mat(root / MAT, np.zeros_like)


@fault(JHMDB, 'frames-from-zero', f'Rename_Images/{CATCH}')
def pictures_from_zero(root):
    folder = root / 'Rename_Images' / CATCH
    shutil.copy(folder / '00001.png', folder / '00000.png')


@fault(JHMDB, 'frames-from-zero', META_JHMDB)
def scored_frame_zero(root):
    edit(
        root / META_JHMDB,
        lambda rows: [
            [r[0], f'{r[1][:-9]}00000.png', *r[2:]] if r == rows[0] else r
            for r in rows
        ],
    )


@fault(JHMDB, 'frame-missing', f'Rename_Images/{CATCH}/00002.png')
def picture_missing(root):
    (root / 'Rename_Images' / CATCH / '00002.png').unlink()


@fault(JHMDB, 'path-outside', META_JHMDB)
def path_outside(root):
    edit(
        root / META_JHMDB,
        lambda rows: [
            [r[0], '/etc/Rename_Images/../../passwd', *r[2:]]
            if r == rows[0]
            else r
            for r in rows
        ],
    )


@fault(JHMDB, 'expression-empty', META_JHMDB)
def jhmdb_silent(root):
    edit(root / META_JHMDB, lambda rows: [[*rows[0][:4], ''], *rows[1:]])


@fault(JHMDB, 'video-missing', f'Rename_Images/{CATCH}')
def jhmdb_video_missing(root):
    shutil.rmtree(root / 'Rename_Images' / CATCH)


# ------------------------------------------------------------------- RefCOCO
REFCOCO = 'refcoco'
VAL = 'refcoco/instances_refcoco_val.json'
IMAGE = 'train2014/COCO_train2014_000000581857.jpg'


@fault(REFCOCO, 'image-missing', IMAGE)
def image_missing(root):
    (root / IMAGE).unlink()


@fault(REFCOCO, 'image-broken', IMAGE)
def image_cut_off(root):
    cut(root / IMAGE)


@fault(REFCOCO, 'image-size-differs', IMAGE)
def image_of_another_size(root):
    with Image.open(root / IMAGE) as image:
        image.resize((98, 50)).save(root / IMAGE)


@fault(REFCOCO, 'image-id-mismatch', VAL)
def image_ids_mixed_up(root):
    edit(root / VAL, lambda c: c['images'][0].update(original_id=9))


@fault(REFCOCO, 'segmentation-broken', IMAGE)
def polygon_empty(root):
    change_annotations(root, segmentation=[])


def change_annotations(root, **kwargs):
    """Change an object in all the files that tell of it."""
    for path in root.glob('*/instances_*_*.json'):

        def change(content):
            for entry in content['annotations']:
                if entry['original_id'] == 5818570:
                    entry.update(kwargs)

        edit(path, change)


@fault(REFCOCO, 'polygon-outside', IMAGE, 0)
def polygon_outside(root):
    change_annotations(root, segmentation=[[4, 6, 120, 6, 120, 30, 4, 30]])


@fault(REFCOCO, 'mask-empty', IMAGE, 0)
def polygon_without_area(root):
    change_annotations(root, segmentation=[[4, 6, 4, 6, 4, 6]])


@fault(REFCOCO, 'box-wrong', VAL)
def box_of_three(root):
    change_annotations(root, bbox=[4, 6, 18])


@fault(REFCOCO, 'annotation-mismatch', VAL)
def annotation_missing(root):
    edit(root / VAL, lambda c: c['annotations'].pop() and {})


@fault(REFCOCO, 'sentence-id-repeated', VAL)
def sentence_id_twice(root):
    edit(root / VAL, lambda c: c['images'].append(c['images'][0]))


@fault(REFCOCO, 'split-overlap', VAL)
def google_split_for_unc(root):
    train = 'refcoco/instances_refcoco_train.json'
    shutil.copy(root / VAL, root / train)


@fault(REFCOCO, 'set-mixed', 'refcoco+/instances_refcoco+_val.json')
def another_set(root):
    shutil.copy(root / VAL, root / 'refcoco+/instances_refcoco+_val.json')


@fault(REFCOCO, 'sentence-blank', VAL, 0)
def sentence_blank(root):
    edit(root / VAL, lambda c: c['images'][0].update(caption=' '))


@fault(REFCOCO, 'folder-missing', 'train2014')
def images_missing(root):
    shutil.rmtree(root / 'train2014')


@pytest.mark.parametrize(
    ('kind', 'make'),
    [(REFCOCO, make_refcoco), (A2D, make_a2d), (JHMDB, make_jhmdb)],
)
def test_not_converted(tmp_path, kind, make):
    status, found = doctor(kind, make(tmp_path / 'raw'))
    assert status == 1
    assert found['not-converted']['count'] >= 1
    assert set(found) <= {'not-converted', 'count-differs'}


def test_a_set_of_several_is_enough(copy):
    root = copy(REFCOCO)
    for path in root.glob('refcoco*/instances_*'):
        if not path.name.startswith('instances_refcoco+'):
            path.unlink()
    status, found = doctor(REFCOCO, root)
    assert status == 0
    assert found['split-absent']['count'] == 9


def test_frames_of_splits_that_are_not_needed(copy):
    # The expressions of all splits come in one archive.
    root = copy(YTVOS)
    shutil.rmtree(root / 'test')
    shutil.rmtree(root / 'train')
    status, found = doctor(YTVOS, root)
    assert status == 0
    assert found['split-absent']['count'] == 2
    status, found = doctor(YTVOS, root, '--split', 'train')
    assert status == 1
    assert found['folder-missing']['path'] == 'train/Annotations'


def test_junk_does_not_stop_the_doctor(copy):
    junk = itertools.cycle([None, [[7]], {'a': 1}, 7, 'x', [], {}])
    for kind in KINDS:
        root = copy(kind)
        for path in root.rglob('*.json'):
            content = json.loads(path.read_text())
            for spoilt in spoil(content, junk):
                path.write_text(json.dumps(spoilt))
                doctor(kind, root, '--quick')
            path.write_text(json.dumps(content))
        shutil.rmtree(root.parents[0] if kind == DAVIS else root)


def spoil(content, junk):
    """The content with one thing after the other replaced by junk."""
    yield next(junk)
    if not isinstance(content, dict | list):
        return
    keys = list(content) if isinstance(content, dict) else range(len(content))
    for key in keys[:2]:
        for part in spoil(content[key], junk):
            other = content.copy()
            other[key] = part
            yield other


# ------------------------------------------------------------------- the tool
def test_only_the_splits_asked_for(copy):
    root = copy(YTVOS)
    (root / FRAMES / '00010.jpg').unlink()
    assert doctor(YTVOS, root, '--split', 'valid')[0] == 0
    assert doctor(YTVOS, root, '--split', 'valid', 'train')[0] == 1
    shutil.rmtree(root / 'meta_expressions/train')
    status, found = doctor(YTVOS, root)
    assert (status, 'split-absent' in found) == (0, True)
    status, found = doctor(YTVOS, root, '--split', 'train')
    assert (status, set(found)) == (1, {'split-missing'})


def test_quick_still_misses_no_file(copy):
    root = copy(YTVOS)
    cut(root / FRAMES / '00010.jpg')
    assert doctor(YTVOS, root, '--quick')[0] == 0
    (root / FRAMES / '00010.jpg').unlink()
    assert doctor(YTVOS, root, '--quick')[0] == 1


@pytest.mark.parametrize(
    ('config', 'kind'),
    [
        ('ref-youtube-vos', YTVOS),
        ('ref-davis', DAVIS),
        ('mevis', MEVIS),
        ('mevis-v2', 'mevis-v2'),
        ('revos', 'revos'),
        ('long-rvos', 'long-rvos'),
        ('ref-sav', 'ref-sav'),
        ('a2d', A2D),
        ('jhmdb', JHMDB),
        ('refcoco', REFCOCO),
        ('refcoco-pretrain', REFCOCO),
    ],
)
def test_configs(copy, config, kind, tmp_path):
    root = copy(kind)
    path = tmp_path / 'config.py'
    path.write_text(
        f"_base_ = '{CONFIGS / config}.py'\n"
        'test_dataloader = dict(dataset=dict(expected_videos=2))\n'
        if config in ('ref-youtube-vos', 'ref-davis')
        else f"_base_ = '{CONFIGS / config}.py'\n"
    )
    status, found = doctor(str(path), root)
    assert status == 0, found
    assert all(f['level'] == 'note' for f in found.values())
    for folder in root.iterdir():
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    assert doctor(str(path), root)[0] == 1


def test_a_config_with_two_roots(tmp_path, capsys):
    one, two = tmp_path / 'one', tmp_path / 'two'
    one.mkdir()
    path = tmp_path / 'config.py'
    path.write_text(
        "train_dataloader = dict(dataset=dict(type='mmengine.ConcatDataset',"
        "    datasets=[dict(type='RefCOCODataset', ann_file=['a.json'],"
        f"        data_root='{one}'),"
        "        dict(type='RepeatDataset', dataset=dict(ann_file='b.json',"
        f"        type='referformer.MeViSDataset', data_root='{two}'))]))"
    )
    with pytest.raises(ConfigError, match='several folders'):
        MAIN([str(path), str(one)])
    assert MAIN([str(path), '--jobs=1']) == 1
    out = capsys.readouterr().out
    assert f'RefCOCO+ and RefCOCOg in {one}\n' in out
    assert '- a.json' in out
    assert f'MeViS in {two}\n' in out
    assert f'- {two}\n' in out


@pytest.mark.parametrize(
    'argv',
    [
        [],
        ['no-such-kind', '.'],
        [YTVOS],
        [YTVOS, 'no-such-folder'],
        [YTVOS, '.', '--split', 'valid_u'],
        [YTVOS, '.', '--jobs', '0'],
        [str(CONFIGS / 'mevis.py'), '--split', 'valid_u'],
    ],
)
def test_usage_errors(argv, capsys):
    with pytest.raises(SystemExit) as error:
        MAIN(argv)
    assert error.value.code == 2
    assert 'error: ' in capsys.readouterr().err


def test_a_package_that_is_not_installed(prepared, monkeypatch):
    _, root = prepared(A2D)
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(MissingPackageError, match='pip install h5py'):
        MAIN([A2D, str(root), '--jobs=1'])


FOREIGN = "train_dataloader = dict(dataset=dict(type='MyDataset', a='a.json'))"


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ('model = dict(type="ReferFormer")', 'configures no data set'),
        ('model = dict(', 'cannot be read as a config'),
        (FOREIGN, 'MyDataset'),
        (
            f'{FOREIGN}\nmodel = dict(type="mmdet.FasterRCNN")',
            r'config\.py is a config of mmdet: its model is a FasterRCNN',
        ),
    ],
)
def test_a_config_of_something_else(tmp_path, content, reason):
    path = tmp_path / 'config.py'
    path.write_text(content)
    with pytest.raises(ConfigError, match=reason):
        MAIN([str(path)])


def test_the_status_after_a_wrong_config(tmp_path, monkeypatch, capsys):
    path = tmp_path / 'config.py'
    path.write_text('a = (')
    monkeypatch.setattr(sys, 'argv', ['check_dataset.py', str(path)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(TOOL), run_name='__main__')
    assert stopped.value.code == 2
    assert 'config.py cannot be read' in capsys.readouterr().err


def test_as_a_command_with_several_processes(copy):
    root = copy(YTVOS)
    cut(root / FRAMES / '00010.jpg')
    command = [sys.executable, str(TOOL), YTVOS, str(root), '--jobs=2']
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[0] == f'Ref-YouTube-VOS in {root}'
    assert 'error    frame-broken' in lines
    assert '38/38 files' in result.stderr
    assert 'Traceback' not in result.stderr


def test_every_code_can_be_explained():
    for code, (level, message) in PROBLEMS.items():
        assert code == code.lower()
        assert level in ('error', 'warning', 'note')
        assert message[0].islower() or message.startswith(('meta', 'obj'))
        assert not message.endswith('.')
