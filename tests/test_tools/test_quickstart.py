# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The quickstart: with its commands replaced, and as it is."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from referformer.testing import quickstart as steps_of
from tests.fixtures.tools import ENV, ROOT, call, script

SCORES = {'self': 60.0, 'other_object': 5.0}
MENTIONS = {
    'videos': {
        'v': {
            'expressions': {
                '0': {'exp': 'the <red> star', 'mentions': ['colour', 'shape']}
            }
        }
    }
}


@pytest.fixture(scope='module')
def quickstart():
    return script('quickstart')


@pytest.fixture(scope='module', params=steps_of.RECIPES)
def recipe(request):
    """A recipe, with its name."""
    return request.param, steps_of.RECIPES[request.param]


@pytest.fixture(scope='module')
def stages(recipe):
    """Names of the trainings, in order."""
    return [stage.name for stage in recipe[1].stages]


@pytest.fixture(scope='module')
def num_steps(recipe):
    """Example, sets, trainings, two or three scores and the picture."""
    start = recipe[1].start is not None
    return 1 + len(recipe[1].sets) + len(recipe[1].stages) + 3 + start


@pytest.fixture
def calls(monkeypatch):
    """Commands that were called; each leaves the files it would."""
    made = []

    def call(steps, command, log):
        made.append(command)
        log.write_text('one line\n')
        options = dict(
            x.removeprefix('--').split('=', 1)
            for x in command
            if x.startswith('--') and '=' in x
        )
        match Path(command[0]).stem:
            case 'demo':
                Path(options['out']).mkdir(parents=True)
            case 'make_synthetic_rvos' | 'make_motion_scenes':
                data = Path(command[1])
                path = data / 'meta_expressions/valid/meta_expressions.json'
                path.parent.mkdir(parents=True)
                path.write_text(json.dumps(MENTIONS))
                (data / 'synthetic.json').touch()
            case 'train':
                folder = Path(options['work-dir'])
                folder.mkdir(exist_ok=True)
                (folder / 'epoch_1.pth').touch()
                (folder / 'last_checkpoint').write_text(
                    f'{folder}/epoch_1.pth'
                )
            case 'test':
                source = command[-1].split('=')[1]
                names = ('J&F', 'J', 'F')
                scores = {f'refer/{name}': SCORES[source] for name in names}
                Path(options['out']).write_text(json.dumps(scores))
                entry = dict.fromkeys(names, SCORES[source])
                table = {'per_expression': {'v/0': {**entry, 'text': ''}}}
                [path] = [x for x in command if 'outfile=' in x]
                path = path.split('=')[1].strip("'")
                Path(path).write_text(json.dumps(table))
            case 'draw_overlays':
                Path(options['out']).touch()
                folder = Path(options['clips'])
                folder.mkdir()
                (folder / 'a.webp').write_bytes(b'a picture')
                clip = {
                    'name': 'v/0',
                    'file': 'a.webp',
                    'text': 'the <red> star',
                    'J': 60.0,
                }
                clips = {'sample': [clip], 'worst': [clip]}
                (folder / 'clips.json').write_text(json.dumps(clips))
        return 0

    monkeypatch.setattr(steps_of.Steps, '_call', call)
    return made


@pytest.fixture
def run(quickstart, recipe, tmp_path):
    """Call the quickstart in a folder whose name holds a space."""

    def call(*options):
        quickstart.main(
            [
                f'--recipe={recipe[0]}',
                f'--work-dir={tmp_path / "my run"}',
                f'--data-root={tmp_path / "data"}',
                *options,
            ]
        )
        return json.loads((tmp_path / 'my run' / 'report.json').read_text())

    return call


def test_report(run, calls, recipe, num_steps, capsys, tmp_path):
    report = run()
    assert report['J&F'] == report['J'] == report['F'] == SCORES['self']
    assert report['J&F_wrong_expression'] == SCORES['other_object']
    assert report['seconds'] >= 0
    assert len(report['seconds_by_step']) == len(calls) == num_steps
    out = capsys.readouterr().out
    assert 'J&F 60.0 on 50 unseen videos' in out
    assert '5.0 when it is told about another object' in out
    path = tmp_path / 'my run' / 'report.html'
    assert f'{path} shows it all' in out
    page = path.read_text('utf-8')
    for text in (
        'the &lt;red&gt; star',
        'colour',
        'shape',
        recipe[1].stages[-1].title,
    ):
        assert text in page
    assert '<red>' not in page


def test_stages_follow_each_other(run, calls, recipe, stages, tmp_path):
    epochs = range(1, len(stages) + 1)
    run('--epochs', *map(str, epochs))
    trainings = [c for c in calls if c[0] == 'tools/train.py']
    assert len(trainings) == len(stages)
    assert all((ROOT / command[1]).is_file() for command in trainings)
    folder = tmp_path / 'my run'
    start = [x for x in trainings[0] if 'load_from' in x]
    assert [x.split('=')[1].strip("'") for x in start] == [
        str(path) for path in [recipe[1].start] if path is not None
    ]
    for k, previous in enumerate(stages[:-1], start=1):
        weights = f"load_from='{folder / previous / 'epoch_1.pth'}'"
        assert weights in trainings[k]
    for k, command in zip(epochs, trainings, strict=True):
        assert f'train_cfg.max_epochs={k}' in command
        assert '--resume' in command
    # the options are read as they were meant, the space included
    overrides = script('train').parse_args(trainings[-1][1:]).cfg_options
    data = overrides['train_dataloader.dataset.data_root']
    assert data == f'{tmp_path / "data" / recipe[1].stages[-1].data}/'


