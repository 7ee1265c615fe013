# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What holds for every input, tried on thousands of them.

The examples are drawn by hypothesis, the same ones in every run. Pixels come
from a drawn seed, since drawing each of them would take minutes.
"""

import json
import random

import numpy as np
import pytest

pytest.importorskip('hypothesis', reason='pip install hypothesis')
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from pycocotools import mask as mask_utils

from referformer.datasets.transforms import (
    ReferMultiScaleCrop,
    ReferRandomFlip,
    SampleClipFrames,
    SampleWindow,
)
from referformer.engine import SeededSampler
from referformer.errors import DataError
from referformer.evaluation.functional.kernel import compare, tolerance_radius
from referformer.evaluation.functional.segm import average_precision
from referformer.formats.coco import Candidate, TrueObject, encode_masks
from referformer.formats.expressions import read_expressions
from referformer.formats.frames import is_plain_name, sort_names
from referformer.formats.label_maps import (
    read_binary_mask,
    read_label_map,
    write_binary_mask,
    write_label_map,
)
from referformer.formats.rle import decode_union, to_rle

from .test_evaluation.test_kernel import slow_f

#: Property -> how many inputs it is tried on.
EXAMPLES = {}


def examples(number, **strategies):
    """Try a property on so many inputs, the same ones every time."""

    def decorate(test):
        EXAMPLES[test.__name__] = number
        setting = settings(
            max_examples=number,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=[
                HealthCheck.function_scoped_fixture,
                HealthCheck.too_slow,
            ],
            # no hunt for an explanation, which takes minutes
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
        )
        return setting(given(**strategies)(test))

    return decorate


def draw_mask(seed, height, width):
    """A rectangle, noise, both, nothing or everything."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    kind = rng.integers(6)
    if kind in (0, 1, 2):
        top, left = rng.integers(height), rng.integers(width)
        mask[top : rng.integers(top, height) + 1, left:] = True
    if kind in (1, 3):
        mask ^= rng.random((height, width)) < rng.random()
    if kind == 4:
        mask[:] = True
    return mask


def draw_rectangle(seed, height, width):
    """A rectangle of one pixel at least."""
    rng = np.random.default_rng(seed)
    top, left = rng.integers(height), rng.integers(width)
    mask = np.zeros((height, width), bool)
    bottom, right = rng.integers(top, height), rng.integers(left, width)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 40)
MASKS = st.builds(draw_mask, SEEDS, SIDES, SIDES)


@st.composite
def same_size(draw, count, sides=SIDES):
    height, width = draw(sides), draw(sides)
    return [draw_mask(draw(SEEDS), height, width) for _ in range(count)]


def test_they_are_two_thousand():
    assert sum(EXAMPLES.values()) >= 2000, EXAMPLES


# -- scores ---------------------------------------------------------------


@examples(300, masks=same_size(3))
def test_j_is_the_share_of_pixels(masks):
    pred, gt, void = masks
    j, f = compare(pred, gt)
    both, either = (pred & gt).sum(), (pred | gt).sum()
    assert j == (both / either if either else 1)
    assert 0 <= f <= 1
    assert compare(gt, pred) == (j, pytest.approx(f))
    assert compare(pred.T, gt.T) == (j, pytest.approx(f))
    assert compare(pred[::-1], gt[::-1])[0] == j
    assert compare(pred[:, ::-1], gt[:, ::-1])[0] == j
    assert compare(gt, gt) == (1, 1)
    ignored = compare(pred & ~void, gt & ~void)
    assert compare(pred, gt, void) == ignored


@examples(
    150, masks=same_size(2, st.integers(1, 12)), radius=st.integers(1, 4)
)
def test_f_is_what_its_definition_says(masks, radius):
    pred, gt = masks
    assert tolerance_radius(pred.shape, radius) == radius
    found = compare(pred, gt, bound_th=radius)[1]
    assert found == pytest.approx(slow_f(pred, gt, radius), abs=1e-12)


def slow_ap(truths, found, threshold):
    """AP at one threshold, one object a sample: the definition, in a loop."""
    ranked = sorted(
        (-candidate.score, name, number)
        for name, candidates in found.items()
        for number, candidate in enumerate(candidates)
    )
    hits, matched = [], set()
    for _, name, number in ranked:
        overlap = mask_utils.iou(
            [found[name][number].rle], [truths[name].rle], [0]
        )
        hit = name not in matched and overlap.item() >= threshold
        hits.append(hit)
        if hit:
            matched.add(name)
    true = np.cumsum(hits)
    recall = true / len(truths)
    precision = true / np.arange(1, len(hits) + 1)
    return np.mean(
        [
            max(precision[recall >= point], default=0)
            for point in np.linspace(0, 1, 101)
        ]
    )


