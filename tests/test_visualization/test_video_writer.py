# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Videos play, in the right colours, and appear whole or not at all."""

import importlib.util

import cv2
import numpy as np
import pytest

from referformer.visualization import video_writer, write_video

HAS_AV = importlib.util.find_spec('av') is not None


def make_frames(height=48, width=64, number=6):
    """Red frames with a white bar that moves right."""
    for index in range(number):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[..., 0] = 255
        frame[:, index * 8 : index * 8 + 8] = 255
        yield frame


def read_video(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        more, frame = capture.read()
        if not more:
            return frames, capture.get(cv2.CAP_PROP_FPS)
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


@pytest.fixture(params=['h264', 'mpeg4'])
def codec(request, monkeypatch):
    if request.param == 'h264' and not HAS_AV:
        pytest.skip('PyAV is not installed')
    if request.param == 'mpeg4':
        monkeypatch.setattr(
            video_writer.importlib.util, 'find_spec', lambda name: None
        )
    return request.param


@pytest.mark.parametrize('size', [(48, 64), (47, 63)])
def test_round_trip(tmp_path, codec, size):
    path = tmp_path / 'new' / 'out.mp4'
    assert write_video(path, make_frames(*size), fps=6) == codec
    frames, fps = read_video(path)
    assert len(frames) == 6
    assert fps == pytest.approx(6)
    assert frames[0].shape == (48, 64, 3)
    # The red stays red, and the bar is where it was drawn.
    np.testing.assert_allclose(frames[3][24, 60], (255, 0, 0), atol=40)
    assert frames[3][24, 28].min() > 180
    assert [item.name for item in path.parent.iterdir()] == ['out.mp4']


@pytest.mark.skipif(not HAS_AV, reason='PyAV is not installed')
def test_a_browser_can_play_it(tmp_path):
    import av

    write_video(tmp_path / 'a.mp4', make_frames(), fps=29.97)
    with av.open(str(tmp_path / 'a.mp4')) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == 'h264'
        assert stream.pix_fmt == 'yuv420p'
    data = (tmp_path / 'a.mp4').read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')  # plays while it loads


@pytest.mark.parametrize(
    ('frames', 'fps', 'reason'),
    [
        ([], 6, 'at least one frame'),
        (list(make_frames()), 0, 'fps must be above 0'),
        (
            [*make_frames(), np.zeros((8, 8, 3), np.uint8)],
            6,
            r'frame 6 is \(8, 8, 3\)',
        ),
        ([next(make_frames()), next(make_frames()) / 255], 6, 'float64'),
    ],
)
def test_what_is_refused_leaves_nothing(tmp_path, codec, frames, fps, reason):
    with pytest.raises(ValueError, match=reason):
        write_video(tmp_path / 'a.mp4', frames, fps)
    assert not list(tmp_path.iterdir())
