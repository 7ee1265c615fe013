# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Former names of options and data sets mean what they meant."""

import runpy
from pathlib import Path

import pytest

from referformer.utils.cli import FORMER_SET_NAMES

TOOLS = Path(__file__).parents[2] / 'tools'
CONFIG = TOOLS.parent / 'configs/referformer_r50_ytvos.py'
BROWSE = 'analysis_tools/browse_dataset.py'
DEMO = ('a.mp4', 'dog', '--config=a', '--checkpoint=a', '--out=out')


@pytest.fixture(scope='module')
def parse():
    parsers = {}

    def run(tool, *args):
        if tool not in parsers:
            parsers[tool] = runpy.run_path(str(TOOLS / tool))['parse_args']
        return vars(parsers[tool](list(args)))

    return run


@pytest.mark.parametrize(
    ('tool', 'args', 'former', 'now'),
    [
        ('demo.py', DEMO, '--thr 0.4', '--mask-thr 0.4'),
        ('demo.py', DEMO, '--amp fp16', '--precision fp16'),
        ('train.py', ('a.py',), '--amp', '--precision bf16'),
        ('test.py', ('a.py', 'a.pth'), '--amp', '--precision bf16'),
        (
            'analysis_tools/benchmark.py',
            ('train', str(CONFIG), '--precision=bf16'),
            '--amp off',
            '--precision fp32',
        ),
        (
            'misc/check_dataset.py',
            ('refcoco', '.'),
            '--splits refcoco_val refcoco_train',
            '--split refcoco_val refcoco_train',
        ),
        (
            BROWSE,
            ('a.py', '--out', 'out'),
            '--loader val_dataloader',
            '--split val',
        ),
    ],
)
def test_options(parse, tool, args, former, now, capsys):
    before = parse(tool, *args, *former.split())
    assert before == parse(tool, *args, *now.split())
    assert before != parse(tool, *args)
    with pytest.raises(SystemExit):
        parse(tool, '--help')
    assert former.split()[0] not in capsys.readouterr().out.split()


@pytest.mark.parametrize(('former', 'now'), FORMER_SET_NAMES.items())
def test_data_sets(parse, former, now):
    assert parse('misc/check_dataset.py', former, '.')['what'] == now
    files = [f'{x}=x' for x in ('--gt', '--pred', '--out')]
    if now == 'ref-davis':
        files.append('--protocol=published')
    assert parse('eval_masks.py', former, *files)['gt'] == Path('x')
