# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""From the files as they are downloaded to a training step and a score."""

import functools
import json
import re
import sys
import zipfile

import pytest

from referformer.evaluation.functional.expression_scores import (
    MEASURES,
    group_rows,
)
from tests.fixtures import (
    long_rvos,
    mevis,
    mevis_v2,
    ref_davis,
    ref_sav,
    ref_youtube_vos,
    revos,
)

from .helpers import ROOT, Oracle, make_runner

sys.path.insert(0, str(ROOT / 'tools'))
import eval_masks

#: What prepares the set; videos in its test split, where that is checked.
SETS = {
    'ref-youtube-vos': (ref_youtube_vos.prepare_ref_youtube_vos, 2),
    'ref-davis': (ref_davis.prepare_ref_davis, 2),
    'mevis': (mevis.prepare_mevis, None),
    'mevis-v2': (mevis_v2.prepare_mevis_v2, None),
    'revos': (revos.prepare_revos, None),
    'long-rvos': (long_rvos.prepare_long_rvos, None),
    'ref-sav': (ref_sav.prepare_ref_sav, None),
}
#: The sets of 2024 and later: folder of the truth for ``eval_masks.py``, its
#: command, and the types of the expressions that are scored.
RECENT = {
    'mevis-v2': ('valid_u', 'mevis', None),
    'revos': ('.', 'revos', {'referring', 'reasoning', 'no-target'}),
    'long-rvos': ('valid', 'long-rvos', {'static', 'dynamic', 'hybrid'}),
    'ref-sav': ('ref_sav_eval', 'ref-sav', {'long', 'short'}),
}


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    """Prepare a set once."""

    @functools.cache
    def prepare(name):
        return SETS[name][0](tmp_path_factory.mktemp(name))

    return prepare


@pytest.fixture
def runner(prepared, tmp_path):
    def build(name, work=tmp_path / 'run', **options):
        key = 'test_dataloader.dataset.expected_videos'
        options = {k.replace('__', '.'): v for k, v in options.items()}
        if SETS[name][1] is not None:
            options[key] = SETS[name][1]
        return make_runner(name, prepared(name), work, options)

    return build


@pytest.mark.parametrize('name', ['ref-youtube-vos', 'mevis', *RECENT])
def test_one_training_step_and_a_scored_test(runner, name):
    run = runner(
        name,
        train_cfg={
            '_delete_': True,
            'type': 'IterBasedTrainLoop',
            'max_iters': 1,
        },
        log_processor__by_epoch=False,
        default_hooks__checkpoint__by_epoch=False,
    )
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.train()
    after = run.model.state_dict()
    changed = {k.split('.')[0] for k in after if (after[k] != before[k]).any()}
    assert {'backbone', 'transformer', 'head'} <= changed
    scores = run.test()
    assert 0 <= scores['refer/J&F'] <= 100


@pytest.mark.parametrize(
    ('window', 'protocol'), [(2, 'published'), (None, 'per-expression')]
)
def test_a_model_is_scored_on_ref_davis(runner, window, protocol):
    scores = runner(
        'ref-davis',
        model__predictor__window=window,
        test_evaluator__protocol=protocol,
    ).test()
    assert 0 <= scores['refer/J&F'] <= 100


@pytest.mark.parametrize(
    ('name', 'protocol'),
    [
        ('ref-youtube-vos', None),
        ('mevis', None),
        ('ref-davis', 'per-expression'),
        *((name, None) for name in RECENT),
    ],
)
def test_the_truth_scores_full_marks(runner, name, protocol):
    """Objects, frames and annotators keep their order all the way."""
    options = {'test_evaluator__protocol': protocol} if protocol else {}
    run = runner(name, **options)
    run.model = Oracle()
    assert run.test()['refer/J&F'] == pytest.approx(100)


def test_nobody_finds_what_nobody_describes(runner):
    """The published protocol asks for all objects of the masks."""
    run = runner('ref-davis')
    run.model = Oracle()
    videos = ref_davis.VIDEOS['val'].values()
    described = sum(video.described for video in videos)
    objects = sum(len(video.movers) for video in videos)
    assert described == objects - 1
    assert run.test()['refer/J&F'] == pytest.approx(100 * described / objects)


@pytest.mark.parametrize('name', ['ref-youtube-vos', 'mevis'])
def test_a_frame_in_error_costs_its_share_of_every_expression(runner, name):
    run = runner(name)
    run.model = Oracle(blind=0)
    scores = run.test()
    dataset = run.test_dataloader.dataset
    videos = [dataset.get_data_info(i) for i in range(len(dataset))]
    shares = [
        1 - 1 / video['video_length']
        for video in videos
        for _ in video['expressions']
    ]
    assert scores['refer/J'] == pytest.approx(100 * sum(shares) / len(shares))


