# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Images as clips of one frame, alone and beside videos."""

import json
import re
import runpy
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from referformer.datasets import RefCOCODataset
from referformer.registry import DATASETS, MODELS
from referformer.testing import tiny_model_cfg
from referformer.utils.seeding import SeededIndex
from tests.fixtures.ref_youtube_vos import prepare_ref_youtube_vos
from tests.fixtures.refcoco import PICTURES, SENTENCES, SPLITS, prepare_refcoco

from ..fixtures.tools import ROOT, script

BASES = ROOT / 'configs/_base_/datasets'
VAL = 'refcoco/instances_refcoco_val.json'
TRAIN = 'refcoco/instances_refcoco_train.json'


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    return prepare_refcoco(tmp_path_factory.mktemp('data') / 'coco')


@pytest.fixture(scope='module')
def ytvos(tmp_path_factory):
    return prepare_ref_youtube_vos(tmp_path_factory.mktemp('data') / 'ytvos')


@pytest.fixture
def root(coco, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(coco, tmp_path / 'coco')


def build(root, ann_file=VAL, **kwargs):
    return RefCOCODataset(ann_file, data_root=str(root), **kwargs)


def load(name, coco, ytvos=None):
    """A dataset config on the fixtures."""
    cfg = Config.fromfile(BASES / f'{name}.py')
    for key in ('train_dataloader', 'test_dataloader'):
        if key not in cfg:
            continue
        cfg[key].update(num_workers=0, persistent_workers=False)
        dataset = cfg[key].dataset
        for part in dataset.get('datasets', [dataset]):
            is_coco = part.type == 'RefCOCODataset'
            part.data_root = f'{coco if is_coco else ytvos}/'
    return cfg


def sentences(name, split_by, split):
    return [
        sentence.lower()
        for image_id, k in SPLITS[name, split_by][split]
        for sentence in SENTENCES[image_id, k]
    ]


def test_an_item_is_a_sentence(coco):
    dataset = build(coco, test_mode=True)
    items = [dataset[i] for i in range(len(dataset))]
    assert [i['text'] for i in items] == sentences('refcoco', 'unc', 'val')
    assert [i['image_id'] for i in items] == [1, 2, 3, 4]
    first, *_, crowd = items
    assert first['video_id'] == 'COCO_train2014_000000581857'
    assert first['subset'] == 'refcoco_val'
    assert first['obj_id'] == '5818570'
    # x, y, width, height of the annotation
    assert first['ori_bbox'] == [4, 6, 4 + 18, 6 + 30]
    assert first['video_length'] == len(first['frame_names']) == 1
    # The crowd is scored ...
    assert crowd['text'] == 'both in the middle'
    assert isinstance(crowd['rles'], dict)


def test_crowds_and_silence_are_not_trained_on(root):
    everything = sentences('refcoco', 'unc', 'train')
    path = root / TRAIN
    content = json.loads(path.read_text())
    content['images'][0]['caption'] = ' '
    path.write_text(json.dumps(content))
    texts = [item['text'] for item in build(root, TRAIN)]
    assert texts == everything[1:-1]
    # whoever is tested answers everything
    assert len(build(root, TRAIN, test_mode=True)) == len(everything)


def test_the_two_splits_of_refcocog(coco):
    for name, split_by in (('refcocog', 'umd'), ('refcocog-google', 'google')):
        dataset = build(coco, f'refcocog/instances_{name}_val.json')
        texts = [item['text'] for item in dataset]
        assert texts == sentences('refcocog', split_by, 'val')
        assert dataset[0]['subset'] == f'{name}_val'


def test_an_image_is_read_once_for_all_subsets(coco):
    cfg = load('refcoco', coco)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    samples = [item['data_samples'] for item in dataset]
    assert len(samples) == 3
    asked = [
        (expression['subset'], expression['text'])
        for sample in samples
        for expression in sample.expressions
    ]
    expected = [
        (f'{name}_{split}', text)
        for (name, split_by), splits in SPLITS.items()
        for split in splits
        if split != 'train' and split_by != 'google'
        for text in sentences(name, split_by, split)
    ]
    assert sorted(asked) == sorted(expected)
    # ids are unique within a subset only
    keys = [
        (e['subset'], e['image_id']) for s in samples for e in s.expressions
    ]
    assert len(set(keys)) == len(keys)
    for sample in samples:
        (frame,) = sample.video_data_samples
        assert len(frame.gt_rles) == len(sample.expressions)


def test_one_subset_by_an_option(coco):
    cfg = load('refcoco', coco)
    cfg.merge_from_dict({'test_dataloader.dataset.ann_file': VAL})
    (item,) = DATASETS.build(cfg.test_dataloader.dataset)
    assert {e['subset'] for e in item['data_samples'].expressions} == {
        'refcoco_val'
    }


def test_truth_keeps_the_size_of_the_image(coco):
    cfg = load('refcoco', coco)
    cfg.test_dataloader.dataset.update(ann_file=VAL, group_by_video=False)
    item = DATASETS.build(cfg.test_dataloader.dataset)[2]
    (frame,) = item['data_samples'].video_data_samples
    # 96 x 48, the long side to 640; grey, and yet three channels
    assert item['inputs'].shape == (1, 3, 320, 640)
    assert item['inputs'].float().std(dim=1).max() == 0
    assert frame.gt_instances.masks.shape == (1, 48, 96)
    mask = frame.gt_instances.masks.to_ndarray()[0]
    assert mask[10:30, 70:90].all()
    assert mask.sum() == 400
    assert frame.gt_instances.bboxes.tolist() == [[70, 10, 90, 30]]


def test_browsing_shows_every_sentence(coco, tmp_path, monkeypatch):
    tool = ROOT / 'tools/analysis_tools/browse_dataset.py'
    monkeypatch.setattr(
        'sys.argv',
        [
            *(str(tool), str(BASES / 'refcoco.py')),
            *('--loader', 'test_dataloader', '--out', str(tmp_path)),
            *('--cfg-options', f'test_dataloader.dataset.data_root={coco}'),
            f'test_dataloader.dataset.ann_file={VAL}',
        ],
    )
    runpy.run_path(str(tool), run_name='__main__')
    pictures = [
        cv2.imread(str(path)) for path in sorted(tmp_path.glob('*.png'))
    ]
    assert len(pictures) == len(sentences('refcoco', 'unc', 'val'))
    red = [
        np.nonzero(picture[26:, :, 2] > picture[26:, :, 0] + 30.0)[1].mean()
        for picture in pictures
    ]
    # left, left, right, both in the middle
    assert red[0] == red[1] < red[3] < red[2]


def edit(root, change, ann_file=VAL):
    path = root / ann_file
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (
            lambda c: c['images'][0].update(file_name='../secret.jpg'),
            r"sentence 1 .*'\.\./secret\.jpg', which is not the name of a",
        ),
        (
            lambda c: c['images'][1].update(file_name='..\\secret.jpg'),
            'sentence 2 .* is not the name of a',
        ),
        (
            lambda c: c['annotations'][0].update(bbox=[1, 2, float('nan'), 4]),
            'sentence 1 has the bbox .* not four finite numbers',
        ),
        (
            lambda c: c['annotations'][1].pop('segmentation'),
            "sentence 2 has no 'segmentation'",
        ),
        (
            lambda c: c['images'][0].update(caption=None),
            'sentence 1 has no text',
        ),
        (lambda c: c['annotations'].pop(), 'sentence 4 has no annotation'),
        (lambda c: c['images'].pop(), 'belong to no sentence, first to 4'),
        (lambda c: c['images'][0].pop('id'), 'an image has the id None'),
        (lambda c: c['images'].insert(0, None), 'has no tables'),
        (lambda c: c.clear(), 'has no tables "images" and "annotations"'),
        (
            lambda c: c.update(images=[], annotations=[]),
            'no usable sentence',
        ),
    ],
)
def test_unusable_files_are_named(root, change, reason):
    edit(root, change)
    with pytest.raises(ValueError, match=f'refcoco_val.json.*{reason}'):
        build(root, [TRAIN, VAL])


