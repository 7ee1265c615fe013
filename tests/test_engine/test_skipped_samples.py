# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Files that are damaged in a long training: left out, counted, reported."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from referformer.datasets.base_refer_dataset import _MAX_FAILED
from referformer.engine.resume import resume_latest
from referformer.errors import (
    ConfigError,
    DataError,
    MediaError,
)
from referformer.registry import DATASETS, MODELS
from referformer.utils.seeding import SeededIndex, derive_seed
from tests.faults import DATA, fault

from .test_resume import ROOT, RUNNERS
from .toy import RecordLossHook, ToyModel

# of five videos, three of the second
ITEMS = [0, 4, 5, 6, 20, 21, 30, 36]
CONFIG = ROOT / 'configs/referformer_tiny_synthetic.py'


@pytest.fixture
def data(synthetic_root, tmp_path):
    """A copy of the synthetic set that a test may damage."""
    return Path(shutil.copytree(synthetic_root, tmp_path / 'data'))


def damage(data, video='train-00001'):
    """Cut the pictures of a video."""
    for path in data.glob(f'train/JPEGImages/{video}/*'):
        path.write_bytes(path.read_bytes()[:100])


@MODELS.register_module(force=True)
class PixelModel(ToyModel):
    """The toy model on the brightness of four frames."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        bright = [clip.float().mean((1, 2, 3)) / 255 for clip in inputs]
        words = [float(len(sample.text)) for sample in data_samples]
        return super().forward(bright, words, mode)


def config(data, work_dir, **changes):
    """Two epochs of four iterations on real clips."""
    cfg = Config.fromfile(CONFIG)
    cfg.model = dict(type='PixelModel')
    loader = cfg.train_dataloader
    loader.update(num_workers=0, persistent_workers=False, batch_size=2)
    loader.sampler = dict(type='SeededSampler', shuffle=True)
    loader.dataset.update(data_root=f'{data}/', on_error='skip', indices=ITEMS)
    cfg.train_cfg.max_epochs = 2
    cfg.param_scheduler = []
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.work_dir = str(work_dir)
    cfg.visualizer.name = cfg.experiment_name = str(work_dir)
    cfg.default_hooks.checkpoint.interval_iters = 1
    cfg.default_hooks.skipped_samples.max_share = 0.9
    cfg.custom_imports = dict(imports=['tests.test_engine.toy'])
    cfg.custom_hooks = [dict(type='RecordLossHook', path=f'{work_dir}.losses')]
    cfg.merge_from_dict(changes)
    return cfg


def build(cfg):
    runner = Runner.from_cfg(cfg)
    RUNNERS.append(runner)
    return runner


def log_of(cfg):
    return '\n'.join(
        path.read_text() for path in sorted(Path(cfg.work_dir).rglob('*.log'))
    )


def dataset(data, **changes):
    cfg = config(data, data / 'unused')
    return DATASETS.build({**cfg.train_dataloader.dataset, **changes})


def position(items, video):
    """The first item of a video."""
    return next(
        i for i in range(len(items)) if items.item_id(i).video_id == video
    )


# -- the dataset --------------------------------------------------------------


def draw(data, **options):
    """What a loader draws in an epoch, as texts and first pixels."""
    loader = config(data, data / 'unused').train_dataloader
    loader.update(options)
    loader = Runner.build_dataloader(loader, seed=5)
    return [
        (
            sample.video_id,
            sample.text,
            sample.metainfo.get('skipped'),
            clip.double().sum().item(),
        )
        for batch in loader
        for clip, sample in zip(
            batch['inputs'], batch['data_samples'], strict=True
        )
    ]


@fault(
    DATA,
    "pictures are cut off, with `on_error='skip'`",
    'others replace them, the same with any number of workers',
)
def test_the_same_samples_with_any_number_of_workers(data):
    whole = draw(data)
    damage(data)
    alone, two = draw(data), draw(data, num_workers=2)
    assert alone == two
    assert len(alone) == len(whole)
    replaced = [sample for sample in alone if sample[2]]
    assert replaced
    for before, after in zip(whole, alone, strict=True):
        # all others are what they would have been
        assert after[2] or before == after
    for *_, skipped, _ in replaced:
        assert all('train-00001/' in text for text in skipped)
        assert all('cannot be decoded' in text for text in skipped)


@fault(
    DATA,
    'a picture of the training data is cut off',
    'the run ends, and the picture is named',
)
def test_by_default_the_first_one_stops(data):
    damage(data)
    broken = dataset(data, on_error='raise')
    with pytest.raises(MediaError, match='cannot be decoded'):
        broken[position(broken, 'train-00001')]


@fault(
    DATA,
    "pictures are missing, with `on_error='skip'`",
    'another sample takes the place, and says whose',
)
def test_missing_files_are_skipped_too(data):
    gone = dataset(data)
    for path in data.glob('train/JPEGImages/train-00001/*'):
        path.unlink()
    sample = gone[position(gone, 'train-00001')]['data_samples']
    assert sample.video_id != 'train-00001'
    assert 'is missing' in sample.skipped[0]


@fault(
    DATA,
    "all pictures are gone, with `on_error='skip'`",
    'the run ends after 50 tries in a row, and names one',
)
def test_nothing_can_be_read(data):
    """Such as a disk that is gone: no search without an end."""
    gone = dataset(data)
    for path in data.glob('train/JPEGImages/*/*'):
        path.unlink()
    with pytest.raises(DataError) as caught:
        gone[0]
    message = str(caught.value)
    assert message.startswith(f'{_MAX_FAILED} samples in a row could not be ')
    assert 'is missing' in message
    assert caught.value.code == 'frame-missing'


@fault(
    DATA,
    'all masks of the training data are empty',
    'the run ends after 50 clips, and says so',
)
@pytest.mark.parametrize('on_error', ['raise', 'skip'])
def test_masks_that_are_all_empty(data, on_error):
    for path in data.glob('train/Annotations/*/*.png'):
        mask = Image.open(path)
        empty = Image.fromarray(np.zeros_like(mask), mode='P')
        empty.putpalette(mask.getpalette())
        empty.save(path)
    empty = dataset(data, on_error=on_error)
    opened = []
    prepare = empty.prepare_data
    empty.prepare_data = lambda idx: opened.append(idx) or prepare(idx)
    with pytest.raises(DataError, match=r'^none of 50 clips drawn from .*'):
        empty[0]
    assert len(opened) == _MAX_FAILED


def test_clips_without_their_object_beside_others(data):
    """Many tries are allowed once one of them has shown its object."""
    found = dataset(data)
    found[0]
    samples = [found.prepare_data(0)]
    found.prepare_data = lambda idx: tries.pop()
    tries = [*samples, *[None] * (3 * _MAX_FAILED)]
    assert found[0] is samples[0]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(on_error='ignore'), r"on_error must be one of .*'ignore'"),
        (
            dict(on_error='skip', test_mode=True),
            'would leave samples out of the scores',
        ),
    ],
)
def test_settings_that_make_no_sense(data, changes, message):
    with pytest.raises(ConfigError, match=message):
        dataset(data, **changes)


# -- a training ---------------------------------------------------------------


def entries(cfg):
    path = Path(cfg.work_dir, 'skipped_samples/rank_0.jsonl')
    return [*map(json.loads, path.read_text().splitlines())]


@fault(
    DATA,
    'a run that leaves out samples is interrupted',
    'losses and the list of samples equal those of the whole run',
)
def test_a_run_that_skips_resumes_exactly(data, tmp_path):
    damage(data)
    cfg = config(data, tmp_path / 'whole')
    build(cfg).train()
    whole = RecordLossHook.read(f'{cfg.work_dir}.losses')
    skipped = entries(cfg)
    assert len(whole) == 8
    assert skipped
    log = log_of(cfg)
    # mmengine prints a warning once
    different = {entry['skipped'] for entry in skipped}
    assert log.count('A sample was left out: train-00001/') == len(different)
    assert f'{len(skipped)} samples were left out, which are listed' in log

    last = skipped[-1]['iteration']
    assert last > 1
    # after the last one, whose iteration has no checkpoint yet
    cfg = config(data, tmp_path / 'killed')
    cfg.custom_hooks[0].kill_at = last
    with pytest.raises(KeyboardInterrupt):
        build(cfg).train()
    # as a kill in the middle of writing leaves it
    path = Path(cfg.work_dir, 'skipped_samples/rank_0.jsonl')
    path.write_text(f'{path.read_text()}{{"iterat')
    cfg.custom_hooks[0].kill_at = None
    cfg.visualizer.name = cfg.experiment_name = str(tmp_path / 'again')
    Path(cfg.custom_hooks[0].path).unlink()
    runner = build(cfg)
    assert resume_latest(runner)
    runner.train()
    resumed = RecordLossHook.read(f'{cfg.work_dir}.losses')
    assert resumed == {i: whole[i] for i in range(last - 1, 8)}
    assert entries(cfg) == skipped


@fault(
    DATA,
    'more samples are damaged than `max_share` allows',
    'the run ends, counts them and names the last one',
)
def test_too_many_stop_the_run(data, tmp_path):
    damage(data)
    cfg = config(
        data,
        tmp_path / 'run',
        **{'default_hooks.skipped_samples.max_share': 0.05},
    )
    with pytest.raises(DataError, match=r'more than max_share=0\.05') as error:
        build(cfg).train()
    message = str(error.value)
    assert 'train-00001/' in message
    assert 'go on with --resume' in message


def test_a_clean_run_leaves_no_file(data, tmp_path):
    cfg = config(data, tmp_path / 'run', **{'train_cfg.max_epochs': 1})
    # of an earlier run in this folder
    stale = tmp_path / 'run/skipped_samples/rank_0.jsonl'
    stale.parent.mkdir(parents=True)
    stale.write_text('{"iteration": 3, "skipped": "x"}\n')
    build(cfg).train()
    assert not stale.exists()
    assert 'left out' not in log_of(cfg)


def test_the_share_is_a_share():
    from referformer.engine import SkippedSamplesHook

    with pytest.raises(ConfigError, match='max_share is 2'):
        SkippedSamplesHook(max_share=2)


def test_the_seed_of_a_sample_decides(data):
    damage(data)
    broken = dataset(data)
    bad = position(broken, 'train-00001')

    def replacement(seed):
        sample = broken[SeededIndex(bad, derive_seed(seed))]
        return sample['data_samples'].video_id, len(
            sample['data_samples'].skipped
        )

    found = [replacement(seed) for seed in range(6)]
    assert found == [replacement(seed) for seed in range(6)]
    assert len(set(found)) > 1
