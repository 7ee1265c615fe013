# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The scripts that train and test: options, errors, several processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from referformer.errors import ConfigError, ReferError
from tests.faults import CONFIGS, fault
from tests.fixtures.tools import ENV, ROOT, call, script

from ..test_engine.test_resume import make_config
from ..test_engine.toy import RecordLossHook


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A toy config with scoring, and its checkpoint."""
    folder = tmp_path_factory.mktemp('toy')
    cfg = make_config(folder / 'work', by_epoch=True, num_workers=0)
    cfg.test_dataloader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        # An odd number: two processes get one sample twice.
        dataset=dict(type='ToyDataset', length=7, noisy=False),
    )
    cfg.test_evaluator = dict(type='ToyMetric')
    cfg.test_cfg = {}
    cfg.dump(folder / 'toy.py')
    script('train').main([str(folder / 'toy.py')])
    return folder


@pytest.mark.parametrize('script', ['train.py', 'test.py'])
def test_help_is_fast(script):
    done = call(
        *(sys.executable, '-X', 'importtime', f'tools/{script}', '--help')
    )
    assert done.returncode == 0
    assert '--cfg-options' in done.stdout
    # a limit in seconds would fail on a busy machine
    imported = {x.split('|')[-1].strip() for x in done.stderr.splitlines()}
    assert 'argparse' in imported
    assert not imported & {'numpy', 'torch', 'mmengine', 'mmcv', 'mmdet'}


def test_the_config_is_kept_with_the_run(trained):
    cfg = Config.fromfile(trained / 'work' / 'toy.py')
    assert cfg.model.type == 'ToyModel'


def test_two_processes_score_as_one(trained, capsys):
    arguments = [trained / 'toy.py', trained / 'work' / 'epoch_3.pth']
    options = ['--work-dir', trained / 'test', '--out']
    script('test').main(
        [str(a) for a in (*arguments, *options, trained / 'new' / 'one.json')]
    )
    printed = capsys.readouterr().out
    two = call(
        'bash',
        'tools/dist_test.sh',
        *arguments,
        2,
        *options,
        trained / 'new' / 'two.json',
    )
    assert two.returncode == 0, two.stderr

    scores = json.loads((trained / 'new' / 'one.json').read_text())
    assert scores['toy/number'] == 7
    # float32 sums depend on how many threads a process has
    both = json.loads((trained / 'new' / 'two.json').read_text())
    assert both == pytest.approx(scores, rel=1e-6)
    # Printed too, and once.
    assert printed.count('"toy/number": 7') == 1
    assert two.stdout.count('"toy/number": 7') == 1


def test_two_processes_train_and_resume(tmp_path, capsys):
    cfg = make_config(tmp_path / 'work', by_epoch=True, num_workers=0)
    cfg.train_dataloader.batch_size = 2
    cfg.dump(tmp_path / 'toy.py')
    train = ['bash', 'tools/dist_train.sh', tmp_path / 'toy.py', 2]
    done = call(*train)
    assert done.returncode == 0, done.stderr
    losses = cfg.custom_hooks[0].path
    # Both ranks write; they saw different samples.
    lines = Path(losses).read_text().splitlines()
    assert len(lines) == 2 * 9
    assert len(set(lines)) == 2 * 9

    Path(losses).unlink()
    (tmp_path / 'work' / 'epoch_3.pth').unlink()
    done = call(*train, '--resume', tmp_path / 'work' / 'epoch_2.pth')
    assert done.returncode == 0, done.stderr
    resumed = Path(losses).read_text().splitlines()
    assert sorted(resumed) == sorted(
        line for line in lines if json.loads(line)[0] >= 6
    )
    assert max(RecordLossHook.read(losses)) == 8

    # one process goes on with the next epoch, in its own order of samples
    (tmp_path / 'work' / 'epoch_3.pth').unlink()
    weights = str(tmp_path / 'work' / 'epoch_2.pth')
    script('train').main([str(tmp_path / 'toy.py'), '--resume', weights])
    printed = capsys.readouterr()
    assert 'world_size was 2 and is 1' in printed.out + printed.err
    assert (tmp_path / 'work' / 'epoch_3.pth').is_file()


def test_resume_begins_from_the_configured_weights(trained, tmp_path):
    """``--resume`` with nothing to resume is the start of a fine-tuning."""
    import torch

    weights = trained / 'work' / 'epoch_3.pth'
    options = [
        *('--work-dir', str(tmp_path / 'new'), '--resume', '--cfg-options'),
        *(f"load_from='{weights}'", 'optim_wrapper.optimizer.lr=0.0'),
        *('train_cfg.max_epochs=1', f'experiment_name={tmp_path}'),
    ]
    script('train').main([str(trained / 'toy.py'), *options])
    before, after = (
        torch.load(path, weights_only=False)['state_dict']['net.0.weight']
        for path in (weights, tmp_path / 'new' / 'epoch_1.pth')
    )
    assert torch.equal(before, after)


@pytest.mark.parametrize('accumulated', [1, 2])
def test_auto_scale_lr(trained, tmp_path, accumulated):
    """One process with batches of 3, and a rate meant for 12."""
    import torch

    options = [
        *('--work-dir', str(tmp_path / 'new'), '--auto-scale-lr'),
        *('--cfg-options', 'auto_scale_lr.base_batch_size=12'),
        f'optim_wrapper.accumulative_counts={accumulated}',
        *('train_cfg.max_epochs=1', f'experiment_name={tmp_path}'),
    ]
    script('train').main([str(trained / 'toy.py'), *options])
    saved = torch.load(tmp_path / 'new' / 'epoch_1.pth', weights_only=False)
    (group,) = saved['optimizer']['param_groups']
    assert group['initial_lr'] == pytest.approx(0.05 * accumulated * 3 / 12)


def test_the_learning_rate_is_warmed_up(trained, tmp_path):
    import torch

    options = [
        *('--work-dir', str(tmp_path / 'new'), '--warmup-iters', '9'),
        *('--cfg-options', 'train_cfg.max_epochs=1'),
        f'experiment_name={tmp_path}',
    ]
    script('train').main([str(trained / 'toy.py'), *options])
    saved = torch.load(tmp_path / 'new' / 'epoch_1.pth', weights_only=False)
    (group,) = saved['optimizer']['param_groups']
    # after 4 iterations, half of the way from a thousandth to all of it
    assert group['lr'] == pytest.approx(0.05 * (1e-3 + 0.999 * 4 / 8))
    assert len(saved['param_schedulers']) == 2


def test_a_resumed_run_keeps_its_learning_rate(trained, tmp_path):
    """What --auto-scale-lr scales, the state in the checkpoint replaces."""
    import torch

    first = str(trained / 'work' / 'epoch_1.pth')
    options = [
        *('--work-dir', str(tmp_path / 'new'), '--auto-scale-lr'),
        *('--resume', first, '--cfg-options', 'train_cfg.max_epochs=2'),
        *('auto_scale_lr.base_batch_size=12', f'experiment_name={tmp_path}'),
    ]
    script('train').main([str(trained / 'toy.py'), *options])
    before, after = (
        torch.load(path, weights_only=False)['optimizer']['param_groups'][0]
        for path in (first, tmp_path / 'new' / 'epoch_2.pth')
    )
    assert after['initial_lr'] == before['initial_lr'] == 0.05


def test_a_resumed_run_takes_a_new_learning_rate(trained, tmp_path):
    import torch

    options = [
        *('--work-dir', str(tmp_path / 'new'), '--resume-with-new-schedule'),
        *('--resume', str(trained / 'work' / 'epoch_1.pth')),
        *('--cfg-options', 'train_cfg.max_epochs=2'),
        *('optim_wrapper.optimizer.lr=0.3', f'experiment_name={tmp_path}'),
    ]
    script('train').main([str(trained / 'toy.py'), *options])
    saved = torch.load(tmp_path / 'new' / 'epoch_2.pth', weights_only=False)
    (group,) = saved['optimizer']['param_groups']
    assert group['initial_lr'] == 0.3


def test_a_validation_of_the_test_data(trained, tmp_path):
    options = [
        *('--work-dir', str(tmp_path / 'new'), '--validate'),
        *('--cfg-options', f'experiment_name={tmp_path}'),
    ]
    script('train').main([str(trained / 'toy.py'), *options])
    [best] = (tmp_path / 'new').glob('best_*')
    assert best.name.startswith('best_toy_mean_epoch_')


def test_a_config_without_training(trained):
    options = ['--cfg-options', 'train_dataloader=None']
    with pytest.raises(
        ConfigError, match=r'toy\.py only scores a trained mod'
    ):
        script('train').main([str(trained / 'toy.py'), *options])


def test_a_config_without_test(trained):
    options = ['--cfg-options', 'test_dataloader=None']
    with pytest.raises(ConfigError, match=r'toy\.py has no test data'):
        script('test').main([str(trained / 'toy.py'), 'x.pth', *options])


@fault(
    CONFIGS,
    'options of `train.py` that do not fit the config or the machine',
    'one sentence says which',
)
@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (['--precision', 'fp16'], '--precision fp16 needs a CUDA device'),
        (['--auto-scale-lr'], r'needs auto_scale_lr\.base_batch_size'),
        (
            ['--cfg-options', 'model.type=ToyModle'],
            r'toy\.py \(model\): there is no model of type "ToyModle"; the '
            'nearest names are ToyModel',
        ),
        (
            ['--cfg-options', 'model.widht=4'],
            r"toy\.py \(model\): ToyModel.* unexpected .* 'widht'",
        ),
        (
            ['--cfg-options', 'optim_wrapper.optimizer.lrr=4'],
            r"toy\.py \(optim_wrapper\.optimizer\): AdamW.* 'lrr'",
        ),
        (
            ['--cfg-options', 'optim_wrapper.optimizer.lr=fast'],
            r"toy\.py \(optim_wrapper\.optimizer\): TypeError: .*'str'",
        ),
        (
            ['--cfg-options', 'train_dataloader.batch_size=two'],
            r'toy\.py \(train_dataloader\): .*batch_size=two',
        ),
        (
            ['--cfg-options', 'model.type=mmdet.FasterRCNN'],
            r'toy\.py is a config of mmdet: its model is a FasterRCNN',
        ),
        (['--resume', 'gone.pth'], r'gone\.pth is not a file'),
        (['--resume-with-new-schedule'], 'new-schedule needs --resume'),
        (
            ['--work-dir', '/proc/gone'],
            r'cannot write to /proc/gone.* choose another --work-dir\.',
        ),
    ],
)
def test_train_refuses(trained, options, reason, monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    arguments = [trained / 'toy.py', '--work-dir', trained / 'refused']
    with pytest.raises(ReferError, match=reason):
        script('train').main([*map(str, arguments), *options])


@fault(
    CONFIGS,
    'a `type` is misspelt: data set, sampler, hook, optimizer, schedule',
    'one sentence names the part of the config and the nearest names',
)
@pytest.mark.parametrize(
    ('key', 'kind', 'name', 'meant'),
    [
        ('train_dataloader.dataset', 'dataset', 'ToyDatset', 'ToyDataset'),
        (
            *('train_dataloader.sampler', 'data sampler'),
            *('SeededSampelr', 'SeededSampler'),
        ),
        (
            *('default_hooks.bad_steps', 'hook'),
            *('BadStepHok', 'BadStepHook'),
        ),
        ('custom_hooks.0', 'hook', 'RecordLosHook', 'RecordLossHook'),
        ('optim_wrapper.optimizer', 'optimizer', 'AdmaW', 'AdamW'),
        (
            *('param_scheduler.0', 'parameter scheduler'),
            *('MultiStpLR', 'MultiStepLR'),
        ),
    ],
)
def test_a_misspelt_type(trained, key, kind, name, meant):
    constructor = 'MergedOptimWrapperConstructor'
    options = [
        *('--cfg-options', f'{key}.type={name}'),
        # as in the configs
        f'optim_wrapper.constructor={constructor}',
    ]
    arguments = [trained / 'toy.py', '--work-dir', trained / 'refused']
    with pytest.raises(ConfigError) as caught:
        script('train').main([*map(str, arguments), *options])
    message = str(caught.value)
    assert message.startswith(
        f'{trained}/toy.py ({key}): there is no {kind} of type "{name}"; the '
        'nearest name'
    )
    assert meant in message.rpartition('nearest name')[2]


def test_a_refusal_as_people_see_it(trained, tmp_path):
    """One line on the screen, the traceback beside the results."""
    done = call(
        sys.executable,
        'tools/train.py',
        trained / 'toy.py',
        *('--work-dir', tmp_path / 'w', '--cfg-options', 'model.type=Nil'),
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f'train.py: {trained}/toy.py (model): there is no')
    assert last.endswith(f' (traceback: {tmp_path}/w/errors.log)')
    assert 'Traceback' not in done.stderr
    assert 'build_functions.py' in (tmp_path / 'w/errors.log').read_text()


@fault(
    CONFIGS,
    '`--cfg-options` without `=`',
    'one sentence shows the form',
)
@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        (['--cfg-options', 'work_dir'], 'KEY=VALUE is expected'),
        (['--launcher', 'slrum'], 'invalid choice'),
    ],
)
def test_malformed_options(options, reason, capsys):
    with pytest.raises(SystemExit, match='2'):
        script('train').main(['x.py', *options])
    assert reason in capsys.readouterr().err


def test_overrides_are_typed():
    options = ['--cfg-options', 'a.b=1e-4', 'c=(1,2)']
    options += ['--cfg-options', 'd=None']
    args = script('train').parse_args(['x.py', *options])
    assert args.cfg_options == {'a.b': 1e-4, 'c': (1, 2), 'd': None}
    assert args.resume is None
    options = ['--cfg-options', "a='/my data, new/'", 'b="[1,2]"', "c='1'"]
    args = script('train').parse_args(['x.py', *options])
    assert args.cfg_options == {'a': '/my data, new/', 'b': [1, 2], 'c': '1'}
    assert script('train').parse_args(['x.py', '--resume']).resume == 'auto'


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (['gone.py', 'x.pth'], r'gone\.py is neither a config file'),
        (
            ['toy.py', 'work/epoch_3.pth', '--out=/proc/gone/scores.json'],
            r'cannot write to /proc/gone.* choose another --out\.',
        ),
        (
            [
                *('toy.py', 'work/epoch_3.pth', '--fresh'),
                *('--cfg-options', 'test_cfg.type=TestLoop'),
            ],
            r'--fresh works with .*ResumableTestLoop.* has TestLoop',
        ),
        (['toy.py', 'gone.pth'], r'gone\.pth is not a file; give a check'),
        (['toy.py', 'other.pth'], r'other\.pth does not fit the model'),
        (['toy.py', 'broken.pth'], r'broken\.pth is not a readable'),
    ],
)
def test_test_refuses(trained, arguments, reason):
    import torch

    torch.save({'state_dict': {'a': torch.ones(1)}}, trained / 'other.pth')
    (trained / 'broken.pth').write_bytes(b'oops')
    config, checkpoint, *options = arguments
    paths = str(trained / config), str(trained / checkpoint)
    with pytest.raises(ReferError, match=reason):
        script('test').main(
            [*paths, *options, '--work-dir', str(trained / 'refused')]
        )


@pytest.mark.parametrize(
    'script', ['dist_train', 'dist_test', 'slurm_train', 'slurm_test']
)
def test_shell_scripts_tell_their_usage(script):
    done = call('bash', f'tools/{script}.sh')
    assert done.returncode == 2
    assert done.stderr.startswith('usage: ')


@pytest.fixture
def slurm(tmp_path):
    """Stand-ins for Slurm's programs; return the environment to call with."""
    programs = {
        'srun': 'echo "srun: ${*%%--*}" "$@" >&2\n'
        'while [[ $1 == --* ]]; do shift; done\n'
        'export SLURM_JOB_ID=41 SLURM_JOB_NODELIST="n[1-2]"\n"$@"\n'
        'exit "${SRUN_STATUS:-0}"\n',
        'scontrol': 'case $1 in show) echo n1; echo n2 ;;\n'
        '*) echo "scontrol $*" ;; esac\n',
        'python': 'echo "$@"\n',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f'#!/bin/bash\n{text}')
        (tmp_path / name).chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    return dict(ENV, PATH=path, PYTHON='python')


