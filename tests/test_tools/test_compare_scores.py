# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""tools/analysis_tools/compare_scores.py on results in files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from referformer.errors import DataError
from referformer.formats.records import write_records
from referformer.formats.tracks import encode_track
from tests.fixtures.ref_youtube_vos import make_ref_youtube_vos

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools'))
sys.path.insert(0, str(Path(__file__).parents[2] / 'tools/analysis_tools'))
import compare_scores
import eval_masks

CONFIG = """
default_scope = 'referformer'
test_dataloader = dict(
    dataset=dict(
        type='RefYouTubeVOSDataset',
        data_root={root!r},
        ann_file='meta_expressions/valid/meta_expressions.json',
        exclude_ann_file='meta_expressions/test/meta_expressions.json',
        data_prefix=dict(img='valid/JPEGImages', mask='valid/Annotations'),
        group_by_video={grouped},
        test_mode=True,
        pipeline=[
            dict(type='NormalizeText'),
            dict(type='SampleAllFrames'),
            dict(
                type='TransformBroadcaster',
                transforms=[
                    dict(type='LoadReferFrame'),
                    dict(type='ReferResize', short_side=60),
                    dict(type='LoadReferAnnotations'),
                ],
            ),
            dict(type='PackReferInputs', test_mode=True),
        ],
    )
)
"""


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """A data set, and two predictions with their scores; B is worse."""
    folder = tmp_path_factory.mktemp('results')
    gt = make_ref_youtube_vos(folder / 'gt')
    path = gt / 'meta_expressions/valid/meta_expressions.json'
    excluded = gt / 'meta_expressions/test/meta_expressions.json'
    excluded = json.loads(excluded.read_text())['videos']
    tracks = {'a': [], 'b': []}
    videos = json.loads(path.read_text())['videos']
    for video, entry in videos.items():
        if video in excluded:
            continue
        maps = [
            np.array(Image.open(gt / f'valid/Annotations/{video}/{name}.png'))
            for name in entry['frames']
        ]
        for number, (name, expression) in enumerate(
            entry['expressions'].items()
        ):
            masks = [labels == int(expression['obj_id']) for labels in maps]
            for label, shift in (('a', 1), ('b', 1 + 5 * number)):
                moved = [np.roll(mask, shift, axis=1) for mask in masks]
                tracks[label].append(encode_track(video, name, moved))
    for label, entries in tracks.items():
        write_records(folder / f'{label}.jsonl', entries)
        words = [
            'ref-youtube-vos',
            '--gt',
            gt,
            '--pred',
            folder / f'{label}.jsonl',
        ]
        words += ['--out', folder / f'{label}.json', '--jobs', 1]
        eval_masks.main(list(map(str, words)))
    return folder


def run(results, *args):
    files = [results / 'a.json', results / 'b.json']
    compare_scores.main([*map(str, files), *map(str, args)])


def test_table_and_file(results, tmp_path, capsys):
    out = tmp_path / 'comparison.json'
    run(results, '--out', out, '--level', 0.9, '--top', 2)
    printed = capsys.readouterr().out
    assert 'B - A with its 90 % interval' in printed
    report = json.loads(out.read_text())
    a, b = (
        json.loads((results / f'{label}.json').read_text()) for label in 'ab'
    )
    whole = report['groups']['all']
    assert whole['A'] == pytest.approx(a['J&F'], abs=1e-12)
    assert whole['B'] == pytest.approx(b['J&F'], abs=1e-12)
    assert whole['difference'] < 0
    assert whole['num'] == len(a['per_expression'])
    assert whole['better'] == 0
    first = next(iter(report['units']))
    assert first in printed.splitlines()[-3]


@pytest.mark.parametrize('grouped', [False, True])
def test_pictures(results, tmp_path, grouped, capsys):
    config = tmp_path / 'config.py'
    root = str(results / 'gt')
    config.write_text(CONFIG.format(root=root, grouped=grouped))
    preds = results / 'a.jsonl', results / 'b.jsonl'
    args = ('--show-dir', tmp_path / 'show', '--config', config)
    run(results, *args, '--pred', *preds, '--top', 3)
    assert 'drew 3 expressions' in capsys.readouterr().out
    files = sorted((tmp_path / 'show').iterdir())
    assert [file.name[:3] for file in files] == ['01_', '02_', '03_']
    picture = np.array(Image.open(files[0]))
    # Six frames beside each other, and four rows of them below captions.
    assert picture.shape[1] >= 6 * 60
    assert picture.shape[0] > 4 * 60


def test_another_set(results, tmp_path):
    config = tmp_path / 'config.py'
    other = make_ref_youtube_vos(tmp_path / 'other')
    path = other / 'meta_expressions/valid/meta_expressions.json'
    content = json.loads(path.read_text())
    for video in content['videos'].values():
        video['expressions'] = dict(list(video['expressions'].items())[:1])
    path.write_text(json.dumps(content))
    config.write_text(CONFIG.format(root=str(other), grouped=True))
    preds = results / 'a.jsonl', results / 'b.jsonl'
    with pytest.raises(DataError, match='config of the set that was scored'):
        run(
            results,
            *('--show-dir', tmp_path / 'show', '--config', config),
            *('--pred', *preds),
        )


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (('--show-dir', 'show'), 'needs --config and --pred'),
        (('--level', '95'), 'between 0 and 1'),
    ],
)
def test_options(capsys, args, message):
    with pytest.raises(SystemExit):
        compare_scores.parse_args(['a.json', 'b.json', *args])
    assert message in capsys.readouterr().err