def test_missing_files(root):
    with pytest.raises(FileNotFoundError, match=r'refer_to_coco\.py'):
        build(root, 'refcoco/instances_refcoco_test.json')
    shutil.rmtree(root / 'train2014')
    with pytest.raises(FileNotFoundError, match=r'train2014.*does not exist'):
        build(root)


@pytest.mark.parametrize('ann_file', [[], [VAL, VAL]])
def test_files_are_named_once(coco, ann_file):
    with pytest.raises(ValueError, match='name one file, or several'):
        build(coco, ann_file)


# -- training -----------------------------------------------------------------


def train_step(batch):
    model = MODELS.build(tiny_model_cfg())
    model.train()
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    total, log = model.parse_losses(losses)
    assert total.isfinite()
    total.backward()
    assert any(p.grad is not None for p in model.head.parameters())
    return log


def test_pretraining_takes_a_step(coco):
    cfg = load('refcoco-pretrain', coco)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    # all three sets, without the crowd
    assert len(loader.dataset) == 7 + 5 + 4 - 1
    batch = next(iter(loader))
    assert [clip.shape[0] for clip in batch['inputs']] == [1, 1]
    assert min(min(clip.shape[2:]) for clip in batch['inputs']) >= 296
    train_step(batch)


@pytest.fixture(scope='module')
def joint(coco, ytvos):
    cfg = load('joint', coco, ytvos)
    for part in cfg.train_dataloader.dataset.datasets:
        # small, so that it is quick; whole, so that nothing falls outside
        part.pipeline[-2] = dict(
            type='TransformBroadcaster',
            share_random_params=True,
            transforms=[dict(type='ReferResize', short_side=(40, 48))],
        )
    return cfg


