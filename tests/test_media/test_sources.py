# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Every kind of input gives the right frames, or one clear error."""

import os
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from referformer.datasets.transforms import LoadReferFrame
from referformer.media.pictures import read_picture
from referformer.media.sources import open_source
from tests.fixtures.videos import cut_off, moving_square, write_clip

pytest.importorskip('av')


def numbers(source):
    return source.indices.tolist()


def place_of(image):
    """Centre of the white square, (x, y)."""
    bright = image.min(2) > 180
    ys, xs = np.nonzero(bright)
    return xs.mean(), ys.mean()


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / 'clip.mp4', moving_square(20))


# -- which frames -------------------------------------------------------------


def test_a_video(clip):
    source = open_source(clip)
    assert (source.name, source.fps, len(source)) == ('clip', 10, 20)
    frames = list(source)
    assert [f.index for f in frames] == list(range(20))
    assert frames[7].name == '00007'
    assert frames[7].time == pytest.approx(0.7)
    assert frames[7].image.shape == (32, 48, 3)
    xs = [place_of(f.image)[0] for f in frames]
    assert xs == sorted(xs)
    assert len(list(source)) == 20  # once more


@pytest.mark.parametrize(
    ('choice', 'expected', 'fps'),
    [
        (dict(every=6), [0, 6, 12, 18], 10 / 6),
        (dict(fps=5), list(range(0, 20, 2)), 5),
        (dict(fps=4), [0, 2, 5, 7, 10, 12, 15, 17], 4),
        (dict(fps=100), list(range(20)), 10),
        (dict(fps=100, every=2), list(range(0, 20, 2)), 5),
        (dict(start=0.5), list(range(5, 20)), 10),
        (dict(start=0.5, end=0.8), [5, 6, 7], 10),
        (dict(end=0.3), [0, 1, 2], 10),
        (dict(start=0.5, every=4, fps=5), [5, 13], 1.25),
        (dict(start=1.9, end=9), [19], 10),
    ],
)
def test_choosing_frames(clip, choice, expected, fps):
    source = open_source(clip, **choice)
    assert numbers(source) == expected
    assert source.fps == pytest.approx(fps)
    assert [f.index for f in source] == expected


def test_a_varying_rate_is_sampled_by_time(tmp_path):
    times = [0, 0.1, 0.2, 0.3, 1.0, 2.0, 2.1]
    path = write_clip(tmp_path / 'a.mp4', moving_square(7), times=times)
    source = open_source(path)
    assert source.times == pytest.approx(times, abs=1e-3)
    # at 0, 0.5, 1, 1.5 and 2 seconds; nothing new at 1.5
    assert numbers(open_source(path, fps=2)) == [0, 3, 4, 5]
    assert numbers(open_source(path, start=1, end=2.05)) == [4, 5]


def test_a_folder(tmp_path):
    for n in (1, 2, 10):
        write_picture(tmp_path / f'f{n}.png', n)
    (tmp_path / 'notes.txt').write_text('x')
    (tmp_path / '.hidden.png').write_text('x')
    source = open_source(tmp_path, fps=2)
    assert [f.name for f in source] == ['f1', 'f2', 'f10']
    assert [f.image[0, 0, 0] for f in source] == [1, 2, 10]
    assert source.times.tolist() == [0, 0.5, 1]
    assert source.name == tmp_path.name
    assert not source.is_picture
    assert numbers(open_source(tmp_path, every=2)) == [0, 2]


def write_picture(path, value, size=(8, 6)):
    Image.new('RGB', size, (value,) * 3).save(path)


def test_arrays():
    video = moving_square(4)
    source = open_source(video)
    assert (source.name, source.fps, len(source)) == ('video', 6, 4)
    assert all((f.image == v).all() for f, v in zip(source, video))  # noqa: B905
    assert open_source(video[0]).is_picture


# -- pictures -----------------------------------------------------------------


def test_a_jpeg_is_read_as_in_training(tmp_path):
    path = tmp_path / 'a.jpg'
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    cv2.imwrite(str(path), noise)
    trained = LoadReferFrame()({'img_path': str(path)})['img']
    [frame] = open_source(path)
    assert (frame.image == trained).all()
    assert frame.name == 'a'


