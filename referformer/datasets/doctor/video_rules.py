# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Rules that compare the frames of a video.

A rule is a function that yields observations. The rules of ``VIDEO_RULES`` run
where the video was read, on datasets of their class.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from referformer.datasets.doctor.report import Observation
from referformer.datasets.doctor.video import Shown
from referformer.datasets.jhmdb_sentences import JHMDBSentencesDataset
from referformer.datasets.long_rvos import LongRVOSDataset
from referformer.datasets.mevis import MeViSDataset
from referformer.datasets.ref_davis import RefDAVISDataset
from referformer.errors import DataError
from referformer.formats.frames import list_frames, sort_names
from referformer.formats.mask_dict import open_mask_table

Found = Iterator[Observation]

#: Pixels by which a polygon may reach out of its image.
_MARGIN = 2.0
#: The tag of EXIF that says how a picture is to be turned.
_ORIENTATION = 0x0112


def frames_of_another_size(shown: Shown) -> Found:
    """Frames must have the size of the first one."""
    first = next(iter(shown.sizes.values()), None)
    for position, size in shown.sizes.items():
        if size != first:
            text = f'{_by(size)}, the first one {_by(first)}'
            path = shown.paths[position]
            yield Observation('frame-size-differs', path, text)


def frames_copied(shown: Shown) -> Found:
    """Frames that look exactly like the one before."""
    for position in shown.copies:
        if 'img_dir' in shown.item:
            yield Observation('frame-copied', shown.paths[position])


def pictures_turned(shown: Shown) -> Found:
    """Pictures with a rotation in their EXIF data, which is ignored."""
    for path in shown.paths.values():
        if Path(path).suffix.lower() in ('.jpg', '.jpeg'):
            with Image.open(path) as image:
                turn = image.getexif().get(_ORIENTATION, 1)
            if turn != 1:
                yield Observation('frame-turned', path, f'orientation {turn}')


def frames_unlisted(shown: Shown) -> Found:
    """Frames and masks in the folders of a video that are not listed."""
    item = shown.item
    if isinstance(shown.dataset, JHMDBSentencesDataset):
        if list_frames(item['img_dir']).get('00000'):
            yield Observation('frames-from-zero', item['img_dir'])
        return
    folders = {('frame', item.get('img_dir'))}
    folders |= {('mask', clip.get('mask_dir')) for clip in shown.clips}
    listed = {n for clip in shown.clips for n in clip['frame_names']}
    for kind, folder in sorted(folders, key=str):
        name = Path(str(item.get('video_id'))).name
        if folder is None or Path(folder).name != name:
            continue
        for frame, path in list_frames(folder).items():
            if frame not in listed:
                yield Observation(f'{kind}-unlisted', str(path))


def objects_never_seen(shown: Shown) -> Found:
    """Objects that an expression means and no mask shows."""
    if not _is_complete(shown):
        return
    for clip, visible in zip(shown.clips, shown.visible, strict=True):
        item = clip
        if visible or item.get('obj_id') is None:
            continue
        text = f'id {item["obj_id"]}'
        if item.get('rles') is not None:
            yield Observation('mask-empty', shown.paths[0], text)
        elif item.get('annotated_frame_id') is not None:
            text = f'frame {item["annotated_frame_id"] + 1}, {text}'
            yield Observation('mask-empty', item['masks_file'], text)
        elif item.get('mask_dir') is not None:
            yield Observation('object-never-seen', item['mask_dir'], text)


def masks_black_and_white(shown: Shown) -> Found:
    """Masks of 0 and 255 only, where object ids are looked for."""
    if shown.whole and not shown.quick and not _is_complete(shown):
        for folder in shown.ids:
            yield Observation('mask-binary', str(folder))


def ids_of_meta(shown: Shown) -> Found:
    """Objects that only the masks, or only meta.json, know."""
    if shown.known is None or not _is_complete(shown):
        return
    meant = {clip.get('obj_id') for clip in shown.clips}
    for folder, values in shown.ids.items():
        seen = {str(value) for value in values - {0, 255}}
        for code, ids in (
            ('mask-id-unknown', seen - shown.known),
            ('meta-object-unseen', shown.known - seen - meant),
        ):
            for obj_id in sort_names(ids):
                yield Observation(code, str(folder), f'id {obj_id}')


def annotations_of_mevis(shown: Shown) -> Found:
    """Annotations that are null in all frames, or longer than the video."""
    item = shown.item
    if not item.get('anno_ids'):
        return
    table = open_mask_table(item['masks_file'])
    ids = {a for clip in shown.clips for a in clip['anno_ids'] or ()}
    for anno_id in sorted(ids):
        where = f'video {item["video_id"]}, annotation {anno_id}'
        try:
            masks = table[anno_id]
        except DataError:
            continue  # already reported
        if len(masks) > item['video_length']:
            text = (
                f'{where}: {len(masks)} masks, {item["video_length"]} frames'
            )
            yield Observation('masks-of-frames-differ', str(table.path), text)
        if not any(masks):
            yield Observation('annotation-never-seen', str(table.path), where)


def polygons_outside(shown: Shown) -> Found:
    """Polygons that reach out of their image."""
    for clip in shown.clips:
        polygons = clip.get('rles')
        for polygon in polygons if isinstance(polygons, list) else ():
            if not shown.sizes or not isinstance(polygon, list):
                continue
            height, width = shown.sizes[0]
            points = ((polygon[::2], width), (polygon[1::2], height))
            if any(
                min(values) < -_MARGIN or max(values) > limit + _MARGIN
                for values, limit in points
                if values and all(isinstance(v, int | float) for v in values)
            ):
                text = f'id {clip["obj_id"]}'
                yield Observation('polygon-outside', shown.paths[0], text)


def values_of_long_rvos(shown: Shown) -> Found:
    """Masks with other values than 0 and 255, the object."""
    for folder, values in shown.ids.items():
        if not values <= {0, 255}:
            text = f'value {min(values - {0, 255})}'
            yield Observation('mask-values-wrong', str(folder), text)


def masks_of_semisupervised_davis(shown: Shown) -> Found:
    """Masks whose ids are those of the other edition of DAVIS."""
    folder = shown.item.get('mask_dir') or '.'
    if Path(folder).resolve().parts[-3:-1] == ('Annotations', '480p'):
        yield Observation('masks-semisupervised', folder)


def _is_complete(shown: Shown) -> bool:
    """Whether all masks were read, and are not 0 and 255 without objects."""
    values = set().union(*shown.ids.values())
    binary = 255 in values <= {0, 255} and not any(shown.visible)
    return shown.whole and not shown.quick and not binary


def _by(size: Sequence[int]) -> str:
    """Return a size, width first."""
    return f'{size[1]} x {size[0]}'


VIDEO_RULES: dict[type, tuple[Callable[[Shown], Found], ...]] = {
    object: (
        frames_of_another_size,
        frames_copied,
        pictures_turned,
        frames_unlisted,
        objects_never_seen,
        masks_black_and_white,
        ids_of_meta,
        polygons_outside,
    ),
    LongRVOSDataset: (values_of_long_rvos,),
    MeViSDataset: (annotations_of_mevis,),
    RefDAVISDataset: (masks_of_semisupervised_davis,),
}
