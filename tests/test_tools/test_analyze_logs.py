# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""tools/analysis_tools/analyze_logs.py on logs as mmengine writes them."""

import json
import math
import random
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from referformer.errors import DataError, MissingDataError
from referformer.formats.run_logs import read_run
from tests.faults import PROCESSES, SAFETY, fault

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools/analysis_tools'))
import analyze_logs


def write_start(run, time, first, last, per_epoch=100, level=1.0, end=''):
    """Write what one start of a training logs, every ten iterations."""
    rng = random.Random(f'{first}')
    lines = []
    for at in range(first, last + 1, 10):
        loss = level * (2 + 20 * math.exp(-at / 300)) * rng.uniform(0.8, 1.2)
        lines.append(
            {
                'lr': 1e-4 if at < 700 else 1e-5,
                'data_time': 0.01,
                'time': rng.uniform(0.4, 0.5),
                'loss': loss,
                'd0.loss_mask': loss / 3,
                'loss_mask': loss / 2,
                'loss_dice': float('nan') if at == 50 else loss / 4,
                'grad_norm': 10 ** rng.uniform(-1, 2),
                'memory': 4300,
                'epoch': at // per_epoch + 1,
                'iter': at,
                'step': at,
            }
        )
        if at % per_epoch == 0:
            score = 60 * (1 - math.exp(-at / 400)) / level
            lines.append(
                {'refer_vos/J&F': score, 'time': 1.0, 'step': at // per_epoch}
            )
    folder = run / time / 'vis_data'
    folder.mkdir(parents=True)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'scalars.json').write_text(text + end)
    return folder.parent


@pytest.fixture
def resumed(tmp_path):
    """A run that was killed while it wrote a line, and went on."""
    run = tmp_path / 'resumed $x$ <b>'
    write_start(run, '20260101_000000', 10, 550, end='{"lr": 0.0001, "da')
    start = write_start(run, '20260102_000000', 510, 1200)
    record = {'command': 'python "<script>"', 'versions': {'torch': '2.9'}}
    (start / 'run.json').write_text(json.dumps(record))
    return run


@fault(
    PROCESSES,
    'a log ends in the middle of a line, and the run was resumed',
    '`analyze_logs.py` counts the line and joins the logs of all starts',
)
def test_starts_are_joined(resumed):
    log = read_run(resumed)
    loss = log.training['loss']
    assert loss.iterations == list(range(10, 1201, 10))
    second = read_run(resumed / '20260102_000000').training['loss']
    assert loss.values[50:] == second.values
    assert log.resumed == [510]
    assert log.unreadable == 1
    assert log.scores['refer_vos/J&F'].iterations == list(
        range(100, 1201, 100)
    )
    assert log.scores.keys() == {'refer_vos/J&F'}
    assert log.records[0]['versions'] == {'torch': '2.9'}


@fault(
    SAFETY,
    'the name of a run, or its record, holds HTML or a formula',
    'it is shown as it is written',
)
def test_a_picture_and_a_page(resumed, tmp_path, capsys):
    other = tmp_path / '_other'
    write_start(other, '20260101_000000', 10, 2000, level=1.2)
    out = tmp_path / 'out'
    analyze_logs.main([str(resumed), str(other), '--out', str(out)])
    said = capsys.readouterr().out
    assert '_other: 2000 iterations' in said
    assert '1 lines of the log cannot be read' in said
    assert 'norm of the gradients' in said
    with Image.open(out / 'training.png') as image:
        assert image.width > 1000
    page = (out / 'training.html').read_text()
    # well-formed, and nothing is loaded from elsewhere
    root = ET.fromstring(page)
    assert [h.text for h in root.iter('h2')] == [resumed.name, '_other']
    assert [c.text for c in root.iter('code')] == [
        'python "<script>"',
        'torch 2.9',
    ]
    assert 'src=' not in page
    for title in ('loss_mask', 'refer_vos/J&amp;F', 'memory of the GPU, MiB'):
        assert f'<!-- {title} -->' in page
    assert 'd0.loss_mask' not in page


def test_one_line_is_enough(tmp_path):
    write_start(tmp_path / 'run', '20260101_000000', 10, 10)
    analyze_logs.main([str(tmp_path / 'run')])
    assert (tmp_path / 'run' / 'training.png').is_file()


def test_a_folder_without_log(tmp_path):
    with pytest.raises(MissingDataError, match='holds no log of a training'):
        analyze_logs.main([str(tmp_path)])
    folder = tmp_path / '20260101_000000/vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('{"J&F": 3.0, "step": 0}\n[]\n7\n')
    with pytest.raises(DataError, match='hold no loss'):
        read_run(tmp_path)
