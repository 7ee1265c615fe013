# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the packets of a video tell about its frames.

Most files hold a packet with a time stamp for each frame; listing the packets
is then enough. Where that is not sure, decoding decides what is a frame: two
fields may come in two packets (interlaced H.264), and some packets give no
picture of their own (VP8, MPEG-4).
"""

import multiprocessing
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition

from referformer.errors import MediaError, MissingMediaError
from referformer.media.pictures import PICTURE_SUFFIXES

#: Indices that a process keeps: more than A2D-Sentences has videos (3 782,
#: about 5 KB each), so that no file is listed twice.
_KEPT = 4096


class Index(NamedTuple):
    """What the packets of a video tell about its n frames, without decoding.

    Packets come in the order of decoding, frames in that of display.

    Attributes:
        pts: Time stamp of each frame, in units of ``time_base``, increasing;
            ``None`` if the file has none, whereupon frames are counted.
        packet: Position of the packet of each frame.
        start: Position of the key frame where decoding for it begins.
        key_pts: Position of a key frame -> its time stamp.
        key_seek: Position of a key frame -> the time stamp to seek for.
        seconds: Time of each frame from the first one on, float64.
        fps: Frames per second, the mean if the rate varies.
        missing: Frames that the file announces and does not hold whole.
    """

    pts: np.ndarray | None
    packet: np.ndarray
    start: np.ndarray
    key_pts: dict[int, int]
    key_seek: dict[int, int]
    seconds: np.ndarray
    fps: float
    missing: int


#: Codecs of which each packet gives a frame. Fields of H.264 are looked for.
_ONE_EACH = (
    'av1',
    'dnxhd',
    'dvvideo',
    'ffv1',
    'h264',
    'hevc',
    'mjpeg',
    'mpeg1video',
    'mpeg2video',
    'prores',
    'rawvideo',
    'vp9',
    'vvc',
)
#: Fields are looked for in that many frames.
_HEAD = 8
#: Containers that people join by appending files, so that clocks jump, and a
#: step in seconds that only a jump explains.
_JOINED = ('mpegts', 'mpeg')
_JUMP = 10.0


class _Packet(NamedTuple):
    """What is kept of a packet."""

    pts: int | None
    dts: int | None
    is_key: bool
    is_hidden: bool
    is_corrupt: bool


def damaged(path: str, what: str, remedy: str | None = None) -> MediaError:
    """Make the error of a video; ``what`` ends a sentence about it."""
    remedy = remedy or (
        'it is not a video or not complete; copy or download it again.'
    )
    return MediaError(f'Video {path} {what}', file=path, remedy=remedy)


def open_video(path: str) -> Any:
    """Open a video file, or raise ``MediaError``."""
    file = Path(path)
    if not file.is_file():
        raise MissingMediaError(f'Video {path} does not exist.', file=path)
    # FFmpeg takes "cam1:front.mp4" for an address unless it begins with a
    # slash, "%03d.png" for the names of many files, and any file with the
    # name of a picture for one; so these come without their name.
    name: Any = str(file.absolute())
    if '%' in name or file.suffix.lower() in PICTURE_SUFFIXES:
        stream = file.open('rb')
        name = SimpleNamespace(
            read=stream.read, seek=stream.seek, tell=stream.tell
        )
    try:
        container = av.open(name)
    except av.error.FFmpegError as error:
        what = f'cannot be opened ({error.strerror})'
        raise damaged(path, what) from error
    if multiprocessing.parent_process() is not None:
        # A worker of a data loader: there is one for each core already.
        for video in container.streams.video:
            if video.codec_context is not None:
                video.codec_context.thread_count = 1
    return container


def video_stream(container: Any, path: str) -> Any:
    """Return the main video stream, or raise ``MediaError``.

    The cover of a song is a stream of one picture; it does not count.
    """
    stream = container.streams.best('video')
    if stream is None or stream.disposition & Disposition.attached_pic:
        raise damaged(
            path, 'holds no pictures but sound alone', 'give a video.'
        )
    if stream.codec_context is None:
        raise damaged(
            path,
            'has a codec that this FFmpeg does not know',
            'convert it to H.264 first.',
        )
    return stream


def demux(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets up to the end, or to where the file is cut off."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.error.FFmpegError:
        return


@lru_cache(maxsize=_KEPT)
def read_index(path: str, mtime: int, size: int) -> Index:
    """Read the packets of a file; ``mtime`` and ``size`` tell its version.

    Raises:
        MediaError: If the file cannot be opened or has no frame.
    """
    with open_video(path) as container:
        stream = video_stream(container, path)
        packets = [
            _Packet(p.pts, p.dts, p.is_keyframe, p.is_discard, p.is_corrupt)
            for p in demux(container, stream)
        ]
        missing = _count_missing(stream, size)
        # AVI stores the order of decoding alone: FFmpeg makes time stamps
        # up, wrongly so where B-frames change the order.
        guessed = container.format.name == 'avi' and bool(
            stream.codec_context.has_b_frames
        )
        may_jump = container.format.name in _JOINED
        rate = float(stream.average_rate or 0)
        time_base = float(stream.time_base)
        codec = stream.codec_context.name
    cut = 0
    while packets and packets[-1].is_corrupt:  # the last one is not whole
        packets.pop()
        cut += 1
    key_pts, key_seek, shown = {}, {}, []
    for position, found in enumerate(packets):
        if found.is_key:
            key_pts[position] = found.pts
            key_seek[position] = found.pts if found.dts is None else found.dts
        if not found.is_hidden:
            shown.append((found.pts, position))
    stamps = {pts for pts, _ in shown}
    clock = [found.dts for found in packets if found.dts is not None]
    if (
        guessed
        or None in stamps
        or len(stamps) < len(shown)
        or _jumps(clock, time_base, may_jump)
    ):
        frames, _ = _decode_all(path)
        pts = None
        packet = np.arange(len(frames))
        start = np.zeros_like(packet)
        key_pts, key_seek = {}, {}
        if guessed and len(clock) == len(frames):
            frames = sorted(clock)  # they are shown at even delay
        seconds = _unwrap(frames, time_base, rate, may_jump)
    else:
        if codec not in _ONE_EACH or (codec == 'h264' and _has_fields(path)):
            frames, lost = _decode_all(path)
            stamps = {*frames, *lost}
        order = np.array(
            sorted(each for each in shown if each[0] in stamps),
            dtype=np.int64,
        ).reshape(-1, 2)
        pts, packet = order.T
        start = _find_starts(pts, packet, key_pts)
        # What precedes the first key frame cannot be decoded.
        pts, packet, start = (
            column[start >= 0] for column in (pts, packet, start)
        )
        seconds = (pts - pts[:1]) * time_base
    if not len(packet):
        what = 'has no frame' + ' that can be decoded' * bool(packets)
        raise damaged(path, what)
    if seconds[-1] > 0:
        mean = (len(seconds) - 1) / seconds[-1]
        # a rate of fields is twice that of frames
        rate = mean if not rate or rate > 1.5 * mean else rate
    return Index(
        pts,
        packet,
        start,
        key_pts,
        key_seek,
        seconds,
        float(rate or 25),
        max(cut, missing),
    )


def _jumps(clock: list[int], time_base: float, may_jump: bool) -> bool:
    """Whether a file was joined of several, each with a clock of its own."""
    steps = np.diff(clock) * time_base
    return bool(np.any(steps < 0) or (may_jump and np.any(steps > _JUMP)))


def _unwrap(
    stamps: list[int | None], time_base: float, rate: float, may_jump: bool
) -> np.ndarray:
    """Return the seconds of frames whose clock may be missing or jump.

    Frames that follow each other in the file follow each other in time: where
    the clock does not go on, it goes on as usual.
    """
    if None in stamps:
        return np.arange(len(stamps)) / (rate or 25)
    steps = np.diff(stamps) * time_base
    odd = (steps <= 0) | (may_jump & (steps > _JUMP))
    usual = np.median(steps[~odd]) if not odd.all() else 1 / (rate or 25)
    return np.concatenate([[0.0], np.where(odd, usual, steps).cumsum()])


def _count_missing(stream: Any, size: int) -> int:
    """Return how many packets the table of contents places past the end.

    It takes a table, which mp4 has, and a PyAV that shows it; otherwise a
    packet cut in two is what tells of a file that ends early.
    """
    entries = getattr(stream, 'index_entries', ())
    return sum(entry.pos + entry.size > size for entry in entries)


def _find_starts(
    pts: np.ndarray, packet: np.ndarray, key_pts: dict[int, int]
) -> np.ndarray:
    """Return the packets where decoding for each frame must begin.

    A frame shown before a key frame may need frames decoded before that key
    frame ("open GOP"), even if its packet follows. So it is the last key frame
    that is both decoded and shown no later than the frame; -1 if none is.
    """
    if not key_pts:
        return np.full(len(pts), -1)
    keys = np.array(list(key_pts))
    shown = np.searchsorted([*key_pts.values()], pts, side='right')
    decoded = np.searchsorted(keys, packet, side='right')
    nearest = np.minimum(shown, decoded) - 1
    return np.where(nearest < 0, -1, keys[nearest])


def _has_fields(path: str) -> bool:
    """Whether a frame may come as two fields, in a packet each."""
    with open_video(path) as container:
        frames = decode(demux(container, video_stream(container, path)))
        return any(frame.interlaced_frame for frame in islice(frames, _HEAD))


def _decode_all(path: str) -> tuple[list[int | None], list[int | None]]:
    """Return the time stamps of all frames, and of undecodable packets."""
    lost: list[int | None] = []
    with open_video(path) as container:
        packets = demux(container, video_stream(container, path))
        return [frame.pts for frame in decode(packets, lost)], lost


def decode(
    packets: Iterable[Any], lost: list[int | None] | None = None
) -> Iterator[av.VideoFrame]:
    """Yield the frames of packets, in the order of display.

    Time stamps of packets that cannot be decoded are added to ``lost``.
    """
    decoder = None
    for packet in chain(packets, [None]):  # None: those that it holds back
        if decoder is None:
            if packet is None:
                return
            decoder = _decoder_of(packet.stream)
        try:
            yield from decoder.decode(packet)
        except av.error.FFmpegError:
            # the caller notices that this frame is missing
            if lost is not None and packet is not None:
                lost.append(packet.pts)


def _decoder_of(stream: Any) -> Any:
    """Return the decoder of a stream.

    FFmpeg's own decoders of VP8 and VP9 leave transparency out.
    """
    name = {'vp8': 'libvpx', 'vp9': 'libvpx-vp9'}.get(
        stream.codec_context.name
    )
    if (
        name in av.codecs_available
        and stream.metadata.get('alpha_mode') == '1'
    ):
        return av.CodecContext.create(name, 'r')
    return stream.codec_context
