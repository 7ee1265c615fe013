# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import json

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from referformer.errors import DataError
from referformer.evaluation.functional.segm import (
    best_candidate,
    box_scores,
    expression_scores,
    generalized_iou,
    iou_scores,
    mask_scores,
    published_iou,
    sentence_scores,
)
from referformer.formats.coco import (
    Candidate,
    TrueObject,
    read_candidates,
    read_truths,
)
from referformer.formats.rle import to_rle

from .helpers import GOLDEN

SIZE = (20, 30)


def encode(mask):
    return mask_utils.encode(np.asfortranarray(mask, np.uint8))


def square(top, left, side):
    mask = np.zeros(SIZE, np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def truth(mask, box=None):
    return TrueObject(encode(mask), box, float(mask.sum()))


def guess(score, mask, box=None):
    rle = None if mask is None else encode(mask)
    return Candidate(score, rle, box, 0.0 if mask is None else mask.sum())


@pytest.fixture(scope='module')
def golden(tmp_path_factory):
    case = json.loads((GOLDEN / 'a2d_metric.json').read_text())
    folder = tmp_path_factory.mktemp('a2d')
    (folder / 'gt.json').write_text(json.dumps(case['gt']))
    (folder / 'pred.json').write_text(json.dumps(case['predictions']))
    truths = read_truths(folder / 'gt.json')
    found = read_candidates(folder / 'pred.json', truths)
    return case, truths, found


def test_recorded_scores(golden):
    case, truths, found = golden
    scores = sentence_scores(truths, found, 'all')
    assert scores == pytest.approx(case['expected'], abs=1e-6)


def test_best_query_ranks_fewer_guesses(golden):
    _, truths, found = golden
    every = sentence_scores(truths, found, 'all')
    best = sentence_scores(truths, found, 'best')
    assert best['mAP 0.5:0.95'] < every['mAP 0.5:0.95'] - 0.01
    # Only the ranking differs.
    for name in every:
        if 'AP' not in name:
            assert best[name] == every[name]
    with pytest.raises(ValueError, match=r"one of \('all', 'best'\)"):
        sentence_scores(truths, found, 'some')


def test_order_of_the_file_does_not_matter(golden):
    _, truths, found = golden
    shuffled = dict(sorted(found.items(), key=lambda item: -item[0]))
    for name in shuffled:
        shuffled[name] = shuffled[name][::-1]
    assert sentence_scores(truths, shuffled, 'all') == pytest.approx(
        sentence_scores(truths, found, 'all')
    )


def test_perfect_masks():
    truths = {n: truth(square(2, 3 * n, 5)) for n in range(4)}
    found = {n: [guess(0.3, square(2, 3 * n, 5))] for n in range(4)}
    scores = sentence_scores(truths, found, 'all')
    # No square is larger than 32 x 32: -1 is COCO's word for "none there".
    for size in 'ML':
        assert scores.pop(f'AP 0.5:0.95 {size}') == -1
    assert all(value == pytest.approx(1) for value in scores.values())


def test_numbers_by_hand():
    big, small = square(0, 0, 10), square(0, 0, 2)
    truths = {'a': truth(big), 'b': truth(small), 'c': truth(small)}
    found = {
        'a': [guess(0.2, small), guess(0.9, square(0, 5, 10))],
        'b': [guess(0.1, small)],
        # c has none: counts as an empty mask
    }
    scores = mask_scores(truths, found)
    assert scores['overall_iou'] == pytest.approx((50 + 4) / (150 + 4 + 4))
    assert scores['mean_iou'] == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert scores['P@0.5'] == scores['P@0.9'] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ('scale', 'above'),
    [
        # Small masks: the 1e-6 on both sides lifts every tie.
        (1, {0.5, 0.6, 0.7, 0.8, 0.9}),
        # Larger ones: single precision rounds 0.6 and 0.8 up, the others not.
        (10, {0.6, 0.8}),
        (1000, {0.6, 0.8}),
        (20000, {0.6, 0.8}),
    ],
)
def test_ties_fall_as_in_the_published_code(scale, above):
    for k in (5, 6, 7, 8, 9):
        inter, union = np.array([k * scale]), np.array([10 * scale])
        assert iou_scores(inter, union)[f'P@0.{k}'] == (k / 10 in above)
        # Off the tie by a pixel in a hundred there is nothing to decide.
        if scale > 1:
            assert iou_scores(inter + 1, union)[f'P@0.{k}'] == 1
            assert iou_scores(inter - 1, union)[f'P@0.{k}'] == 0


