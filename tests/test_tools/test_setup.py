# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The set-up tells in one sentence what a machine lacks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SETUP = ROOT / 'tools' / 'setup_env.sh'


@pytest.fixture
def shell(tmp_path):
    """Run bash code with the functions of setup_env.sh and a fake venv."""
    venv = tmp_path / 'venv'
    (venv / 'bin').mkdir(parents=True)
    (venv / 'bin' / 'python').symlink_to(sys.executable)
    (venv / 'setup.log').touch()
    (tmp_path / 'bin').mkdir()

    def run(code, fake=(), **env):
        for name, body in dict(fake).items():
            path = tmp_path / 'bin' / name
            path.write_text(f'#!/bin/bash\n{body}\n')
            path.chmod(0o755)
        return subprocess.run(
            ['bash', '-c', f'set -euo pipefail; source "{SETUP}"; {code}'],
            env=dict(
                os.environ,
                VENV=str(venv),
                PATH=f'{tmp_path}/bin:{os.environ["PATH"]}',
                **env,
            ),
            capture_output=True,
            text=True,
            check=False,
        )

    def fake_python(body):
        python = venv / 'bin' / 'python'
        python.unlink()
        python.write_text(f'#!/bin/bash\n{body}\n')
        python.chmod(0o755)

    run.venv = venv
    run.fake_python = fake_python
    return run


def failure(done):
    """Return the one sentence a failed set-up ends with."""
    assert done.returncode == 1
    assert done.stderr.count('set-up failed: ') == 1
    return done.stderr.split('set-up failed: ')[1].strip()


def test_the_scripts_are_valid_bash():
    for path in [*ROOT.glob('tools/**/*.sh'), ROOT / '.ci' / 'run']:
        subprocess.run(['bash', '-n', path], check=True)
    assert os.access(ROOT / '.ci' / 'run', os.X_OK)


@pytest.mark.parametrize('version', ['3.9.18', '2.7.18'])
def test_an_old_python(shell, version):
    done = shell(
        'setup_find_python',
        fake={'python3': f'[ "$1" = -V ] && echo Python {version} || exit 1'},
        PYTHON='python3',
    )
    assert failure(done) == (
        f'PYTHON=python3 is Python {version}; Python 3.10 or newer with the '
        'venv module is needed.'
    )


def test_no_python(shell):
    names = ('python3.10', 'python3.11', 'python3.12', 'python3.13')
    done = shell(
        'setup_find_python',
        fake=dict.fromkeys((*names, 'python3', 'python'), 'exit 1'),
        PYTHON='',
    )
    assert 'no Python 3.10 or newer' in failure(done)


def test_this_python_is_found(shell):
    done = shell('setup_find_python; echo "$PYTHON"', PYTHON=sys.executable)
    assert done.stdout.strip() == sys.executable


def test_no_disk(shell):
    done = shell('setup_check_disk', fake={'df': 'echo; echo x 1 1 2097152 1'})
    assert 'has 2 GiB free' in failure(done)
    assert not shell(
        'setup_check_disk', fake={'df': 'echo; echo x 1 1 9999999 1'}
    ).returncode


def test_no_compiler(shell):
    done = shell('setup_check_compiler', CXX='no-such-c++')
    assert 'no C++ compiler (no-such-c++)' in failure(done)


@pytest.mark.parametrize(
    ('cuda', 'nvcc', 'asked', 'wanted'),
    [
        (False, False, '', False),
        (False, True, '', False),
        (True, True, '', True),
        (True, False, '', False),
        (False, False, '1', True),
        (True, True, '0', False),
    ],
)
def test_when_operators_are_compiled(
    shell, tmp_path, cuda, nvcc, asked, wanted
):
    shell.fake_python('' if cuda else 'exit 1')
    if nvcc:
        (tmp_path / 'bin' / 'nvcc').touch(0o755)
    done = shell(
        ('' if nvcc else 'command() { [ "$2" != nvcc ]; }; ')
        + 'setup_wants_operators && echo yes || echo no',
        CUDA_HOME=str(tmp_path),
        MMCV_WITH_OPS=asked,
    )
    assert done.stdout.splitlines()[-1] == ('yes' if wanted else 'no')
    assert ('no nvcc' in done.stdout) == (cuda and not nvcc and not asked)


