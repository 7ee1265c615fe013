# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Colours, patterns and sizes of objects."""

#: Colour -> RGB.
COLOURS = {
    'red': (216, 40, 42),
    'blue': (42, 84, 220),
    'green': (44, 158, 66),
    'yellow': (250, 216, 48),
    'purple': (128, 56, 186),
    'orange': (250, 134, 26),
    'pink': (252, 148, 192),
    'cyan': (64, 208, 224),
    'white': (246, 246, 246),
    'black': (44, 44, 50),
}
PATTERNS = ('plain', 'striped', 'spotted', 'checked')
#: Size -> radius in units of the frame's short side.
SIZES = {'small': (0.155, 0.17), 'large': (0.24, 0.255)}
#: Attributes of looks, as expressions can mention them.
LOOKS = ('size', 'pattern', 'colour', 'kind')
