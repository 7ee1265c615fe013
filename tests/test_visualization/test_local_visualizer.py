# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Pictures show what they should, at every size and in the right colours."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.ft2font import FT2Font
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData

from referformer.media.pictures import write_image
from referformer.registry import VISUALIZERS
from referformer.visualization import ReferLocalVisualizer, lettering
from referformer.visualization.drawing import (
    PALETTE,
    colour_of,
    contrasting_colours,
)

TEXT = 'the small red circle moving to the left behind the blue square'


def make_frame(height, width, scores=(0.9,)):
    """A frame with the left half as the mask of every prediction."""
    masks = torch.zeros(len(scores), height, width, dtype=torch.bool)
    masks[..., : width // 2] = True
    frame = DetDataSample()
    frame.pred_track_instances = InstanceData(
        masks=masks,
        scores=torch.tensor(scores),
        bboxes=torch.tensor([[0.0, 0, width // 2, height]] * len(scores)),
        labels=torch.zeros(len(scores), dtype=torch.long),
    )
    return frame


@pytest.fixture
def visualizer():
    return VISUALIZERS.build(dict(type='ReferLocalVisualizer', name='test'))


@pytest.mark.parametrize(
    'size', [(96, 160), (97, 53), (480, 854), (2160, 3840)]
)
@pytest.mark.parametrize('value', [0, 255])
def test_mask_and_strip(visualizer, size, value):
    height, width = size
    image = np.full((height, width, 3), value, np.uint8)

    drawn = visualizer.draw_frame(image, make_frame(height, width), TEXT)

    inside = drawn[height * 3 // 4, width // 4]
    blend = 0.5 * np.array(PALETTE[0]) + 0.5 * value
    np.testing.assert_allclose(inside, blend, atol=1)
    assert (drawn[:height, width * 3 // 4 :] == value).all()
    strip = drawn[height:]
    assert strip.shape[1] == width
    assert strip.std() > 20  # light letters on dark ground
    assert len(strip) < height
    assert (image == value).all()  # the input stays as it was


def test_text_changes_the_strip_only(visualizer):
    image = np.zeros((96, 160, 3), np.uint8)
    one = visualizer.draw_frame(image, text='a cat')
    two = visualizer.draw_frame(image, text='a dog')
    assert (one[:96] == two[:96]).all()
    assert (one[96:] != two[96:]).any()
    assert visualizer.draw_frame(image).shape == image.shape


@pytest.mark.parametrize(
    'text', ['', 'x' * 900, 'été — 柔道', 'a\nb', 'word ' * 99]
)
def test_any_text_fits(visualizer, text):
    drawn = visualizer.draw_frame(np.zeros((96, 60, 3), np.uint8), text=text)
    assert drawn.shape[1] == 60
    assert 96 < drawn.shape[0] < 96 * 2


def test_without_anything_found(visualizer):
    image = np.full((40, 60, 3), 7, np.uint8)
    empty = make_frame(40, 60)
    empty.pred_track_instances = empty.pred_track_instances[:0]
    assert (visualizer.draw_frame(image, empty) == image).all()
    assert (visualizer.draw_frame(image, DetDataSample()) == image).all()


def test_a_box_outside_the_frame(visualizer):
    frame = make_frame(40, 60)
    frame.pred_track_instances.bboxes = torch.tensor([[-30.0, -9, 900, 70]])
    visualizer.draw_frame(np.zeros((40, 60, 3), np.uint8), frame)
    frame.pred_track_instances.bboxes[:] = float('nan')
    visualizer.draw_frame(np.zeros((40, 60, 3), np.uint8), frame)


def test_true_masks_are_outlined_on_demand(visualizer):
    frame = DetDataSample()
    frame.gt_instances = InstanceData(masks=np.zeros((1, 40, 60), bool))
    frame.gt_instances.masks[0, 10:30, 20:40] = True
    image = np.zeros((40, 60, 3), np.uint8)
    assert (visualizer.draw_frame(image, frame) == image).all()
    drawn = visualizer.draw_frame(image, frame, draw_gt=True)
    assert (drawn[10, 20:40] == 255).all()
    assert (drawn[20, 30] == 0).all()


def test_a_mask_of_another_size_is_refused(visualizer):
    with pytest.raises(
        ValueError, match=r'mask of 40 x 60 .* frame of 30 x 60'
    ):
        visualizer.draw_frame(
            np.zeros((30, 60, 3), np.uint8), make_frame(40, 60)
        )


def test_draw_clip(visualizer):
    clip = TrackDataSample(metainfo=dict(text=TEXT))
    clip.video_data_samples = [make_frame(96, 160) for _ in range(3)]
    images = [np.zeros((96, 160, 3), np.uint8)] * 3
    drawn = visualizer.draw_clip(images, clip)
    assert len({item.shape for item in drawn}) == 1
    with pytest.raises(ValueError, match=r'2 pictures .* 3 frames'):
        visualizer.draw_clip(images[:2], clip)


def test_add_datasample_writes_rgb(visualizer, tmp_path):
    image = np.zeros((20, 30, 3), np.uint8)
    image[:] = (255, 0, 0)
    visualizer.add_datasample('x', image, out_file=str(tmp_path / 'a.png'))
    bgr = cv2.imread(str(tmp_path / 'a.png'))
    assert (bgr == (0, 0, 255)).all()
    assert [item.name for item in tmp_path.iterdir()] == ['a.png']


def test_backends_get_the_picture(tmp_path):
    visualizer = ReferLocalVisualizer(
        vis_backends=[dict(type='LocalVisBackend')], save_dir=str(tmp_path)
    )
    visualizer.add_datasample('clip', np.zeros((20, 30, 3), np.uint8), step=4)
    assert list(tmp_path.rglob('clip_4.png'))


def test_an_unknown_suffix_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'a\.doc cannot be written'):
        write_image(tmp_path / 'a.doc', np.zeros((2, 2, 3), np.uint8))


def test_alpha_is_checked():
    with pytest.raises(ValueError, match='alpha must be in'):
        ReferLocalVisualizer(alpha=2)


# -- several expressions ------------------------------------------------------


def make_masks(number, height, width):
    """Bars side by side."""
    masks = np.zeros((number, height, width), bool)
    for index in range(number):
        side = width // number
        masks[index, : height // 2, index * side : (index + 1) * side] = True
    return masks


@pytest.mark.parametrize('size', [(240, 426), (241, 427), (2160, 3840)])
@pytest.mark.parametrize('value', [0, 255])
def test_each_expression_has_its_colour(visualizer, size, value):
    height, width = size
    texts = ['the first', 'the second one', 'été', 'the fourth']
    image = np.full((height, width, 3), value, np.uint8)
    drawn = visualizer.draw_expressions(
        image, texts, make_masks(4, height, width)
    )
    strip = drawn[height:]
    assert strip.shape[1] == width
    assert len(strip) < height / 2
    for index in range(4):
        colour = np.array(colour_of(index))
        inside = drawn[height // 4, width * (2 * index + 1) // 8]
        np.testing.assert_allclose(inside, 0.5 * colour + 0.5 * value, atol=1)
        # as in the legend, in this order
        rows = np.flatnonzero((strip == colour).all(2).any(1))
        assert len(rows) > 5
        middle = len(strip) * (2 * index + 1) / 8
        assert abs(rows.mean() - middle) < len(strip) / 8
    assert (drawn[height * 3 // 4 : height] == value).all()
    assert (image == value).all()


def test_no_two_expressions_look_alike():
    colours = {colour_of(index) for index in range(60)}
    assert len(colours) == 60
    for colour in colours:
        assert max(colour) > 150  # seen on dark frames


def test_boxes_and_points_on_demand(visualizer):
    image = np.zeros((240, 320, 3), np.uint8)
    masks = make_masks(2, 240, 320)
    masks[1] = False
    boxes = np.array([[10.0, 140, 90, 200], [200, 140, 300, 200]])
    points = np.array([[50.0, 220], [900, -5]])
    plain = visualizer.draw_expressions(image, ['a', 'b'], masks)
    drawn = visualizer.draw_expressions(
        image, ['a', 'b'], masks, np.array([0.9, 0.1]), boxes, points
    )
    assert (drawn[170, 10] == colour_of(0)).all()
    # an empty mask has no box; a point may lie outside
    assert (drawn[130:210, 195:310] == plain[130:210, 195:310]).all()
    assert (drawn[220, 50] == colour_of(0)).all()
    for nothing in (np.full((2, 4), np.nan), np.zeros((2, 4))):
        again = visualizer.draw_expressions(
            image, ['a', 'b'], masks, None, nothing, np.full((2, 2), np.nan)
        )
        assert (again == plain).all()


def test_a_long_legend_fits(visualizer):
    texts = [
        f'{n} ' + 'a long description of something ' * 9 for n in range(9)
    ]
    image = np.zeros((96, 128, 3), np.uint8)
    masks = make_masks(9, 96, 128)
    drawn = visualizer.draw_expressions(image, texts, masks)
    assert drawn.shape[1] == 128
    one = visualizer.draw_expressions(image, texts[:1], masks[:1])
    assert one.shape[0] < drawn.shape[0] < 96 * 3


def test_a_font_that_knows_more_is_found(monkeypatch):
    """DejaVu Sans unless another font knows more of the letters."""
    folder = Path(matplotlib.get_data_path(), 'fonts', 'ttf')
    other = str(folder / 'STIXGeneral.ttf')
    monkeypatch.setattr(
        lettering, 'findSystemFonts', lambda: ['/no/font.ttf', other]
    )
    find = lettering._font_path
    find.cache_clear()
    assert find(frozenset('abcé')).endswith('DejaVuSans.ttf')
    only_stix = next(
        chr(code)
        for code in FT2Font(other).get_charmap()
        if code not in FT2Font(str(folder / 'DejaVuSans.ttf')).get_charmap()
    )
    assert find(frozenset(only_stix)) == other
    assert find(frozenset('\U0010fffd')).endswith('DejaVuSans.ttf')
    find.cache_clear()


# -- colours that contrast ----------------------------------------------------


def lab_distance(one, other):
    """CIELAB distance of two RGB colours."""
    pixels = np.array([[one, other]], np.float32) / 255
    [[a, b]] = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    return np.linalg.norm(a - b)


@pytest.mark.parametrize('own', PALETTE)
def test_a_mask_contrasts_with_its_object(own):
    image = np.full((20, 30, 3), 90, np.uint8)
    masks = np.zeros((1, 20, 30), bool)
    masks[0, 5:15, 5:15] = True
    image[masks[0]] = own
    [colour] = contrasting_colours(image, masks)
    assert lab_distance(own, colour) > 60


def test_colours_stay_where_they_are_clear():
    """Order of the palette on grey; no two alike for any number."""
    image = np.full((20, 30, 3), 128, np.uint8)
    for number in (1, 3, len(PALETTE), len(PALETTE) + 5):
        chosen = contrasting_colours(image, np.ones((number, 20, 30), bool))
        assert len(set(chosen)) == number
    nothing = np.zeros((3, 20, 30), bool)
    assert contrasting_colours(image, nothing) == PALETTE[:3]
    assert contrasting_colours(image, nothing[:0]) == ()


def test_colours_contrast_with_both_parts_of_a_pattern():
    image = np.empty((20, 20, 3), np.uint8)
    image[::2], image[1::2] = PALETTE[0], PALETTE[1]
    [colour] = contrasting_colours(image, np.ones((1, 20, 20), bool))
    assert min(lab_distance(colour, part) for part in PALETTE[:2]) > 40


def test_a_clip_keeps_its_colour(visualizer):
    """Chosen once for all frames, also where the object is absent at first."""
    images = [np.full((96, 160, 3), PALETTE[0], np.uint8) for _ in range(3)]
    frames = [make_frame(96, 160) for _ in range(3)]
    frames[0].pred_track_instances.masks[:] = False
    clip = TrackDataSample(metainfo=dict(text='a'))
    clip.video_data_samples = frames
    drawn = visualizer.draw_clip(images, clip)
    assert (drawn[0][60, 40] == PALETTE[0]).all()
    assert (drawn[1] == drawn[2]).all()
    tint = drawn[1][60, 40] * 2.0 - PALETTE[0]
    assert lab_distance(tint, PALETTE[0]) > 60


def test_colours_of_the_caller(visualizer):
    colours = [(1, 2, 3), (200, 100, 0)]
    masks = make_masks(2, 96, 160)
    black = np.zeros((96, 160, 3), np.uint8)
    drawn = visualizer.draw_expressions(
        black, ['a', 'b'], masks, colours=colours
    )
    for colour, x in zip(colours, (40, 120), strict=True):
        np.testing.assert_allclose(drawn[24, x], np.array(colour) / 2, atol=1)
