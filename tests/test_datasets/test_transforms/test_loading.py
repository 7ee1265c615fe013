# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils

from referformer.datasets.transforms import (
    LoadReferAnnotations,
    LoadReferFrame,
)
from referformer.datasets.transforms.loading import mask_to_box
from referformer.errors import ConfigError, DataError


@pytest.fixture
def frame(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / 'frame.png')
    ids = np.zeros((24, 40), np.uint8)
    ids[5:10, 20:30] = 2
    ids[0, 0] = 7
    mask = Image.fromarray(ids)
    mask.putpalette([255, 0, 0] * 256)
    mask.save(tmp_path / 'mask.png')
    return {
        'img_path': str(tmp_path / 'frame.png'),
        'mask_path': str(tmp_path / 'mask.png'),
        'obj_id': '2',
        'label': 5,
        'video_id': 'v',
        'ori_shape': (24, 40),
        'rgb': image,
    }


def test_frame_is_bgr(frame):
    out = LoadReferFrame()(dict(frame))
    assert (out['img'] == frame['rgb'][..., ::-1]).all()
    assert out['img_shape'] == out['ori_shape'] == (24, 40)


def test_kept_frames_are_not_read_again(frame, tmp_path):
    load = LoadReferFrame(keep=1)
    first = load(dict(frame))
    first['img'][:] = 0  # what others write is not kept
    Image.new('RGB', (8, 8)).save(frame['img_path'])
    assert (load(dict(frame))['img'] == frame['rgb'][..., ::-1]).all()
    other = tmp_path / 'other.png'
    Image.new('RGB', (5, 5)).save(other)
    assert load({'img_path': str(other)})['img_shape'] == (5, 5)
    assert load(dict(frame))['img_shape'] == (8, 8)


def test_frames_to_keep_are_counted_from_none():
    with pytest.raises(ConfigError, match='keep is -1'):
        LoadReferFrame(keep=-1)


def test_frame_is_not_turned(tmp_path):
    # masks, boxes and polygons are those of the pixels as stored
    path = tmp_path / 'turned.jpg'
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (40, 24)).save(path, exif=exif)
    results = LoadReferFrame()({'img_path': str(path)})
    assert results['ori_shape'] == (24, 40)


def test_annotations_of_the_object(frame):
    out = LoadReferAnnotations()(frame)
    assert out['gt_masks'].masks.shape == (1, 24, 40)
    assert out['gt_masks'].masks.sum() == 50
    # Quirk: the far edges are the last pixels inside.
    assert out['gt_bboxes'].tensor.tolist() == [[20, 5, 29, 9]]
    assert out['gt_bboxes_labels'].tolist() == [5]
    assert out['gt_bboxes_labels'].dtype == np.int64


def test_absent_object_has_no_instance(frame):
    out = LoadReferAnnotations()({**frame, 'obj_id': '3'})
    assert len(out['gt_masks']) == 0
    assert (out['gt_masks'].height, out['gt_masks'].width) == (24, 40)
    assert out['gt_bboxes'].tensor.shape == (0, 4)
    assert out['gt_bboxes_labels'].shape == (0,)


def test_expressions_of_a_video(frame):
    expressions = [{'obj_id': '2'}, {'obj_id': None}, {'obj_id': '3'}]
    out = LoadReferAnnotations()({**frame, 'expressions': expressions})
    known, unknown, absent = out['gt_rles']
    assert 'gt_masks' not in out
    assert unknown is None
    assert mask_utils.area(known) == 50
    expected = np.asarray(Image.open(frame['mask_path'])) == 2
    assert (mask_utils.decode(known) == expected).all()
    assert mask_utils.area(absent) == 0