def test_kinds_of_pictures(tmp_path):
    def read(image, **options):
        image.save(tmp_path / 'a.png', **options)
        return read_picture(tmp_path / 'a.png')[0, 0].tolist()

    # BGR; what is transparent is white, half of it half
    assert read(Image.new('RGBA', (4, 2), (200, 100, 0, 255))) == [0, 100, 200]
    assert read(Image.new('RGBA', (4, 2), (9, 9, 9, 0))) == [255] * 3
    assert read(Image.new('RGBA', (4, 2), (0, 0, 0, 51))) == [204] * 3
    assert read(Image.new('LA', (4, 2), (80, 255))) == [80] * 3
    assert read(Image.new('L', (4, 2), 80)) == [80] * 3
    assert read(Image.new('1', (4, 2), 1)) == [255] * 3
    deep = Image.fromarray(np.full((2, 4), 80 * 257, np.uint16))
    assert read(deep) == [80] * 3
    coloured = Image.new('P', (4, 2), 1)
    coloured.putpalette([0, 0, 0, 10, 20, 30])
    assert read(coloured) == [30, 20, 10]
    assert read(coloured, transparency=1) == [255] * 3


def test_a_picture_is_turned_upright(tmp_path):
    image = Image.new('RGB', (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / 'a.jpg', exif=exif)
    assert read_picture(tmp_path / 'a.jpg').shape == (8, 4, 3)


# -- videos of every kind -----------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'codec', 'pix_fmt'),
    [
        ('a.mp4', 'libx264', 'yuv420p10le'),
        ('a.mp4', 'libx265', 'yuv420p10le'),
        ('a.mkv', 'ffv1', 'gray'),
        ('a.avi', 'mjpeg', 'yuvj420p'),
        ('a.webm', 'libvpx-vp9', 'yuv420p'),
        ('a.mov', 'prores_ks', 'yuv422p10le'),
        ('a.gif', 'gif', 'rgb8'),
    ],
)
def test_codecs(tmp_path, name, codec, pix_fmt):
    import av

    if codec not in av.codecs_available:
        pytest.skip(f'no {codec} here')
    video = moving_square(5, 64, 96)
    path = write_clip(tmp_path / name, video, codec, pix_fmt)
    frames = list(open_source(path))
    assert len(frames) == 5
    for frame, drawn in zip(frames, video, strict=True):
        assert frame.image.dtype == np.uint8
        assert place_of(frame.image) == pytest.approx(place_of(drawn), abs=1.5)
        assert (
            abs(int(frame.image[60, 90].mean()) - 90) < 16
        )  # GIF has few greys


@pytest.mark.parametrize('size', [(33, 47), (31, 32), (2, 2)])
def test_odd_sizes(tmp_path, size):
    video = moving_square(3, *size)
    path = write_clip(tmp_path / 'a.mkv', video, 'ffv1', 'yuv444p')
    assert [f.image.shape for f in open_source(path)] == [(*size, 3)] * 3


def test_a_telephone_held_upright(tmp_path):
    """Landscape pictures with a note to turn them by 90 degrees."""
    path = write_clip(tmp_path / 'a.mp4', moving_square(4, 32, 48))
    data = path.read_bytes()
    # the matrix of the track header
    identity = struct.pack('>9i', 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    turned = struct.pack('>9i', 0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    where = data.index(identity, data.index(b'tkhd'))
    path.write_bytes(data[:where] + turned + data[where + 36 :])
    frames = list(open_source(path))
    assert [f.image.shape for f in frames] == [(48, 32, 3)] * 4
    # moving right has become moving down
    ys = [place_of(f.image)[1] for f in frames]
    assert ys == sorted(ys)
    assert ys[-1] - ys[0] > 30


def test_a_single_frame(tmp_path):
    path = write_clip(tmp_path / 'a.mp4', moving_square(1))
    assert len(list(open_source(path))) == 1


def test_large_frames(tmp_path):
    path = write_clip(tmp_path / 'a.mp4', moving_square(2, 2160, 3840))
    source = open_source(path)
    assert source.frame_bytes == 3840 * 2160 * 3
    assert [f.shape for f in source] == [(2160, 3840)] * 2


# -- what cannot be read ------------------------------------------------------


def test_a_truncated_video_says_so(tmp_path):
    path = cut_off(tmp_path)
    with pytest.raises(OSError, match=r'cut\.mp4 is cut off: \d+ of 20 frame'):
        open_source(path)
    source = open_source(path, partial=True)
    assert 0 < len(source) < 20
    assert len(source) + source.missing == 20
    assert len(list(source)) == len(source)


def without_index(tmp_path):
    path = write_clip(tmp_path / 'a.mp4', moving_square())
    path.write_bytes(path.read_bytes()[:1500])
    return path


def text(tmp_path):
    path = tmp_path / 'a.mp4'
    path.write_text('this is no video\n' * 99)
    return path


def nothing(tmp_path):
    path = tmp_path / 'a.mp4'
    path.touch()
    return path


def no_frames(tmp_path):
    import av

    path = tmp_path / 'a.avi'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mjpeg', rate=5)
        stream.width, stream.height, stream.pix_fmt = 8, 8, 'yuvj420p'
        container.start_encoding()
    return path


def sound_only(tmp_path):
    import av

    path = tmp_path / 'a.wav'
    with av.open(str(path), 'w') as container:
        track = container.add_stream('pcm_s16le', rate=8000)
        samples = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), layout='mono'
        )
        samples.sample_rate = 8000
        container.mux(track.encode(samples))
    return path


