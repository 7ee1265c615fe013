# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""From a video and some words to masks, files and overlays."""

import copy
import json
import os
import shutil
import threading

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from PIL import Image
from pycocotools import mask as mask_utils

import referformer.apis.outputs as outputs
from referformer.apis import (
    Predictor,
    ReferInferencer,
    init_model,
    open_source,
)
from referformer.apis.model import FramePipeline
from referformer.apis.outputs import expression_folder
from referformer.datasets.transforms import LoadReferFrame, NormalizeText
from referformer.errors import CheckpointError, ConfigError
from referformer.registry import MODELS, TASK_UTILS, TRANSFORMS, VISUALIZERS
from referformer.visualization import ReferLocalVisualizer
from tests.faults import FILES, PROCESSES, fault
from tests.fixtures.videos import PIPELINE, cut_off, moving_square, write_clip

from ..test_models.helpers import build_model

av = pytest.importorskip('av')
TEXTS = ['The white  square', 'a grey floor']


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """An odd size and sound."""
    path = tmp_path_factory.mktemp('videos') / 'clip.mkv'
    video = moving_square(9, 35, 49)
    return write_clip(path, video, 'ffv1', 'yuv444p', sound='flac')


def decode(rles):
    return np.stack([mask_utils.decode(rle) for rle in rles]).astype(bool)


def read_png_tree(folder):
    return np.stack(
        [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]
    )


# -- results ------------------------------------------------------------------


def test_the_results_are_typed(inferencer, clip):
    output = inferencer(clip, TEXTS, window=4)
    assert output['visualization'] == [None]
    [video] = output['predictions']
    assert video.name == 'clip'
    assert video.size == (49, 35)
    assert video.frame_names == [f'{n:05d}' for n in range(9)]
    assert video.windows.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert video.files == {}
    assert [e.text for e in video.expressions] == TEXTS
    for expression in video.expressions:
        assert expression.scores.shape == (9,)
        assert expression.window_scores.shape == (3,)
        assert expression.boxes.shape == (9, 4)
        masks = decode(expression.masks)
        assert masks.shape == (9, 35, 49)
        assert (expression.areas == masks.sum((1, 2))).all()
        assert (expression.boxes >= 0).all()
        assert (expression.boxes <= [49, 35, 49, 35]).all()


def test_all_formats_of_masks_agree(inferencer, clip, tmp_path):
    results = {
        kind: inferencer(
            clip, TEXTS, window=4, masks=kind, out_dir=tmp_path / kind
        )['predictions'][0]
        for kind in ('array', 'rle', 'png', 'none')
    }
    frames = json.loads((tmp_path / 'rle/clip/results.json').read_text())
    trees = sorted((tmp_path / 'png/clip/masks').iterdir())
    assert [t.name for t in trees] == [
        '00-the-white-square',
        '01-a-grey-floor',
    ]
    total = 0
    for e, expression in enumerate(results['array'].expressions):
        masks = expression.masks
        assert masks.dtype == bool
        total += masks.sum()
        assert (masks == decode(results['rle'].expressions[e].masks)).all()
        assert (masks * 255 == read_png_tree(trees[e])).all()
        rles = [frame['masks'][e] for frame in frames['frames']]
        assert (masks == decode(rles)).all()
        assert results['png'].expressions[e].masks is None
        assert results['none'].expressions[e].masks is None
    assert 0 < total < masks.size * 2
    bare = json.loads((tmp_path / 'none/clip/results.json').read_text())
    assert 'masks' not in bare['frames'][0]


