# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hooks that look at checkpoints and at results."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from mmengine.visualization import LocalVisBackend
from PIL import Image

from referformer.errors import CheckpointError
from referformer.media.writer import write_video
from referformer.registry import HOOKS
from referformer.visualization import ReferLocalVisualizer


@pytest.fixture
def clip(tmp_path):
    """Two frames on disk, blue ones, with the left half predicted."""
    clip = TrackDataSample(
        metainfo=dict(text='a cat', video_id='v/1', exp_id='0')
    )
    frames = []
    for index in range(2):
        path = tmp_path / f'{index:05}.png'
        blue = np.zeros((40, 60, 3), np.uint8)
        blue[..., 0] = 255  # BGR
        cv2.imwrite(str(path), blue)
        frame = DetDataSample(
            metainfo=dict(img_path=str(path), frame_name=path.stem)
        )
        masks = torch.zeros(1, 40, 60, dtype=torch.bool)
        masks[..., :30] = True
        frame.pred_track_instances = InstanceData(masks=masks)
        frames.append(frame)
    clip.video_data_samples = frames
    return clip


@pytest.fixture
def runner(tmp_path):
    return SimpleNamespace(
        work_dir=str(tmp_path / 'work'),
        iter=7,
        visualizer=ReferLocalVisualizer(),
    )


def pictures(runner):
    root = Path(runner.work_dir)
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob('*')
        if path.is_file()
    )


def test_clips_of_a_video_file(runner, clip, tmp_path):
    blue = np.zeros((40, 60, 3), np.uint8)
    blue[..., 2] = 255
    write_video(tmp_path / 'v.mp4', [blue] * 5, fps=5)
    for index, frame in zip((1, 3), clip.video_data_samples, strict=True):
        del frame.img_path
        facts = dict(video_path=str(tmp_path / 'v.mp4'), frame_id=index)
        frame.set_metainfo(facts)
    hook = HOOKS.build(dict(type='ReferVisualizationHook', draw=True))
    hook.after_test_iter(runner, 0, None, [clip, clip])
    _, path = pictures(runner)
    picture = cv2.imread(str(Path(runner.work_dir, path))).astype(int)
    # the codec is not exact
    assert abs(picture[20, 50] - (255, 0, 0)).max() < 8
    assert abs(picture[20, 10] - picture[20, 50]).max() > 50


def test_test_clips_are_written(runner, clip):
    hook = HOOKS.build(dict(type='ReferVisualizationHook', draw=True, fps=4))
    hook.after_test_iter(runner, 0, None, [clip])
    assert pictures(runner) == [
        'vis_data/clips/v/1/0.mp4',
        'vis_data/clips/v/1/0/00000.png',
        'vis_data/clips/v/1/0/00001.png',
    ]
    path = Path(runner.work_dir, 'vis_data/clips/v/1/0/00000.png')
    assert (cv2.imread(str(path))[20, 50] == (255, 0, 0)).all()  # still blue


def test_pictures_stay_apart_and_in_their_folder(runner, clip):
    hook = HOOKS.build(dict(type='ReferVisualizationHook', draw=True))
    for name in ('v/1', 'v_1', '../1', '/v', 'a:b\\c'):
        clip.set_metainfo(dict(video_id=name))
        hook.after_test_iter(runner, 0, None, [clip])
    folders = {Path(path).parent.as_posix() for path in pictures(runner)}
    assert folders == {
        f'vis_data/clips/{name}/0'
        for name in ('v/1', 'v_1', '_/1', '_/v', 'a_b_c')
    }


def test_frames_are_drawn_as_stored(runner, clip):
    exif = Image.Exif()
    exif[0x0112] = 6
    for frame in clip.video_data_samples:
        path = Path(frame.img_path).with_suffix('.jpg')
        Image.new('RGB', (60, 40)).save(path, exif=exif)
        frame.set_metainfo(dict(img_path=str(path)))
    hook = HOOKS.build(dict(type='ReferVisualizationHook', draw=True))
    hook.after_test_iter(runner, 0, None, [clip])
    path = Path(runner.work_dir, 'vis_data/clips/v/1/0/00000.png')
    assert cv2.imread(str(path)).shape[1] == 60


