# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest
import torch

from referformer.structures import (
    FrameFeatures,
    TextFeatures,
    VisualFeatures,
    stack_clip_targets,
)
from referformer.testing import demo_refer_inputs


def samples(**kwargs):
    return demo_refer_inputs(**kwargs)['data_samples']


def pad(data_samples, shape):
    for sample in data_samples:
        for frame in sample.video_data_samples:
            frame.set_metainfo({'batch_input_shape': shape})
    return data_samples


def test_boxes_are_relative_to_the_unpadded_frame():
    batch = pad(samples(sizes=[(64, 96), (48, 80)]), (64, 96))
    targets = stack_clip_targets(batch)
    assert targets.masks.shape == (2, 2, 64, 96)
    assert targets.labels.tolist() == [0, 0]
    assert targets.valid.all()
    for n, (height, width) in enumerate([(64, 96), (48, 80)]):
        for t in range(2):
            x1, y1, x2, y2 = batch[n][t].gt_instances.bboxes[0].tolist()
            expected = [
                (x1 + x2) / 2 / width,
                (y1 + y2) / 2 / height,
                (x2 - x1) / width,
                (y2 - y1) / height,
            ]
            assert targets.boxes[n, t].tolist() == pytest.approx(expected)
            mask = targets.masks[n, t]
            assert mask.sum() == (x2 - x1) * (y2 - y1)
            assert mask[int(y1) : int(y2), int(x1) : int(x2)].all()


def test_absent_frame_is_zero_and_invalid():
    targets = stack_clip_targets(samples(absent=[(1, 0)]))
    assert targets.valid.tolist() == [[True, True], [False, True]]
    assert not targets.boxes[1, 0].any()
    assert not targets.masks[1, 0].any()
    assert targets.masks[1, 1].any()


def test_only_the_annotated_frame():
    batch = samples(num_frames=3, annotated_positions=[2, 0])
    every = stack_clip_targets(batch)
    one = stack_clip_targets(batch, [2, 0])
    assert one.boxes.shape == (2, 1, 4)
    assert torch.equal(one.boxes[0, 0], every.boxes[0, 2])
    assert torch.equal(one.masks[1, 0], every.masks[1, 0])


def test_clip_without_the_object():
    batch = samples(absent=[(0, 0), (0, 1)])
    with pytest.raises(ValueError, match=r"'a red .* 'demo_0'\) is visible"):
        stack_clip_targets(batch)


def test_two_objects():
    batch = samples()
    frame = batch[1][0]
    frame.gt_instances = type(frame.gt_instances).cat([frame.gt_instances] * 2)
    with pytest.raises(ValueError, match=r"demo_1/00000.jpg' holds 2"):
        stack_clip_targets(batch)


@pytest.mark.parametrize('padded', [True, False])
def test_split_expressions_into_batches(padded):
    text = TextFeatures(*(torch.arange(3)[:, None] for _ in range(4)))
    if not padded:
        text = text._replace(padding_mask=None)
    batches = text.split(2)
    for batch, expected in zip(batches, ([0, 1], [2]), strict=True):
        assert (batch.padding_mask is not None) == padded
        for part in batch:
            assert part is None or part[:, 0].tolist() == expected


def test_repeated_clips_stand_side_by_side():
    def level(size):
        return FrameFeatures(
            torch.randn(2, 4, size, size),
            torch.zeros(2, size, size, dtype=torch.bool),
            torch.randn(2, 4, size, size),
        )

    one = VisualFeatures(
        level(8), (level(4), level(2)), torch.tensor([[32.0, 30.0]]), True
    )
    three = one.repeat(3)
    assert three.padded
    assert three.sizes.tolist() == [[32, 30]] * 3
    for before, after in zip(
        (one.fine, *one.levels), (three.fine, *three.levels), strict=True
    ):
        for part, repeated in zip(before, after, strict=True):
            # clip-major: the frames of a clip stay together
            assert torch.equal(repeated, torch.cat([part] * 3))
