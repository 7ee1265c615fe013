# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The quickstart's model, trained and scored by the scripts of ``tools/``.

Processes are few, since each spends seconds on imports: what can run in this
one does.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from referformer.checkpoints.io import load_checkpoint_safely
from referformer.evaluation.metrics import ReferVOSMetric
from referformer.testing.scenes import SyntheticParams, make_synthetic_rvos

from .fixtures.tools import ENV, ROOT, script
from .fixtures.trainings import Training

CONFIG = ROOT / 'configs/referformer_tiny_synthetic.py'
# The first training video of this seed shows exactly two objects.
PARAMS = SyntheticParams(
    train_videos=4, valid_videos=3, frames=4, height=48, width=64, seed=5
)
TRAIN_SET = dict(
    ann_file='meta_expressions/train/meta_expressions.json',
    data_prefix=dict(img='train/JPEGImages', mask='train/Annotations'),
)
# Whole videos as they are, nothing random.
FRAMES = [
    dict(type='NormalizeText'),
    dict(type='SampleAllFrames'),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='LoadReferAnnotations'),
        ],
    ),
    dict(type='PackReferInputs'),
]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A small set; one object leaves the second training video early."""
    root = make_synthetic_rvos(
        tmp_path_factory.mktemp('e2e') / 'data', PARAMS, progress=False
    )
    masks = sorted(root.glob('train/Annotations/train-00001/*.png'))
    for path in masks[1:]:
        ids = np.asarray(Image.open(path)).copy()
        ids[ids == 1] = 0
        Image.fromarray(ids).save(path)
    return root


def write_config(path, data, settings):
    """Write the tiny config, on ``data`` and changed by ``settings``."""
    cfg = Config.fromfile(CONFIG)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = f'{data}/'
        loader.update(num_workers=0, persistent_workers=False)
    cfg.merge_from_dict(
        {
            'default_hooks.logger.interval': 1,
            'log_processor.window_size': 1,
            # mmengine keeps one of each for each name
            'experiment_name': str(path),
            'visualizer.name': str(path),
            **settings,
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(path)
    return path


def logged(folder, key):
    """All values of ``key`` in the logs of a work directory, in order."""
    return [
        line[key]
        for path in sorted(folder.glob('*/vis_data/scalars.json'))
        for line in map(json.loads, path.read_text().splitlines())
        if key in line
    ]


def train(config, work_dir, *options):
    """Run ``tools/train.py`` in this process."""
    script('train').main([str(config), '--work-dir', str(work_dir), *options])


def score(config, checkpoint, *arguments, **options):
    """Run ``tools/test.py`` in this process."""
    work_dir = checkpoint.with_name('scored')
    paths = [str(config), str(checkpoint), '--work-dir', str(work_dir)]
    # several runs a second would share mmengine's message hub
    options['experiment_name'] = f'{checkpoint}-{time.perf_counter_ns()}'
    pairs = [f'{key}={value}' for key, value in options.items()]
    return script('test').main([*paths, *arguments, '--cfg-options', *pairs])


def start(*command, log):
    """Start a command from the top of the repository, output to a file."""
    with log.open('w') as file:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=ENV,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def finish(process, log):
    """Wait for a command that must succeed."""
    assert process.wait(timeout=300) == 0, log.read_text()[-3000:]


# -- learning -----------------------------------------------------------------


@pytest.fixture(scope='module')
def overfitted(data, tmp_path_factory):
    """Folder of a training on two clips: the same frames, other words.

    Holds ``overfit.py``, whose test set are all training videos, and
    ``work/iter_80.pth``.
    """
    folder = tmp_path_factory.mktemp('overfitted')
    seen = dict(TRAIN_SET, indices=[0, 2])
    validation = Config.fromfile(CONFIG).test_dataloader.to_dict()
    validation.update(num_workers=0, persistent_workers=False)
    validation['dataset'].update(seen, data_root=f'{data}/')
    config = write_config(
        folder / 'overfit.py',
        data,
        {
            'train_dataloader.dataset': dict(seen, pipeline=FRAMES),
            'train_dataloader.batch_size': 2,
            'train_dataloader.sampler': dict(
                _delete_=True, type='SeededSampler', sampler='InfiniteSampler'
            ),
            'test_dataloader.dataset': TRAIN_SET,
            'val_dataloader': validation,
            'val_evaluator': dict(type='ReferVOSMetric'),
            'val_cfg': dict(type='ValLoop'),
            'train_cfg': dict(
                _delete_=True,
                type='IterBasedTrainLoop',
                max_iters=80,
                val_interval=10,
            ),
            'log_processor.by_epoch': False,
            'default_hooks.checkpoint': dict(by_epoch=False, interval=80),
            'optim_wrapper.optimizer.lr': 1e-3,
            'param_scheduler': [],
        },
    )
    train(config, folder / 'work')
    return folder


def test_two_clips_are_learned(overfitted):
    losses = logged(overfitted / 'work', 'loss')
    scores = logged(overfitted / 'work', 'refer/J&F')
    assert len(losses) == 80
    assert len(scores) == 8
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert scores[-1] > scores[0] + 20
    assert scores[-1] > 50


def test_the_words_decide(overfitted):
    """The same weights and frames, each with the words of the other clip."""
    scores = {
        source: score(
            overfitted / 'overfit.py',
            overfitted / 'work/iter_80.pth',
            **{
                'test_dataloader.dataset.indices': '[0,2]',
                'test_dataloader.dataset.expression_from': source,
            },
        )['refer/J&F']
        for source in ('self', 'other_object')
    }
    trained = logged(overfitted / 'work', 'refer/J&F')[-1]
    assert scores['self'] == pytest.approx(trained, abs=1e-6)
    assert scores['other_object'] < scores['self'] - 40


def test_bfloat16_scores_alike(overfitted):
    config = overfitted / 'overfit.py'
    checkpoint = overfitted / 'work/iter_80.pth'
    full = score(config, checkpoint)['refer/J&F']
    half = score(config, checkpoint, '--precision', 'bf16')['refer/J&F']
    assert half != full  # something was rounded
    assert half == pytest.approx(full, abs=1)


def test_training_in_bfloat16(data, tmp_path):
    losses = []
    for number, options in enumerate(((), ('--precision', 'bf16'))):
        folder = tmp_path / f'run{number}'
        config = write_config(
            folder / 'half.py',
            data,
            {
                'train_dataloader.dataset': dict(TRAIN_SET, indices=[0, 1]),
                'train_dataloader.batch_size': 1,
                'train_cfg.max_epochs': 1,
            },
        )
        train(config, folder / 'work', *options)
        losses.append(np.array(logged(folder / 'work', 'loss')))
    assert len(losses[0]) == len(losses[1]) > 0
    assert (losses[0] != losses[1]).all()
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)


@pytest.mark.parametrize('grouped', [False, True])
def test_an_interrupted_test_goes_on(overfitted, monkeypatch, grouped):
    config = overfitted / 'overfit.py'
    checkpoint = overfitted / 'work/iter_80.pth'
    settings = {
        'test_dataloader.dataset.indices': 'None',
        'test_dataloader.dataset.group_by_video': str(grouped),
        'test_dataloader.dataset.data_prefix.img': 'valid/JPEGImages',
        'test_dataloader.dataset.data_prefix.mask': 'valid/Annotations',
        'test_dataloader.dataset.ann_file': (
            'meta_expressions/valid/meta_expressions.json'
        ),
    }
    whole = score(config, checkpoint, **settings)
    scored = []
    process = ReferVOSMetric.process

    def stop_at_the_last_video(self, data_batch, data_samples):
        if data_samples[0]['video_id'] == 'valid-00002':
            raise KeyboardInterrupt
        process(self, data_batch, data_samples)

    monkeypatch.setattr(ReferVOSMetric, 'process', stop_at_the_last_video)
    with pytest.raises(KeyboardInterrupt):
        score(config, checkpoint, **settings)

    def note(self, data_batch, data_samples):
        scored.extend(sample['video_id'] for sample in data_samples)
        process(self, data_batch, data_samples)

    monkeypatch.setattr(ReferVOSMetric, 'process', note)
    assert score(config, checkpoint, **settings) == whole
    assert set(scored) == {'valid-00002'}
    assert 0 < whole['refer/J&F'] < 100


# -- several processes --------------------------------------------------------


@pytest.mark.parametrize('world', [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize('indices', ['[0,1,2,3]', '[0,1,2,3,4,10,20]'])
def test_several_processes_score_as_one(overfitted, tmp_path, world, indices):
    """Also where some processes have an item more than others."""
    config = tmp_path / 'overfit.py'
    shutil.copy(overfitted / 'overfit.py', config)
    checkpoint = overfitted / 'work/iter_80.pth'
    key = 'test_dataloader.dataset.indices'
    out = tmp_path / 'several.json'
    arguments = [
        *(str(checkpoint), f'--work-dir={tmp_path}', f'--out={out}'),
        *('--cfg-options', f'{key}={indices}'),
    ]
    with Training(config, world, *arguments, tool='test') as several:
        one = score(config, checkpoint, **{key: indices})
        assert several.finish(300) == [0] * world
    assert json.loads(out.read_text()) == one
    assert one['refer/J&F'] > 20


def weights(path):
    """Floating-point weights of a checkpoint as one vector."""
    state = load_checkpoint_safely(path)['state_dict']
    return torch.cat(
        [x.flatten() for x in state.values() if x.is_floating_point()]
    ).double()


def test_two_processes_train_as_one(data, overfitted, tmp_path):
    """Two processes of two clips make the steps of one process of four.

    Two things would differ and are set aside: batch statistics, and
    Adam's first steps, which blow up rounding errors.
    """
    config = write_config(
        tmp_path / 'equal.py',
        data,
        {
            # The object of items 4 and 5 is in sight in one frame of four.
            # They and items 6 and 7 all go to the first process.
            'train_dataloader.dataset': dict(
                TRAIN_SET, indices=[4, 0, 5, 1, 2, 6, 3, 7], pipeline=FRAMES
            ),
            'train_dataloader.batch_size': 2,
            'train_dataloader.sampler': dict(
                _delete_=True, type='DefaultSampler', shuffle=False
            ),
            'test_dataloader.dataset': dict(TRAIN_SET, indices=[0, 2]),
            'model.backbone.norm_eval': True,
            'optim_wrapper': dict(
                _delete_=True, optimizer=dict(type='SGD', lr=1e-3)
            ),
            'param_scheduler': [],
            'train_cfg.max_epochs': 2,
            'load_from': str(overfitted / 'work/iter_80.pth'),
        },
    )
    one, two = tmp_path / 'one', tmp_path / 'two'
    log = tmp_path / 'log.txt'
    process = start(
        'bash', 'tools/dist_train.sh', config, 2, f'--work-dir={two}', log=log
    )
    train(config, one, '--cfg-options', 'train_dataloader.batch_size=4')
    finish(process, log)
    assert len(logged(one, 'loss')) == len(logged(two, 'loss')) == 4

    before = weights(overfitted / 'work/iter_80.pth')
    ends = [weights(folder / 'epoch_2.pth') for folder in (one, two)]
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)
    # and not because little moved
    assert (ends[0] - ends[1]).norm() < 1e-3 * (ends[0] - before).norm()
    scores = [
        score(config, folder / 'epoch_2.pth')['refer/J&F']
        for folder in (one, two)
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.5)
    assert scores[0] > 20


@pytest.mark.parametrize(
    ('world', 'length'),
    [
        (2, 7),
        pytest.param(2, 8, marks=pytest.mark.slow),
        pytest.param(4, 7, marks=pytest.mark.slow),
        pytest.param(4, 8, marks=pytest.mark.slow),
    ],
)
def test_several_processes_have_the_losses_of_one(
    data, tmp_path, world, length
):
    """From random weights; the first clip is seen twice if it must be."""
    # The object of items 4 and 5 is in sight in one frame of four.
    items = [4, 0, 5, 1, 2, 6, 3, 7][:length]
    means = []
    for processes in (1, world):
        indices = items + items[:1] * (8 - length) * (processes == 1)
        folder = tmp_path / str(processes)
        record = dict(type='RecordLossHook', path=f'{folder}/equal.losses')
        config = write_config(
            folder / 'equal.py',
            data,
            {
                'work_dir': f'{folder}/work',
                'custom_imports': dict(imports=['tests.test_engine.toy']),
                'custom_hooks': [record],
                'train_dataloader.dataset': dict(
                    TRAIN_SET, indices=indices, pipeline=FRAMES
                ),
                'train_dataloader.batch_size': 4 // processes,
                'train_dataloader.sampler': dict(
                    _delete_=True, type='DefaultSampler', shuffle=False
                ),
                # see the test above
                'model.backbone.norm_eval': True,
                'optim_wrapper': dict(
                    _delete_=True, optimizer=dict(type='SGD', lr=1e-3)
                ),
                'param_scheduler': [],
                'train_cfg.max_epochs': 2,
            },
        )
        with Training(config, processes) as training:
            assert training.finish(300) == [0] * processes
        steps = {}
        for line in Path(record['path']).read_text().splitlines():
            number, loss = json.loads(line)
            steps.setdefault(number, []).append(float.fromhex(loss))
        assert [len(losses) for losses in steps.values()] == [processes] * 4
        means.append([np.mean(losses) for losses in steps.values()])
    np.testing.assert_allclose(*means, rtol=1e-5)


# -- interruptions ------------------------------------------------------------


def test_a_killed_training_goes_on_as_if_nothing_happened(data, tmp_path):
    config = write_config(
        tmp_path / 'killed.py',
        data,
        {'train_dataloader.batch_size': 2, 'train_cfg.max_epochs': 4},
    )
    work_dir = tmp_path / 'killed'
    command = [
        sys.executable,
        'tools/train.py',
        config,
        f'--work-dir={work_dir}',
        '--resume',
        '--cfg-options',
        'train_dataloader.num_workers=1',
        'train_dataloader.persistent_workers=True',
    ]
    log = tmp_path / 'log.txt'
    process = start(*command, log=log)
    deadline = time.monotonic() + 120
    # until it is two iterations past its first checkpoint
    while len(logged(work_dir, 'loss')) < 7:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert (work_dir / 'last_checkpoint').exists()
    assert not (work_dir / 'epoch_4.pth').exists()
    killed = logged(work_dir, 'loss')

    process = start(*command, log=log)
    train(config, tmp_path / 'whole')
    whole = logged(tmp_path / 'whole', 'loss')
    finish(process, log)
    resumed = logged(work_dir, 'loss')[len(killed) :]
    assert killed == whole[: len(killed)]
    assert 0 < len(resumed) < len(whole)
    assert resumed == whole[-len(resumed) :]
    rates = logged(tmp_path / 'whole', 'lr')
    assert logged(work_dir, 'lr')[len(killed) :] == rates[-len(resumed) :]