def broken_picture(tmp_path):
    path = tmp_path / 'a.jpg'
    write_picture(path, 90, (64, 64))
    path.write_bytes(path.read_bytes()[:500])
    return path


def no_pictures(tmp_path):
    (tmp_path / 'notes.txt').write_text('x')
    return tmp_path


def twins(tmp_path):
    write_picture(tmp_path / 'a.png', 1)
    write_picture(tmp_path / 'a.jpg', 1)
    return tmp_path


def missing(tmp_path):
    return tmp_path / 'gone.mp4'


@pytest.mark.parametrize(
    ('make', 'reason'),
    [
        (without_index, 'cannot be opened'),
        (text, r'a\.mp4 cannot be opened'),
        (nothing, r'a\.mp4 cannot be opened'),
        (no_frames, r'a\.avi has no frame'),
        (sound_only, r'a\.wav holds no pictures'),
        (broken_picture, r'a\.jpg cannot be decoded'),
        (no_pictures, 'holds no picture'),
        (twins, 'which are one frame by name'),
        (missing, r'gone\.mp4 does not exist'),
    ],
)
def test_one_clear_error(tmp_path, make, reason):
    with pytest.raises((OSError, ValueError), match=reason) as caught:
        open_source(make(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_an_unreadable_folder(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, 'Permission denied', str(path))

    monkeypatch.setattr(os, 'listdir', refuse)
    monkeypatch.setattr(os, 'scandir', refuse)
    monkeypatch.setattr('pathlib.Path.iterdir', refuse)
    with pytest.raises(OSError, match=r'cannot be read \(Permission denied\)'):
        open_source(tmp_path)


def test_frames_of_two_sizes(tmp_path):
    write_picture(tmp_path / '1.png', 1)
    write_picture(tmp_path / '2.png', 1, (9, 6))
    with pytest.raises(ValueError, match=r'Frame 2 .* 9 x 6 .* 8 x 6'):
        list(open_source(tmp_path))


@pytest.mark.parametrize(
    ('array', 'reason'),
    [
        (np.zeros((4, 5), np.uint8), r'shape \(4, 5\) and type uint8'),
        (np.zeros((2, 4, 5, 4), np.uint8), r'\(2, 4, 5, 4\)'),
        (np.zeros((4, 5, 3)), 'type float64'),
        (np.zeros((0, 4, 5, 3), np.uint8), 'has no frame'),
    ],
)
def test_arrays_are_checked(array, reason):
    with pytest.raises(ValueError, match=reason):
        open_source(array)


@pytest.mark.parametrize(
    ('choice', 'reason'),
    [
        (dict(every=0), 'every is 0'),
        (dict(fps=0), 'fps is 0'),
        (dict(fps=float('nan')), 'fps is nan'),
        (dict(start=9), r'no frame between start=9 .* last is at 1\.900'),
        (dict(start=1, end=0.5), 'no frame between'),
    ],
)
def test_choices_are_checked(clip, choice, reason):
    with pytest.raises(ValueError, match=reason):
        open_source(clip, **choice)


def test_other_things_are_refused():
    with pytest.raises(TypeError, match='int is not a video'):
        open_source(3)
