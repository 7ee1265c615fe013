# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading single frames of a video file.

PyAV does the decoding. It is maintained, its wheels bring their own FFmpeg to
every platform, and it shows the packets of a file, which is what exact frame
numbers need. The alternatives fall short in one of these: torchvision removed
its ``read_video``, decord is no longer maintained, OpenCV lands on another
frame than the one asked for when a video has B-frames or edit lists, and every
release of torchcodec is tied to one of torch.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from itertools import chain, dropwhile, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

__all__ = ['VideoReader']


class _Index(NamedTuple):
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


def _open(path: str) -> Any:
    """Open a video file.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it cannot be opened.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'Video {path} does not exist.')
    try:
        return av.open(path)
    except av.error.FFmpegError as error:
        raise OSError(
            f'Video {path} cannot be opened ({error.strerror}); it is no '
            'video or not complete, copy or download it again.'
        ) from error


def _stream(container: Any, path: str) -> Any:
    """Return the main video stream.

    Raises:
        ValueError: If there is none.
    """
    stream = container.streams.best('video')
    if stream is None:
        raise ValueError(
            f'Video {path} holds no pictures; it is no video or not '
            'complete, copy or download it again.'
        )
    return stream


def _demux(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets up to the end, or to where the file is cut off."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.error.FFmpegError:
        return


@lru_cache(maxsize=256)
def _read_index(path: str, mtime: int, size: int) -> _Index:
    """Read the packets of a file; ``mtime`` and ``size`` tell its version.

    Raises:
        FileNotFoundError, OSError: If the file cannot be opened.
        ValueError: If it has no frame.
    """
    with _open(path) as container:
        stream = _stream(container, path)
        packets = [
            (p.pts, p.dts, p.is_keyframe, not p.is_discard, p.is_corrupt)
            for p in _demux(container, stream)
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
    keys = {
        position: (pts, pts if dts is None else dts)
        for position, (pts, dts, is_key, *_) in enumerate(packets)
        if is_key
    }
    shown = [
        (pts, position)
        for position, (pts, _, _, is_shown, _) in enumerate(packets)
        if is_shown
    ]
    stamps = {pts for pts, _ in shown}
    if guessed or None in stamps or len(stamps) < len(shown):
        pts = None
        packet = np.arange(_count_frames(path))
        start = np.zeros_like(packet)
        keys = {}
        seconds = packet / float(rate or 25)
    else:
        order = np.array(sorted(shown), dtype=np.int64).reshape(-1, 2)
        pts, packet = order.T
        start = _find_starts(pts, packet, keys)
        # What precedes the first key frame cannot be decoded.
        pts, packet, start = (
            column[start >= 0] for column in (pts, packet, start)
        )
        seconds = (pts - pts[:1]) * time_base
    if not len(packet):
        raise ValueError(
            f'Video {path} has no frame; it is not complete, copy or '
            'download it again.'
        )
    if not rate and seconds[-1] > 0:
        rate = (len(seconds) - 1) / seconds[-1]
    return _Index(
        pts,
        packet,
        start,
        {position: key[0] for position, key in keys.items()},
        {position: key[1] for position, key in keys.items()},
        seconds,
        float(rate or 25),
        max(cut, missing),
    )


def _count_missing(stream: Any, size: int) -> int:
    """Return how many packets the table of contents places past the end.

    It needs a table of contents, which mp4 has, and a PyAV that shows it;
    otherwise a packet cut in two is what tells of a file that ends early.
    """
    entries = getattr(stream, 'index_entries', ())
    return sum(entry.pos + entry.size > size for entry in entries)


def _find_starts(
    pts: np.ndarray, packet: np.ndarray, keys: dict[int, tuple[int, int]]
) -> np.ndarray:
    """Return where decoding for each frame must begin.

    A frame shown before a key frame may need frames decoded before that key
    frame ("open GOP"), even if its packet follows. So it is the last key frame
    that is both decoded and shown no later than the frame.

    Returns:
        Positions of packets, -1 where there is none, shape (n,).
    """
    if not keys:
        return np.full(len(pts), -1)
    key_packet = np.array(list(keys))
    key_pts = np.array([key[0] for key in keys.values()])
    shown = np.searchsorted(key_pts, pts, side='right')
    decoded = np.searchsorted(key_packet, packet, side='right')
    nearest = np.minimum(shown, decoded) - 1
    return np.where(nearest < 0, -1, key_packet[nearest])


def _count_frames(path: str) -> int:
    """Count the frames of a file without time stamps by decoding it."""
    with _open(path) as container:
        packets = _demux(container, _stream(container, path))
        return sum(1 for _ in _decode(packets))


def _decode(packets: Iterable[Any]) -> Iterator[av.VideoFrame]:
    """Yield the frames of packets, in the order of display."""
    stream = None
    for packet in packets:
        stream = packet.stream
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue  # Whoever wants this frame will miss it and say so.
    if stream is not None:
        yield from stream.decode(None)


def _to_bgr(frame: av.VideoFrame) -> np.ndarray:
    """Return the picture as a display shows it, uint8 BGR, (H, W, 3)."""
    image = frame.to_ndarray(format='bgr24')
    transpose, flip_x, flip_y = _orientation(frame)
    if transpose:
        image = image.transpose(1, 0, 2)
    if flip_x:
        image = image[:, ::-1]
    if flip_y:
        image = image[::-1]
    return np.ascontiguousarray(image)


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Return whether to transpose, then to flip in x and in y.

    The display matrix, as telephones write it, takes stored positions to
    shown ones: x' = a x + c y, y' = b x + d y.
    """
    matrix = frame.side_data.get('DISPLAYMATRIX')
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
    if abs(b) > abs(a):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


