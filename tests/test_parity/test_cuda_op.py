# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The compiled deformable attention, and with it the model, on a GPU.

Each check is written for any device and also runs on the CPU, on the engine
for CPUs: that keeps the checks themselves in order on
machines without a GPU, and shows that their tolerances leave room for
float32 alone.
"""

import json

import numpy as np
import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    MultiScaleDeformableAttnFunction,
)

from referformer.models import ConditionalQueries, ReferDeformableTransformer
from referformer.models.ops import (
    cuda,
    describe_levels,
    grid_sample,
    sample_levels,
)

from ..test_models.helpers import random_frames, randomise
from .golden_case import GoldenCase, find_cases
from .test_golden import LOSS_NAMES, assert_close

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.cuda)]
#: Largest error over the largest value, against float64 on the CPU.
TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}
# A frame of 96 x 160 at strides 8, 16, 32 and 64; heads as in the model.
LEVELS = [(12, 20), (6, 10), (3, 5), (2, 3)]
HEADS, CHANNELS, POINTS = 8, 32, 4
GOLDEN_RTOL = 1e-3


@pytest.fixture(autouse=True)
def _full_float32():
    """TensorFloat-32 keeps ten bits of each factor: not for comparing."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    yield
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed


def make_inputs(num_frames, num_queries):
    """Value, locations, weights and the output's gradient, in float64.

    Locations also lie outside of the frame, where offsets do lead, but never
    on the line between two pixels, where rounding decides the gradient.
    """
    rng = torch.Generator().manual_seed(num_frames)

    def draw(*shape):
        return torch.rand(*shape, generator=rng, dtype=torch.float64)

    tokens = sum(height * width for height, width in LEVELS)
    points = (num_frames, num_queries, HEADS, len(LEVELS), POINTS)
    sizes = torch.tensor(LEVELS).flip(-1)[:, None]
    pixels = (draw(*points, 2) * 1.25 - 0.125) * sizes - 0.5
    cells = pixels.floor()
    pixels = cells + 0.05 + 0.9 * (pixels - cells)
    weights = draw(*points[:3], len(LEVELS) * POINTS).softmax(-1)
    return (
        draw(num_frames, tokens, HEADS, CHANNELS) - 0.5,
        (pixels + 0.5) / sizes,
        weights.view(points),
        draw(num_frames, num_queries, HEADS * CHANNELS) - 0.5,
    )


def attend(inputs, device, dtype, function=sample_levels):
    """Output and gradients of the attention as the device computes it."""
    *leaves, grad = (x.to(device, dtype, copy=True) for x in inputs)
    value, locations, weights = (x.requires_grad_() for x in leaves)
    levels = describe_levels(tuple(LEVELS), value)
    out = function(value, levels, locations, weights)
    out.backward(grad)
    return out, value.grad, locations.grad, weights.grad


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ('num_frames', 'num_queries'), [(1, 5), (5, 321), (36, 5), (70, 17)]
)
def test_operator(num_frames, num_queries, dtype, device):
    inputs = make_inputs(num_frames, num_queries)
    expected = attend(inputs, 'cpu', torch.float64, grid_sample.sample_levels)
    actual = attend(inputs, device, dtype)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == dtype
        assert ours.device.type == device
        assert_close(ours, theirs.detach(), TOLERANCE[dtype])


@pytest.mark.cuda
def test_operator_is_there():
    assert cuda.is_available()


@pytest.mark.cuda
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_operator_in_half_precision(dtype):
    """Only what goes in and comes out is rounded."""
    inputs = [x.to(dtype) for x in make_inputs(5, 321)]
    expected = attend(inputs, 'cpu', torch.float32)
    actual = attend(inputs, 'cuda', dtype)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == dtype
        assert_close(ours.float(), theirs.detach(), TOLERANCE[dtype])


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two GPUs')
def test_operator_on_the_second_device():
    inputs = make_inputs(5, 321)
    expected = attend(inputs, 'cpu', torch.float64)
    actual = attend(inputs, 'cuda:1', torch.float32)
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours, theirs.detach(), TOLERANCE[torch.float32])


@pytest.mark.cuda
def test_operator_wants_equal_parts():
    """The reason for ``frames_per_launch``; were it gone, so could that."""
    value, locations, weights, _ = (
        x.float().cuda() for x in make_inputs(70, 2)
    )
    levels = describe_levels(tuple(LEVELS), value)
    with pytest.raises(RuntimeError, match='must divide im2col_step'):
        MultiScaleDeformableAttnFunction.apply(
            value, levels.sizes, levels.starts, locations, weights, 64
        )


def transform(num_frames, device):
    """Outputs of a small transformer on ``device``."""
    torch.manual_seed(0)
    transformer = ReferDeformableTransformer(
        embed_dims=64,
        num_heads=HEADS,
        num_encoder_layers=1,
        num_decoder_layers=2,
        feedforward_channels=64,
        dropout=0.0,
    )
    queries = ConditionalQueries(num_queries=3, embed_dims=64)
    branches = torch.nn.ModuleList(torch.nn.Linear(64, 4) for _ in range(2))
    for part in (transformer, queries, branches):
        randomise(part)
        part.to(device)
    levels = [
        type(level)(*(x.to(device) for x in level))
        for level in (
            random_frames(num_frames, 64, size, None, torch.float32)
            for size in LEVELS
        )
    ]
    sentence = torch.randn(1, 64).to(device)
    return transformer(levels, queries(sentence, num_frames), branches)


@pytest.mark.parametrize('device', DEVICES)
def test_transformer_of_a_long_video(device):
    with torch.no_grad():
        expected = transform(70, 'cpu')
        actual = transform(70, device)
    assert_close(actual.hidden, expected.hidden, GOLDEN_RTOL)
    assert_close(actual.references, expected.references, GOLDEN_RTOL)
    for ours, theirs in zip(actual.memory, expected.memory, strict=True):
        assert_close(ours, theirs, GOLDEN_RTOL)


@pytest.mark.parametrize('device', DEVICES)
def test_recorded_case(golden_dir, device):
    """Predictions, losses, gradients and masks of the published code."""
    names = find_cases(golden_dir)
    if not names:
        pytest.skip('the folder holds no case')
    case = GoldenCase(golden_dir, min(names, key=len), device)
    record = case.record

    preds = case.run['preds']
    assert preds.masks.device.type == device
    for name in ('logits', 'boxes', 'masks'):
        assert_close(
            getattr(preds, name)[-1], record[f'out/pred_{name}'], GOLDEN_RTOL
        )

    weights = json.loads(str(record['loss/weights']))
    for name, weight in weights.items():
        stem, _, layer = name.partition('_')[2].partition('_')
        prefix = f'd{layer}.' if layer else ''
        ours = case.losses[prefix + LOSS_NAMES[f'loss_{stem}']]
        assert_close(ours / weight, record[f'loss/{name}'], GOLDEN_RTOL)

    norms = json.loads(str(record['grad/norms']))
    grads = [p.grad for p in case.model.parameters() if p.grad is not None]
    total = torch.stack([grad.norm() for grad in grads]).norm()
    assert_close(total, np.linalg.norm(list(norms.values())), 1e-2)

    if 'infer/mask_bits' not in record:
        return
    masks = torch.stack([f.masks[0] for f in case.nopad['frames']])
    bits = np.unpackbits(record['infer/mask_bits'])[: masks.numel()]
    expected = bits.reshape(tuple(record['infer/mask_shape'])).astype(bool)
    equal = (masks.cpu().numpy() == expected).mean()
    assert equal >= 0.999, f'{equal:.4%} of the mask bits are equal'
