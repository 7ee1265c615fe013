# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The mosaic of predictions, from a model that has learned nothing."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from referformer.registry import MODELS
from referformer.testing import tiny_model_cfg
from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos

from .test_analysis_tools import tool
from .test_train import ROOT

CONFIG = ROOT / 'configs/referformer_tiny_synthetic.py'
PARAMS = SyntheticParams(
    train_videos=1, valid_videos=3, frames=4, height=48, width=64, seed=5
)
GAP = 6


@pytest.fixture(scope='module')
def draw_overlays():
    return tool('draw_overlays')


@pytest.fixture(scope='module')
def untrained(tmp_path_factory):
    """A config, and the checkpoint of a small model with random weights."""
    # the folder's name holds a space, as home folders may
    folder = tmp_path_factory.mktemp('draw') / 'my files'
    data = make_synthetic_rvos(folder / 'data', PARAMS, progress=False)
    cfg = Config.fromfile(CONFIG)
    cfg.model = tiny_model_cfg()
    cfg.test_dataloader.dataset.data_root = f'{data}/'
    cfg.dump(folder / 'config.py')
    model = MODELS.build(cfg.model)
    model.init_weights()
    torch.save({'state_dict': model.state_dict()}, folder / 'model.pth')
    return folder


def clips(*videos):
    """Items of a dataset: for each video the objects its expressions name."""
    return [
        {'video_id': str(number), 'obj_id': obj_id, 'exp_id': str(exp_id)}
        for number, objects in enumerate(videos)
        for exp_id, obj_id in enumerate(objects)
    ]


def test_one_expression_for_each_object(draw_overlays):
    items = clips('1122', '123', '12', '1233')
    choose = draw_overlays.choose_clips
    assert choose(items, videos=4, expressions=2) == [
        [0, 2],
        [4, 5],
        [7, 8],
        [9, 10],
    ]
    assert choose(items, videos=4, expressions=3) == [[4, 5, 6], [9, 10, 11]]
    # spread over the set
    assert choose(items, videos=2, expressions=2) == [[0, 2], [7, 8]]


def test_fewer_columns_where_no_video_has_as_many(draw_overlays):
    choose = draw_overlays.choose_clips
    assert choose(clips('11', '12'), videos=2, expressions=3) == [[2, 3]]
    # no object is told where there is no ground truth
    items = clips([None, None])
    assert choose(items, videos=2, expressions=3) == [[0, 1]]


def test_video_and_picture(draw_overlays, untrained, capsys):
    out = untrained / 'new' / 'overlay.mp4'
    draw_overlays.main(
        [
            str(untrained / 'config.py'),
            str(untrained / 'model.pth'),
            f'--out={out}',
            '--videos=2',
            '--expressions=2',
            '--scale=2',
            '--cfg-options',
            f"test_dataloader.dataset.data_root='{untrained}/data/'",
        ]
    )
    assert f'{out} (' in capsys.readouterr().out
    assert sorted(path.name for path in out.parent.iterdir()) == [
        'overlay.mp4',
        'overlay.png',
    ]
    still = cv2.imread(str(out.with_suffix('.png')))
    # two columns of 2 x 64 pixels, two rows of 2 x 48 and a caption
    assert still.shape[1] == 2 * (128 + GAP)
    assert still.shape[0] > 2 * (96 + GAP)
    assert still.std() > 10
    video = cv2.VideoCapture(str(out))
    frames = []
    while (frame := video.read()[1]) is not None:
        frames.append(frame)
    video.release()
    assert len(frames) == PARAMS.frames
    assert frames[0].shape[0] >= still.shape[0]
    error = frames[2][: still.shape[0], : still.shape[1]].astype(float) - still
    assert np.abs(error).mean() < 10


@pytest.mark.parametrize('option', ['--videos=0', '--scale=0'])
def test_nothing_to_draw(draw_overlays, untrained, option, capsys):
    with pytest.raises(SystemExit, match='2'):
        draw_overlays.main(['c.py', 'x.pth', '--out=a.mp4', option])
    assert 'is not a whole number above 0' in capsys.readouterr().err


def test_another_model_is_refused(draw_overlays, untrained, tmp_path):
    torch.save({'state_dict': {'a': torch.ones(1)}}, tmp_path / 'other.pth')
    arguments = [untrained / 'config.py', tmp_path / 'other.pth']
    with pytest.raises(RuntimeError, match=r'other\.pth does not fit'):
        draw_overlays.main(
            [*map(str, arguments), f'--out={tmp_path / "a.mp4"}']
        )
    assert [path.name for path in tmp_path.iterdir()] == ['other.pth']