def test_joint_batches_mix_images_and_videos(joint):
    joint.train_dataloader.batch_size = 4
    loader = Runner.build_dataloader(joint.train_dataloader, seed=0)
    mixed = None
    seen = {'image': 0, 'video': 0}
    for batch in loader:
        assert {len(clip) for clip in batch['inputs']} == {5}
        kinds = {
            'image' if 'subset' in sample else 'video'
            for sample in batch['data_samples']
        }
        for kind in kinds:
            seen[kind] += 1
        mixed = batch if len(kinds) == 2 else mixed
    assert all(seen.values())
    train_step(mixed)


def test_joint_samples_depend_on_their_seed_alone(joint):
    """mmengine's wrapper hands the seed on to either part."""
    dataset = DATASETS.build(joint.train_dataloader.dataset)
    for index in (1, len(dataset) - 1):
        first, again, other = (
            dataset[SeededIndex(index, seed)] for seed in (1, 1, 2)
        )
        assert torch.equal(first['inputs'], again['inputs'])
        facts = first['data_samples'].metainfo
        assert facts == again['data_samples'].metainfo
        assert not (
            first['inputs'].shape == other['inputs'].shape
            and torch.equal(first['inputs'], other['inputs'])
        )


def test_objects_of_a_joint_clip_side_by_side(joint):
    cfg = Config(joint.train_dataloader.to_dict())
    cfg.batch_size = 2
    cfg.sampler = dict(
        type='SeededSampler', sampler='ObjectGroupSampler', group_size=2
    )
    loader = Runner.build_dataloader(cfg, seed=0)
    pairs = 0
    for batch in loader:
        one, *other = batch['data_samples']
        if other and one.video_id == other[0].video_id:
            pairs += one.obj_id != other[0].obj_id
    assert pairs > 0


@pytest.mark.parametrize('seed', range(8))
def test_left_and_right_of_pseudo_clips_stay_true(joint, seed):
    dataset = DATASETS.build(joint.train_dataloader.dataset.datasets[0])
    index = next(
        i
        for i in range(len(dataset))
        if dataset.get_data_info(i)['text'] == 'right'
    )
    sample = dataset[SeededIndex(index, seed)]['data_samples']
    original = PICTURES[9].shapes[1]
    assert min(original.polygons[0][::2]) > PICTURES[9].size[0] / 2
    flipped = bool(sample[0].flip)
    assert sample.text == ('left' if flipped else 'right')
    for frame in sample.video_data_samples:
        for mask in frame.gt_instances.masks.masks:
            centre = np.nonzero(mask)[1].mean() / mask.shape[1]
            assert (centre < 0.5) == flipped


def test_documented_mix(coco, ytvos, tmp_path):
    page = (ROOT / 'docs/datasets/joint.md').read_text()
    (block,) = re.findall(r'```python\n(.*?)```', page, re.S)
    path = tmp_path / 'mix.py'
    path.write_text(block.replace("'./", f"'{ROOT / 'configs'}/"))
    cfg = Config.fromfile(path).train_dataloader.dataset
    videos, images = cfg.datasets
    images.data_root, videos.dataset.data_root = f'{coco}/', f'{ytvos}/'
    mixed, plain = (DATASETS.build(each) for each in (cfg, videos.dataset))
    assert len(mixed) == 4 * len(plain) + len(DATASETS.build(images))
    samples = [mixed[SeededIndex(len(plain) * k, 3)] for k in range(2)]
    assert torch.equal(samples[0]['inputs'], samples[1]['inputs'])


# -- testing ------------------------------------------------------------------


def test_all_subsets_are_scored_in_one_run(coco, tmp_path):
    runtime = Config.fromfile(ROOT / 'configs/_base_/default_runtime.py')
    cfg = load('refcoco', coco)
    cfg.merge_from_dict(runtime.to_dict())
    cfg.test_dataloader.dataset.pipeline[2].transforms[1].short_side = 64
    cfg.test_evaluator.outfile = str(tmp_path / 'predictions.json')
    cfg.merge_from_dict(
        dict(
            model=tiny_model_cfg(),
            test_cfg=dict(type='TestLoop'),
            work_dir=str(tmp_path),
            experiment_name=str(tmp_path),
            visualizer=dict(name=str(tmp_path)),
        )
    )
    scores = Runner.from_cfg(cfg).test()
    subsets = {
        f'{name}_{split}'
        for (name, split_by), splits in SPLITS.items()
        for split in splits
        if split != 'train' and split_by != 'google'
    }
    assert {key.split('/')[1] for key in scores} == subsets
    script('eval_masks').main(
        [
            *('refcoco', '--gt', str(coco / VAL)),
            *('--pred', str(tmp_path / 'predictions.refcoco_val.json')),
            *('--out', str(tmp_path / 'scores.json')),
        ]
    )
    files = json.loads((tmp_path / 'scores.json').read_text())
    for subset in subsets:
        for measure in ('REC P@0.5', 'RIS overall_iou', 'RIS mean_iou'):
            (value,) = (
                value
                for key, value in scores.items()
                if key.split('/')[1:] == [subset, measure]
            )
            assert 0 <= value <= 100
            # the same from files
            if subset == 'refcoco_val':
                assert files[measure] * 100 == pytest.approx(value)
