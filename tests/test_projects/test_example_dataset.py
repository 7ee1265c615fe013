# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The example of a dataset of one's own: a folder of masks per object."""

import json
import runpy
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from referformer.registry import DATASETS
from tests.fixtures.drawing import Mover, draw
from tests.fixtures.tools import script
from tests.test_datasets.helpers import Oracle, make_runner, shrink

ROOT = Path(__file__).parents[2]
CONFIG = (
    ROOT / 'projects/example_dataset/configs/referformer_r50_object-folders.py'
)
LENGTH = 12
#: One object in sight all the time, one for some frames, one never.
MOVERS = [
    Mover(4, 4, 3),
    Mover(40, 30, -1, 10, hidden=tuple(range(4))),
    Mover(60, 4, 0, 8, hidden=tuple(range(LENGTH))),
]
VIDEOS = {'train': ['walk', 'ride'], 'valid': ['jump']}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'object-folders'
    frames, ids = draw(MOVERS, LENGTH)
    for split, videos in VIDEOS.items():
        table = {}
        for video in videos:
            images = root / split / 'JPEGImages' / video
            images.mkdir(parents=True)
            for t, frame in enumerate(frames):
                # names without zeros in front: 0, 1, ..., 11
                cv2.imwrite(str(images / f'{t}.jpg'), frame[..., ::-1])
            described = range(3 if split == 'valid' else 2)
            for number in described:
                masks = root / split / 'Annotations' / video / f'o{number}'
                masks.mkdir(parents=True)
                for t, labels in enumerate(ids):
                    mask = (labels == number + 1).astype(np.uint8) * 255
                    if mask.any():
                        cv2.imwrite(str(masks / f'{t}.png'), mask)
            table[video] = {
                'frames': [str(t) for t in range(LENGTH)],
                'expressions': {
                    str(number): {
                        'exp': f'object number {number}',
                        'obj_id': f'o{number}',
                    }
                    for number in described
                },
            }
        (root / split / 'meta_expressions.json').write_text(
            json.dumps({'videos': table})
        )
    return root


@pytest.fixture
def cfg(root, monkeypatch):
    # projects are imported from the top of the repository
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    cfg = Config.fromfile(CONFIG)
    for name in ('train_dataloader', 'test_dataloader'):
        loader = cfg[name].to_dict()
        shrink(loader)
        loader['dataset']['data_root'] = f'{root}/'
        loader.update(num_workers=0, persistent_workers=False)
        cfg[name] = loader
    return cfg


def test_it_is_as_short_as_it_says():
    project = CONFIG.parents[1]
    code = [p.read_text() for p in project.glob('object_folders/*.py')]
    assert len(''.join(code).splitlines()) <= 40
    assert len(CONFIG.read_text().splitlines()) <= 30


def test_masks_are_those_of_the_object(cfg):
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == 2 * 2 * 3  # videos, objects, start frames
    _, ids = draw(MOVERS, LENGTH)
    pipeline = cfg.test_dataloader.dataset.pipeline
    single = {**cfg.test_dataloader.dataset, 'group_by_video': False}
    dataset = DATASETS.build(dict(single, pipeline=pipeline))
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        number = int(sample.obj_id[1:]) + 1
        for t, frame in enumerate(sample.video_data_samples):
            assert frame.frame_name == str(t)
            found = frame.gt_instances.masks.to_ndarray().any(axis=0)
            np.testing.assert_array_equal(found, ids[t] == number)


