# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Predictions of a test, written into the data samples of mmdet."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from referformer.errors import ConfigError
from referformer.formats.coco import encode_masks
from referformer.media.pictures import read_picture
from referformer.models import ReferFormer
from referformer.models.referformer import annotated_positions
from referformer.prediction.propagation import (
    MaskPropagator,
    Video,
    propagate,
)
from referformer.structures import (
    RLEMasks,
    SequencePredictions,
    SoftMasks,
    split_expressions,
    to_numpy,
)

if TYPE_CHECKING:
    from referformer.prediction.predictor import Predictor


@torch.no_grad()
def predict_samples(
    predictor: 'Predictor',
    model: ReferFormer,
    batch_inputs: Tensor,
    batch_data_samples: list[TrackDataSample],
) -> list[TrackDataSample]:
    """Segment the referred objects in the samples of a data set.

    A sample is a clip with an expression (``text`` in its metainfo) or a
    video with all of its expressions (``expressions``: dicts with ``text``
    and more). Clips are predicted as one batch, unless they are to be cut
    into windows; videos one after the other, unpadded.

    Args:
        predictor (Predictor): Settings of the prediction.
        model (ReferFormer): The model.
        batch_inputs (Tensor): Shape (N, T, 3, H, W).
        batch_data_samples (list[TrackDataSample]): N clips or videos.

    Returns:
        list[TrackDataSample]: One per expression, every frame with
        ``pred_track_instances`` on the CPU: ``masks`` (k, ori_h, ori_w),
        bool, ``scores`` (k,), ``frame_scores`` (k,) of this frame, ``bboxes``
        (k, 4) in pixels of the original frame, ``labels`` (k,), best sequence
        first. Of a clip with one
        annotated frame, that frame only. The masks of a video with several
        expressions are :class:`~referformer.structures.SoftMasks`, as they
        would not fit into memory.
    """
    single = 'annotated_position' in batch_data_samples[0]
    grouped = any('expressions' in sample for sample in batch_data_samples)
    propagator = predictor.propagator
    if propagator is not None and single:
        raise ConfigError(
            'This data set scores one frame of a clip, so nothing can be '
            "propagated; set model.predictor.propagator='none'."
        )
    if single or not (predictor.window or grouped):
        videos = [
            [clip]
            for clip in _predict_batch(
                predictor, model, batch_inputs, batch_data_samples
            )
        ]
    else:
        videos = [
            _predict_video(predictor, model, frames, sample)
            for frames, sample in zip(
                batch_inputs, batch_data_samples, strict=True
            )
        ]
    if propagator is not None:
        for clips in videos:
            _propagate(propagator, clips, batch_inputs.device)
    return [clip for clips in videos for clip in clips]


def _predict_batch(
    predictor: 'Predictor',
    model: ReferFormer,
    batch_inputs: Tensor,
    batch_data_samples: list[TrackDataSample],
) -> list[TrackDataSample]:
    """Predict N clips with one expression each."""
    # words first: the host is busy with them, the device is not
    text = predictor.encode_text(model, [s.text for s in batch_data_samples])
    with predictor.arithmetic(batch_inputs.device):
        visual = predictor.call(
            model,
            'extract_feat',
            batch_inputs,
            [sample[0].img_shape[:2] for sample in batch_data_samples],
            annotated_positions(batch_data_samples),
        )
        found = predictor.call(model, 'predict_sequences', visual, text)
    found = found.to_host().suppress_low_scores(predictor.score_thr)
    for n, sample in enumerate(batch_data_samples):
        frames = sample.video_data_samples
        if 'annotated_position' in sample:
            frames = [frames[sample.annotated_position]]
        for t, frame in enumerate(frames):
            write_instances(predictor, model, frame, found, n, t)
    return batch_data_samples


def _predict_video(
    predictor: 'Predictor',
    model: ReferFormer,
    frames: Tensor,
    sample: TrackDataSample,
) -> list[TrackDataSample]:
    """Predict the expressions of a video of shape (T, 3, H, W)."""
    height, width = sample[0].img_shape[:2]
    frames = frames[..., :height, :width]
    grouped = 'expressions' in sample
    outputs = split_expressions(sample) if grouped else [sample]
    if not predictor.window:  # one window, nothing to link
        whole = max(1, len(frames))
        predictor = predictor.override(window=whole, link='none')
    text = predictor.encode_text(model, [output.text for output in outputs])
    encoded = predictor.encode_windows(
        model,
        range(len(frames)),
        lambda window: frames[window[0] : window[-1] + 1],
    )
    for window, found in predictor.predict_windows(model, encoded, text):
        for n, output in enumerate(outputs):
            for t in range(window.start, window.stop):
                frame = output[window.frames[t]]
                write_instances(predictor, model, frame, found, n, t, grouped)
    return outputs


def write_instances(
    predictor: 'Predictor',
    model: ReferFormer,
    frame: DetDataSample,
    found: SequencePredictions,
    n: int,
    t: int,
    lazily: bool = False,
) -> None:
    """Write into a frame the predictions for expression n in frame t.

    Where ``lazily`` is set, masks stay at their stride until they are looked
    at.
    """
    img_shape, ori_shape = frame.img_shape[:2], frame.ori_shape[:2]
    masks = predictor.soft_masks(
        model, found.masks[n, t], img_shape, ori_shape
    )
    size = ori_shape[::-1]
    frame.pred_track_instances = InstanceData(
        masks=masks if lazily else masks.to_tensor(),
        scores=found.scores[n],
        frame_scores=found.frame_scores[n, t],
        bboxes=found.boxes[n, t] * found.boxes.new_tensor(size * 2),
        labels=found.labels[n],
    )


def _propagate(
    propagator: MaskPropagator,
    clips: list[TrackDataSample],
    device: torch.device,
) -> None:
    """Propagate the masks of E expressions of one video, in place."""
    frames = list(
        zip(*(clip.video_data_samples for clip in clips), strict=True)
    )
    found = [[each.pred_track_instances for each in of] for of in frames]
    if len(found[0][0]) != 1:
        raise ConfigError(
            'A propagator follows one sequence of each expression; set '
            'model.head.selector.topk=1.'
        )
    shape = frames[0][0].ori_shape[:2]
    paths = [of[0].get('img_path') for of in frames]
    if None in paths:
        raise ConfigError(
            'A propagator reads the frames again, and those of this data set '
            "are no picture files; set model.predictor.propagator='none'."
        )
    own = [
        RLEMasks(
            [rle for each in of for rle in encode_masks(to_numpy(each.masks))],
            shape,
        )
        for of in found
    ]
    video = Video(
        len(frames),
        lambda numbers: (read_picture(Path(paths[t])) for t in numbers),
        3 * shape[0] * shape[1],
    )
    scores = np.array(
        [[float(each.frame_scores) for each in of] for of in found]
    )
    fused = propagate(propagator, video, own, scores, device)
    for of, before, after in zip(found, own, fused, strict=True):
        boxes = np.concatenate([each.bboxes.numpy() for each in of])
        boxes = after.new_boxes(before, boxes)
        for e, each in enumerate(of):
            lazily = isinstance(each.masks, SoftMasks)
            masks = after[e]
            each.masks = (
                masks if lazily else torch.from_numpy(masks.to_ndarray())
            )
            each.bboxes = torch.from_numpy(boxes[e : e + 1])
