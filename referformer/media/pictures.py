# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Pictures, and folders of them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, features

from referformer.errors import MediaError, MissingPackageError
from referformer.formats.files import write_atomic
from referformer.formats.frames import is_residue, natural_key
from referformer.media.display import on_white

#: Names of pictures in a folder.
PICTURE_SUFFIXES = (
    '.avif',
    '.bmp',
    '.heic',
    '.heif',
    '.jpeg',
    '.jpg',
    '.png',
    '.ppm',
    '.tif',
    '.tiff',
    '.webp',
)
#: Formats that Pillow may find in a file, whatever its name is, and those
#: whose further pictures are frames. (A JPEG may hold thumbnails.)
_FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
_ANIMATED = ('AVIF', 'GIF', 'PNG', 'TIFF', 'WEBP')
#: What Pillow's readers raise on damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError)
#: What a HEIC photo says of its kind. (Sequences have others, and FFmpeg
#: reads them as the videos they are.)
_HEIC = (b'heic', b'heix', b'heim', b'heis', b'mif1', b'mif2')


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


def is_picture(path: Path) -> bool:
    """Tell by its content whether a file is a picture.

    A picture that moves is one, too; see :func:`count_pictures`. A file that
    cannot be read is none.
    """
    if _family(path) is not None:
        return True
    try:
        with Image.open(path, formats=_FORMATS) as image:
            return image.format != 'JPEG' or not _is_motion_jpeg(path)
    except DAMAGED:
        return False
    except Image.DecompressionBombError:
        return True


def _family(path: Path) -> str | None:
    """Return ``'AVIF'`` or ``'HEIF'`` if a file is of these.

    FFmpeg takes either for a video, of the tiles that a photo is made of.
    """
    with path.open('rb') as file:
        head = file.read(64)
    size = int.from_bytes(head[:4], 'big')
    if head[4:8] != b'ftyp':
        return None
    kinds = {head[8:12], *(head[n : n + 4] for n in range(16, size, 4))}
    if kinds & {b'avif', b'avis'}:
        return 'AVIF'
    return 'HEIF' if head[8:12] in _HEIC else None


def _is_motion_jpeg(path: Path) -> bool:
    """Whether a file holds one JPEG after another, as frames of a video."""
    with path.open('rb') as file:
        head = file.read(1 << 20)
    first = head.find(b'\xff\xd9\xff\xd8\xff')
    return first >= 0 and b'MPF\0' not in head[:first]


def count_pictures(path: Path) -> int:
    """Return how many frames a picture has; 1 unless it moves."""
    if _family(path) == 'HEIF':
        return 1
    with open_picture(path) as image:
        if image.format not in _ANIMATED:
            return 1
        count = getattr(image, 'n_frames', 1)
        if image.format == 'TIFF' and _has_pages_of_two_sizes(image):
            return 1
        # the picture for programs that know no animation is not part of it
        return count - image.info.get('default_image', False)


def _has_pages_of_two_sizes(image: Image.Image) -> bool:
    """Whether a TIFF holds a picture and its thumbnail rather than frames."""
    sizes = set()
    for number in range(image.n_frames):
        image.seek(number)
        sizes.add(image.size)
    return len(sizes) > 1


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture file; errors within the block name it.

    Raises:
        MediaError: If it is none, is damaged or too large.
        MissingPackageError: If it is a HEIC photo and nothing here reads it.
    """
    family = _family(path)
    if family == 'HEIF':
        _register_heic(path)
    elif family == 'AVIF' and not features.check('avif'):
        raise MissingPackageError(
            f'{path} is an AVIF picture, which this Pillow does not read',
            file=path,
            remedy="run: pip install 'pillow>=11.3' (or save it as PNG).",
        )
    formats = _FORMATS if family is None else (family,)
    try:
        with Image.open(path, formats=formats) as image:
            yield image
    except DAMAGED as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(
            f'{path} cannot be decoded ({error}); it is not a picture or '
            'damaged, copy it again.',
            file=path,
        ) from error
    except Image.DecompressionBombError as error:
        raise MediaError(
            f'{path} is too large ({error}); reduce its size.', file=path
        ) from error


def _register_heic(path: Path) -> None:
    """Let Pillow read HEIC."""
    try:
        import pillow_heif
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f'{path} is a HEIC photo, whose reader is not installed',
            file=path,
            remedy='run: pip install pillow-heif (or save it as JPEG).',
        ) from error
    pillow_heif.register_heif_opener()


def read_picture(path: Path) -> np.ndarray:
    """Read a picture of any kind as a page would show it.

    It is turned upright, transparent parts are white, and 16 bits become 8.

    Returns:
        np.ndarray: uint8, BGR, shape (H, W, 3).

    Raises:
        MediaError: If it cannot be decoded whole.
        MissingPackageError: If it is a HEIC photo and nothing here reads it.
    """
    with open_picture(path) as image:
        upright = ImageOps.exif_transpose(image)
        upright.load()
        return to_page(upright)


def to_page(image: Image.Image) -> np.ndarray:
    """Return a picture on a white page, uint8, BGR, shape (H, W, 3)."""
    if image.mode.startswith('I'):
        values = np.asarray(image).astype(np.float32) / 257
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        rgb = on_white(np.asarray(image.convert('RGBA')))
    else:
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
