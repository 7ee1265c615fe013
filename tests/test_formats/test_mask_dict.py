# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The table of masks that is never read as a whole."""

import json
import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as rle

from referformer.errors import DataError
from referformer.formats.mask_dict import (
    MaskTable,
    open_mask_table,
)
from tests.faults import FILES, fault

#: What RLE may consist of, and what looks like the end of a list.
NASTY = (':[]', '_0_: [{', r'\\[{', 'null]', '0123', '}')


def encode(mask):
    code = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {'size': code['size'], 'counts': code['counts'].decode()}


@pytest.fixture
def masks():
    """Annotation -> masks, or None, of six frames."""
    rng = np.random.default_rng(0)
    return {
        str(7 * k): [
            None if rng.random() < 0.3 else rng.random((9, 14)) < 0.4
            for _ in range(6)
        ]
        for k in range(5)
    }


def write(path, masks, **kwargs):
    table = {
        anno_id: [None if m is None else encode(m) for m in frames]
        for anno_id, frames in masks.items()
    }
    path.write_text(json.dumps(table, **kwargs))
    return table


@pytest.mark.parametrize(
    'style', [{}, {'indent': 1}, {'separators': (',', ':')}]
)
def test_reads_what_json_reads(tmp_path, masks, style):
    path = tmp_path / 'mask_dict.json'
    written = write(path, masks, **style)
    table = MaskTable(path)
    assert list(table) == list(written)
    assert len(table) == 5
    assert '7' in table
    assert '8' not in table
    for anno_id in written:
        assert table[anno_id] == written[anno_id]
    with pytest.raises(KeyError):
        table['8']


def test_encodings_of_other_systems(tmp_path, masks):
    path = tmp_path / 'mask_dict.json'
    written = write(path, masks)
    path.write_bytes(json.dumps(written).encode('utf-8-sig'))
    assert MaskTable(path)['0'] == written['0']
    for encoding in ('utf-16', 'utf-16-le', 'utf-32'):
        path.write_bytes(json.dumps(written).encode(encoding))
        # It is whole: to get it again would not help.
        with pytest.raises(DataError, match='save it as UTF-8') as error:
            MaskTable(path)
        assert 'again' not in str(error.value)


def test_strings_do_not_confuse_it(tmp_path):
    path = tmp_path / 'mask_dict.json'
    written = {
        str(k): [None, {'size': [2, 3], 'counts': text}, None]
        for k, text in enumerate(NASTY)
    }
    written['void'] = []
    written['last'] = [None]
    path.write_text(json.dumps(written))
    table = MaskTable(path)
    assert {anno_id: table[anno_id] for anno_id in table} == written


def test_union(tmp_path, masks):
    path = tmp_path / 'mask_dict.json'
    write(path, masks)
    table = open_mask_table(path)
    assert open_mask_table(path) is table
    for chosen in ((), ('0',), ('7', '28'), tuple(masks)):
        for t in range(6):
            expected = np.zeros((9, 14), dtype=bool)
            for anno_id in chosen:
                if masks[anno_id][t] is not None:
                    expected |= masks[anno_id][t]
            union = table.mask(chosen, t, (9, 14))
            assert union.dtype == bool
            assert (union == expected).all()


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / 'mask_dict.json'
    frames = [{'size': [720, 1280], 'counts': 'o' * 500}] * 100
    path.write_text(json.dumps({str(k): frames for k in range(100)}))
    assert path.stat().st_size > 5_000_000
    tracemalloc.start()
    table = MaskTable(path)
    assert len(table['50']) == 100
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('', 'is empty'),
        ('{"0": [{"size": [2, 2], "counts": "0', 'ends in the middle'),
        ('version https://git-lfs.github.com/spec/v1', 'ends in the middle'),
        ('{"videos": {}}', 'names no annotation'),
        ('{"0": [null], "1": [null], "0": [null]}', 'annotation 0 twice'),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / 'mask_dict.json'
    path.write_text(content)
    with pytest.raises(DataError, match=message) as error:
        MaskTable(path)
    assert str(path) in str(error.value)
    with pytest.raises(FileNotFoundError, match='nowhere'):
        MaskTable(tmp_path / 'nowhere.json')


@fault(
    FILES,
    'a run-length code in `mask_dict.json` is wrong',
    'the annotation and the frame are named',
)
@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ('[null, 3]', r'no list of RLE masks'),
        ('[{"size": [2], "counts": "0"}]', r'no list of RLE masks'),
        ('[{"size": [2, 2], "counts": [4]}]', r'no list of RLE masks'),
        ('[{"size": [2, -2], "counts": "4"}]', r'no list of RLE masks'),
        ('[null] []', r'no list of RLE masks'),
        ('[null, }', 'not valid json'),
    ],
)
def test_bad_entries_are_named(tmp_path, entry, message):
    path = tmp_path / 'mask_dict.json'
    path.write_text(f'{{"good": [null], "bad": {entry}}}')
    table = MaskTable(path)
    assert table['good'] == [None]
    with pytest.raises(DataError, match=f'annotation bad .*{message}'):
        table['bad']


def test_masks_that_do_not_fit_are_named(tmp_path, masks):
    path = tmp_path / 'mask_dict.json'
    masks['0'][2] = np.ones((9, 14), dtype=bool)
    table = write(path, masks)
    table['bad'] = [{'size': [9, 14], 'counts': 'oooooooooo'}]
    table['huge'] = [{'size': [10**9, 10**9], 'counts': '0'}]
    path.write_text(json.dumps(table))
    table = MaskTable(path)
    with pytest.raises(DataError, match=r'14x9 in frame 2.* itself 9x14'):
        table.mask(['0'], 2, (14, 9))
    with pytest.raises(DataError, match='of 6 frames, so none of frame 6'):
        table.mask(['0'], 6, (9, 14))
    with pytest.raises(DataError, match='has no annotation 3'):
        table.mask(['3'], 0, (9, 14))
    with pytest.raises(
        DataError, match='annotation bad is no run-length code of its size'
    ):
        table.mask(['bad'], 0, (9, 14))
    with pytest.raises(DataError, match='1000000000x1000000000'):
        table.mask(['huge'], 0, (9, 14))