def test_slurm_starts_torchrun_on_the_nodes(slurm):
    """With a fake ``srun`` and ``scontrol``, the command is as it must be."""
    done = subprocess.run(
        [
            'bash',
            ROOT / 'tools/slurm_train.sh',
            'gpu',
            'job',
            'a b.py',
            '--precision=bf16',
        ],
        env=dict(
            slurm,
            NODES='2',
            GPUS_PER_NODE='4',
            SRUN_ARGS='--time=1:00 --mem=0',
            MAX_RESTARTS='2',
        ),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert '--partition=gpu --job-name=job --nodes=2' in done.stderr
    assert '--signal=USR1@300 --time=1:00 --mem=0' in done.stderr
    assert done.stdout.split()[0] == str(ROOT / 'tools/run_processes.py')
    assert '--nnodes=2 --nproc-per-node=4 --max-restarts=2' in done.stdout
    assert '--rdzv-endpoint=n1:20041' in done.stdout
    assert done.stdout.rstrip().endswith(
        'tools/train.py a b.py --precision=bf16 --launcher pytorch'
    )


@pytest.mark.parametrize('status', [0, 1, 75])
@pytest.mark.parametrize('job', ['41', ''])
def test_slurm_puts_a_job_that_has_saved_back(slurm, tmp_path, status, job):
    """As a batch job, of which Slurm runs a copy that lies elsewhere."""
    copy = tmp_path / 'slurm_script'
    copy.write_text((ROOT / 'tools/slurm_train.sh').read_text())
    done = subprocess.run(
        ['bash', copy, 'gpu', 'job', 'a.py'],
        env=dict(
            slurm,
            SRUN_STATUS=str(status),
            SLURM_SUBMIT_DIR=str(ROOT),
            SLURM_JOB_ID=job,
            SLURM_JOB_NUM_NODES='2',
            SLURM_GPUS_ON_NODE='4',
        ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status
    assert '--nodes=2' in done.stderr
    assert '--nnodes=2 --nproc-per-node=4' in done.stdout
    put_back = 'scontrol requeue 41' in done.stdout
    assert put_back == (status == 75 and job == '41')


def test_batch_jobs_ask_for_a_signal_and_the_queue():
    text = (ROOT / 'tools/slurm_train.sh').read_text()
    options = re.findall('^#SBATCH (.*)', text, re.M)
    assert options == ['--requeue', '--signal=USR1@300', '--open-mode=append']
    # Slurm reads them before the first command only
    assert text.index('#SBATCH') < text.index('set -euo')


def test_torchrun_is_told_how_often_to_start_again(slurm):
    done = subprocess.run(
        ['bash', ROOT / 'tools/dist_train.sh', 'a.py', '2'],
        env=dict(slurm, MAX_RESTARTS='3', NNODES='2', MASTER_ADDR='n1'),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert '--nnodes=2 --nproc-per-node=2 --max-restarts=3' in done.stdout
    assert '--rdzv-endpoint=n1:29500' in done.stdout