def test_ties_of_boxes_and_masks_fall_alike():
    tall, all_ = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    tall[:3], all_[:5] = 1, 1
    truths = {1: truth(all_, (0.0, 0.0, 30.0, 5.0))}
    found = {1: [guess(0.5, tall, (0.0, 0.0, 30.0, 3.0))]}
    for scores in (mask_scores(truths, found), box_scores(truths, found)):
        assert (scores['P@0.6'], scores['P@0.7']) == (1, 0)


def test_iou_is_that_of_the_published_code():
    torch = pytest.importorskip('torch')
    rng = np.random.default_rng(0)
    union = rng.integers(0, 300000, 5000)
    inter = union * rng.integers(0, 11, 5000) // 10
    part, whole = torch.tensor(inter).float(), torch.tensor(union).float()
    expected = ((part + 1e-6) / (whole + 1e-6)).double().numpy()
    assert np.array_equal(published_iou(inter, union), expected)


def test_both_empty_is_right():
    empty = np.zeros(SIZE, np.uint8)
    scores = mask_scores({1: truth(empty)}, {1: [guess(0.5, empty)]})
    assert set(scores.values()) == {1.0}


def test_the_last_of_equals_is_best():
    first, last = guess(0.5, square(0, 0, 3)), guess(0.5, square(9, 9, 3))
    assert best_candidate([first, last, guess(0.1, None)]) is last
    assert best_candidate([]) is None


def test_two_rules_for_boxes():
    true, wide = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 10.0, 19.0)
    # Within one another IoU and GIoU agree; shifted, GIoU is stricter.
    shifted = (3.0, 0.0, 13.0, 10.0)
    for box, giou in ((wide, 10 / 19), (shifted, 70 / 130)):
        got = generalized_iou(np.array([box]), np.array([true]))
        assert got == pytest.approx([giou])
    diagonal = (1.8, 1.8, 11.8, 11.8)
    inter = 8.2**2
    union = 200 - inter
    hull = 11.8**2
    giou = inter / union - (hull - union) / hull
    assert inter / union > 0.5 > giou
    truths = {1: truth(square(0, 0, 3), true)}
    scores = expression_scores(truths, {1: [guess(1.0, None, diagonal)]})
    assert scores == {'REC P@0.5': 1.0, 'REC P@0.5 GIoU': 0.0}


def test_boxes_without_area():
    dot, far = (4.0, 4.0, 4.0, 4.0), (9.0, 9.0, 9.0, 9.0)
    truths = {1: truth(square(0, 0, 1), dot), 2: truth(square(0, 0, 1), far)}
    found = {1: [guess(1.0, None, dot)], 2: [guess(1.0, None, (0, 0, 3, 3))]}
    scores = expression_scores(truths, found)
    assert scores == {'REC P@0.5': 0.5, 'REC P@0.5 GIoU': 0.5}
    assert box_scores(truths, found)['mean_iou'] == pytest.approx(0.5)


@pytest.mark.parametrize('seed', range(8))
def test_run_lengths_are_understood(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 80, 2)) < rng.random()
    mask = np.kron(mask, np.ones(rng.integers(1, 30, 2)))
    rle = encode(mask)
    text = {'size': list(mask.shape), 'counts': rle['counts'].decode()}
    assert to_rle(text, *mask.shape) == {**rle, 'size': list(mask.shape)}
    flat = mask.ravel(order='F')
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.r_[0, edges, flat.size]).tolist()
    runs = [0, *runs] if flat[0] else runs
    loose = {'size': list(mask.shape), 'counts': runs}
    assert to_rle(loose, *mask.shape)['counts'] == rle['counts']
    # A changed character no longer fills the frame.
    spoilt = {**text, 'counts': text['counts'][:-1] + 'o'}
    with pytest.raises(ValueError, match='run-length'):
        to_rle(spoilt, *mask.shape)


