# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Pictures, and folders of them."""

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from referformer.errors import MediaError
from referformer.formats.files import write_atomic
from referformer.formats.frames import is_residue, natural_key

#: Pictures; any other file is taken for a video.
PICTURE_SUFFIXES = (
    '.bmp',
    '.jpeg',
    '.jpg',
    '.png',
    '.ppm',
    '.tif',
    '.tiff',
    '.webp',
)


def list_pictures(folder: Path) -> list[Path]:
    """List the pictures of a folder, ``2.jpg`` before ``10.jpg``.

    Hidden files and other files are left out.

    Raises:
        MediaError: If there is none, or two are one frame by name.
    """
    try:
        pictures = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in PICTURE_SUFFIXES
            and path.is_file()
            and not is_residue(path.name)
        ]
    except OSError as error:
        raise MediaError(
            f'Folder {folder} cannot be read ({error.strerror}); check its '
            'permissions.',
            file=folder,
        ) from error
    if not pictures:
        raise MediaError(
            f'Folder {folder} holds no picture ({", ".join(PICTURE_SUFFIXES)})'
            '; give the folder that holds the frames themselves.',
            file=folder,
        )
    names: dict[str, Path] = {}
    for path in pictures:
        other = names.setdefault(path.stem, path)
        if other != path:
            raise MediaError(
                f'Folder {folder} holds {other.name} and {path.name}, which '
                'are one frame by name; keep one of them.',
                file=folder,
            )
    return sorted(pictures, key=lambda path: natural_key(path.name))


def read_picture(path: Path) -> np.ndarray:
    """Read a picture of any kind as a page would show it.

    It is turned upright, transparent parts are white, and 16 bits become 8.

    Returns:
        np.ndarray: uint8, BGR, shape (H, W, 3).

    Raises:
        MediaError: If it cannot be decoded whole.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
    # Pillow's readers raise these, too, on damaged files
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise MediaError(
            f'{path} cannot be decoded ({error}); it is not a picture or '
            'damaged, copy it again.',
            file=path,
        ) from error
    except Image.DecompressionBombError as error:
        raise MediaError(
            f'{path} is too large ({error}); reduce its size.', file=path
        ) from error
    if image.mode.startswith('I'):
        values = np.asarray(image).astype(np.float32) / 257
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert('RGBA')
        page = Image.new('RGBA', image.size, 'white')
        image = Image.alpha_composite(page, image)
    rgb = np.asarray(image.convert('RGB'))
    return np.ascontiguousarray(rgb[..., ::-1])


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write a picture in the format its suffix names.

    Args:
        path (str | PathLike): Where to, for example ``out/frame.png``.
        image (np.ndarray): RGB picture of shape (h, w, 3), uint8.

    Raises:
        MediaError: If OpenCV cannot write this suffix.
    """
    path = Path(path)
    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    try:
        done, data = cv2.imencode(path.suffix, bgr)
    except cv2.error:
        done = False
    if not done:
        raise MediaError(
            f'{path} cannot be written: "{path.suffix}" is not a picture '
            'format that OpenCV knows; use .png or .jpg.',
            file=path,
        )
    write_atomic(path, data.tobytes())
