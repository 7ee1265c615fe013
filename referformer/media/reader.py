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
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, dropwhile, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

from referformer.errors import MissingMediaError
from referformer.media.display import Display
from referformer.media.index import (
    damaged,
    decode,
    demux,
    open_video,
    read_index,
    video_stream,
)


class VideoReader:
    """Random access to the frames of a video file.

    Frames are numbered from 0 in the order in which a player shows them, with
    B-frames, varying frame rates and edit lists alike: the packets are listed
    once per process and file, and a frame is recognised by its time stamp.
    Where packets do not tell what is a frame, as in interlaced H.264, the
    whole file is decoded once, see :mod:`referformer.media.index`. To read
    some frames, only what lies between them and the key frames before them is
    decoded. (Of a file without time stamps, such as a raw stream or an AVI
    with B-frames, or of files joined to one, everything up to the frame is.)

    Frames are shown as a display does, see :mod:`referformer.media.display`.

    A frame that cannot be decoded without fault is an error. A file that ends
    early is refused as a whole unless ``partial`` is set. (mp4 and AVI say how
    much there should be; Matroska and transport streams do not, so what is
    there counts as the whole.)

    It is a context manager; :meth:`close` closes the file, which reading
    opens again.

    Args:
        path: The file.
        partial: Accept a file that ends before all its frames and read those
            that are there.
        square: Make pixels square. Otherwise they are as they are stored,
            which is what the masks of data sets belong to.

    Raises:
        MediaError: If it is missing, cannot be opened, ends early or has
            no frame.

    Example:
        >>> with VideoReader('street.mp4') as video:
        ...     first, last = video.read([0, len(video) - 1])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        partial: bool = False,
        square: bool = False,
    ) -> None:
        self.path = str(path)
        self.square = square
        self._container: Any = None
        self._size: tuple[int, int] | None = None
        try:
            status = Path(path).stat()
        except FileNotFoundError:
            raise MissingMediaError(
                f'Video {path} does not exist.', file=path
            ) from None
        self._index = read_index(self.path, status.st_mtime_ns, status.st_size)
        if self._index.missing and not partial:
            raise damaged(
                path,
                f'is cut off: {self.missing} of {self.missing + len(self)} '
                'frames are missing',
                'copy or download it again, or set partial to read what is '
                'there.',
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
            MediaError: If a frame is damaged.
        """
        numbers = [int(i) for i in indices]
        for number in numbers:
            if not 0 <= number < len(self):
                raise IndexError(
                    f'Video {self.path} has frames 0 to {len(self) - 1}, but '
                    f'frame {number} is asked for.'
                )
        if self._container is None:
            self._container = open_video(self.path)
        wanted = sorted(set(numbers))
        found = self._read(self._container, wanted)
        images = dict(zip(wanted, found, strict=True))
        times = Counter(numbers)
        return [
            images[number].copy() if times[number] > 1 else images[number]
            for number in numbers
        ]

    def frames(
        self, start: int = 0, stop: int | None = None, step: int = 1
    ) -> Iterator[np.ndarray]:
        """Yield the frames ``start, start + step, ...`` before ``stop``.

        At most a few frames are held in memory. Other reading in between
        does not disturb it.

        Raises:
            ValueError: If ``step`` is less than 1.
            MediaError: If a frame is damaged.
        """
        if step < 1:
            raise ValueError(f'step is {step}; it must be at least 1.')
        yield from self.iterate(range(len(self))[start:stop:step])

    def iterate(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the frames of increasing numbers, see :meth:`frames`."""
        with open_video(self.path) as container:
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
        display = Display.of(video_stream(container, self.path), self.square)

        def show(frame: av.VideoFrame) -> np.ndarray:
            try:
                return display.show(frame)
            except (ValueError, av.error.FFmpegError) as error:
                raise damaged(
                    self.path,
                    f'has pixels ({frame.format.name}) that FFmpeg cannot '
                    f'convert ({error})',
                    'convert it to H.264 first.',
                ) from error

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
                    yield show(frame if intact else self._insist(number))
                    number = next(remaining, None)
                if number is None:
                    break
            found.close()
            while number is not None:
                yield show(self._insist(number))
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
                container = stack.enter_context(open_video(self.path))
                packets = demux(container, video_stream(container, self.path))
                yield from enumerate(decode(packets))
                return
            packets = self._packets_from(container, start, stack)
            for frame in decode(packets):
                if frame.pts is None:
                    continue
                number = int(np.searchsorted(stamps, frame.pts))
                if number < len(stamps) and stamps[number] == frame.pts:
                    yield number, frame

    def _packets_from(
        self, container: Any, start: int, stack: ExitStack
    ) -> Iterator[Any]:
        """Return the packets from the key frame at position ``start`` on.

        Where the container cannot seek to it, the file is read from its
        beginning; ``stack`` closes what is opened for that.
        """
        key = self._index.key_pts[start]
        for again in (False, True):
            if again:
                container = stack.enter_context(open_video(self.path))
            stream = video_stream(container, self.path)
            try:
                if not again:
                    container.seek(self._index.key_seek[start], stream=stream)
            except av.error.FFmpegError:
                continue
            packets = dropwhile(
                lambda packet: not packet.is_keyframe or packet.pts != key,
                demux(container, stream),
            )
            first = next(packets, None)
            if first is not None:
                return chain([first], packets)
        return iter(())

    def _insist(self, number: int) -> av.VideoFrame:
        """Decode everything up to a frame, or raise ``MediaError``."""
        first = next(iter(self._index.key_pts), 0)
        with open_video(self.path) as container:
            for position, frame in self._decode_from(container, first):
                if position == number and not frame.is_corrupt:
                    return frame
                if position >= number:
                    break
        raise damaged(
            self.path,
            f'cannot be decoded at frame {number}',
            'it is damaged there; copy or download it again.',
        )
