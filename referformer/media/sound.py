# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The sound of a video, copied into another one."""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Sound that goes into an mp4 file and plays in a browser as it is.
_KEPT_SOUND = ('aac', 'mp3', 'opus')


class Sound(NamedTuple):
    """The sound of a video between two times, seconds from its first frame."""

    path: str
    start: float
    end: float


class SoundTrack:
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
    def open(cls, target: Any, sound: Sound) -> 'SoundTrack | None':
        """Return the track; None if the video has no sound."""
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
                    packet.pts -= round(self._origin / packet.time_base)
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