class VideoReader:
    """Random access to the frames of a video file.

    Frames are numbered from 0 in the order in which a player shows them, with
    B-frames, varying frame rates and edit lists alike: the packets are listed
    once per process and file, without decoding, and a frame is recognised by
    its time stamp. To read some frames, only what lies between them and the
    key frames before them is decoded. (Of a file without time stamps, such as
    a raw stream or an AVI with B-frames, everything up to the frame is.)

    Damage is never papered over: a frame that cannot be decoded without fault
    is an error. A file that ends early is refused as a whole unless
    ``partial`` is set. (mp4 and AVI say how much there should be; Matroska and
    transport streams do not, so what is there counts as the whole.)

    It is a context manager; :meth:`close` closes the file, which reading
    opens again.

    Args:
        path: The file.
        partial: Accept a file that ends before all its frames and read those
            that are there.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it cannot be opened or ends early.
        ValueError: If it has no frame.

    Example:
        >>> with VideoReader('street.mp4') as video:
        ...     first, last = video.read([0, len(video) - 1])
    """

    def __init__(
        self, path: str | os.PathLike[str], partial: bool = False
    ) -> None:
        self.path = str(path)
        self._container: Any = None
        self._size: tuple[int, int] | None = None
        try:
            status = Path(path).stat()
        except FileNotFoundError:
            raise FileNotFoundError(f'Video {path} does not exist.') from None
        self._index = _read_index(
            self.path, status.st_mtime_ns, status.st_size
        )
        if self._index.missing and not partial:
            raise OSError(
                f'Video {path} is cut off: {self._index.missing} of '
                f'{self._index.missing + len(self)} frames are missing; copy '
                'or download it again.'
            )

    def __len__(self) -> int:
        return len(self._index.packet)

    @property
    def fps(self) -> float:
        """Frames per second, the mean if the rate varies."""
        return self._index.fps

    @property
    def missing(self) -> int:
        """Frames that the file announces and does not hold."""
        return self._index.missing

    @property
    def timestamps(self) -> np.ndarray:
        """Seconds from the first frame to each frame, float64, shape (n,)."""
        return self._index.seconds.copy()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as shown; decodes the first frame."""
        if self._size is None:
            height, width = self.read([0])[0].shape[:2]
            self._size = width, height
        return self._size

    def read(self, indices: Iterable[int]) -> list[np.ndarray]:
        """Read frames.

        Args:
            indices: Their numbers, in any order; repetitions are decoded
                once.

        Returns:
            A picture of its own for each, uint8, BGR, shape (H, W, 3).

        Raises:
            IndexError: If the video has no such frame.
            OSError: If a frame is damaged.
        """
        numbers = [int(i) for i in indices]
        for number in numbers:
            if not 0 <= number < len(self):
                raise IndexError(
                    f'Video {self.path} has frames 0 to {len(self) - 1}, but '
                    f'frame {number} is asked for.'
                )
        if self._container is None:
            self._container = _open(self.path)
        wanted = sorted(set(numbers))
        images = dict(
            zip(wanted, self._read(self._container, wanted), strict=True)
        )
        taken: set[int] = set()
        result = []
        for number in numbers:
            image = images[number]
            result.append(image.copy() if number in taken else image)
            taken.add(number)
        return result

    def frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[np.ndarray]:
        """Yield the frames ``start, start + step, ...`` before ``stop``.

        At most a few frames are held in memory. Other reading in between
        does not disturb it.

        Raises:
            ValueError: If ``step`` is less than 1.
            OSError: If a frame is damaged.
        """
        if step < 1:
            raise ValueError(f'step is {step}; it must be at least 1.')
        yield from self.iterate(
            range(*slice(start, stop, step).indices(len(self)))
        )

    def iterate(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the frames of increasing numbers, as :meth:`frames` does.

        Raises:
            OSError: If a frame is damaged.
        """
        with _open(self.path) as container:
            yield from self._read(container, indices)

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def __enter__(self) -> 'VideoReader':
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.path!r})'

    def _read(
        self, container: Any, wanted: Sequence[int]
    ) -> Iterator[np.ndarray]:
        """Yield the frames of increasing numbers."""
        for run in self._runs(wanted):
            start = int(self._index.start[run[0]])
            remaining = iter(run)
            number = next(remaining)
            found = self._decode_from(container, start)
            for position, frame in found:
                # A frame that did not come, or not intact, may do so when
                # decoding begins further ahead ("gradual refresh").
                while number is not None and number <= position:
                    intact = number == position and not frame.is_corrupt
                    yield _to_bgr(frame if intact else self._insist(number))
                    number = next(remaining, None)
                if number is None:
                    break
            found.close()
            while number is not None:
                yield _to_bgr(self._insist(number))
                number = next(remaining, None)

    def _runs(self, wanted: Sequence[int]) -> Iterator[Sequence[int]]:
        """Split numbers where jumping to a key frame saves decoding."""
        if not len(wanted):
            return
        numbers = np.asarray(wanted)
        # All packets up to here have been decoded when a frame is reached.
        reached = np.maximum.accumulate(self._index.packet[numbers])
        gain = self._index.start[numbers[1:]] > reached[:-1] + 1
        borders = [0, *(np.flatnonzero(gain) + 1).tolist(), len(numbers)]
        for first, last in pairwise(borders):
            yield wanted[first:last]

    def _decode_from(
        self, container: Any, start: int
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode from a packet on and yield the frames with their numbers."""
        stamps = self._index.pts
        with ExitStack() as stack:
            if stamps is None:
                container = stack.enter_context(_open(self.path))
                packets = _demux(container, _stream(container, self.path))
                yield from enumerate(_decode(packets))
                return
            packets = self._packets_from(container, start, stack)
            for frame in _decode(packets):
                if frame.pts is None:
                    continue
                number = int(np.searchsorted(stamps, frame.pts))
                if number < len(stamps) and stamps[number] == frame.pts:
                    yield number, frame

    def _packets_from(
        self, container: Any, start: int, stack: ExitStack
    ) -> Iterator[Any]:
        """Return the packets from the key frame at position ``start`` on.

        Where the container cannot seek to it, the file is gone through from
        its beginning; ``stack`` closes what is opened for that.
        """
        key = self._index.key_pts[start]
        for again in (False, True):
            if again:
                container = stack.enter_context(_open(self.path))
            stream = _stream(container, self.path)
            try:
                if not again:
                    container.seek(self._index.key_seek[start], stream=stream)
            except av.error.FFmpegError:
                continue
            packets = dropwhile(
                lambda packet: not packet.is_keyframe or packet.pts != key,
                _demux(container, stream),
            )
            first = next(packets, None)
            if first is not None:
                return chain([first], packets)
        return iter(())

    def _insist(self, number: int) -> av.VideoFrame:
        """Decode everything up to a frame.

        Raises:
            OSError: If it is damaged all the same.
        """
        first = next(iter(self._index.key_pts), 0)
        with _open(self.path) as container:
            for position, frame in self._decode_from(container, first):
                if position == number and not frame.is_corrupt:
                    return frame
                if position >= number:
                    break
        raise OSError(
            f'Video {self.path}: frame {number} cannot be decoded; the file '
            'is damaged, copy or download it again.'
        )
