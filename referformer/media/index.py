# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the packets of a video tell about its frames."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from referformer.errors import MediaError, MissingMediaError


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


def damaged(path: str, what: str) -> MediaError:
    """Make the error of a video; ``what`` ends a sentence about it."""
    remedy = 'it is not a video or not complete; copy or download it again.'
    return MediaError(f'Video {path} {what}', file=path, remedy=remedy)


def open_video(path: str) -> Any:
    """Open a video file, or raise ``MediaError``."""
    if not Path(path).is_file():
        raise MissingMediaError(f'Video {path} does not exist.', file=path)
    try:
        return av.open(path)
    except av.error.FFmpegError as error:
        what = f'cannot be opened ({error.strerror})'
        raise damaged(path, what) from error


def video_stream(container: Any, path: str) -> Any:
    """Return the main video stream, or raise ``MediaError``."""
    stream = container.streams.best('video')
    if stream is None:
        raise damaged(path, 'holds no pictures')
    return stream


def demux(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets up to the end, or to where the file is cut off."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.error.FFmpegError:
        return


@lru_cache(maxsize=256)
def read_index(path: str, mtime: int, size: int) -> Index:
    """Read the packets of a file; ``mtime`` and ``size`` tell its version.

    Raises:
        MediaError: If the file cannot be opened or has no frame.
    """
    with open_video(path) as container:
        stream = video_stream(container, path)
        packets = [
            (p.pts, p.dts, p.is_keyframe, p.is_discard, p.is_corrupt)
            for p in demux(container, stream)
        ]
        missing = _count_missing(stream, size)
        # AVI stores the order of decoding alone: FFmpeg makes time stamps
        # up, wrongly so where B-frames change the order.
        guessed = container.format.name == 'avi' and bool(
            stream.codec_context.has_b_frames
        )
        rate = stream.average_rate
        time_base = float(stream.time_base)
    cut = 0
    while packets and packets[-1][-1]:  # the last packet is not whole
        packets.pop()
        cut += 1
    key_pts, key_seek, shown = {}, {}, []
    for position, (pts, dts, is_key, is_hidden, _) in enumerate(packets):
        if is_key:
            key_pts[position] = pts
            key_seek[position] = pts if dts is None else dts
        if not is_hidden:
            shown.append((pts, position))
    stamps = {pts for pts, _ in shown}
    if guessed or None in stamps or len(stamps) < len(shown):
        pts = None
        packet = np.arange(_count_frames(path))
        start = np.zeros_like(packet)
        key_pts, key_seek = {}, {}
        seconds = packet / float(rate or 25)
    else:
        order = np.array(sorted(shown), dtype=np.int64).reshape(-1, 2)
        pts, packet = order.T
        start = _find_starts(pts, packet, key_pts)
        # What precedes the first key frame cannot be decoded.
        pts, packet, start = (
            column[start >= 0] for column in (pts, packet, start)
        )
        seconds = (pts - pts[:1]) * time_base
    if not len(packet):
        raise damaged(path, 'has no frame')
    if not rate and seconds[-1] > 0:
        rate = (len(seconds) - 1) / seconds[-1]
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


def _count_frames(path: str) -> int:
    """Count the frames of a file without time stamps by decoding it."""
    with open_video(path) as container:
        packets = demux(container, video_stream(container, path))
        return sum(1 for _ in decode(packets))


def decode(packets: Iterable[Any]) -> Iterator[av.VideoFrame]:
    """Yield the frames of packets, in the order of display."""
    stream = None
    for packet in packets:
        stream = packet.stream
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue  # the caller notices that this frame is missing
    if stream is not None:
        yield from stream.decode(None)