def test_pictures_reach_tensorboard_and_its_like(runner, clip, tmp_path):
    shown = []
    board = SimpleNamespace(add_image=lambda *a, **k: shown.append((a, k)))
    runner.visualizer._vis_backends.update(
        board=board, local=LocalVisBackend(str(tmp_path / 'local'))
    )
    hook = HOOKS.build(dict(type='ReferVisualizationHook', draw=True))
    hook.after_test_iter(runner, 0, None, [clip])
    (((name, image), options),) = shown
    assert name == 'v/1/0'
    assert options == dict(step=7)
    assert image.shape[1:] == (60, 3)  # and the caption below
    assert (image[20, 50] == (0, 0, 255)).all()  # RGB
    assert not (tmp_path / 'local').exists()


def test_validation_keeps_iterations_apart(runner, clip):
    hook = HOOKS.build(dict(type='ReferVisualizationHook', draw=True))
    hook.after_val_iter(runner, 0, None, [clip])
    assert pictures(runner)[0] == 'vis_data/clips/iter_7/v/1/0/00000.png'


@pytest.mark.parametrize(
    'options', [{'draw': False}, {'draw': True, 'interval': 2}]
)
def test_nothing_is_written_unasked(runner, clip, options):
    hook = HOOKS.build(dict(type='ReferVisualizationHook', **options))
    hook.after_test_iter(runner, 1, None, [clip])
    assert not Path(runner.work_dir).exists()


def test_interval_is_checked():
    with pytest.raises(ValueError, match='interval must be at least 1'):
        HOOKS.build(dict(type='ReferVisualizationHook', interval=0))


def weights_runner(tmp_path, **kwargs):
    """A training about to begin, with a backbone whose file is missing."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    model[0].init_cfg = dict(type='Pretrained', checkpoint='gone.pth')
    options = dict(_train_loop=object(), _load_from=None, _resume=False)
    return SimpleNamespace(
        model=model, work_dir=str(tmp_path), **{**options, **kwargs}
    )


def test_check_weights_names_the_file(tmp_path):
    runner = weights_runner(tmp_path, _load_from='x.pth')
    weights = {'0.weight': torch.ones(2, 2)}
    HOOKS.build(dict(type='CheckWeightsHook')).after_load_checkpoint(
        runner, weights
    )
    strict = HOOKS.build(dict(type='CheckWeightsHook', strict=True))
    with pytest.raises(CheckpointError, match=r'^x\.pth does not .*strict=F'):
        strict.after_load_checkpoint(runner, weights)
    runner._train_loop = {}  # a test, which is strict in any case
    with pytest.raises(CheckpointError, match=r'^x\.pth does not fit'):
        HOOKS.build(dict(type='CheckWeightsHook')).after_load_checkpoint(
            runner, weights
        )
    with pytest.raises(CheckpointError, match=r'^x\.pth does not fit[^=]*$'):
        strict.after_load_checkpoint(runner, weights)


@pytest.mark.parametrize(
    ('options', 'strict', 'asked_for'),
    [
        ({}, True, True),
        ({'_load_from': 'x.pth'}, True, False),
        ({'_load_from': 'x.pth'}, False, True),
        ({'_resume': True}, True, True),  # nothing there to resume
    ],
)
def test_initial_weights_are_asked_for(tmp_path, options, strict, asked_for):
    runner = weights_runner(tmp_path, **options)
    hook = HOOKS.build(dict(type='CheckWeightsHook', strict=strict))
    hook.before_run(runner)
    assert (runner.model[0].init_cfg is not None) == asked_for
    assert ('init_weights' in vars(runner.model[0])) == asked_for


def test_testing_asks_for_no_initial_weights(tmp_path):
    runner = weights_runner(tmp_path, _train_loop={}, _load_from='x.pth')
    HOOKS.build(dict(type='CheckWeightsHook', strict=True)).before_run(runner)
    assert runner.model[0].init_cfg is not None
    assert 'init_weights' not in vars(runner.model[0])
