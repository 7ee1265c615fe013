# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Faults of MeViS's second edition, ReVOS, Long-RVOS and Ref-SAV."""

import shutil
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from .test_check_dataset import (
    FOLLOWS,
    copy,  # noqa: F401  (a fixture)
    cut,
    doctor,
    edit,
    prepared,  # noqa: F401  (a fixture)
)

FAULTS = []
#: What a missing folder of masks may entail.
ENTAILS = {**FOLLOWS, 'object-missing': {'object-never-seen'}}


def fault(kind, code, path, status=1):
    """Register a fault, the code and path it must be found by."""

    def register(plant):
        name = f'{kind}: {plant.__name__}'
        FAULTS.append(pytest.param(kind, plant, code, path, status, id=name))
        return plant

    return register


class Tables(NamedTuple):
    """A set in the layout of MeViS: its files, a video, its length."""

    kind: str
    meta: str
    table: str
    frames: str
    video: str


TABLES = [
    Tables(
        'mevis-v2',
        'train/meta_expressions_v2.json',
        'train/mask_dict.json',
        'train/JPEGImages',
        '0ab4afe7fb46',
    ),
    Tables(
        'revos',
        'meta_expressions_train_.json',
        'mask_dict.json',
        'JPEGImages',
        'TAO/train/YFCC100M/v_3a0f',
    ),
    Tables(
        'ref-sav',
        'ref_sav_eval/meta_expressions_valid.json',
        'ref_sav_eval/mask_dict.json',
        'ref_sav_eval/videos',
        'sav_055000',
    ),
]


def spoil_tables(files):
    """Register the faults of a set in the layout of MeViS."""
    kind, meta, table, frames, video = files

    def change_video(root, change):
        edit(root / meta, lambda c: change(c['videos'][video]))

    def change_code(root, change):
        edit(root / table, lambda c: change(c['0'][3]))

    @fault(kind, 'annotation-unknown', meta)
    def annotation_unknown(root):
        edit(root / table, lambda c: c.pop('1') and c)

    @fault(kind, 'masks-of-frames-differ', table)
    def a_mask_too_few(root):
        edit(root / table, lambda c: c['0'].pop() and c)

    @fault(kind, 'mask-size-differs', table)
    def rle_of_another_size(root):
        change_code(root, lambda rle: rle.update(size=[47, 80]))

    @fault(kind, 'mask-transposed', table)
    def rle_on_its_side(root):
        change_code(root, lambda rle: rle['size'].reverse())

    @fault(kind, 'rle-broken', table)
    def rle_cut_off(root):
        change_code(root, lambda rle: rle.update(counts=rle['counts'][:-2]))

    @fault(kind, 'annotation-never-seen', table, 0)
    def null_everywhere(root):
        edit(root / table, lambda c: c.update({'0': [None] * len(c['0'])}))

    @fault(kind, 'target-wrong', meta)
    def one_annotation_of_two_objects(root):
        change_video(root, lambda v: v['expressions']['0']['obj_id'].append(9))

    @fault(kind, 'frames-disordered', meta)
    def frames_reversed(root):
        change_video(root, lambda v: v['frames'].reverse())

    @fault(kind, 'table-wrong', table)
    def table_cut_off(root):
        cut(root / table)

    @fault(kind, 'file-missing', table)
    def table_missing(root):
        (root / table).unlink()

    @fault(kind, 'video-missing', f'{frames}/{video}')
    def video_missing(root):
        shutil.rmtree(root / frames / video)

    @fault(kind, 'expression-empty', meta)
    def expression_blank(root):
        change_video(root, lambda v: v['expressions']['0'].update(exp=' '))


for files in TABLES:
    spoil_tables(files)


# --------------------------------------------------------------------- ReVOS
@fault('revos', 'attribute-wrong', 'meta_expressions_train_.json')
def kind_of_expression_unknown(root):
    def change(content):
        (video, *_) = content['videos'].values()
        video['expressions']['0']['type_id'] = 7

    edit(root / 'meta_expressions_train_.json', change)


@fault('revos', 'split-overlap', 'meta_expressions_valid_.json')
def trained_on_a_video_of_valid(root):
    def change(content):
        video = content['videos']['UVO/all/5d8b1a3be0']
        edit(
            root / 'meta_expressions_train_.json',
            lambda c: c['videos'].update({'UVO/all/5d8b1a3be0': video}),
        )

    edit(root / 'meta_expressions_valid_.json', change)