def test_nothing_is_repeated(run, calls, num_steps, capsys):
    first = run()
    calls.clear()
    capsys.readouterr()
    assert run() == first
    assert calls == []
    assert capsys.readouterr().out.count('done before') == num_steps


def test_what_was_deleted_is_made_again(run, calls, tmp_path):
    run()
    calls.clear()
    shutil.rmtree(tmp_path / 'my run' / 'drawn')
    (tmp_path / 'my run' / 'overlay.mp4').unlink()
    run()
    assert [c[0] for c in calls] == ['tools/analysis_tools/draw_overlays.py']


@pytest.mark.parametrize('name', ['--train-videos', '--epochs'])
def test_other_options_are_not_mixed_with_an_earlier_run(
    run, calls, stages, num_steps, name
):
    options = [name, *'1' * (len(stages) if name == '--epochs' else 1)]
    run()
    calls.clear()
    with pytest.raises(SystemExit, match='Start over with --fresh'):
        run(*options)
    assert name == '--epochs' or calls == []
    assert not any('test.py' in c[0] for c in calls)
    calls.clear()
    run(*options, '--fresh')
    assert len(calls) == num_steps


def test_fresh_deletes_nothing_else(calls, run, recipe, tmp_path):
    run()
    ours = recipe[1].sets[0].name
    folder = tmp_path / 'my run'
    mine = [folder / 'notes.txt', tmp_path / 'data' / 'mine' / 'a.jpg']
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / 'data' / ours / 'synthetic.json').unlink()
    (tmp_path / 'data' / ours / 'photo.jpg').touch()
    steps_of.forget(folder, tmp_path / 'data')
    assert [path.name for path in folder.iterdir()] == ['notes.txt']
    assert all(path.exists() for path in mine)
    left = sorted(path.name for path in (tmp_path / 'data').iterdir())
    assert left == sorted(['mine', ours])


@pytest.mark.parametrize('name', ['--valid-videos', '--epochs'])
def test_there_must_be_something_to_do(run, stages, name, capsys):
    with pytest.raises(SystemExit, match='2'):
        run(name, *'0' * (len(stages) if name == '--epochs' else 1))
    assert 'is not a whole number above 0' in capsys.readouterr().err


def test_a_number_of_epochs_for_each_training(run, stages):
    with pytest.raises(SystemExit, match=f'has {len(stages)} trainings'):
        run('--epochs', *'1' * (len(stages) + 1))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_step_is_stopped(tmp_path, number):
    """A signal to the quickstart alone ends the command that it runs."""
    code = f"""
import signal, sys
sys.path.insert(0, {str(ROOT / 'tools')!r})
from pathlib import Path
import quickstart
from referformer.testing.steps import Steps
# a shell's background job inherits SIGINT ignored
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.default_int_handler)
folder = Path({str(tmp_path)!r})
wait = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'

def run_quickstart(root, **options):
    Steps(root, folder, total=1).run('wait', 'Wait', '-c', wait, output=folder)

quickstart.run_quickstart = run_quickstart
quickstart.main([])
"""
    process = subprocess.Popen(
        [sys.executable, '-c', code],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=ENV,
    )
    log = tmp_path / 'wait.log'
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    message = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert 'The same command goes on from here' in message
    assert 'Traceback' not in message
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_text()), 0)
    record = json.loads((tmp_path / 'steps.json').read_text())
    assert record['wait']['done'] is False
    assert record['wait']['seconds'] > 0


# -- all of it ----------------------------------------------------------------


@pytest.mark.parametrize(
    'recipe',
    ['new-kinds', pytest.param('scratch', marks=pytest.mark.slow)],
    indirect=True,
)
def test_quickstart(recipe, stages, num_steps, tmp_path):
    """Every step as a newcomer sees it, then once more."""
    options = [
        f'--recipe={recipe[0]}',
        '--train-videos=4',
        '--valid-videos=2',
        *('--epochs', *'1' * len(stages)),
        f'--work-dir={tmp_path / "my run"}',
        f'--data-root={tmp_path / "my data"}',
    ]
    once = call(sys.executable, 'tools/quickstart.py', *options)
    assert once.returncode == 0, once.stdout[-3000:] + once.stderr
    assert 'done before' not in once.stdout
    assert 'epoch 1  step ' in once.stdout
    again = call(sys.executable, 'tools/quickstart.py', *options)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr
    assert again.stdout.count('done before') == num_steps
    folder = tmp_path / 'my run'
    report = json.loads((folder / 'report.json').read_text())
    for key in ('J&F', 'J', 'F', 'J&F_wrong_expression'):
        assert 0 <= report[key] <= 100
    assert report['seconds'] > 1
    for previous, stage in itertools.pairwise(stages):
        log = (folder / f'{stage}.log').read_text()
        assert f'Load checkpoint from {folder / previous}/' in log
    for name in ('overlay.mp4', 'overlay.png'):
        assert (folder / name).stat().st_size > 1000
    page = (folder / 'report.html').read_text('utf-8')
    assert page.count('<img ') >= 8
    assert page.count('<polyline') >= 1
    assert len(page) < 6e6