def test_the_json_file(inferencer, clip, tmp_path):
    [video] = inferencer(
        clip, TEXTS, window=4, out_dir=tmp_path, every=2, overlay=False
    )['predictions']
    assert video.files == {'json': str(tmp_path / 'clip' / 'results.json')}
    content = json.loads((tmp_path / 'clip' / 'results.json').read_text())
    about = content['video']
    assert (about['width'], about['height'], about['fps']) == (49, 35, 5)
    assert about['frames'] == len(content['frames']) == 5
    assert content['settings']['window'] == 4
    assert content['settings']['overlap'] == 0
    assert content['settings']['mask_thr'] == pytest.approx(0.5)
    assert [e['text'] for e in content['expressions']] == TEXTS
    assert [w['start'] for w in content['windows']] == [0, 4]
    for n, frame in enumerate(content['frames']):
        assert (frame['index'], frame['window']) == (2 * n, n // 4)
        for e, expression in enumerate(video.expressions):
            assert frame['scores'][e] == pytest.approx(
                expression.scores[n], abs=1e-4
            )
            assert frame['boxes'][e] == pytest.approx(
                expression.boxes[n], abs=1e-2
            )


def test_inputs_of_every_kind_give_the_same(inferencer, tmp_path):
    video = moving_square(3)[..., ::-1]
    for n, frame in enumerate(video):
        cv2.imwrite(str(tmp_path / f'{n}.png'), frame)
    [from_array] = inferencer(video, TEXTS)['predictions']
    [from_folder] = inferencer(tmp_path, TEXTS)['predictions']
    assert from_folder.frame_names == ['0', '1', '2']
    for one, two in zip(
        from_array.expressions, from_folder.expressions, strict=True
    ):
        assert one.masks == two.masks
        assert (one.scores == two.scores).all()
    [picture] = inferencer(video[1], TEXTS)['predictions']
    [from_file] = inferencer(tmp_path / '1.png', TEXTS)['predictions']
    assert picture.expressions[0].masks == from_file.expressions[0].masks


def test_a_batch_of_videos(inferencer, clip, tmp_path):
    video = moving_square(3)
    results = inferencer(
        [clip, video, video], [TEXTS, TEXTS[:1], TEXTS[1:]], out_dir=tmp_path
    )['predictions']
    assert [len(r.expressions) for r in results] == [2, 1, 1]
    # names are told apart
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'clip',
        'video',
        'video_2',
    ]
    [alone] = inferencer(video, TEXTS[1])['predictions']
    assert alone.expressions[0].masks == results[2].expressions[0].masks


def test_expressions_are_read_as_in_training(inferencer):
    video = moving_square(2)
    one, two = inferencer(video, ['The  DOG ', 'the dog'])['predictions'][
        0
    ].expressions
    assert one.text == 'The  DOG '
    assert one.masks == two.masks
    assert (one.scores == two.scores).all()


def test_any_words(inferencer, tmp_path):
    texts = ['柔道 — été 🐕', '../..', 'a/b', 'x' * 300]
    inferencer(moving_square(2), texts, out_dir=tmp_path, masks='png')
    folders = [p.name for p in (tmp_path / 'video/masks').iterdir()]
    assert len(folders) == 4
    assert all(len(name.encode()) < 70 for name in folders)
    content = json.loads((tmp_path / 'video/results.json').read_text('utf-8'))
    assert [e['text'] for e in content['expressions']] == texts
    assert sorted(p.name for p in tmp_path.iterdir()) == ['video']


@pytest.mark.parametrize(
    ('text', 'name'),
    [('A red-car!', '07-a-red-car'), ('../x', '07-x'), ('?!', '07')],
)
def test_folder_names(text, name):
    assert expression_folder(7, text) == name


# -- overlays -----------------------------------------------------------------


def test_the_overlay(inferencer, clip, tmp_path):
    [path] = inferencer(
        clip, TEXTS, out_dir=tmp_path, boxes=True, points=True
    )['visualization']
    with av.open(path) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == (
            'h264',
            'yuv420p',
        )
        assert stream.width == 50
        assert stream.frames == 9
        assert float(stream.duration * stream.time_base) == pytest.approx(
            0.9, abs=0.01
        )
        [track] = container.streams.audio
        assert track.codec_context.name == 'aac'
        heard = sum(frame.samples for frame in container.decode(audio=0))
        assert heard / 16000 == pytest.approx(0.9, abs=0.15)


def test_a_varying_rate_is_kept(inferencer, tmp_path):
    times = [0, 0.1, 0.5, 0.6, 1.4]
    video = moving_square(5)
    path = write_clip(tmp_path / 'a.mp4', video, times=times)
    inferencer(path, TEXTS, out_dir=tmp_path / 'out', start=0.1)
    with av.open(str(tmp_path / 'out/a/overlay.mp4')) as container:
        shown = [float(f.pts * f.time_base) for f in container.decode(video=0)]
    assert shown == pytest.approx([0, 0.4, 0.5, 1.3], abs=1e-3)


def test_a_picture_gets_a_picture(inferencer, tmp_path):
    [path] = inferencer(moving_square(1)[0], TEXTS, out_dir=tmp_path)[
        'visualization'
    ]
    assert path.endswith('overlay.png')
    assert cv2.imread(path).shape[1] == 48


# -- whole or absent ----------------------------------------------------------


