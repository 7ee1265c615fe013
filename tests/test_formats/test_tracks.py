# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Run-length encoded predictions in one file."""

import json

import numpy as np
import pytest

from referformer.errors import DataError, MissingDataError
from referformer.formats.predictions import open_predictions
from referformer.formats.records import write_records
from referformer.formats.tracks import MaskTracks, encode_track

FRAMES = {'set/v': ('0', '5', '10'), 'w': ('a',)}
SHAPE = (9, 14)


@pytest.fixture
def masks():
    masks = np.random.default_rng(0).random((2, 3, *SHAPE)) < 0.4
    masks[1, 1] = False
    return masks


def entries(masks, score=None):
    return [
        encode_track('set/v', str(e), track, score)
        for e, track in enumerate(masks)
    ]


@pytest.mark.parametrize('name', ['a.json', 'a.jsonl', 'A.JSON'])
def test_masks_come_back(tmp_path, masks, name):
    write_records(tmp_path / name, entries(masks))
    preds = open_predictions(tmp_path / name, FRAMES)
    assert isinstance(preds, MaskTracks)
    folders = ['set/v/0', 'set/v/1', 'set/v/2', 'w/0']
    assert preds.list_names(folders) == {
        f'set/v/{e}/{frame}.png' for e in (0, 1) for frame in FRAMES['set/v']
    }
    for e, track in enumerate(masks):
        for frame, mask in zip(FRAMES['set/v'], track, strict=True):
            for shape in (SHAPE, None):
                read = preds.read(f'set/v/{e}/{frame}.png', shape)
                assert read.dtype == bool
                assert np.array_equal(read, mask)
    with pytest.raises(MissingDataError, match='has no set/v/7'):
        preds.read('set/v/7/0.png')


def test_an_empty_mask_is_null(tmp_path, masks):
    entry = encode_track('w', '0', [np.zeros(SHAPE, bool)])
    assert entry == {'video_id': 'w', 'exp_id': '0', 'segmentations': [None]}
    assert encode_track('w', '0', [None], 0.5)['score'] == 0.5
    write_records(tmp_path / 'a.json', [entry])
    preds = open_predictions(tmp_path / 'a.json', FRAMES)
    assert not preds.read('w/0/a.png', SHAPE).any()
    assert preds.read('w/0/a.png', SHAPE).shape == SHAPE
    assert not preds.read('w/0/a.png').any()


def test_forms_of_names_and_codes(tmp_path):
    counts = [0, 3, 123]
    other = encode_track('w', '1', [np.ones(SHAPE, bool)])
    entry = {'video_id': 'w', 'exp_id': 1, 'category_id': 1}
    entry['segmentations'] = [{'size': [*SHAPE], 'counts': counts}]
    other['video_id'] = 'nobody asks for it'
    write_records(tmp_path / 'a.json', [entry, other])
    preds = open_predictions(tmp_path / 'a.json', FRAMES)
    assert preds.read('w/1/a.png', SHAPE).sum() == 3


def test_the_best_score_counts(tmp_path, masks):
    path = tmp_path / 'a.jsonl'
    tracks = [
        encode_track('set/v', '0', track, score)
        for track, score in zip(masks, (0.9, 0.3), strict=True)
    ]
    for order in (tracks, tracks[::-1]):
        write_records(path, order)
        preds = open_predictions(path, FRAMES)
        assert np.array_equal(preds.read('set/v/0/0.png'), masks[0, 0])
    write_records(path, [*tracks, tracks[0]])
    with pytest.raises(DataError, match='2 is another one of set/v/0 with'):
        open_predictions(path, FRAMES)


def change(**facts):
    return lambda entry: {**entry, **facts}


RLE = {'size': [9, 14], 'counts': '0'}
FAULTS = {
    'no entry': (lambda entry: [entry], 'prediction 1 has no names'),
    'no video': (change(video_id=None), 'prediction 1 has no names'),
    'odd name': (change(exp_id=1.5), 'prediction 1 has no names'),
    'score': (change(score='high'), r"1 \(set/v/1\) has the score 'high'"),
    'none': (change(segmentations=None), 'has no list "segmentations"'),
    'png': (change(segmentations=['a.png'] * 3), 'has no list "segm'),
    'size': (
        change(segmentations=[{'size': [9], 'counts': ''}] * 3),
        'has no list "segmentations"',
    ),
    'huge': (
        change(segmentations=[{'size': [9, 10**9], 'counts': ''}] * 3),
        'has no list "segmentations"',
    ),
    'short': (
        change(segmentations=[None, None]),
        'has 2 segmentations, but the video 3 frames',
    ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_faults_are_named(tmp_path, masks, fault):
    spoil, message = FAULTS[fault]
    first, second = entries(masks)
    path = tmp_path / 'a.json'
    path.write_text(json.dumps([first, spoil(second)]))
    with pytest.raises(DataError, match=message) as error:
        open_predictions(path, FRAMES)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ('rle', 'message'),
    [
        ({'size': [14, 9], 'counts': '0'}, r'has the size \[14, 9\]'),
        ({'size': [9, 14], 'counts': 'oooo'}, 'no run-length code'),
        ({'size': [9, 14], 'counts': [-1, 127]}, 'no pixel counts'),
    ],
)
def test_bad_codes_are_named(tmp_path, rle, message):
    entry = {'video_id': 'w', 'exp_id': '0', 'segmentations': [rle]}
    write_records(tmp_path / 'a.json', [entry])
    preds = open_predictions(tmp_path / 'a.json', FRAMES)
    with pytest.raises(DataError, match=f'of w/0 in frame a .*{message}'):
        preds.read('w/0/a.png', SHAPE)


def test_a_file_that_was_written_again_is_read_again(tmp_path, masks):
    path = tmp_path / 'a.json'
    for track in (masks, ~masks):
        write_records(path, entries(track))
        preds = open_predictions(path, FRAMES)
        assert np.array_equal(preds.read('set/v/0/0.png'), track[0, 0])