def test_the_data_check_by_its_config(root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    main = runpy.run_path('tools/misc/check_dataset.py')['main']
    copy = tmp_path / 'copy'
    shutil.copytree(root, copy)
    assert main([str(CONFIG), str(copy), '--jobs=1']) == 0
    out = capsys.readouterr().out
    assert out.startswith(f'ObjectFoldersDataset in {copy}\n3 videos')
    # the third object is described and never in sight
    assert 'warning  object-never-seen' in out
    assert 'valid/Annotations/jump/o2' in out
    (copy / 'train/JPEGImages/walk/10.jpg').unlink()
    mask = copy / 'train/Annotations/ride/o0/3.png'
    mask.write_bytes(mask.read_bytes()[:30])
    (copy / 'valid/Annotations/jump/o1/99.png').touch()
    assert main([str(CONFIG), str(copy), '--jobs=1']) == 1
    out = capsys.readouterr().out
    assert '- train/JPEGImages/walk/10.jpg' in out
    assert '- train/Annotations/ride/o0/3.png' in out
    assert '2 errors' in out
    # what is not there is no fault where no file means "not in sight"
    assert main([str(CONFIG), str(copy), '--quick', '--split', 'test']) == 0


def test_one_training_step(cfg, root, tmp_path):
    run = make_runner(
        'ref-youtube-vos',
        root,
        tmp_path / 'run',
        {
            'train_dataloader': {**cfg.train_dataloader, '_delete_': True},
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


@pytest.mark.parametrize('grouped', [True, False])
@pytest.mark.parametrize('blind', [None, 5])
def test_grouped_and_single_expressions_score_the_same(
    cfg, tmp_path, grouped, blind
):
    loader = cfg.test_dataloader
    loader.dataset.group_by_video = grouped
    run = Runner(
        model=Oracle(blind),
        work_dir=str(tmp_path),
        test_dataloader=loader,
        test_cfg=dict(type='TestLoop'),
        test_evaluator=dict(
            type='ReferVOSMetric', outfile=str(tmp_path / 'scores.json')
        ),
        default_scope='referformer',
        experiment_name=f'{tmp_path}',
    )
    scores = run.test()
    expected = 100 * (1 if blind is None else 1 - 1 / LENGTH)
    assert scores['refer/J'] == pytest.approx(expected)
    table = json.loads((tmp_path / 'scores.json').read_text())
    assert set(table['per_expression']) == {f'jump/{k}' for k in range(3)}
    for entry in table['per_expression'].values():
        assert entry['J'] == pytest.approx(expected)
        assert entry['num_frames'] == LENGTH


@pytest.fixture
def check(cfg, tmp_path):
    """Check a folder by the config; return the codes of what is found."""

    def check(folder):
        report = tmp_path / 'report.json'
        status = script('misc/check_dataset').main(
            [str(CONFIG), str(folder), '--jobs=1', f'--out={report}']
        )
        found = {
            (finding['level'], finding['code'])
            for part in json.loads(report.read_text())
            for finding in part['findings']
        }
        assert status == any(level == 'error' for level, _ in found)
        return {code: level for level, code in found}

    return check


def damage_frame(root):
    path = root / 'train/JPEGImages/walk/10.jpg'
    path.write_bytes(path.read_bytes()[:100])


def remove_frame(root):
    (root / 'valid/JPEGImages/jump/2.jpg').unlink()


def damage_mask(root):
    (root / 'train/Annotations/ride/o1/7.png').write_bytes(b'no png')


def resize_mask(root):
    path = root / 'train/Annotations/ride/o0/7.png'
    cv2.imwrite(str(path), np.zeros((8, 8), np.uint8))


def empty_expression(root):
    path = root / 'train/meta_expressions.json'
    path.write_text(path.read_text().replace('object number 1', ' '))


@pytest.mark.parametrize(
    ('damage', 'code'),
    [
        (damage_frame, 'frame-broken'),
        (remove_frame, 'frame-missing'),
        (damage_mask, 'mask-broken'),
        (resize_mask, 'mask-size-differs'),
        (empty_expression, 'expression-empty'),
    ],
)
def test_the_data_check_finds_faults(check, root, tmp_path, damage, code):
    folder = shutil.copytree(root, tmp_path / 'copy')
    damage(folder)
    assert check(folder)[code] == 'error'