# ----------------------------------------------------------------- Long-RVOS
LONG = 'long-rvos'
LONG_META = 'train/meta_expressions.json'
LONG_CLIP = '0102096b4c'
LONG_MASKS = f'train/Annotations/{LONG_CLIP}'
LONG_FRAMES = f'train/JPEGImages/{LONG_CLIP}'


def change_expression(root, **kwargs):
    def change(content):
        content['videos'][LONG_CLIP]['expressions']['0'].update(kwargs)

    edit(root / LONG_META, change)


@fault(LONG, 'attribute-wrong', LONG_META)
def hybrid_in_other_words(root):
    change_expression(root, type='hybrid')


@fault(LONG, 'object-missing', f'{LONG_MASKS}/7')
def object_of_no_folder(root):
    change_expression(root, obj_id='7')


@fault(LONG, 'object-folder-wrong', LONG_META)
def object_id_is_a_list(root):
    change_expression(root, obj_id=[1])


@fault(LONG, 'object-folder-wrong', LONG_META)
def object_id_missing(root):
    change_expression(root, obj_id=None)


@fault(LONG, 'object-never-seen', f'{LONG_MASKS}/2', 0)
def folder_of_masks_empty(root):
    for path in (root / LONG_MASKS / '2').iterdir():
        path.unlink()


@fault(LONG, 'mask-values-wrong', f'{LONG_MASKS}/1')
def masks_of_one(root):
    path = root / LONG_MASKS / '1/00000.png'
    with Image.open(path) as image:
        mask = np.array(image) // 255
    Image.fromarray(mask).save(path)


@fault(LONG, 'mask-not-indexed', f'{LONG_MASKS}/1/00003.png')
def mask_in_colour(root):
    path = root / LONG_MASKS / '1/00003.png'
    with Image.open(path) as image:
        image = image.convert('RGB')
    image.save(path)


@fault(LONG, 'mask-broken', f'{LONG_MASKS}/1/00003.png')
def mask_cut_off(root):
    cut(root / LONG_MASKS / '1/00003.png')


@fault(LONG, 'mask-size-differs', f'{LONG_MASKS}/1/00003.png')
def mask_of_another_size(root):
    path = root / LONG_MASKS / '1/00003.png'
    Image.fromarray(np.full((40, 80), 255, np.uint8)).save(path)


@fault(LONG, 'mask-transposed', f'{LONG_MASKS}/1/00003.png')
def mask_on_its_side(root):
    path = root / LONG_MASKS / '1/00003.png'
    Image.fromarray(np.full((80, 48), 255, np.uint8)).save(path)


@fault(LONG, 'frame-missing', f'{LONG_FRAMES}/00002.jpg')
def frame_missing(root):
    (root / LONG_FRAMES / '00002.jpg').unlink()


@fault(LONG, 'frame-broken', f'{LONG_FRAMES}/00002.jpg')
def frame_cut_off(root):
    cut(root / LONG_FRAMES / '00002.jpg')


@fault(LONG, 'video-missing', LONG_FRAMES)
def frames_of_a_video_missing(root):
    shutil.rmtree(root / LONG_FRAMES)


@fault(LONG, 'split-overlap', 'valid/meta_expressions.json')
def trained_on_another_split(root):
    for kind in ('JPEGImages', 'Annotations'):
        shutil.copytree(
            root / f'valid/{kind}/f3fdaa2e8b',
            root / f'train/{kind}/f3fdaa2e8b',
        )

    def change(content):
        video = content['videos']['f3fdaa2e8b']
        edit(
            root / LONG_META,
            lambda c: c['videos'].update(f3fdaa2e8b=video),
        )

    edit(root / 'valid/meta_expressions.json', change)


# -------------------------------------------------------- Ref-SAV, training
SAV = 'ref-sav'
SAV_META = 'Ref-SAV.json'
SAV_VIDEO = 'sam_v_full/sav_train/sav_000/sav_000002.mp4'
SAV_MASKS = 'sam_v_full/sav_train/sav_000/sav_000002_manual.json'


