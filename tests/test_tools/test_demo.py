# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The demo from the shell."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
from mmengine.config import Config

from referformer.apis.release import publish
from referformer.testing import example_video, tiny_model_cfg
from tests.faults import PROCESSES, fault
from tests.fixtures.videos import PIPELINE, cut_off, moving_square, write_clip

from ..test_apis.conftest import checkpoint  # noqa: F401  (a fixture)

pytest.importorskip('av')
ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'tools' / 'demo.py'


@pytest.fixture
def arguments(tmp_path, checkpoint):  # noqa: F811
    config = tmp_path / 'tiny.py'
    Config(dict(model=tiny_model_cfg(), test_pipeline=PIPELINE)).dump(config)
    return [
        *('--config', str(config), '--checkpoint', str(checkpoint)),
        *('--out', str(tmp_path / 'out'), '--device', 'cpu'),
    ]


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import demo

    return demo


def run(demo, *arguments):
    demo.run(lambda: demo.main([str(argument) for argument in arguments]))


def test_help_answers_at_once():
    done = subprocess.run(
        [sys.executable, str(DEMO), '--help'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '--every' in done.stdout
    loaded = subprocess.run(
        [
            sys.executable,
            '-c',
            'import sys; sys.path.insert(0, "tools"); import demo\n'
            'try: demo.parse_args(["-h"])\nexcept SystemExit: pass\n'
            'assert not {"torch", "numpy", "mmengine"} & set(sys.modules)',
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr


def test_a_video(demo, tmp_path, arguments, capsys):
    path = write_clip(tmp_path / 'clip.mp4', moving_square(9), sound='aac')
    run(
        demo,
        *(path, 'the white square', 'été 柔道', *arguments, '--every', '2'),
        *('--boxes', '--points', '--window', '3', '--link', 'overlap'),
    )
    printed = capsys.readouterr()
    out = tmp_path / 'out' / 'clip'
    listed = [line for line in printed.out.splitlines() if line[:1] == '/']
    assert sorted(listed) == sorted(
        str(out / name) for name in ('masks', 'overlay.mp4', 'results.json')
    )
    assert {str(path) for path in out.iterdir()} == set(listed)
    assert 'of 5' in printed.out
    assert 'été 柔道' in printed.out
    assert '5/5' in printed.err  # the bar


def test_an_enlarged_overlay_and_a_still(demo, tmp_path, arguments):
    path = write_clip(tmp_path / 'clip.mp4', moving_square(9))
    options = ('--scale', '2', '--still', '--boxes', '--points')
    run(demo, path, 'the white square', *arguments, *options)
    out = tmp_path / 'out' / 'clip'
    still = cv2.imread(str(out / 'overlay.png'))
    video = cv2.VideoCapture(str(out / 'overlay.mp4'))
    frame = video.read()[1]
    video.release()
    height, width = moving_square(1)[0].shape[:2]
    assert still.shape[1] == 4 * width  # two columns, enlarged twice
    assert still.shape[0] > 4 * height
    assert 0 <= frame.shape[0] - still.shape[0] // 2 <= 1
    assert 0 <= frame.shape[1] - still.shape[1] // 2 <= 1


def test_the_example(demo, tmp_path, checkpoint, monkeypatch, capsys):  # noqa: F811
    """A model that learnt nothing, on the drawn video."""
    cfg = Config(dict(model=tiny_model_cfg(), test_pipeline=PIPELINE))
    release = publish(checkpoint, tmp_path / 'release', cfg)
    monkeypatch.setattr('referformer.apis.example_model', lambda: release)
    run(demo, '--example', '12', '--out', tmp_path / 'out')
    printed = capsys.readouterr().out
    out = tmp_path / 'out' / 'example-12'
    for text in (*example_video.draw_example(12).texts, 'J of 100'):
        assert text in printed
    for name in ('overlay.mp4', 'overlay.png', 'results.json'):
        assert (out / name).is_file()
        assert str(out / name) in printed


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ((), 'missing: video, expressions, checkpoint, out .or try --exampl'),
        (('a.mp4', 'a cat'), 'missing: checkpoint, out '),
        (('--example', '--every', '2'), 'leave out every'),
        (('a.mp4', 'a cat', '--example'), 'leave out video'),
        (('--example', '0'), 'not a whole number'),
    ],
)
def test_what_is_needed(demo, options, reason, capsys):
    with pytest.raises(SystemExit, match='2'):
        demo.parse_args(list(options))
    assert re.search(reason, capsys.readouterr().err)


def test_masks_are_propagated(demo, tmp_path, arguments, capsys):
    path = write_clip(tmp_path / 'clip.mp4', moving_square(5))
    run(demo, path, 'the white square', *arguments, '--propagate')
    out = tmp_path / 'out' / 'clip'
    settings = json.loads((out / 'results.json').read_text())['settings']
    assert settings['propagator'] == {'type': 'FlowPropagator'}
    assert (out / 'overlay.mp4').is_file()
    shown = capsys.readouterr().err
    assert 'forward' in shown
    assert 'clip' in shown


def test_a_propagator_that_is_none(demo, tmp_path, arguments):
    path = write_clip(tmp_path / 'clip.mp4', moving_square(3))
    with pytest.raises(SystemExit, match="'flow'"):
        run(demo, path, 'a', *arguments, '--propagate', 'sam2')


def test_no_more_than_asked_for(demo, tmp_path, arguments):
    path = write_clip(tmp_path / 'clip.mp4', moving_square(3))
    run(demo, path, 'a', *arguments, '--no-vis', '--masks', 'rle')
    out = tmp_path / 'out' / 'clip'
    assert [p.name for p in out.iterdir()] == ['results.json']


@pytest.mark.parametrize(
    ('text', 'value'), [('12.5', 12.5), ('1:30', 90), ('1:02:03.5', 3723.5)]
)
def test_times(demo, text, value):
    assert demo.seconds(text) == value
    for wrong in ('x', '-1', '1:2:3:4', 'nan', ''):
        error = demo.argparse.ArgumentTypeError
        with pytest.raises(error, match='not a time'):
            demo.seconds(wrong)


def no_video(tmp_path, arguments):
    path = tmp_path / 'a.mp4'
    path.write_text('no video')
    return [path, 'a dog', *arguments], f'Video {path} cannot be opened'


def no_expression(tmp_path, arguments):
    path = write_clip(tmp_path / 'a.mp4', moving_square(2))
    return [path, '', *arguments], "an expression must .* got ''"


def no_weights(tmp_path, arguments):
    path = write_clip(tmp_path / 'a.mp4', moving_square(2))
    lost = tmp_path / 'lost.pth'
    return (
        [path, 'a', *arguments, '--checkpoint', lost],
        f'{lost} is not a file',
    )


def no_window(tmp_path, arguments):
    path = write_clip(tmp_path / 'a.mp4', moving_square(2))
    return (
        [path, 'a', *arguments, '--window', 0],
        'window must be at least 1, got 0',
    )


def no_device(tmp_path, arguments):
    path = write_clip(tmp_path / 'a.mp4', moving_square(2))
    return (
        [path, 'a', *arguments, '--device', 'gpu'],
        "device 'gpu' cannot be used",
    )


def two_videos(tmp_path, arguments):
    path = write_clip(tmp_path / 'a.mp4', moving_square(2))
    return [path, path, 'a', *arguments], f'{path} is a file, not an expr'


@pytest.mark.parametrize(
    'make',
    [no_video, no_expression, no_weights, no_window, no_device, two_videos],
)
def test_an_error_is_one_sentence(demo, tmp_path, arguments, make):
    line, reason = make(tmp_path, arguments)
    with pytest.raises(SystemExit, match=rf': {reason}[^\n]*$'):
        run(demo, *line)
    # the traceback, beside where the results would be
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['errors.log']


def test_a_cut_off_video_is_told(demo, tmp_path, arguments, capsys):
    path = cut_off(tmp_path)
    with pytest.raises(SystemExit, match='is cut off'):
        run(demo, path, 'a', *arguments)
    run(demo, path, 'a', *arguments, '--partial')
    assert 'of its frames are missing' in capsys.readouterr().err


@fault(
    PROCESSES,
    'Ctrl-C in the demo',
    'no half-written result is left',
)
def test_an_interrupt_leaves_nothing(tmp_path, arguments):
    frames = tmp_path / 'frames'
    frames.mkdir()
    first = frames / '0.ppm'
    first.write_bytes(
        b'P6 480 320 255\n' + moving_square(1, 320, 480).tobytes()
    )
    for n in range(1, 3000):
        os.link(first, frames / f'{n}.ppm')
    process = subprocess.Popen(
        [
            *(sys.executable, str(DEMO), str(frames), 'a dog', *arguments),
            *('--window', '4'),
        ],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    out = tmp_path / 'out' / 'frames'
    deadline = time.time() + 60
    while not any(out.glob('.*/masks/*/1*.png')) and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.strip().endswith('demo.py: interrupted')
    assert not out.exists()


def test_a_place_that_cannot_be_written(demo, arguments):
    line = ['a.mp4', 'a', *arguments, '--out', '/proc/gone']
    with pytest.raises(
        SystemExit, match=r'cannot write to /proc/gone.* choose another --out'
    ):
        run(demo, *line)