def leftovers(folder):
    return [str(p.relative_to(folder)) for p in folder.rglob('*')]


@fault(
    PROCESSES,
    'an error in the middle of a video',
    'no half-written result is left',
)
def test_an_error_leaves_nothing(inferencer, tmp_path):
    folder = tmp_path / 'frames'
    folder.mkdir()
    for n in range(6):
        cv2.imwrite(str(folder / f'{n}.jpg'), moving_square(1)[0])
    damaged = folder / '4.jpg'
    damaged.write_bytes(damaged.read_bytes()[:300])
    with pytest.raises(OSError, match=r'4\.jpg cannot be decoded'):
        inferencer(folder, TEXTS, out_dir=tmp_path / 'out', masks='png')
    assert leftovers(tmp_path / 'out') == []


@pytest.mark.parametrize('error', [OSError('disk full'), KeyboardInterrupt()])
def test_a_failing_writer_leaves_nothing(
    inferencer, tmp_path, monkeypatch, error
):
    mask_sink = outputs.mask_sink

    def failing(folder, texts):
        write = mask_sink(folder, texts)

        def fail(result):
            if result.frame.index == 3:
                raise error
            write(result)

        return fail

    monkeypatch.setattr(outputs, 'mask_sink', failing)
    with pytest.raises(type(error)):
        inferencer(
            moving_square(9), TEXTS, out_dir=tmp_path, masks='png', window=2
        )
    assert leftovers(tmp_path / 'video') == []
    assert not {t.name for t in threading.enumerate()} & {'prefetch', 'write'}


def test_an_older_set_is_replaced_whole(inferencer, tmp_path):
    def files():
        return sorted(p.name for p in (tmp_path / 'video').iterdir())

    video = moving_square(3)
    inferencer(video, TEXTS, out_dir=tmp_path, masks='png')
    assert files() == ['masks', 'overlay.mp4', 'results.json']
    inferencer(video[:2], TEXTS[:1], out_dir=tmp_path, masks='png')
    assert len(leftovers(tmp_path / 'video/masks')) == 3
    inferencer(video, TEXTS, out_dir=tmp_path, overlay=False)
    assert files() == ['results.json']


def test_an_interrupt_while_cleaning_up_leaves_the_new_set(
    inferencer, tmp_path, monkeypatch
):
    remove = shutil.rmtree
    interrupts = [KeyboardInterrupt()]

    def interrupted(folder, **options):
        if interrupts:
            raise interrupts.pop()
        remove(folder, **options)

    inferencer(moving_square(2), TEXTS, out_dir=tmp_path, overlay=False)
    monkeypatch.setattr(outputs.shutil, 'rmtree', interrupted)
    with pytest.raises(KeyboardInterrupt):
        inferencer(moving_square(3), TEXTS, out_dir=tmp_path, overlay=False)
    assert leftovers(tmp_path / 'video') == ['results.json']
    content = json.loads((tmp_path / 'video/results.json').read_text())
    assert len(content['frames']) == 3


@pytest.mark.parametrize('name', ['masks/precious.png', 'overlay.mp4'])
def test_files_of_somebody_else_stay(inferencer, tmp_path, name):
    theirs = tmp_path / 'video' / name
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    with pytest.raises(ConfigError, match='was not written by this tool'):
        inferencer(moving_square(2), TEXTS, out_dir=tmp_path, masks='png')
    assert theirs.stat().st_size == 0
    assert set(leftovers(tmp_path / 'video')) == {name.split('/')[0], name}


def test_a_name_that_is_not_unicode(inferencer, tmp_path):
    folder = tmp_path / os.fsdecode(b'caf\xe9')
    folder.mkdir()
    cv2.imwrite(str(tmp_path / '0.png'), moving_square(1)[0])
    (tmp_path / '0.png').rename(folder / '0.png')
    out = tmp_path / 'out'
    inferencer(folder, TEXTS, out_dir=out)
    content = json.loads((out / folder.name / 'results.json').read_text())
    assert content['video']['path'] == str(folder)


