# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Frames of a video file by their numbers."""

import random
import struct

import av
import numpy as np
import pytest

from referformer.media import index
from referformer.media import reader as video_reader
from referformer.media.reader import VideoReader

NUM_FRAMES = 50
GOP = 10
# A video as other programs write it: H.264 with B-frames and open GOPs.
OPEN_GOP = {'bf': '3', 'x264-params': 'open-gop=1:scenecut=0:b-adapt=0'}


def picture(number, size=(80, 48)):
    """Return a picture whose number can be read off, RGB."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range(6):
        left, right = bit * width // 6, (bit + 1) * width // 6
        image[:, left:right] = 220 if number >> bit & 1 else 30
    return image


def number_of(image):
    """Return the number of a picture (BGR)."""
    height, width = image.shape[:2]
    middles = [(2 * bit + 1) * width // 12 for bit in range(6)]
    return sum(
        int(image[height // 2, x].mean() > 125) << bit
        for bit, x in enumerate(middles)
    )


def write(
    path,
    codec='libx264',
    pix_fmt='yuv420p',
    size=(80, 48),
    pts=None,
    count=NUM_FRAMES,
    options=OPEN_GOP,
    muxer=None,
):
    with av.open(str(path), 'w', options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = GOP
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(
                picture(number, size), format='rgb24'
            )
            frame.pts = number if pts is None else pts[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('videos')


@pytest.fixture(scope='module')
def mp4(folder):
    return write(folder / 'plain.mp4')


@pytest.fixture
def decoded(monkeypatch):
    """Return the list of everything that is decoded from now on."""
    frames = []
    decode = video_reader.decode

    def counting(packets):
        for frame in decode(packets):
            frames.append(frame.pts)
            yield frame

    monkeypatch.setattr(video_reader, 'decode', counting)
    return frames


VFR = np.cumsum(
    [0, *random.Random(0).choices([1, 2, 5], k=NUM_FRAMES - 1)]
).tolist()


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [
        ('open_gop.mp4', {}),
        ('open_gop.mkv', {}),
        ('open_gop.ts', {}),
        ('open_gop.avi', {}),
        ('raw.h264', {}),
        ('mpeg4.avi', {'codec': 'mpeg4', 'options': {'bf': '2'}}),
        ('vfr.mp4', {'pts': VFR}),
        ('vfr.mkv', {'pts': VFR}),
        ('late.mp4', {'pts': [n + 40 for n in range(NUM_FRAMES)]}),
        ('vp9.webm', {'codec': 'libvpx-vp9', 'options': {}}),
        ('hevc.mp4', {'codec': 'libx265', 'options': {}}),
        ('intra.mp4', {'codec': 'mjpeg', 'pix_fmt': 'yuvj420p'}),
        ('fragments.mp4', {'muxer': {'movflags': 'frag_keyframe+empty_moov'}}),
        ('ten_bit.mp4', {'pix_fmt': 'yuv420p10le'}),
        ('grey.mp4', {'pix_fmt': 'gray'}),
        ('odd.mp4', {'pix_fmt': 'yuv444p', 'size': (81, 49)}),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_frame_numbers_are_exact(folder, name, arguments):
    if name == 'intra.mp4':
        arguments = {**arguments, 'options': {}}
    path = write(folder / name, **arguments)
    with VideoReader(path) as video:
        assert len(video) == NUM_FRAMES
        assert video.size == arguments.get('size', (80, 48))
        order = [49, 0, 9, 10, 11, 31, 31, 7]
        images = video.read(order)
        assert [number_of(image) for image in images] == order
        assert {(i.dtype.name, i.shape) for i in images} == {
            ('uint8', (*video.size[::-1], 3))
        }
        for number in random.Random(1).sample(range(NUM_FRAMES), 12):
            assert number_of(video.read([number])[0]) == number
        steps = [number_of(image) for image in video.frames(3, 40, 9)]
        assert steps == list(range(3, 40, 9))
        everything = [number_of(image) for image in video.frames()]
        assert everything == list(range(NUM_FRAMES))


def test_random_and_sequential_reading_give_the_same_bytes(mp4):
    video = VideoReader(mp4)
    everything = list(video.frames())
    for number in (0, 13, 26, 49):
        np.testing.assert_array_equal(
            video.read([number])[0], everything[number]
        )


def test_only_what_is_needed_is_decoded(mp4, decoded):
    video = VideoReader(mp4)
    assert len(video) == NUM_FRAMES
    assert video.fps == 25
    assert len(video.timestamps) == NUM_FRAMES
    assert not decoded  # packets are listed, not decoded

    video.read([34])  # the key frame before it is frame 30
    assert 1 <= len(decoded) <= GOP
    decoded.clear()
    video.read([29])  # leans on frames on either side of a key frame
    assert len(decoded) <= GOP + 2
    decoded.clear()
    video.read([2, 44])
    assert len(decoded) <= 2 * GOP
    decoded.clear()
    video.read(range(NUM_FRAMES))  # without going back at key frames
    assert len(decoded) == NUM_FRAMES
    decoded.clear()
    first = next(iter(video.frames(20)))
    assert number_of(first) == 20
    assert len(decoded) <= GOP


def test_a_file_is_listed_once_until_it_changes(tmp_path, monkeypatch):
    path = write(tmp_path / 'a.mp4', count=5)
    assert len(VideoReader(path)) == 5
    opened = []
    original = index.open_video
    monkeypatch.setattr(
        index, 'open_video', lambda p: opened.append(p) or original(p)
    )
    assert len(VideoReader(path)) == 5
    assert not opened
    write(path, count=7)
    assert len(VideoReader(path)) == 7
    assert opened


def test_timestamps(tmp_path):
    path = write(tmp_path / 'vfr.mkv', pts=VFR)
    video = VideoReader(path)
    expected = np.array(VFR) / 25
    np.testing.assert_allclose(video.timestamps, expected, atol=1e-3)


def box(data, name):
    """Return where the content of an mp4 box begins."""
    position = data.index(name) + 4
    assert data.count(name) == 1
    return position


def test_edit_list(mp4, tmp_path):
    """A phone's "trim" keeps the frames and notes from where to play."""
    data = bytearray(mp4.read_bytes())
    start = box(data, b'elst')
    version, entries = data[start], data[start + 4 : start + 8]
    assert (version, entries) == (0, b'\0\0\0\1')
    duration, media_time = struct.unpack_from('>Ii', data, start + 8)
    tick = duration // NUM_FRAMES  # of the movie: 1000 a second
    scale = 512  # of the track, for a frame
    struct.pack_into(
        '>Ii', data, start + 8, tick * 20, media_time + 13 * scale
    )
    path = tmp_path / 'trimmed.mp4'
    path.write_bytes(data)
    video = VideoReader(path)
    assert [number_of(i) for i in video.frames()][:15] == list(range(13, 28))
    assert number_of(video.read([4])[0]) == 17
    assert number_of(video.read([12])[0]) == 25


