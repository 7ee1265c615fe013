# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import numpy as np
import pytest
from PIL import Image

from referformer.errors import DataError
from referformer.evaluation.functional.label_folders import match_frames


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(path)


def test_the_ground_truth_says_what_is_scored(tmp_path):
    gt, pred = tmp_path / 'gt', tmp_path / 'pred'
    for name in ('a/0', 'a/4', 'b/0'):
        save(gt / f'{name}.png')
        save(pred / f'{name}.png')
    save(pred / 'a' / '2.png')
    save(pred / 'c' / '0.png')
    assert match_frames(gt, pred)[0] == {'a': ['0', '4'], 'b': ['0']}
    (pred / 'a' / '4.png').unlink()
    with pytest.raises(DataError, match=r'lacks 1 of 3 frames: a/4\.png'):
        match_frames(gt, pred)
    (pred / 'b').rename(pred / 'x')
    with pytest.raises(DataError, match='lacks 1 of 2 videos: b;'):
        match_frames(gt, pred)
    with pytest.raises(DataError, match='nowhere is not a folder'):
        match_frames(gt, tmp_path / 'nowhere')


def test_long_lists_are_cut(tmp_path):
    for index in range(9):
        save(tmp_path / 'gt' / f'v{index}' / '0.png')
    (tmp_path / 'pred').mkdir()
    with pytest.raises(DataError, match='v3, v4 and 4 more;'):
        match_frames(tmp_path / 'gt', tmp_path / 'pred')