@fault(
    FILES,
    'a video is truncated',
    'it is an error; with `partial=True` the number of missing frames is told',
)
def test_a_truncated_video_is_told(inferencer, tmp_path):
    path = cut_off(tmp_path)
    with pytest.raises(OSError, match='cut off'):
        inferencer(path, TEXTS, out_dir=tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    [video] = inferencer(path, TEXTS, out_dir=tmp_path / 'out', partial=True)[
        'predictions'
    ]
    assert video.missing == 20 - len(video.frame_names) > 0
    content = json.loads((tmp_path / 'out/cut/results.json').read_text())
    assert content['video']['missing_frames'] == video.missing


# -- arguments, configs, weights ----------------------------------------------


@pytest.mark.parametrize(
    ('texts', 'reason'),
    [
        ('', "must not be empty, got ''"),
        ([' '], "must not be empty, got ' '"),
        ([], 'no expression'),
        (['a', 3], 'must not be empty, got 3'),
        ([['a'], ['b']], '2 lists of expressions were given for 1 videos'),
    ],
)
def test_expressions_are_checked(inferencer, texts, reason):
    with pytest.raises(ValueError, match=reason):
        inferencer(moving_square(1), texts)


def test_other_arguments_are_checked(inferencer):
    with pytest.raises(ValueError, match='masks must be one of'):
        inferencer(moving_square(1), TEXTS, masks='jpg')
    with pytest.raises(ValueError, match='set out_dir'):
        inferencer(moving_square(1), TEXTS, masks='png')
    with pytest.raises(ValueError, match='no video was given'):
        inferencer([], TEXTS)


def test_weights_are_needed(config, tmp_path):
    with pytest.raises(ValueError, match='weights='):
        ReferInferencer(config, None)
    torch.save({'x': torch.zeros(1)}, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match='does not fit') as caught:
        init_model(config, tmp_path / 'other.pth', 'cpu')
    assert caught.value.file == str(tmp_path / 'other.pth')


def test_init_model(config, checkpoint):
    model = init_model(config, str(checkpoint), 'cpu')
    assert not model.training
    saved = torch.load(checkpoint)['state_dict']
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved[name])


def test_the_config_must_have_a_model(tmp_path):
    path = tmp_path / 'other.py'
    path.write_text('x = 1\n')
    with pytest.raises(ValueError, match=r'other\.py has no "model"'):
        init_model(path, tmp_path / 'any.pth')


@pytest.mark.parametrize('device', ['gpu', 'cuda:99'])
def test_there_must_be_such_a_device(config, checkpoint, device):
    with pytest.raises(ValueError, match=f"'{device}' cannot be used"):
        init_model(config, checkpoint, device)


def test_the_pipeline_of_the_config_is_used():
    pipeline = FramePipeline(dict(test_pipeline=PIPELINE))
    image = moving_square(1, 54, 101)[0]
    assert pipeline(image).shape == (32, 59, 3)
    assert pipeline.normalize(' A  b ') == 'a b'
    # Taught in lower case, though tested on sentences as they stand.
    cfg = dict(test_pipeline=PIPELINE[1:], train_pipeline=PIPELINE[:1])
    assert FramePipeline(cfg).normalize(' A  b ') == 'a b'
    cfg = dict(test_pipeline=PIPELINE[1:])
    assert FramePipeline(cfg).normalize(' A  b ') == 'A  b'
    nested = dict(
        test_dataloader=dict(
            dataset=dict(
                type='ConcatDataset',
                datasets=[dict(pipeline=PIPELINE[:2])],
            )
        ),
        test_pipeline=PIPELINE,
    )
    assert FramePipeline(nested)(image).shape == image.shape
    with pytest.raises(ValueError, match='has no test_dataloader'):
        FramePipeline({})


@TRANSFORMS.register_module()
class StripArticles(NormalizeText):
    """A transform of expressions."""

    def transform(self, results):
        words = [w for w in results['text'].split() if w not in ('a', 'the')]
        return {**results, 'text': ' '.join(words)}


@TRANSFORMS.register_module()
class NormalizeContrast(BaseTransform):
    """A transform of frames, in spite of its name."""

    def transform(self, results):
        return {**results, 'img': 255 - results['img']}


@TRANSFORMS.register_module()
class OwnFrames(LoadReferFrame):
    """A transform that reads files."""


@TRANSFORMS.register_module()
class NeedsDepth(BaseTransform):
    def transform(self, results):
        return {**results, 'img': results['depth']}


def test_the_base_class_of_a_transform_decides():
    steps = ('StripArticles', 'OwnFrames', 'NormalizeContrast')
    pipeline = FramePipeline(dict(test_pipeline=[dict(type=s) for s in steps]))
    image = moving_square(1)[0]
    assert (pipeline(image) == 255 - image).all()
    assert pipeline.normalize('a dog on the left ') == 'dog on left'
    pipeline = FramePipeline(dict(test_pipeline=[dict(type=NeedsDepth)]))
    with pytest.raises(ConfigError, match=r"NeedsDepth .* needs 'depth'"):
        pipeline(image)