@pytest.mark.parametrize(
    ('matrix', 'turn'),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((0, -1, 1, 0), lambda image: np.rot90(image)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    ],
)
def test_display_rotation(mp4, tmp_path, matrix, turn):
    data = bytearray(mp4.read_bytes())
    a, b, c, d = (65536 * value for value in matrix)
    struct.pack_into('>5i', data, box(data, b'tkhd') + 40, a, b, 0, c, d)
    path = tmp_path / 'turned.mp4'
    path.write_bytes(data)
    expected = turn(VideoReader(mp4).read([37])[0])
    with VideoReader(path) as video:
        np.testing.assert_array_equal(video.read([37])[0], expected)
        assert video.size == expected.shape[1::-1]


def test_what_ends_early_is_refused_or_read_in_part(tmp_path):
    path = write(tmp_path / 'a.mp4', muxer={'movflags': 'faststart'})
    data = path.read_bytes()
    start = box(data, b'mdat')
    path.write_bytes(data[: start + (len(data) - start) * 7 // 10])
    with pytest.raises(OSError, match=r'a\.mp4 is cut off: \d+ of 50'):
        VideoReader(path)
    video = VideoReader(path, partial=True)
    assert 10 < len(video) < NUM_FRAMES
    numbers = [number_of(image) for image in video.frames()]
    assert numbers == sorted(set(numbers))
    assert numbers[:10] == list(range(10))

    path.write_bytes(data[: start - 100])
    with pytest.raises((OSError, ValueError), match=r'a\.mp4 .*not complete'):
        VideoReader(path)


def test_a_damaged_frame_is_an_error(mp4, tmp_path):
    data = bytearray(mp4.read_bytes())
    start = box(data, b'mdat')
    for position in range(start + 900, start + 1100):
        data[position] = 0xFF
    path = tmp_path / 'damaged.mp4'
    path.write_bytes(data)
    video = VideoReader(path)
    assert len(video) == NUM_FRAMES
    reason = r'damaged\.mp4 cannot be decoded at frame \d+'
    with pytest.raises(OSError, match=reason):
        list(video.frames())
    assert number_of(video.read([0])[0]) == 0


def test_files_that_are_no_videos(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone'):
        VideoReader(tmp_path / 'gone.mp4')
    text = tmp_path / 'text.mp4'
    text.write_text('no video')
    with pytest.raises((OSError, ValueError), match=r'text\.mp4'):
        VideoReader(text)
    (tmp_path / 'empty.mp4').touch()
    with pytest.raises((OSError, ValueError), match=r'empty\.mp4'):
        VideoReader(tmp_path / 'empty.mp4')
    sound = tmp_path / 'sound.wav'
    with av.open(str(sound), 'w') as container:
        stream = container.add_stream('pcm_s16le', rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), 's16', 'mono'
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(ValueError, match=r'sound\.wav holds no pictures'):
        VideoReader(sound)


def test_wrong_requests(mp4):
    video = VideoReader(mp4)
    for number in (-1, NUM_FRAMES):
        with pytest.raises(IndexError, match='frames 0 to 49'):
            video.read([0, number])
    with pytest.raises(ValueError, match='step'):
        next(video.frames(step=0))
    assert video.read([]) == []
    assert list(video.frames(10, 10)) == []


def test_repeated_frames_are_separate_arrays(mp4):
    first, second = VideoReader(mp4).read([5, 5])
    first[:] = 0
    assert number_of(second) == 5