def test_polygons():
    ring = [[2, 2, 12, 2, 12, 12, 2, 12], [20, 1, 25, 1, 25, 6, 20, 6]]
    mask = mask_utils.decode(to_rle(ring, *SIZE))
    assert mask.sum() == 125
    assert mask[5, 5]
    assert mask[3, 22]


IMAGE = {'id': 7, 'height': SIZE[0], 'width': SIZE[1]}
RLE = {'size': list(SIZE), 'counts': encode(square(1, 1, 4))['counts']}
RLE['counts'] = RLE['counts'].decode()
ANNOTATION = {
    'id': 1,
    'image_id': 7,
    'segmentation': RLE,
    'bbox': [1, 1, 4, 4],
    'area': 16,
}
RESULT = {'image_id': 7, 'score': 0.5, 'segmentation': RLE}


def write(folder, images=(IMAGE,), annotations=(ANNOTATION,), preds=None):
    gt, pred = folder / 'gt.json', folder / 'pred.json'
    gt.write_text(
        json.dumps({'images': images, 'annotations': annotations})
        if not isinstance(images, str)
        else images
    )
    preds = [RESULT] if preds is None else preds
    pred.write_text(preds if isinstance(preds, str) else json.dumps(preds))
    return gt, pred


def read(gt, pred, **kwargs):
    return read_candidates(pred, read_truths(gt), **kwargs)


def test_reads_ints_and_texts_as_ids(tmp_path):
    for name in (7, 'v_a_f_1_i_2'):
        gt, pred = write(
            tmp_path,
            [{**IMAGE, 'id': name}],
            [{**ANNOTATION, 'image_id': name}],
            [{**RESULT, 'image_id': name}],
        )
        assert list(read(gt, pred)) == [name]


def test_box_formats(tmp_path):
    corners = [{'image_id': 7, 'score': 1, 'bbox': [1, 2, 5, 9]}]
    sides = [{'image_id': 7, 'score': 1, 'bbox': [1, 2, 4, 7]}]
    for preds, form in ((corners, 'xyxy'), (sides, 'xywh')):
        gt, pred = write(tmp_path, preds=preds)
        (found,) = read(gt, pred, box_format=form)[7]
        assert found.box == (1, 2, 5, 9)
        assert found.rle is None


def test_missing_predictions(tmp_path):
    images = [IMAGE, {**IMAGE, 'id': 8}]
    annotations = [ANNOTATION, {**ANNOTATION, 'image_id': 8}]
    gt, pred = write(tmp_path, images, annotations)
    with pytest.raises(DataError, match=r'no prediction for 1 of 2.*: 8'):
        read(gt, pred)
    found = read(gt, pred, missing='empty')
    assert found[8] == []
    scores = sentence_scores(read_truths(gt), found, 'all')
    assert scores['mean_iou'] == pytest.approx(0.5)
    gt, pred = write(tmp_path, images, annotations, preds=[])
    with pytest.raises(DataError, match='no prediction for 2 of 2'):
        read(gt, pred, missing='empty')


def changed(**kwargs):
    return [{**RESULT, **kwargs}]