def documented(page, **replacements):
    """Variables of the first config on a page of the documentation."""
    text = (ROOT / f'docs/datasets/{page}.md').read_text()
    code = re.findall(r'```python\n(.*?)```', text, re.S)[0]
    for old, new in replacements.items():
        code = code.replace(old, str(new))
    names: dict = {}
    exec(code, {}, names)
    return names


@pytest.mark.parametrize(
    ('name', 'page', 'folder', 'top'),
    [
        (
            'ref-youtube-vos',
            'ref-youtube-vos',
            'ref-youtube-vos',
            'Annotations/',
        ),
        ('mevis', 'mevis', 'mevis', ''),
    ],
)
def test_documented_submission(
    runner, prepared, tmp_path, name, page, folder, top
):
    options = documented(
        page,
        **{f'data/{folder}': prepared(name), 'work_dirs': tmp_path},
    )
    run = runner(name, **options)
    run.model = Oracle()
    run.test()
    (archive,) = tmp_path.glob('*/submission.zip')
    names = zipfile.ZipFile(archive).namelist()
    dataset = run.test_dataloader.dataset
    videos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert set(names) == {
        f'{top}{video["video_id"]}/{said["exp_id"]}/{frame}.png'
        for video in videos
        for said in video['expressions']
        for frame in video['frame_names']
    }


def test_documented_training_on_ref_davis(prepared, tmp_path):
    options = documented(
        'ref-davis17', **{'data/ref-davis/': f'{prepared("ref-davis")}/'}
    )
    assert options['_base_'] == './referformer_r50_ytvos.py'
    run = make_runner(
        'ref-youtube-vos',
        prepared('ref-davis'),
        tmp_path / 'run',
        {
            'train_dataloader': options['train_dataloader'],
            'train_cfg': {
                '_delete_': True,
                'type': 'IterBasedTrainLoop',
                'max_iters': 1,
            },
            'log_processor.by_epoch': False,
            'default_hooks.checkpoint.by_epoch': False,
        },
    )
    run.train()
    assert run.iter == 1
    assert len(run.train_dataloader.dataset) == 4 * (2 * 2 + 1 + 2)


class Clumsy(Oracle):
    """Sees the truth, but puts it elsewhere, and something where is none."""

    def see(self, video):
        clips = super().see(video)
        for clip in clips:
            for t, frame in enumerate(clip.video_data_samples):
                masks = frame.pred_track_instances.masks
                masks.logits = masks.logits.roll(t % 4, -1)
                if t == 1:
                    masks.logits[..., :3, :5] = 10.0
        return clips


@pytest.mark.parametrize('name', RECENT)
def test_scores_from_memory_and_from_files_are_the_same(
    runner, prepared, tmp_path, name
):
    """Whole videos and single expressions, PNGs and run-length codes."""
    folder, command, types = RECENT[name]
    truth = prepared(name) / folder
    group_by = [] if types is None else ['type']
    tables = []
    for grouped in (True, False):
        work = tmp_path / f'grouped-{grouped}'
        run = runner(
            name,
            work=work,
            test_dataloader__dataset__group_by_video=grouped,
            test_evaluator=[
                {
                    'type': 'ReferVOSMetric',
                    'outfile': str(work / 'table.json'),
                    'group_by': group_by,
                },
                *(
                    {
                        'type': 'ReferSubmission',
                        'ann_file': str(find_expressions(truth)),
                        'out_dir': str(work / form),
                        'form': form,
                        'prefix': form,
                    }
                    for form in ('zip', 'json')
                ),
            ],
        )
        run.model = Clumsy()
        run.test()
        tables.append(json.loads((work / 'table.json').read_text()))
    assert tables[0] == tables[1]
    table = tables[0]
    assert 0 < table['J&F'] < 100
    for pred in (
        'zip/Annotations',
        'zip/submission.zip',
        'json/submission.json',
    ):
        out = tmp_path / 'scores.json'
        words = [command, '--gt', truth, '--pred', work / pred, '--out', out]
        words += ['--jobs', 1]
        words += ['--group-by', *group_by] if group_by else []
        eval_masks.main([*map(str, words)])
        scores = json.loads(out.read_text())
        rows = {'': scores, **group_rows(scores)}
        if types is not None:
            assert {f'type={kind}' for kind in types} <= set(rows)
        for name, entry in scores['per_expression'].items():
            same(table['per_expression'][name], entry)
        for row, entry in rows.items():
            prefix = f'{row}/' if row else ''
            found = {k.removeprefix(prefix): v for k, v in table.items()}
            same(found, entry)


def same(in_percent, as_fractions):
    """Hold the measures of a metric against those of a command."""
    names = [name for name in MEASURES if name in as_fractions]
    assert {'J&F', 'J', 'F', 'tIoU', 'vIoU'} <= set(names)
    for name in names:
        expected = 100 * as_fractions[name]
        assert in_percent[name] == pytest.approx(expected, rel=1e-12)


def find_expressions(folder):
    """The expressions that are scored; of ReVOS those of valid."""
    found = folder.glob('meta_expressions*.json')
    return next(path for path in found if 'train' not in path.name)