@examples(
    40,
    seed=SEEDS,
    samples=st.integers(1, 4),
    counts=st.lists(st.integers(0, 3), min_size=4, max_size=4),
)
def test_ap_is_what_its_definition_says(seed, samples, counts):
    rng = np.random.default_rng(seed)
    truths, found = {}, {}
    scores = iter(rng.permutation(20) / 20)
    for name in range(samples):
        mask = np.zeros((10, 10), bool)
        mask[2:8, 2 : rng.integers(4, 9)] = True
        noisy = [mask ^ (rng.random((10, 10)) < 0.1) for _ in range(3)]
        [rle, *others] = encode_masks(np.stack([mask, *noisy]))
        truths[name] = TrueObject(rle, None, int(mask.sum()))
        found[name] = [
            Candidate(float(next(scores)), other, None, 30.0)
            for other in others[: counts[name]]
        ]
    score = average_precision(truths, found)
    for name, threshold in (('AP 0.5', 0.5), ('AP 0.75', 0.75)):
        expected = slow_ap(truths, found, threshold)
        assert score[name] == pytest.approx(expected, abs=1e-12)
    assert 0 <= score['mAP 0.5:0.95'] <= score['AP 0.5'] + 1e-12
    assert score['AP 0.5'] <= 1 + 1e-12
    backwards = {name: truths[name] for name in reversed(truths)}
    assert average_precision(backwards, found) == score
    perfect = {
        name: [Candidate(0.5, truth.rle, None, truth.area)]
        for name, truth in truths.items()
    }
    best = average_precision(truths, perfect)
    assert best['mAP 0.5:0.95'] == pytest.approx(1, abs=1e-12)


# -- codes and files ------------------------------------------------------


@examples(250, masks=same_size(3))
def test_run_lengths_come_back(masks):
    shape = masks[0].shape
    codes = encode_masks(np.stack(masks))
    checked = [to_rle(code, *shape) for code in codes]
    for mask, code in zip(masks, checked, strict=True):
        assert (decode_union([code], shape) == mask).all()
    assert (decode_union(checked, shape) == np.any(masks, 0)).all()
    runs = np.diff(
        np.flatnonzero(
            np.diff(masks[0].ravel('F').astype(int), prepend=0, append=2)
        ),
        prepend=0,
    )
    plain = {'size': list(shape), 'counts': runs.tolist()}
    assert (decode_union([to_rle(plain, *shape)], shape) == masks[0]).all()


@examples(
    400,
    mask=MASKS,
    place=st.integers(0, 10**6),
    new=st.characters(min_codepoint=0, max_codepoint=300),
    keep=st.integers(0, 2),
)
def test_damaged_run_lengths_are_refused_or_fit(mask, place, new, keep):
    """Never read past the memory, as pycocotools does."""
    [code] = encode_masks(mask[None])
    text = code['counts']
    text = text.decode() if isinstance(text, bytes) else text
    place %= len(text) + 1
    text = text[:place] + new + text[place + keep :]
    try:
        checked = to_rle({**code, 'counts': text}, *mask.shape)
    except ValueError:
        return
    assert decode_union([checked], mask.shape).shape == mask.shape


@examples(120, seed=SEEDS, height=SIDES, width=SIDES, top=st.integers(1, 255))
def test_label_maps_come_back(tmp_path, seed, height, width, top):
    path = tmp_path / 'a.png'
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, top + 1, (height, width)).astype(np.uint8)
    write_label_map(path, labels)
    assert (read_label_map(path) == labels).all()


@examples(80, mask=MASKS)
def test_binary_masks_come_back(tmp_path, mask):
    write_binary_mask(tmp_path / 'a.png', mask)
    assert (read_binary_mask(tmp_path / 'a.png', mask.shape) == mask).all()


NAMES = st.text(min_size=1, max_size=8)


@examples(
    200,
    videos=st.dictionaries(
        NAMES,
        st.tuples(
            st.lists(NAMES, min_size=1, max_size=5),
            st.dictionaries(NAMES, NAMES, max_size=3),
        ),
        max_size=3,
    ),
)
def test_expression_files_come_back_or_are_refused(tmp_path, videos):
    path = tmp_path / 'a.json'
    content = {
        video: {
            'frames': frames,
            'expressions': {k: {'exp': text} for k, text in said.items()},
        }
        for video, (frames, said) in videos.items()
    }
    path.write_text(json.dumps({'videos': content}))
    sound = all(
        all(map(is_plain_name, [*frames, *said]))
        and len(set(frames)) == len(frames)
        and all(text.strip() for text in said.values())
        and all(map(is_plain_name, video.split('/')))
        for video, (frames, said) in videos.items()
    )
    if not sound:
        with pytest.raises(DataError, match=r'a\.json'):
            read_expressions(path)
        return
    read = read_expressions(path)
    assert read.keys() == videos.keys()
    for video, (frames, said) in videos.items():
        assert read[video]['frames'] == sort_names(frames)
        found = {k: e['exp'] for k, e in read[video]['expressions'].items()}
        assert found == said


