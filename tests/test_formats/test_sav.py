# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-SAV: paths, lengths and masks."""

import json

import numpy as np
import pytest

from referformer.errors import DataError
from referformer.formats.sav import (
    count_annotated,
    read_masklets,
    read_ref_sav,
)
from tests.fixtures.drawing import HEIGHT, WIDTH, draw
from tests.fixtures.ref_sav import TRAIN, prepare_ref_sav

NAME = 'sav_000002'
FOLDER = 'sam_v_full/sav_train/sav_000'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return prepare_ref_sav(tmp_path_factory.mktemp('ref_sav'))


def test_paths_begin_with_the_folder_in_the_archives(root):
    videos = read_ref_sav(root / 'Ref-SAV.json')
    assert list(videos) == list(TRAIN)
    video = videos[NAME]
    assert video.video == f'sav_train/sav_000/{NAME}.mp4'
    assert video.masklets == f'sav_train/sav_000/{NAME}_manual.json'
    assert video.texts == {'0': 'The red box slides on.'}


def test_the_evaluation_set_is_another_kind_of_file(root):
    with pytest.raises(DataError, match='RefSAVEvalDataset'):
        read_ref_sav(root / 'ref_sav_eval/meta_expressions_valid.json')


@pytest.mark.parametrize(('frames', 'annotated'), [(483, 121), (1, 1), (8, 2)])
def test_every_fourth_frame_is_annotated(tmp_path, frames, annotated):
    """483 and 121 are those of the example that SA-V publishes."""
    path = tmp_path / 'x_manual.json'
    path.write_text(f'{{"video_frame_count": {frames}.0, "masklet": [')
    # no more than the top is read
    assert count_annotated(path) == annotated


def test_without_the_number_the_masks_are_counted(tmp_path):
    path = tmp_path / 'x_manual.json'
    path.write_text(json.dumps({'masklet': [[]] * 7}))
    assert count_annotated(path) == 7


def test_masks_are_those_of_every_fourth_frame(root):
    table = read_masklets(root / FOLDER / f'{NAME}_manual.json')
    video = TRAIN[NAME]
    empty = 0
    for k, mover in enumerate(video.movers):
        drawn = draw([mover], video.length)[1][::4]
        assert len(table.frames) == len(drawn)
        for t, marks in enumerate(drawn):
            mask = table.mask(str(k), t, (HEIGHT, WIDTH))
            assert np.array_equal(mask, marks > 0)
            empty += not mask.any()
    assert empty == 3
