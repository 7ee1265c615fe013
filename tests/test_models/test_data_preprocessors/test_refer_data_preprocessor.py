# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import torch

from referformer.registry import MODELS
from referformer.testing import demo_refer_inputs, tiny_model_cfg

SIZES = [(40, 90), (62, 70)]


def run(training):
    cfg = tiny_model_cfg()['data_preprocessor']
    data = demo_refer_inputs(sizes=SIZES)
    return data, MODELS.build(cfg)(data, training)


def test_training_pads_to_a_multiple():
    _, out = run(training=True)
    assert out['inputs'].shape == (2, 2, 3, 64, 96)
    masks = out['data_samples'][0][1].gt_instances.masks
    assert (masks.height, masks.width) == (64, 96)
    assert out['data_samples'][1][0].batch_input_shape == (64, 96)


def test_prediction_pads_to_the_largest_only():
    _, out = run(training=False)
    assert out['inputs'].shape == (2, 2, 3, 62, 90)


def test_only_training_writes_into_what_it_gets():
    for training in (True, False):
        data, out = run(training)
        written = 'batch_input_shape' in data['data_samples'][0][0]
        assert written is training
        assert 'batch_input_shape' in out['data_samples'][0][0]


def test_data_can_be_cast_alone():
    data = demo_refer_inputs(sizes=SIZES)
    cast = MODELS.build(tiny_model_cfg()['data_preprocessor']).cast_data(data)
    assert cast['data_samples'][0] is not data['data_samples'][0]


def test_normalised_rgb_and_zeros_on_padding():
    data, out = run(training=True)
    mean = torch.tensor([123.675, 116.28, 103.53])
    std = torch.tensor([58.395, 57.12, 57.375])
    frame = data['inputs'][1][0].flip(0).float().permute(1, 2, 0)
    expected = ((frame - mean) / std).permute(2, 0, 1)
    torch.testing.assert_close(out['inputs'][1, 0, :, :62, :70], expected)
    assert not out['inputs'][0, :, :, 40:].any()
    assert not out['inputs'][1, ..., 70:].any()
