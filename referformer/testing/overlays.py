# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Test clips drawn with the masks of a model: a mosaic, or one by one."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmdet.structures import TrackDataSample
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData

from referformer.datasets import BaseReferDataset
from referformer.errors import ConfigError
from referformer.formats.files import write_atomic, write_json
from referformer.media.animation import encode_animation
from referformer.media.pictures import write_image
from referformer.media.writer import write_video
from referformer.models import ReferFormer
from referformer.structures import to_numpy
from referformer.visualization import ReferLocalVisualizer
from referformer.visualization.drawing import outline_mask

CLIPS_FILE = 'clips.json'
_WHITE = (255, 255, 255)
#: Pixels between the clips of a mosaic.
_GAP = 6


class ClipPainter:
    """Predicts clips of a test set and draws them enlarged.

    Args:
        model: The model, in evaluation mode.
        dataset: The test set.
        visualizer: Draws the masks.
        scale: How many times to enlarge.
    """

    def __init__(
        self,
        model: ReferFormer,
        dataset: BaseReferDataset,
        visualizer: ReferLocalVisualizer,
        scale: int,
    ) -> None:
        self.model = model
        self.dataset = dataset
        self.visualizer = visualizer
        self.scale = scale
        self.items = [dataset.get_data_info(i) for i in range(len(dataset))]

    def predict(self, index: int) -> tuple[list[np.ndarray], TrackDataSample]:
        """Return the frames of an item, and its clip with masks."""
        batch = pseudo_collate([self.dataset[index]])
        for frame in batch['data_samples'][0].video_data_samples:
            # masks are cut at the size they are drawn in
            height, width = frame.ori_shape[:2]
            size = (height * self.scale, width * self.scale)
            frame.set_metainfo(dict(ori_shape=size))
        with torch.no_grad():
            clip = self.model.test_step(batch)[0]
        images = [
            cv2.resize(
                mmcv.imread(frame.img_path, channel_order='rgb'),
                frame.ori_shape[::-1],
                interpolation=cv2.INTER_CUBIC,
            )
            for frame in clip.video_data_samples
        ]
        return images, clip

    def draw(self, index: int) -> np.ndarray:
        """Draw a clip, RGB, (T, h + strip, w, 3), the sentence below it."""
        return np.stack(self.visualizer.draw_clip(*self.predict(index)))

    def draw_with_truth(self, index: int) -> list[np.ndarray]:
        """Draw a clip, T times (h, w, 3), the true object in a white line.

        Where both agree, the outline of the predicted mask covers it. There
        are no boxes, which would hide both.
        """
        images, clip = self.predict(index)
        for image, frame in zip(images, clip.video_data_samples, strict=True):
            frame.pred_track_instances = InstanceData(
                masks=frame.pred_track_instances.masks
            )
            for mask in to_numpy(frame.gt_instances.masks):
                share = cv2.resize(mask.astype(np.float32), image.shape[1::-1])
                outline_mask(image, share > 0.5, _WHITE)
        drawn = self.visualizer.draw_clip(images, clip)
        return [each[: len(images[0])] for each in drawn]


