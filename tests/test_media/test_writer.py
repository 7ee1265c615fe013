# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Videos play, in the right colours, and appear whole or not at all."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from referformer.media import writer as video_writer
from referformer.media.sound import Sound
from referformer.media.writer import VideoWriter, write_video


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


def test_an_error_of_ffmpeg_names_the_file(tmp_path):
    """H.264 has no pictures of this width."""
    frame = np.zeros((2, 40000, 3), np.uint8)
    with pytest.raises(ValueError, match=r'a\.mp4 cannot be written \('):
        write_video(tmp_path / 'a.mp4', [frame], 6)
    assert not list(tmp_path.iterdir())


# -- frame by frame, with times and sound -------------------------------------


def write_with_sound(path, codec, seconds=2.0, rate=16000):
    """A video whose sound begins low and is high after one second."""
    import av

    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, 'yuv420p'
        track = container.add_stream(codec, rate=rate)
        for frame in make_frames(number=int(seconds * 10)):
            picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        time = np.arange(int(rate * seconds)) / rate
        tone = np.where(time < 1, 200, 800)
        wave = (np.sin(2 * np.pi * tone * time) * 12000).astype(np.int16)
        for start in range(0, len(wave), 1024):
            samples = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(wave[None, start : start + 1024]),
                format='s16',
                layout='mono',
            )
            samples.sample_rate = rate
            samples.pts = start
            samples.time_base = Fraction(1, rate)
            container.mux(track.encode(samples))
        container.mux(track.encode(None))
    return str(path)


def pitch(path, start, end):
    """Main frequency of the sound between two times."""
    import av

    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    rate = frames[0].sample_rate
    wave = np.concatenate([f.to_ndarray().mean(0) for f in frames])
    part = wave[int(start * rate) : int(end * rate)]
    return np.abs(np.fft.rfft(part)).argmax() * rate / len(part)


@pytest.mark.parametrize(
    ('name', 'codec'),
    [('a.mp4', 'aac'), ('a.mov', 'pcm_s16le'), ('a.mkv', 'flac')],
)
def test_sound_goes_along(tmp_path, name, codec):
    import av

    source = write_with_sound(tmp_path / name, codec)
    path = tmp_path / 'out.mp4'
    with VideoWriter(path, 10, Sound(source, 0.5, 1.7)) as writer:
        for frame in make_frames(number=12):
            writer.write(frame)
    with av.open(str(path)) as container:
        [track] = container.streams.audio
        assert track.codec_context.name == 'aac'
        heard = float(track.duration * track.time_base)
        assert heard == pytest.approx(1.2, abs=0.1)
    # half a second was cut off in front
    assert pitch(path, 0.1, 0.4) == pytest.approx(200, abs=8)
    assert pitch(path, 0.6, 1.1) == pytest.approx(800, abs=8)


def test_a_video_without_sound_has_none(tmp_path):
    import av

    write_video(tmp_path / 'silent.mp4', make_frames(), 6)
    path = tmp_path / 'out.mp4'
    for source in (tmp_path / 'silent.mp4', tmp_path / 'gone.mp4'):
        with VideoWriter(path, 6, Sound(str(source), 0, 1)) as writer:
            writer.write(next(make_frames()))
        with av.open(str(path)) as container:
            assert [s.type for s in container.streams] == ['video']


def test_times_and_length_are_exact(tmp_path):
    import av

    times = [0, 0.1, 0.5, 0.51, 2.0, 2.0333]
    with VideoWriter(tmp_path / 'a.mp4', 10) as writer:
        for frame, time in zip(make_frames(), times, strict=True):
            writer.write(frame, time)
    with av.open(str(tmp_path / 'a.mp4')) as container:
        stream = container.streams.video[0]
        length = float(stream.duration * stream.time_base)
        shown = [float(f.pts * f.time_base) for f in container.decode(video=0)]
    assert shown == pytest.approx(times, abs=1e-4)
    assert length == pytest.approx(2.0333 + 0.1, abs=1e-3)


def test_an_error_between_frames_leaves_nothing(tmp_path, codec):
    def write():
        with VideoWriter(tmp_path / 'a.mp4', 6) as writer:
            writer.write(next(make_frames()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(tmp_path.iterdir()) == []