@pytest.mark.parametrize(
    ('message', 'sentence'),
    [
        ('OSError: [Errno 28] No space left on device', 'the disk is full'),
        (
            'Failed to establish a new connection: [Errno -3] Temporary '
            'failure in name resolution',
            'pip cannot reach its package index',
        ),
        (
            'ERROR: No matching distribution found for torch==2.13.0',
            'No matching distribution found for torch==2.13.0',
        ),
        ('Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('Segmentation fault', 'the log says why'),
    ],
)
def test_pip_failures(shell, message, sentence):
    shell.fake_python(f'echo "{message}"; exit 1')
    done = shell('setup_pip x install y')
    assert sentence in failure(done)


def test_an_index_that_cannot_be_reached(shell):
    """The real pip, with an address where nobody listens."""
    done = shell(
        'setup_pip x install --target t surely-not-here',
        PIP_INDEX_URL='http://127.0.0.1:9/simple',
        PIP_EXTRA_INDEX_URL='',
        PIP_RETRIES='0',
    )
    assert 'index' in failure(done)


def test_the_second_time_costs_nothing(shell):
    (shell.venv / 'setup.stamp').write_text(
        shell('setup_stamp', PYTHON='').stdout
    )
    done = shell('setup_environment', PYTHON='')
    assert done.stdout == f'set-up: {shell.venv} is ready\n'


def test_a_change_is_noticed(shell):
    one = shell('setup_stamp', PYTHON='').stdout
    assert shell('setup_stamp', PYTHON='').stdout == one
    assert shell('setup_stamp', PYTHON='', TORCH_SPEC='torch').stdout != one
    assert 'onedl-mmcv==2.3.6' in one


def test_an_interruption_ends_the_children_too(tmp_path):
    """Ctrl-C stops a compiler that runs below the step."""
    marker = f'86{os.getpid()}'
    (tmp_path / 'venv').mkdir()
    code = (
        f'set -euo pipefail; source "{SETUP}"; '
        'trap setup_interrupted INT TERM;'
        f"setup_run x bash -c 'sleep {marker} & wait'"
    )
    process = subprocess.Popen(
        ['bash', '-c', code],
        env=dict(os.environ, VENV=str(tmp_path / 'venv')),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
        # A shell that starts things in the background ignores SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def sleeping():
        commands = (
            process.info['cmdline']
            for process in psutil.process_iter(['cmdline'])
        )
        return ['sleep', marker] in commands

    deadline = time.monotonic() + 10
    while not sleeping() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sleeping()
    os.killpg(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=10)
    assert process.returncode == 130
    assert 'the same command continues it' in message
    assert not sleeping()


@pytest.mark.parametrize(
    ('installed', 'brought'),
    [
        ((), {'mmengine', 'mmcv-lite', 'mmdet'}),
        (('mmcv_lite-2.1.0',), {'mmengine', 'mmcv-lite', 'mmdet'}),
        (('mmcv-2.1.0',), {'mmengine', 'mmdet'}),
        (('onedl_mmcv-2.3.6',), set()),
    ],
)
def test_mmcv_of_this_environment_is_respected(tmp_path, installed, brought):
    """Distributions that write the same files are not installed over it."""
    for name in installed:
        folder = tmp_path / f'{name}.dist-info'
        folder.mkdir()
        distribution, version = name.split('-')
        (folder / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {distribution}\n'
            f'Version: {version}\n'
        )
    code = (
        'import setuptools, site, sysconfig;'
        'setuptools.setup = lambda **kwargs: '
        "print(*kwargs['install_requires'], sep='\\n');"
        f'here = {str(tmp_path)!r};'
        'sysconfig.get_path = lambda name: here;'
        'site.getsitepackages = lambda: [here];'
        'site.getusersitepackages = lambda: here;'
        "__file__ = 'setup.py'; exec(open(__file__).read())"
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.split('==')[0] for line in done.stdout.splitlines()}
    assert {n for n in names if n.startswith('mm')} == brought
    assert 'scipy' in names


def test_packaging():
    """The metadata that setup.py writes is what the files say."""
    done = subprocess.run(
        [sys.executable, 'setup.py', '--name', '--version', '--license'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    import referformer

    assert done.stdout.split()[-3:] == [
        'referformer-mm',
        referformer.__version__,
        'Apache-2.0',
    ]
