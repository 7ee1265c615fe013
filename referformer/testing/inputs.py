# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Made-up clips as a data loader gives them."""

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

#: Expressions of the made-up clips; they differ in length.
DEMO_TEXTS = (
    'a red circle on the left',
    'the dog',
    'the small blue square moving towards the right side',
)


def demo_refer_inputs(
    batch_size: int = 2,
    num_frames: int = 2,
    size: tuple[int, int] = (64, 96),
    sizes: Sequence[tuple[int, int]] | None = None,
    ori_scale: float = 2.0,
    texts: Sequence[str] | None = None,
    absent: Sequence[tuple[int, int]] = (),
    num_classes: int = 1,
    annotated_positions: Sequence[int] | None = None,
    with_annotations: bool = True,
    seed: int = 0,
) -> dict[str, list]:
    """Make up a batch as a data loader hands it to the preprocessor.

    Each clip shows noise with a bright rectangle, the referred object, that
    changes place from frame to frame.

    Args:
        batch_size (int): Clips N.
        num_frames (int): Frames T of each clip.
        size (tuple[int, int]): (height, width) of every clip in pixels.
        sizes (Sequence[tuple[int, int]], optional): One size per clip,
            instead of ``size``.
        ori_scale (float): Original size of a frame over its size.
        texts (Sequence[str], optional): One expression per clip.
        absent (Sequence[tuple[int, int]]): (clip, frame) pairs without the
            object.
        num_classes (int): Labels are drawn from this many.
        annotated_positions (Sequence[int], optional): The one annotated frame
            of each clip (A2D- and JHMDB-Sentences).
        with_annotations (bool): Whether frames have ``gt_instances``.
        seed (int): Seed of everything random.

    Returns:
        dict[str, list]: ``inputs``, N uint8 tensors of shape (T, 3, h, w),
        and ``data_samples``, N ``TrackDataSample``.
    """
    if sizes is None:
        sizes = [size] * batch_size
    if texts is None:
        texts = [DEMO_TEXTS[n % len(DEMO_TEXTS)] for n in range(batch_size)]
    inputs, samples = [], []
    for n, (height, width) in enumerate(sizes[:batch_size]):
        # a clip depends on its own number only, not on the batch around it
        rng = np.random.default_rng([seed, n])
        label = int(rng.integers(num_classes))
        clip = rng.integers(0, 100, (num_frames, 3, height, width))
        facts = dict(
            text=texts[n], video_id=f'demo_{n}', exp_id='0', obj_id='1'
        )
        facts['video_length'] = num_frames
        if annotated_positions is not None:
            facts['annotated_position'] = annotated_positions[n]
        frames = []
        for t in range(num_frames):
            frame = DetDataSample(
                metainfo=dict(
                    frame_name=f'{t:05d}',
                    frame_id=t,
                    img_path=f'demo_{n}/{t:05d}.jpg',
                    img_shape=(height, width),
                    ori_shape=(
                        round(height * ori_scale),
                        round(width * ori_scale),
                    ),
                    scale_factor=(1 / ori_scale, 1 / ori_scale),
                )
            )
            box_h = int(rng.integers(height // 4, height // 2))
            box_w = int(rng.integers(width // 4, width // 2))
            y = int(rng.integers(0, height - box_h))
            x = int(rng.integers(0, width - box_w))
            mask = np.zeros((1, height, width), np.uint8)
            if (n, t) in absent:
                mask = mask[:0]
            else:
                mask[0, y : y + box_h, x : x + box_w] = 1
                clip[t][:, mask[0] == 1] += 120
            if with_annotations:
                boxes = [[x, y, x + box_w, y + box_h]] * len(mask)
                frame.gt_instances = InstanceData(
                    bboxes=torch.tensor(boxes, dtype=torch.float32).view(
                        -1, 4
                    ),
                    labels=torch.full((len(mask),), label),
                    masks=BitmapMasks(mask, height, width),
                )
            frames.append(frame)
        sample = TrackDataSample(metainfo=facts)
        sample.video_data_samples = frames
        inputs.append(torch.from_numpy(clip.astype(np.uint8)))
        samples.append(sample)
    return {'inputs': inputs, 'data_samples': samples}