BOX = {'image_id': 7, 'score': 1.0}
FAULTS = {
    'gt no json': ({'images': '{"images": '}, 'is not valid JSON'),
    'gt a list': ({'images': '[]'}, 'no tables'),
    'gt empty': ({'images': []}, 'has no images'),
    'gt no id': ({'images': [{'height': 1, 'width': 1}]}, 'id None'),
    'gt id twice': ({'images': [IMAGE, IMAGE]}, 'id 7 is missing or appears'),
    'gt size': ({'images': [{**IMAGE, 'height': '20'}]}, 'no size'),
    'gt huge': ({'images': [{**IMAGE, 'width': 10**9}]}, 'no size'),
    'gt stray': (
        {'annotations': [{**ANNOTATION, 'image_id': 9}]},
        'image 9, which is not listed',
    ),
    'gt two': ({'annotations': [ANNOTATION] * 2}, 'more than one'),
    'gt none': ({'annotations': []}, '1 of 1 images have no annotation'),
    'gt no mask': (
        {'annotations': [{**ANNOTATION, 'segmentation': []}]},
        'has no polygon',
    ),
    'gt polygon': (
        {
            'annotations': [
                {**ANNOTATION, 'segmentation': [[1, 2, 3, 4, 5, 6, 7]]}
            ]
        },
        'x, y, x, y',
    ),
    'gt polygon far': (
        {
            'annotations': [
                {**ANNOTATION, 'segmentation': [[0, 0, 5, 5, 9e9, 1]]}
            ]
        },
        'far outside',
    ),
    'no json': ({'preds': '[{'}, 'is not valid JSON'),
    'no list': ({'preds': {'a': 1}}, 'is no list'),
    'no dict': ({'preds': [1]}, 'prediction 0 has no image_id'),
    'unknown image': ({'preds': changed(image_id=8)}, 'no such image'),
    'text id': ({'preds': changed(image_id='7')}, 'ids are like 7'),
    'nan score': ({'preds': changed(score=float('nan'))}, 'score nan'),
    'no score': ({'preds': changed(score=None)}, 'score None'),
    'true score': ({'preds': changed(score=True)}, 'score True'),
    'size': (
        {'preds': changed(segmentation={**RLE, 'size': [30, 20]})},
        r'size \[30, 20\].*\[20, 30\]',
    ),
    'no counts': (
        {'preds': changed(segmentation={'size': list(SIZE)})},
        'no "counts"',
    ),
    'short counts': (
        {'preds': changed(segmentation={**RLE, 'counts': '0'})},
        'no run-length code',
    ),
    'foreign counts': (
        {'preds': changed(segmentation={**RLE, 'counts': 'é~\n'})},
        'no run-length code',
    ),
    'minus counts': (
        {'preds': changed(segmentation={**RLE, 'counts': [-1, 601]})},
        'no pixel counts',
    ),
    'mask none': ({'preds': changed(segmentation=None)}, 'neither'),
    'no content': ({'preds': [BOX]}, '"segmentation", "bbox" or both'),
    'mixed': (
        {'preds': [RESULT, {**RESULT, 'bbox': [1, 1, 2, 2]}]},
        'all of them the same',
    ),
    'twice': ({'preds': [RESULT, RESULT]}, 'is there twice'),
    'box nan': (
        {'preds': [{**BOX, 'bbox': [0, 0, 1, float('inf')]}]},
        'four finite',
    ),
    'box of three': ({'preds': [{**BOX, 'bbox': [0, 0, 1]}]}, 'four finite'),
    'box xywh': ({'preds': [{**BOX, 'bbox': [9, 9, 4, 4]}]}, 'not corners'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_faults_are_named(tmp_path, fault):
    content, message = FAULTS[fault]
    gt, pred = write(tmp_path, **content)
    with pytest.raises(DataError, match=message) as caught:
        read(gt, pred)
    name = gt if fault.startswith('gt') else pred
    assert str(caught.value).startswith(str(name))


def test_absent_file(tmp_path):
    with pytest.raises(DataError, match='does not exist'):
        read_truths(tmp_path / 'gt.json')


def test_copies_of_empty_masks_are_no_fault(tmp_path):
    empty = encode(np.zeros(SIZE))['counts'].decode()
    preds = changed(segmentation={**RLE, 'counts': empty}) * 3
    assert len(read(*write(tmp_path, preds=preds))[7]) == 3