def test_the_predictor_of_the_config_is_used(config, checkpoint):
    cfg = copy.deepcopy(config)
    cfg['model']['predictor'] = dict(
        type='CountingPredictor', window=2, link='overlap', overlap=1
    )
    inferencer = ReferInferencer(cfg, checkpoint, 'cpu', show_progress=False)
    CountingPredictor.calls = 0
    [video] = inferencer(moving_square(3), TEXTS)['predictions']
    assert video.windows.tolist() == [0, 1, 1]
    assert CountingPredictor.calls == 1
    [video] = inferencer(moving_square(3), TEXTS, window=3)['predictions']
    assert video.windows.tolist() == [0, 0, 0]
    assert CountingPredictor.calls == 2
    # without links, no overlap is left
    [video] = inferencer(moving_square(3), TEXTS, link='none')['predictions']
    assert video.windows.tolist() == [0, 0, 1]
    results = inferencer.forward(open_source(moving_square(3)), TEXTS)
    assert [result.window for result in results] == [0, 1, 1]


@TASK_UTILS.register_module()
class CountingPredictor(Predictor):
    calls = 0

    def encode_text(self, model, texts):
        CountingPredictor.calls += 1
        return super().encode_text(model, texts)


@VISUALIZERS.register_module()
class BlackVisualizer(ReferLocalVisualizer):
    def draw_expressions(self, image, *args):
        return np.zeros_like(image)


def test_the_visualizer_of_the_config_is_used(config, checkpoint, tmp_path):
    cfg = dict(config, visualizer=dict(type='BlackVisualizer', alpha=0.1))
    inferencer = ReferInferencer(cfg, checkpoint, 'cpu', show_progress=False)
    assert inferencer.visualizer.alpha == 0.1
    [path] = inferencer(moving_square(1)[0], TEXTS, out_dir=tmp_path)[
        'visualization'
    ]
    assert not cv2.imread(path).any()
    cfg['visualizer'] = dict(type='mmdet.DetLocalVisualizer')
    with pytest.raises(ConfigError, match='the overlay needs ReferLocal'):
        ReferInferencer(cfg, checkpoint, 'cpu')


def test_a_mask_that_cannot_be_written(inferencer, tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, 'imencode', lambda *_: (False, None))
    with pytest.raises(OSError, match='could not be encoded'):
        inferencer(
            moving_square(2),
            TEXTS,
            out_dir=tmp_path,
            masks='png',
            overlay=False,
        )
    assert leftovers(tmp_path / 'video') == []


def test_a_config_of_another_framework(checkpoint):
    cfg = dict(model=dict(type='mmdet.MaskRCNN', backbone={}))
    with pytest.raises(ConfigError, match=r'of mmdet\.MaskRCNN \(model\.type'):
        init_model(cfg, checkpoint, 'cpu')
    cfg['model']['type'] = 'MaskRCNN'
    with pytest.raises(ConfigError, match='not of ReferFormer'):
        init_model(cfg, checkpoint, 'cpu')


def test_weights_that_the_checkpoint_replaces_are_not_loaded(
    config, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    cfg = copy.deepcopy(config)
    text = cfg['model']['text_encoder']
    language = MODELS.build(cfg['model']).text_encoder.language_model
    language.config.save_pretrained('checkpoints/roberta-x')
    del text['hf_config']
    text['pretrained'] = 'roberta-x'
    with pytest.raises(CheckpointError, match=r'lost\.pth is not a file'):
        init_model(cfg, 'lost.pth', 'cpu')
    # the folder has no weights, which a training needs
    with pytest.raises(OSError, match='roberta-x'):
        MODELS.build(cfg['model'])
    model = build_model()
    torch.save(model.state_dict(), 'tiny.pth')
    loaded = init_model(cfg, 'tiny.pth', 'cpu').state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded[name])


def test_a_video_is_opened_before_the_network_runs(inferencer, tmp_path):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        inferencer([moving_square(1), tmp_path / 'a.mp4'], TEXTS)


def test_forward_streams(inferencer):
    """Results come while the video is still being read."""
    source = open_source(moving_square(400))
    results = inferencer.forward(source, TEXTS, keep_images=False)
    first = next(results)
    assert first.frame.index == 0
    assert first.frame.image is None
    results.close()