def test_every_expression_is_read_from_its_own_file(tmp_path):
    """One folder of masks per object, as Long-RVOS has them."""
    expressions = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        mask = np.zeros((24, 40), np.uint8)
        mask[: 5 + number] = 255
        if number < 2:
            Image.fromarray(mask).save(folder / '00003.PNG')
        expressions.append(
            dict(
                obj_id=f'object {number}',
                mask_dir=str(folder),
                mask_suffix='.png',
                mask_value=255,
            )
        )
    expressions.append(dict(expressions[0], obj_id=None, mask_dir=None))
    frame = dict(
        frame_name='00003',
        ori_shape=(24, 40),
        mask_path=None,
        expressions=expressions,
    )
    with pytest.raises(FileNotFoundError, match=r'2/00003\.png is missing'):
        LoadReferAnnotations()(dict(frame))
    expressions[2]['mask_missing'] = 'absent'
    out = LoadReferAnnotations()(frame)
    first, second, absent, unknown = out['gt_rles']
    assert mask_utils.area([first, second, absent]).tolist() == [200, 240, 0]
    assert unknown is None
    expressions[2]['mask_missing'] = 'ignore'
    with pytest.raises(ConfigError, match="'ignore'"):
        LoadReferAnnotations()(frame)


def test_one_expression_whose_mask_is_missing(frame, tmp_path):
    frame.update(mask_path=str(tmp_path / 'gone.png'), mask_missing='absent')
    out = LoadReferAnnotations()(frame)
    assert len(out['gt_masks']) == 0
    assert (out['gt_masks'].height, out['gt_masks'].width) == (24, 40)


@pytest.mark.parametrize('suffix', ['.JPG', '.jpeg', '.Png'])
def test_frames_with_another_suffix_are_found(frame, tmp_path, suffix):
    file = tmp_path / f'0{suffix}'
    Image.fromarray(frame['rgb']).save(file)
    # what macOS leaves beside it is no picture
    (tmp_path / f'._0{suffix}').write_bytes(b'Mac OS X')
    out = LoadReferFrame()({'img_path': str(tmp_path / '0.jpg')})
    assert out['img_path'] == str(file)
    assert out['ori_shape'] == (24, 40)


def test_frames_beside_the_annotated_one(frame):
    # One with and one without keys would not go through a broadcaster.
    out = LoadReferAnnotations()(
        {**frame, 'mask_path': None, 'annotated_position': 1}
    )
    assert len(out['gt_masks']) == len(out['gt_bboxes']) == 0
    assert (out['gt_masks'].height, out['gt_masks'].width) == (24, 40)


def test_no_ground_truth_passes():
    results = {'mask_path': None}
    assert LoadReferAnnotations()(results) == {'mask_path': None}


def test_quirk_box_of_one_pixel_has_no_area():
    mask = np.zeros((4, 6), bool)
    mask[2, 3] = True
    assert mask_to_box(mask).tolist() == [3, 2, 3, 2]


def test_missing_frame_is_named(frame):
    frame['img_path'] += '.gone'
    with pytest.raises(FileNotFoundError, match=r'frame\.png\.gone'):
        LoadReferFrame()(frame)


@pytest.mark.parametrize('kept', [0.0, 0.5, 0.9])
def test_truncated_jpeg_is_refused(tmp_path, kept):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = cv2.imencode('.jpg', image)[1].tobytes()
    path = tmp_path / 'short.jpg'
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(OSError, match=r'short\.jpg cannot be decoded'):
        LoadReferFrame()({'img_path': str(path)})


def test_mask_of_another_size_is_refused(frame):
    frame['ori_shape'] = (48, 80)
    with pytest.raises(ValueError, match=r'mask\.png is 40x24.*80x48'):
        LoadReferAnnotations()(frame)


def test_missing_or_damaged_mask_is_named(frame, tmp_path):
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'no png')
    with pytest.raises(
        DataError, match=r'broken\.png (cannot be read|is not an)'
    ):
        LoadReferAnnotations()({**frame, 'mask_path': str(broken)})
    gone = str(tmp_path / 'gone.png')
    with pytest.raises(FileNotFoundError, match=r'gone\.png is missing'):
        LoadReferAnnotations()({**frame, 'mask_path': gone})


def test_coloured_mask_is_refused(frame):
    with pytest.raises(ValueError, match='of mode RGB, not an indexed'):
        LoadReferAnnotations()({**frame, 'mask_path': frame['img_path']})


@pytest.mark.parametrize('obj_id', ['0', '256', 'dog', '-1'])
def test_impossible_object_id_is_refused(frame, obj_id):
    with pytest.raises(ValueError, match=f'{obj_id!r} of video v'):
        LoadReferAnnotations()({**frame, 'obj_id': obj_id})