@examples(200, numbers=st.sets(st.integers(0, 10**6)), rng=st.randoms())
def test_frames_are_ordered_as_people_count(numbers, rng):
    names = [f'frame{n}.x' for n in sorted(numbers)]
    shuffled = rng.sample(names, len(names))
    assert sort_names(shuffled) == names


# -- clips ----------------------------------------------------------------


@examples(
    300,
    seed=SEEDS,
    length=st.integers(1, 60),
    start=st.integers(0, 10**6),
    frames=st.integers(1, 40),
)
def test_clips_lie_in_their_video(seed, length, start, frames):
    start %= length
    random.seed(seed)
    chosen = SampleClipFrames(frames).sample(start, length)
    assert len(chosen) == frames
    assert chosen == sorted(chosen)
    assert start in chosen
    assert 0 <= chosen[0] <= chosen[-1] < length
    item = {
        'frame_names': [str(i) for i in range(length)],
        'video_length': length,
        'annotated_frame_id': start,
    }
    window = SampleWindow(frames).transform(item)
    position = window['annotated_position'][0]
    assert window['frame_id'][position] == start
    assert len(window['frame_id']) == frames
    steps = np.diff(window['frame_id'])
    assert ((steps == 0) | (steps == 1)).all()


def frame_of(seed, height, width, draw=draw_mask):
    """A frame whose boxes are those of its masks."""
    rng = np.random.default_rng(seed)
    seeds = rng.integers(2**32, size=2)
    masks = np.stack([draw(each, height, width) for each in seeds])
    masks = masks[masks.any((1, 2))]
    return {
        'img': rng.integers(0, 256, (height, width, 3), np.uint8),
        'img_shape': (height, width),
        'text': 'the dog on the left of the right cat',
        'gt_bboxes': HorizontalBoxes(boxes_of(masks)),
        'gt_masks': BitmapMasks(masks.astype(np.uint8), height, width),
    }


def boxes_of(masks):
    """x1, y1, x2, y2 around the pixels of each mask."""
    boxes = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, columns = np.nonzero(mask)
        box[:2] = columns.min(), rows.min()
        box[2:] = columns.max() + 1, rows.max() + 1
    return boxes


@examples(
    150,
    seed=SEEDS,
    height=SIDES,
    width=SIDES,
    direction=st.sampled_from(['horizontal', 'vertical', 'diagonal']),
)
def test_two_flips_are_none(seed, height, width, direction):
    flip = ReferRandomFlip(prob=1.0, direction=direction)
    before = frame_of(seed, height, width)
    once = flip(frame_of(seed, height, width))
    masks = once['gt_masks'].masks
    assert (once['gt_bboxes'].tensor.numpy() == boxes_of(masks)).all()
    assert ('left of the right' in once['text']) == (direction == 'vertical')
    twice = flip(once)
    assert (twice['img'] == before['img']).all()
    assert (twice['gt_masks'].masks == before['gt_masks'].masks).all()
    assert (twice['gt_bboxes'].tensor == before['gt_bboxes'].tensor).all()
    assert twice['text'] == before['text']


@examples(100, seed=SEEDS, height=st.integers(8, 40), width=st.integers(8, 40))
def test_boxes_stay_with_their_masks(seed, height, width):
    """Within a pixel, which is what nearest neighbours are off by."""
    np.random.seed(seed % 2**31)  # noqa: NPY002
    random.seed(seed)
    crop = ReferMultiScaleCrop(
        short_side=(20, 30),
        max_long_side=60,
        short_side_before_crop=(20, 30),
        crop_size=(12, 20),
    )
    frame = frame_of(seed, height, width, draw_rectangle)
    clip = {key: [value] for key, value in frame.items()}
    after = {key: values[0] for key, values in crop(clip).items()}
    masks = after['gt_masks'].masks
    boxes = after['gt_bboxes'].tensor.numpy()
    assert masks.shape[1:] == after['img'].shape[:2]
    assert len(masks) == len(boxes)
    # of the pixels at the beginning, enlarged twice, and cropped between
    pixel = 30 / min(height, width) * 30 / 12
    for mask, box in zip(masks, boxes, strict=True):
        if mask.any():
            [around] = boxes_of(mask[None])
            assert np.abs(around - box).max() <= 1 + pixel


# -- resuming -------------------------------------------------------------


@examples(
    250,
    length=st.integers(1, 50),
    skip=st.integers(0, 60),
    seed=st.integers(0, 1000),
    epoch=st.integers(0, 20),
)
def test_a_resumed_epoch_is_the_rest_of_the_whole(length, skip, seed, epoch):
    def order(passed):
        sampler = SeededSampler(range(length), seed=seed)
        sampler.set_epoch(epoch)
        sampler.skip = passed
        return [(int(index), index.seed) for index in sampler]

    whole = order(0)
    assert sorted(index for index, _ in whole) == list(range(length))
    assert order(skip) == whole[skip:]
