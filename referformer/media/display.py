# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A decoded frame as a display shows it.

It is turned upright, its pixels are made square, transparent parts are white
as those of pictures are, and high dynamic range (HDR) is mapped to the range
of an ordinary display.
"""

from functools import cache
from typing import NamedTuple

import av
import cv2
import numpy as np

#: Numbers of transfer functions in ITU-T H.273.
_PQ, _HLG = 16, 18
#: Luminance of white in HDR (ITU-R BT.2408), and the most that is kept apart
#: from brighter light, in candela per square metre.
_WHITE, _PEAK = 203.0, 1000.0
#: Linear RGB, from BT.2020 to BT.709 (ITU-R BT.2087).
_TO_BT709 = np.array(
    [
        [1.6605, -0.5876, -0.0728],
        [-0.1246, 1.1329, -0.0083],
        [-0.0182, -0.1006, 1.1187],
    ],
    np.float32,
)
#: A ratio of the sides of a pixel beyond this is a mistake of the file.
_MAX_ASPECT = 8


class Display(NamedTuple):
    """What the stream says about how to show its frames.

    Attributes:
        aspect (float): Width of a pixel over its height.
        transfer (int): Number of the transfer function.
    """

    aspect: float = 1.0
    transfer: int = 0

    @classmethod
    def of(cls, stream: av.VideoStream, square: bool) -> 'Display':
        """Read it; without ``square``, pixels stay as they are stored."""
        aspect = float(stream.sample_aspect_ratio or 0) if square else 0.0
        if not 1 / _MAX_ASPECT <= aspect <= _MAX_ASPECT:
            aspect = 1.0
        return cls(aspect, int(stream.codec_context.color_trc or 0))

    def show(self, frame: av.VideoFrame) -> np.ndarray:
        """Return the picture, uint8, BGR, shape (H, W, 3).

        Raises:
            ValueError: If FFmpeg cannot convert its pixels.
            av.error.FFmpegError: Likewise.
        """
        # threads would be started and ended for each frame
        options = {'threads': 1}
        if self.aspect > 1:  # no pixel is lost
            options['width'] = round(frame.width * self.aspect)
        elif self.aspect < 1:
            options['height'] = round(frame.height / self.aspect)
        if self.transfer in (_PQ, _HLG):
            wide = frame.to_ndarray(format='rgb48le', **options)
            image = _map_tones(wide, self.transfer)
        elif any(component.is_alpha for component in frame.format.components):
            image = on_white(frame.to_ndarray(format='bgra', **options))
        else:
            image = frame.to_ndarray(format='bgr24', **options)
        transpose, flip_x, flip_y = _orientation(frame)
        if transpose:
            image = image.transpose(1, 0, 2)
        if flip_x:
            image = image[:, ::-1]
        if flip_y:
            image = image[::-1]
        return np.ascontiguousarray(image)


def on_white(image: np.ndarray) -> np.ndarray:
    """Put a picture with alpha last, uint8, (H, W, 4), on a white page."""
    alpha = image[..., 3:].astype(np.uint16)
    mixed = image[..., :3] * alpha + 255 * (255 - alpha) + 127
    return (mixed // 255).astype(np.uint8)


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


def _map_tones(image: np.ndarray, transfer: int) -> np.ndarray:
    """Turn HDR of 16 bits, RGB in BT.2020, into uint8, BGR in BT.709."""
    linear = cv2.transform(_tone_curve(transfer).take(image), _TO_BT709)
    np.clip(linear, 0, 1, out=linear)
    linear *= 65535
    levels = cv2.cvtColor(linear.astype(np.uint16), cv2.COLOR_RGB2BGR)
    return _display_levels().take(levels)


@cache
def _tone_curve(transfer: int) -> np.ndarray:
    """Light of each of 65536 levels, white is 1, after tone mapping.

    The range up to ``_PEAK`` is rolled off to white as in ITU-R BT.2390,
    "EETF": in the levels of PQ, dark and middle ones stay as they are.
    """
    level = np.linspace(0, 1, 65536)
    if transfer == _HLG:
        light = _PEAK * _hlg_to_scene(level) ** 1.2
    else:
        light = _pq_to_light(level)
    peak, white = _light_to_pq(np.array([_PEAK, _WHITE]))
    level = (_light_to_pq(light) / peak).clip(0, 1)
    top = white / peak
    knee = 1.5 * top - 0.5
    t = (level - knee) / (1 - knee)
    rolled = (
        (2 * t**3 - 3 * t**2 + 1) * knee
        + (t**3 - 2 * t**2 + t) * (1 - knee)
        + (3 * t**2 - 2 * t**3) * top
    )
    level = np.where(level < knee, level, rolled)
    return (_pq_to_light(level * peak) / _WHITE).astype(np.float32)


@cache
def _display_levels() -> np.ndarray:
    """Levels 0 to 255 of 65536 steps of light, for a display of BT.1886."""
    light = np.linspace(0, 1, 65536)
    return (255 * light ** (1 / 2.4)).round().astype(np.uint8)


# The transfer function of SMPTE ST 2084 ("PQ").
_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128


def _pq_to_light(level: np.ndarray) -> np.ndarray:
    power = level ** (1 / _M2)
    ratio = (power - _C1).clip(0) / (_C2 - _C3 * power)
    return 10000 * ratio ** (1 / _M1)


def _light_to_pq(light: np.ndarray) -> np.ndarray:
    power = (light / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _hlg_to_scene(level: np.ndarray) -> np.ndarray:
    """Inverse of the transfer function of ARIB STD-B67 ("HLG"), to [0, 1]."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(
        level <= 0.5, level**2 / 3, (np.exp((level - c) / a) + b) / 12
    )
