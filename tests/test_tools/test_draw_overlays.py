# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The mosaic of predictions, from a model that has learned nothing."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from referformer.errors import ConfigError
from referformer.registry import MODELS
from referformer.testing import overlays, tiny_model_cfg
from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos

from ..fixtures.tools import ROOT, script

CONFIG = ROOT / 'configs/referformer_tiny_synthetic.py'
PARAMS = SyntheticParams(
    train_videos=1, valid_videos=3, frames=4, height=48, width=64, seed=5
)
GAP = 6


@pytest.fixture(scope='module')
def draw_overlays():
    return script('analysis_tools/draw_overlays')


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


def test_one_expression_for_each_object():
    items = clips('1122', '123', '12', '1233')
    choose = overlays.choose_clips
    assert choose(items, videos=4, expressions=2) == [
        [0, 2],
        [4, 5],
        [7, 8],
        [9, 10],
    ]
    assert choose(items, videos=4, expressions=3) == [[4, 5, 6], [9, 10, 11]]
    # spread over the set
    assert choose(items, videos=2, expressions=2) == [[0, 2], [7, 8]]


def test_fewer_columns_where_no_video_has_as_many():
    choose = overlays.choose_clips
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
            # as in configs that score the expressions of a video together
            'test_dataloader.dataset.group_by_video=True',
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


def a_table(folder, entries):
    path = folder / 'table.json'
    path.write_text(json.dumps({'per_expression': entries}))
    return path


def test_single_clips(draw_overlays, untrained, tmp_path):
    """The sample and the worst as moving pictures, with the true outline."""
    entries = {
        f'valid-0000{n}/0': {'J': 10.0 * n, 'text': f'text {n}'}
        for n in range(3)
    }
    draw_overlays.main(
        [
            *map(str, (untrained / 'config.py', untrained / 'model.pth')),
            *(f'--out={tmp_path / "a.mp4"}', f'--clips={tmp_path / "clips"}'),
            f'--scores={a_table(tmp_path, entries)}',
            *('--sample=2', '--worst=1', '--scale=2', '--videos=1'),
            '--cfg-options',
            f"test_dataloader.dataset.data_root='{untrained}/data/'",
        ]
    )
    written = json.loads((tmp_path / 'clips' / 'clips.json').read_text())
    assert [clip['name'] for clip in written['sample']] == [
        'valid-00000/0',
        'valid-00002/0',
    ]
    assert written['worst'] == [
        {
            'name': 'valid-00000/0',
            'file': 'valid-00000-0.webp',
            'text': 'text 0',
            'J': 0.0,
        }
    ]
    with Image.open(tmp_path / 'clips' / 'valid-00000-0.webp') as image:
        assert image.n_frames == PARAMS.frames
        assert image.size == (2 * PARAMS.width, 2 * PARAMS.height)
        picture = np.asarray(image.convert('RGB'))
    assert (picture.min(2) > 200).sum() > 20  # the white line


def test_choice_of_single_clips():
    scores = {
        f'{n:02d}': {'J': n % 7, 'attributes': {'cue': 'ab'[n < 15]}}
        for n in range(20)
    }
    sample = overlays.choose_sample(scores, 4)
    assert sorted(sample) == ['02', '07', '12', '17']
    assert len(overlays.choose_sample(scores, 99)) == 20
    assert overlays.choose_worst(scores, 3) == ['00', '07', '14']


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (None, 'is not a table of expressions'),
        ('{"refer/J": 1}', 'is not a table of expressions'),
        ('{"per_expression": {"x/0": {"J": 1, "text": ""}}}', 'scores of x/0'),
    ],
)
def test_scores_of_something_else(
    draw_overlays, untrained, tmp_path, content, reason
):
    if content:
        (tmp_path / 'table.json').write_text(content)
    with pytest.raises(ConfigError, match=reason):
        draw_overlays.main(
            [
                *map(str, (untrained / 'config.py', untrained / 'model.pth')),
                *(f'--out={tmp_path / "a.mp4"}', f'--clips={tmp_path}'),
                f'--scores={tmp_path / "table.json"}',
                *('--videos=1', '--expressions=1', '--scale=1'),
                '--cfg-options',
                f"test_dataloader.dataset.data_root='{untrained}/data/'",
            ]
        )


@pytest.mark.parametrize('option', ['--videos=0', '--scale=0', '--clips=a'])
def test_nothing_to_draw(draw_overlays, untrained, option, capsys):
    with pytest.raises(SystemExit, match='2'):
        draw_overlays.main(['c.py', 'x.pth', '--out=a.mp4', option])
    error = capsys.readouterr().err
    assert 'is not a whole number above 0' in error or 'belong' in error


def test_another_model_is_refused(draw_overlays, untrained, tmp_path):
    torch.save({'state_dict': {'a': torch.ones(1)}}, tmp_path / 'other.pth')
    arguments = [untrained / 'config.py', tmp_path / 'other.pth']
    with pytest.raises(RuntimeError, match=r'other\.pth does not fit'):
        draw_overlays.main(
            [*map(str, arguments), f'--out={tmp_path / "a.mp4"}']
        )
    assert [path.name for path in tmp_path.iterdir()] == ['other.pth']