@fault(SAV, 'video-missing', SAV_VIDEO)
def mp4_missing(root):
    (root / SAV_VIDEO).unlink()


@fault(SAV, 'video-broken', SAV_VIDEO)
def mp4_cut_off(root):
    cut(root / SAV_VIDEO, 0.7)


@fault(SAV, 'video-short', SAV_VIDEO)
def mp4_of_another_video(root):
    def change(content):
        content['video_frame_count'] = 40.0
        content['masklet'] += content['masklet'][-4:]

    edit(root / SAV_MASKS, change)


@fault(SAV, 'masklets-missing', SAV_MASKS)
def masks_missing(root):
    (root / SAV_MASKS).unlink()


@fault(SAV, 'json-broken', SAV_MASKS)
def masks_cut_off(root):
    cut(root / SAV_MASKS)


@fault(SAV, 'masks-of-frames-differ', SAV_MASKS)
def masks_too_few(root):
    edit(root / SAV_MASKS, lambda c: c['masklet'].pop() and c)


@fault(SAV, 'masklet-unknown', SAV_MASKS)
def object_without_masks(root):
    def change(content):
        objects = content['sav_000002']['objects']
        objects['5'] = {**objects['0'], 'formated': 'The lost box.'}

    edit(root / SAV_META, change)


@fault(SAV, 'mask-size-differs', SAV_MASKS)
def masks_of_another_size(root):
    edit(root / SAV_MASKS, lambda c: c['masklet'][2][0].update(size=[47, 80]))


@fault(SAV, 'mask-transposed', SAV_MASKS)
def masks_on_their_side(root):
    edit(root / SAV_MASKS, lambda c: c['masklet'][2][0]['size'].reverse())


@fault(SAV, 'rle-broken', SAV_MASKS)
def code_cut_off(root):
    def change(content):
        rle = content['masklet'][2][0]
        rle['counts'] = rle['counts'][:-2]

    edit(root / SAV_MASKS, change)


@fault(SAV, 'name-unsafe', SAV_META)
def path_leads_out(root):
    def change(content):
        content['sav_000002']['video_path'] = '../../sav_000002.mp4'

    edit(root / SAV_META, change)


@fault(SAV, 'table-wrong', SAV_META)
def no_text(root):
    def change(content):
        content['sav_000002']['objects']['0'].pop('formated')

    edit(root / SAV_META, change)


@fault(SAV, 'expression-empty', SAV_META)
def text_blank(root):
    def change(content):
        content['sav_000002']['objects']['0']['formated'] = ' '

    edit(root / SAV_META, change)


@fault(SAV, 'attribute-wrong', 'ref_sav_eval/meta_expressions_valid.json')
def neither_long_nor_short(root):
    def change(content):
        video = content['videos']['sav_055000']
        video['expressions']['0'].pop('type_id')

    edit(root / 'ref_sav_eval/meta_expressions_valid.json', change)


@pytest.mark.parametrize(('kind', 'plant', 'code', 'path', 'status'), FAULTS)
def test_fault_is_found(
    copy,  # noqa: F811
    kind,
    plant,
    code,
    path,
    status,
):
    root = copy(kind)
    plant(root)
    got, found = doctor(kind, root)
    assert code in found, found
    assert found[code]['path'] == path
    assert found[code]['level'] == ('error' if status else 'warning')
    assert got == status, found
    # Nothing else is blamed, but for what follows from the fault.
    others = {
        c for c, f in found.items() if f['level'] != 'note' and c != code
    }
    assert others <= ENTAILS.get(code, set())


def test_ten_faults_a_set():
    numbers = Counter(param.values[0] for param in FAULTS)
    assert all(numbers[files.kind] >= 10 for files in TABLES)
    assert numbers[LONG] >= 10
    assert numbers[SAV] >= 20  # ten of each of its two layouts


def test_videos_of_the_other_split_are_no_remark(copy):  # noqa: F811
    """Both splits of ReVOS have their frames in one folder."""
    root = copy('revos')
    assert 'video-unlisted' not in doctor('revos', root)[1]
    (root / 'JPEGImages/HACS').mkdir()
    found = doctor('revos', root)[1]['video-unlisted']
    assert found['path'] == 'JPEGImages/HACS'
