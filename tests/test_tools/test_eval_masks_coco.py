# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""``tools/eval_masks.py {a2d,jhmdb,refcoco}``, from files to files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools' / 'eval_masks.py'
GOLDEN = ROOT / 'tests' / 'data' / 'golden' / 'a2d_metric.json'


def run(command, folder, *options):
    # Scoring files needs no PyTorch.
    guard = (
        'import runpy, sys; sys.modules["torch"] = None; '
        'sys.modules["mmengine"] = None; '
        f'sys.argv[0] = {str(TOOL)!r}; '
        f'runpy.run_path({str(TOOL)!r}, run_name="__main__")'
    )
    return subprocess.run(
        [
            *(sys.executable, '-c', guard, command),
            *('--gt', str(folder / 'gt.json')),
            *('--pred', str(folder / 'pred.json')),
            *('--out', str(folder / 'scores.json')),
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def files(tmp_path):
    case = json.loads(GOLDEN.read_text())
    (tmp_path / 'gt.json').write_text(json.dumps(case['gt']))
    (tmp_path / 'pred.json').write_text(json.dumps(case['predictions']))
    return tmp_path


@pytest.mark.parametrize('command', ['a2d', 'jhmdb', 'refcoco'])
def test_predictions_one_a_line(files, command):
    options = ('--missing', 'empty')
    assert run(command, files, *options).returncode == 0
    expected = (files / 'scores.json').read_text()
    preds = json.loads((files / 'pred.json').read_text())
    lines = '\n'.join(map(json.dumps, preds))
    (files / 'pred.json').write_text(lines)
    result = run(command, files, *options)
    assert result.returncode == 0, result.stderr
    assert (files / 'scores.json').read_text() == expected


def test_frames_nobody_published_are_reported(files):
    mask = {'size': [4, 4], 'counts': [4, 8, 4]}
    entry = {'segmentation': mask, 'area': 8, 'bbox': [1, 0, 2, 4]}
    ids = [f'v_a_f_{i}' for i in range(2784)]
    truth = {
        'images': [{'id': i, 'height': 4, 'width': 4} for i in ids],
        'annotations': [{**entry, 'id': i, 'image_id': i} for i in ids],
    }
    preds = [{'image_id': i, 'score': 1, 'segmentation': mask} for i in ids]
    (files / 'gt.json').write_text(json.dumps(truth))
    (files / 'pred.json').write_text(json.dumps(preds))
    result = run('jhmdb', files)
    assert 'are not those of MTTR, on which published' in result.stderr
    scores = json.loads((files / 'scores.json').read_text())
    assert scores['protocol']['published_frames'] is False
    assert 'MTTR' not in run('a2d', files).stderr


@pytest.mark.parametrize('command', ['a2d', 'jhmdb'])
def test_recorded_scores(files, command):
    expected = json.loads(GOLDEN.read_text())['expected']
    result = run(command, files)
    assert result.returncode == 0, result.stderr
    scores = json.loads((files / 'scores.json').read_text())
    protocol = scores.pop('protocol')
    each = scores.pop('per_expression')
    assert len(each) == protocol['num_sentences']
    mean = sum(entry['IoU'] for entry in each.values()) / len(each)
    assert mean == pytest.approx(scores['mean_iou'])
    mean = sum(entry['box IoU'] for entry in each.values()) / len(each)
    assert mean == pytest.approx(scores['bbox mean_iou'])
    assert scores == pytest.approx(expected, abs=1e-6)
    assert list(scores) == list(expected)
    assert protocol['name'] == f'{command.upper()}-Sentences'
    assert protocol['queries'] == 'all'
    assert protocol['box_format'] == 'xyxy'
    assert 'queries = all' in result.stdout
    assert 'mAP 0.5:0.95        6.25\n' in result.stdout


def test_switches_are_named(files):
    predictions = json.loads((files / 'pred.json').read_text())
    for prediction in predictions:
        del prediction['bbox']
    kept = [p for p in predictions if p['image_id'] > 1]
    (files / 'pred.json').write_text(json.dumps(kept))
    result = run('a2d', files, '--queries', 'best')
    assert result.returncode == 1
    assert '--missing empty' in result.stderr
    result = run('a2d', files, '--queries', 'best', '--missing', 'empty')
    assert 'queries = best, missing = empty' in result.stdout
    assert '(1 without prediction)' in result.stdout
    scores = json.loads((files / 'scores.json').read_text())
    assert scores['protocol'] == {
        'name': 'A2D-Sentences',
        'queries': 'best',
        'missing': 'empty',
        'num_sentences': 30,
        'num_predictions': 145,
        'num_unpredicted': 1,
    }
    assert not any(name.startswith('bbox') for name in scores)


def test_refcoco(files):
    expected = json.loads(GOLDEN.read_text())['expected']
    result = run('refcoco', files)
    assert result.returncode == 0, result.stderr
    scores = json.loads((files / 'scores.json').read_text())
    assert scores['REC P@0.5'] == pytest.approx(expected['bbox P@0.5'])
    assert scores['REC P@0.5 GIoU'] < scores['REC P@0.5']
    for name in ('overall_iou', 'mean_iou', 'P@0.7'):
        assert scores[f'RIS {name}'] == pytest.approx(expected[name], abs=1e-6)


def test_masks_are_not_asked_of_refcoco_but_of_a2d(files):
    predictions = json.loads((files / 'pred.json').read_text())
    for prediction in predictions:
        del prediction['segmentation']
    (files / 'pred.json').write_text(json.dumps(predictions))
    result = run('a2d', files)
    assert result.returncode == 1
    assert 'has no "segmentation"' in result.stderr
    assert not (files / 'scores.json').exists()
    assert run('refcoco', files).returncode == 0
    scores = json.loads((files / 'scores.json').read_text())
    del scores['protocol']
    each = scores.pop('per_expression')
    assert all(set(e) == {'video', 'box IoU'} for e in each.values())
    assert list(scores) == ['REC P@0.5', 'REC P@0.5 GIoU']


def test_one_prediction_a_sentence_is_remarked(files):
    predictions = json.loads((files / 'pred.json').read_text())
    best = {}
    for prediction in sorted(predictions, key=lambda p: p['score']):
        best[prediction['image_id']] = prediction
    (files / 'pred.json').write_text(json.dumps(list(best.values())))
    assert 'rank all queries' in run('a2d', files).stderr
    assert not run('a2d', files, '--queries', 'best').stderr


def test_a_fault_is_one_line(files):
    (files / 'pred.json').write_text('[{]')
    result = run('a2d', files)
    assert result.returncode == 1
    assert result.stderr.startswith('eval_masks.py: ')
    assert len(result.stderr.splitlines()) == 1
    assert not (files / 'scores.json').exists()