def choose_clips(
    items: Sequence[Mapping[str, Any]], videos: int, expressions: int
) -> list[list[int]]:
    """Pick videos spread over the set, one expression for each object.

    Args:
        items: Items of the dataset, in order.
        videos: Rows wanted.
        expressions: Columns wanted; there are fewer where no video has as
            many objects.

    Returns:
        Indices of items, rows of equal length, a row per video.
    """
    rows: dict[str, dict[str, int]] = {}
    for index, item in enumerate(items):
        row = rows.setdefault(item['video_id'], {})
        row.setdefault(item['obj_id'] or item['exp_id'], index)
    columns = min(expressions, max(map(len, rows.values()), default=0))
    full = [
        list(row.values())[:columns]
        for row in rows.values()
        if len(row) >= columns
    ]
    step = max(1, len(full) // videos)
    return full[::step][:videos]


def write_mosaic(
    painter: ClipPainter, out: Path, videos: int, expressions: int, fps: float
) -> str:
    """Write clips beside and below each other, and the middle as a picture.

    Args:
        painter: Draws the clips.
        out: Video to write; the picture is ``.png`` beside it.
        videos: Rows.
        expressions: Columns.
        fps: Frames per second.

    Returns:
        What was written, as a sentence.
    """
    chosen = choose_clips(painter.items, videos, expressions)
    rows = [[painter.draw(index) for index in row] for row in chosen]
    # captions of several lines differ in height: pad below
    height = max(clip.shape[1] for row in rows for clip in row)
    length = min(clip.shape[0] for row in rows for clip in row)
    padded = [
        [
            np.pad(
                clip[:length],
                (
                    (0, 0),
                    (0, height - clip.shape[1] + _GAP),
                    (0, _GAP),
                    (0, 0),
                ),
            )
            for clip in row
        ]
        for row in rows
    ]
    mosaic = np.concatenate([np.concatenate(row, 2) for row in padded], 1)
    codec = write_video(out, mosaic, fps)
    still = out.with_suffix('.png')
    write_image(still, mosaic[length // 2])
    return f'{out} ({codec}, {length} frames) and {still}'


def read_scores(path: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of expressions of a table of ``ReferVOSMetric``.

    Raises:
        ConfigError: If it is none.
    """
    try:
        scores = json.loads(path.read_text('utf-8'))['per_expression']
        [(entry['J'], entry['text']) for entry in scores.values()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(
            f'{path} is not a table of expressions with their J',
            file=path,
            remedy='write one with tools/test.py and --cfg-options '
            f'test_evaluator.outfile={path}.',
        ) from None
    return scores


def choose_sample(scores: Mapping[str, Mapping], number: int) -> list[str]:
    """Pick expressions spread over the set, whatever their scores are.

    Each attribute, such as the cue, is there as often as in the set.

    Args:
        scores: Name of an expression -> its entry in the table.
        number: Expressions wanted, at most.
    """

    def attributes(name: str) -> tuple:
        return tuple(sorted(scores[name].get('attributes', {}).items()))

    row = sorted(scores, key=lambda name: (attributes(name), name))
    number = min(number, len(row))
    return [row[(2 * n + 1) * len(row) // (2 * number)] for n in range(number)]


def choose_worst(scores: Mapping[str, Mapping], number: int) -> list[str]:
    """Pick the expressions with the lowest J, the lowest first."""
    return sorted(scores, key=lambda name: (scores[name]['J'], name))[:number]


def write_clips(
    painter: ClipPainter,
    folder: Path,
    scores: Mapping[str, Mapping],
    sample: int,
    worst: int,
    fps: float,
) -> str:
    """Write single clips as pictures that move, and what they are as JSON.

    Args:
        painter: Draws the clips.
        folder: Where to.
        scores: Name of an expression -> its entry in the table.
        sample: Clips spread over the set.
        worst: Clips with the lowest J.
        fps: Frames per second.

    Returns:
        What was written, as a sentence.

    Raises:
        ConfigError: If the scores are those of another set.
    """
    indices = {
        f'{item["video_id"]}/{item["exp_id"]}': index
        for index, item in enumerate(painter.items)
    }
    unknown = scores.keys() - indices.keys()
    if unknown:
        raise ConfigError(
            f'The table has scores of {min(unknown)}, which the test set has '
            'not; give the table of this test set.'
        )

    def write(name: str) -> dict[str, Any]:
        path = folder / f'{name.replace("/", "-")}.webp'
        drawn = painter.draw_with_truth(indices[name])
        write_atomic(path, encode_animation(drawn, fps))
        entry = {'name': name, 'file': path.name, 'text': scores[name]['text']}
        return {**entry, 'J': scores[name]['J']}

    written = {
        'sample': [write(name) for name in choose_sample(scores, sample)],
        'worst': [write(name) for name in choose_worst(scores, worst)],
    }
    write_json(folder / CLIPS_FILE, written)
    return f'{sum(map(len, written.values()))} clips in {folder}'
