# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Writing of pictures and videos, complete or not at all."""

import contextlib
import importlib.util
import os
import uuid
import warnings
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import cv2
import numpy as np

__all__ = ['Sound', 'VideoWriter', 'write_image', 'write_video']

#: Ticks of the clock of our videos: whole for 24, 25, 30 and 60 frames a
#: second, and within 0.01 ms of any other time.
_CLOCK = 90000
#: Sound that goes into an mp4 file and plays in a browser as it is.
_KEPT_SOUND = ('aac', 'mp3', 'opus')


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` that becomes it on success."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{uuid.uuid4().hex[:8]}-{path.name}')
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write a picture in the format its suffix names.

    Args:
        path (str | PathLike): Where to, for example ``out/frame.png``.
        image (np.ndarray): RGB picture of shape (h, w, 3), uint8.

    Raises:
        ValueError: If OpenCV cannot write this suffix.
    """
    path = Path(path)
    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    try:
        done, data = cv2.imencode(path.suffix, bgr)
    except cv2.error:
        done = False
    if not done:
        raise ValueError(
            f'{path} cannot be written: "{path.suffix}" is no picture format '
            'OpenCV knows; use .png or .jpg.'
        )
    with _written_whole(path) as part:
        part.write_bytes(data.tobytes())


class Sound(NamedTuple):
    """A piece of the sound of another video.

    Attributes:
        path (str): The video.
        start (float): Seconds from its first frame.
        end (float): Likewise.
    """

    path: str
    start: float
    end: float


class VideoWriter:
    """Write an mp4 file frame by frame.

    With PyAV (``pip install referformer-mm[video]``) the video is H.264 in
    yuv420p, which every browser plays. Without it OpenCV writes MPEG-4 part
    2, which video players show but browsers do not, at a fixed rate and
    without sound.

    It is a context manager: the file gets its name when the block ends well,
    and is gone when it does not.

    Args:
        path (str | PathLike): Where to; the suffix should be ``.mp4``.
        fps (float): Frames a second, above 0.
        sound (Sound, optional): Sound to go along with it, where its video
            has any. Defaults to None.

    Attributes:
        codec (str): The codec used, ``'h264'`` or ``'mpeg4'``.

    Raises:
        ValueError: If ``fps`` is not positive.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float,
        sound: Sound | None = None,
    ) -> None:
        self.path = Path(path)
        if not fps > 0:
            raise ValueError(f'{path}: fps must be above 0 but is {fps}.')
        self.fps = fps
        self.sound = sound
        has_av = importlib.util.find_spec('av') is not None
        self.codec = 'h264' if has_av else 'mpeg4'
        self._shape: tuple[int, ...] | None = None
        self._number = 0
        self._file: _H264File | _MPEG4File | None = None
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> 'VideoWriter':
        self._part = self._exits.enter_context(_written_whole(self.path))
        return self

    def write(self, frame: np.ndarray, time: float | None = None) -> None:
        """Write the next frame.

        Args:
            frame (np.ndarray): RGB picture of shape (h, w, 3), uint8, all of
                one shape. An odd width or height is padded by one repeated
                row or column, as the codec needs even sizes.
            time (float, optional): Seconds from the beginning at which it
                is shown, more than that of the frame before. Defaults to
                None: its number over ``fps``.

        Raises:
            ValueError: If the frame differs from those before.
            RuntimeError: If no encoder works here.
        """
        if self._shape is None:
            self._shape = frame.shape
            size = (frame.shape[0] + 1) // 2 * 2, (frame.shape[1] + 1) // 2 * 2
            kind = _H264File if self.codec == 'h264' else _MPEG4File
            self._file = kind(self._part, size, self.fps, self.sound)
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(
                f'{self.path}: frame {self._number} is {frame.shape} '
                f'{frame.dtype} where {self._shape} uint8 is expected.'
            )
        bottom, right = frame.shape[0] % 2, frame.shape[1] % 2
        if bottom or right:
            frame = np.pad(frame, ((0, bottom), (0, right), (0, 0)), 'edge')
        if time is None:
            time = self._number / self.fps
        self._file.write(np.ascontiguousarray(frame), time)
        self._number += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._exits:
            if self._file is not None:
                self._file.close()
            if error is not None:
                raise error
            if self._file is None:
                raise ValueError(
                    f'{self.path}: a video needs at least one frame.'
                )


def write_video(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float
) -> str:
    """Write frames as an mp4 file; see :class:`VideoWriter`.

    Args:
        path (str | PathLike): Where to; the suffix should be ``.mp4``.
        frames (Iterable[np.ndarray]): RGB pictures of one shape (h, w, 3),
            uint8, consumed one by one.
        fps (float): Frames a second, above 0.

    Returns:
        str: The codec used, ``'h264'`` or ``'mpeg4'``.

    Raises:
        ValueError: If there is no frame, ``fps`` is not positive, or the
            frames differ in size.
        RuntimeError: If no encoder works here.
    """
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.codec


class _H264File:
    """An mp4 file with H.264 by PyAV.

    ``faststart`` puts the index first, so that a browser begins at once.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: float,
        sound: Sound | None,
    ) -> None:
        import av

        self._container = av.open(
            str(path), 'w', format='mp4', options={'movflags': 'faststart'}
        )
        stream = self._container.add_stream(
            'libx264', rate=Fraction(fps).limit_denominator(1001)
        )
        stream.height, stream.width = size
        stream.pix_fmt = 'yuv420p'
        # without B-frames the times and the length of the file are exact
        # also where the rate varies
        stream.options = {'crf': '18', 'preset': 'veryfast', 'bf': '0'}
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        self._stream = stream
        self._duration = round(_CLOCK / fps)
        self._sound = None
        if sound is not None:
            self._sound = _SoundTrack.open(self._container, sound)

    def write(self, frame: np.ndarray, time: float) -> None:
        """Write a frame, and the sound up to it."""
        import av

        picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
        picture.pts = round(time * _CLOCK)
        picture.time_base = Fraction(1, _CLOCK)
        for packet in self._stream.encode(picture):
            self._mux(packet)
        if self._sound is not None:
            self._sound.mux_until(time)

    def _mux(self, packet: Any) -> None:
        # of the last frame nobody else knows how long it is shown
        if not packet.duration:
            packet.duration = self._duration
        self._container.mux(packet)

    def close(self) -> None:
        """Write what is left and close the file."""
        try:
            for packet in self._stream.encode(None):
                self._mux(packet)
            if self._sound is not None:
                self._sound.mux_until(float('inf'))
        finally:
            if self._sound is not None:
                self._sound.close()
            self._container.close()


class _SoundTrack:
    """The sound of another video, copied packet by packet.

    What plays in a browser is copied as it is, the rest becomes AAC. Sound
    that cannot be read is left out, with a warning.
    """

    def __init__(self, target: Any, source: Any, sound: Sound) -> None:
        self._target = target
        self._source = source
        self._sound = sound
        self._input = source.streams.audio[0]
        self._copies = self._input.codec_context.name in _KEPT_SOUND
        video = source.streams.best('video')
        self._origin = sound.start
        if video is not None and video.start_time is not None:
            self._origin += float(video.start_time * video.time_base)
        if not self._copies:
            rate = self._input.codec_context.sample_rate
            self._output = target.add_stream('aac', rate=rate)
        elif hasattr(target, 'add_stream_from_template'):
            self._output = target.add_stream_from_template(self._input)
        else:  # PyAV before 14
            self._output = target.add_stream(template=self._input)
        self._packets = self._read()
        self._waiting: tuple[float, Any] | None = None

    @classmethod
    def open(cls, target: Any, sound: Sound) -> '_SoundTrack | None':
        """Return the track, None if there is no sound to be had."""
        import av

        try:
            source = av.open(sound.path)
        except (OSError, av.error.FFmpegError):
            return None
        if not source.streams.audio:
            source.close()
            return None
        try:
            return cls(target, source, sound)
        except (ValueError, av.error.FFmpegError) as error:
            source.close()
            warnings.warn(
                f'The sound of {sound.path} is left out: {error}', stacklevel=2
            )
            return None

    def _read(self) -> Iterator[tuple[float, Any]]:
        """Yield (time in our video, packet for it)."""
        import av

        length = self._sound.end - self._sound.start
        shift = None
        try:
            for packet in self._source.demux(self._input):
                if packet.pts is None:
                    continue
                time = float(packet.pts * packet.time_base) - self._origin
                if time < 0:
                    continue
                if time >= length:
                    break
                if self._copies:
                    shift = round(self._origin / packet.time_base)
                    packet.pts -= shift
                    packet.dts = packet.pts
                    packet.stream = self._output
                    yield time, packet
                    continue
                for frame in packet.decode():
                    frame.pts -= round(self._origin / frame.time_base)
                    for encoded in self._output.encode(frame):
                        yield time, encoded
            if not self._copies:
                for encoded in self._output.encode(None):
                    yield length, encoded
        except av.error.FFmpegError as error:
            warnings.warn(
                f'The sound of {self._sound.path} ends early: {error}',
                stacklevel=2,
            )

    def mux_until(self, time: float) -> None:
        """Write the packets up to a time."""
        while True:
            if self._waiting is None:
                self._waiting = next(self._packets, None)
            if self._waiting is None or self._waiting[0] > time:
                return
            self._target.mux(self._waiting[1])
            self._waiting = None

    def close(self) -> None:
        """Close the other video."""
        self._packets.close()
        self._source.close()


class _MPEG4File:
    """An mp4 file with MPEG-4 part 2 by OpenCV."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: float,
        sound: Sound | None,
    ) -> None:
        # OpenCV chooses the container by the suffix, which ``path`` keeps.
        self._writer = cv2.VideoWriter(
            str(path), cv2.VideoWriter_fourcc(*'mp4v'), fps, (size[1], size[0])
        )
        if not self._writer.isOpened():
            raise RuntimeError(
                f'{path.parent}: this OpenCV cannot write mp4 videos; run: '
                'pip install av'
            )

    def write(self, frame: np.ndarray, time: float) -> None:
        """Write a frame; the rate is fixed."""
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Close the file."""
        self._writer.release()
