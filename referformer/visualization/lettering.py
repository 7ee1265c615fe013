# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Text: fonts, line breaks, the strip of expressions below a frame."""

import functools
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

_STRIP_COLOUR: Colour = (24, 24, 24)
_STRIP_TEXT: Colour = (245, 245, 245)


@functools.lru_cache(maxsize=64)
def _font_path(letters: frozenset[str]) -> str:
    """Return the font that has most of the letters.

    DejaVu Sans, which comes with matplotlib, if it has all of them: Latin,
    Greek, Cyrillic, Arabic and more. For others, such as Chinese, the fonts
    of the machine are searched.
    """
    best = str(Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf'))

    def unknown(path: str) -> int:
        known = FT2Font(path).get_charmap()
        return sum(ord(letter) not in known for letter in letters)

    fewest = unknown(best)
    for path in findSystemFonts() if fewest else ():
        try:
            number = unknown(path)
            ImageFont.truetype(path, 16)
        except (OSError, RuntimeError):
            continue  # bitmap fonts and others that cannot be scaled
        if number < fewest:
            best, fewest = path, number
    return best


@functools.lru_cache(maxsize=16)
def _load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def find_font(size: int, text: str = '') -> ImageFont.FreeTypeFont:
    """Return a font for a text, ``size`` in pixels."""
    letters = frozenset(text) - frozenset(' \t\r\n')
    # most texts share a font; one takes a quarter of a megabyte
    return _load_font(_font_path(letters), size)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break text into lines of at most ``width`` pixels, words whole."""
    lines: list[str] = []
    for word in text.split():
        joined = f'{lines[-1]} {word}' if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            while font.getlength(word) > width and len(word) > 1:
                cut = len(word) - 1
                while cut > 1 and font.getlength(word[:cut]) > width:
                    cut -= 1
                lines.append(word[:cut])
                word = word[cut:]
            lines.append(word)
    return lines


def font_size(height: int, width: int) -> int:
    """Return the height of letters in pixels, legible when not enlarged."""
    return max(10, round(min(height, width) / 24))


def _shorten(
    lines: list[str], most: int, font: ImageFont.FreeTypeFont, width: float
) -> list[str]:
    """Return at most so many lines, ending in an ellipsis if cut."""
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and font.getlength(f'{last}…') > width:
        last = last[:-1]
    return [*lines[: most - 1], f'{last}…']


@functools.lru_cache(maxsize=8)
def draw_strip(
    texts: tuple[str, ...],
    height: int,
    width: int,
    colours: tuple[Colour, ...] = (),
) -> np.ndarray:
    """Draw the expressions one below the other, for below a frame.

    A single one has up to three lines, two or three have two each, more have
    one; a longer text ends in an ellipsis. The result is cached, as all
    frames of a clip share it, and must not be written to.

    Args:
        texts (tuple[str, ...]): The expressions.
        height (int): Of the frame, which sets the size of letters.
        width (int): Of the frame.
        colours (tuple[Colour, ...]): One per expression, shown before it.

    Returns:
        np.ndarray: RGB strip of shape (strip, width, 3), uint8.
    """
    size = font_size(height, width)
    pad = max(2, size // 3)
    step = round(size * 1.25)
    indent = size + pad if colours else 0
    room = max(1, width - 2 * pad - indent)
    most = {1: 3, 2: 2, 3: 2}.get(len(texts), 1)
    rows = []
    for text in texts:
        font = find_font(size, text)
        lines = _wrap(text, font, room) or ['']
        rows.append((font, _shorten(lines, most, font, room)))
    strip_height = sum(len(lines) for _, lines in rows) * step + 2 * pad
    canvas = Image.new('RGB', (width, strip_height), _STRIP_COLOUR)
    draw = ImageDraw.Draw(canvas)
    top = pad
    for index, (font, lines) in enumerate(rows):
        if colours:
            y = top + (step - size) // 2
            draw.rectangle(
                (pad, y, pad + size - 1, y + size - 1), fill=colours[index]
            )
        for line in lines:
            draw.text(
                (pad + indent, top + step / 2),
                line,
                font=font,
                fill=_STRIP_TEXT,
                anchor='lm',
            )
            top += step
    strip = np.array(canvas)
    strip.flags.writeable = False
    return strip
