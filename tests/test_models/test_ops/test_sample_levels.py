# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The three implementations agree, and each is chosen where it belongs."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from mmcv.ops.multi_scale_deform_attn import (
    multi_scale_deformable_attn_pytorch,
)
from torch._subclasses import FakeTensorMode

from referformer.models.ops import (
    choose,
    cpu,
    cuda,
    describe_levels,
    grid_sample,
    sample_levels,
)

SHAPES = ((7, 9), (4, 5), (1, 2))
TOKENS = sum(height * width for height, width in SHAPES)


def inputs(num_frames=3, num_queries=11, heads=2, channels=8, **kwargs):
    """Values, locations in and around the frame, weights; float64.

    No location lies on the line between two pixels, where rounding decides
    which neighbours count.
    """
    gen = torch.Generator().manual_seed(num_queries)
    options = dict(generator=gen, dtype=torch.float64)
    points = (num_frames, num_queries, heads, len(SHAPES), 4)
    sizes = torch.tensor(SHAPES).flip(-1)[:, None]
    pixels = (torch.rand(*points, 2, **options) * 2 - 0.5) * sizes
    pixels = pixels.floor() + 0.05 + 0.9 * torch.rand(*points, 2, **options)
    weights = torch.rand(*points[:3], len(SHAPES) * 4, **options)
    value = torch.randn(num_frames, TOKENS, heads, channels, **options)
    return (
        value,
        (pixels + 0.5) / sizes,
        weights.softmax(-1).view(points),
    )


def run(function, tensors, dtype):
    tensors = [x.to(dtype, copy=True).requires_grad_() for x in tensors]
    out = function(*tensors)
    grad = torch.arange(out.numel()).view_as(out) % 7 - 3
    out.backward(grad.to(dtype))
    return out.detach(), *(x.grad for x in tensors)


def by_mmcv(value, locations, weights):
    return multi_scale_deformable_attn_pytorch(
        value, torch.tensor(SHAPES), locations, weights
    )


def on(module):
    """One of the implementations as a function of its three tensors."""

    def by_us(value, locations, weights):
        levels = describe_levels(SHAPES, value)
        return module.sample_levels(value, levels, locations, weights)

    return by_us


class Extension:
    """mmcv's compiled extension in Python, as strict as the real one."""

    def __init__(self):
        self.dtypes = []

    def check(self, *tensors, im2col_step):
        value = tensors[0]
        assert len(value) % min(len(value), im2col_step) == 0
        assert all(x.is_contiguous() for x in tensors)
        floating = {x.dtype for x in tensors if x.is_floating_point()}
        assert floating in ({torch.float32}, {torch.float64})
        self.dtypes.append(value.dtype)

    def ms_deform_attn_forward(
        self, value, sizes, starts, locations, weights, im2col_step
    ):
        self.check(
            value, sizes, starts, locations, weights, im2col_step=im2col_step
        )
        assert sizes.tolist() == [list(shape) for shape in SHAPES]
        assert starts.tolist() == [0, 63, 83]
        return by_mmcv(value, locations, weights)

    def ms_deform_attn_backward(
        self, value, sizes, starts, locations, weights, grad, *grads, **kwargs
    ):
        self.check(
            value, sizes, starts, locations, weights, grad, *grads, **kwargs
        )
        # inside of an operator autograd is off
        ctx = SimpleNamespace(
            saved_tensors=(value, locations, weights), shapes=SHAPES
        )
        results = cpu._SampleLevels.backward(ctx, grad)
        for out, result in zip(grads, results, strict=False):
            assert not out.any()
            out.copy_(result)


@pytest.fixture(autouse=True)
def extension(monkeypatch):
    monkeypatch.setattr(cuda, 'ext_module', Extension())
    return cuda.ext_module


MODULES = [cpu, cuda, grid_sample]


@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float64, 1e-11), (torch.float32, 1e-5)]
)
@pytest.mark.parametrize('num_queries', [1, 40])
@pytest.mark.parametrize('module', MODULES)
def test_results_and_gradients_are_mmcvs(
    module, dtype, tolerance, num_queries
):
    tensors = inputs(num_queries=num_queries)
    expected = run(by_mmcv, tensors, torch.float64)
    actual = run(on(module), tensors, dtype)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == dtype
        error = (ours - theirs).abs().max() / theirs.abs().max()
        assert error < tolerance


@pytest.mark.parametrize('module', MODULES)
def test_gradients_are_numerical_ones(module):
    tensors = inputs(1, 2, channels=2)
    tensors = [x.requires_grad_() for x in tensors]
    assert torch.autograd.gradcheck(on(module), tensors)


@pytest.mark.parametrize('module', MODULES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(module, dtype):
    value, locations, weights = (x.float() for x in inputs())
    value = value.to(dtype).requires_grad_()
    locations.requires_grad_()
    out = on(module)(value, locations, weights)
    out.backward(torch.ones_like(out))
    rounded = value.detach().double()
    expected = by_mmcv(rounded, locations.double(), weights.double())
    assert out.dtype == value.grad.dtype == dtype
    assert locations.grad.dtype == torch.float32
    torch.testing.assert_close(out, expected.to(dtype))


def test_parts_of_the_cpu_engine(monkeypatch):
    tensors = inputs()
    expected = run(on(cpu), tensors, torch.float64)
    monkeypatch.setattr(cpu, '_SAMPLES_PER_PART', 1)
    actual = run(on(cpu), tensors, torch.float64)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize('module', MODULES)
def test_samples_outside_read_nothing(module):
    value, locations, weights = inputs()
    for far in (-30.0, -0.6, 1.9, 30.0):
        outside = torch.full_like(locations, far)
        out, *grads = run(on(module), (value, outside, weights), torch.float32)
        assert not out.any()
        assert not any(grad.any() for grad in grads)


def test_nan_and_infinity_do_not_read_elsewhere():
    value, locations, weights = inputs()
    locations[0, 0, 0, 0, 0] = float('nan')
    locations[1, 1, 1, 1, 1] = float('inf')
    out, *_ = run(on(cpu), (value, locations, weights), torch.float32)
    bad = ~out.isfinite()
    assert bad[0, 0, :8].all()
    bad[0, 0, :8] = False
    assert not bad.any()


def test_only_the_arguments_are_kept_for_the_backward_pass():
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x) or x, lambda x: x
    )
    tensors = [x.float().requires_grad_() for x in inputs()]
    with hooks:
        on(cpu)(*tensors)
    assert {x.data_ptr() for x in kept} <= {x.data_ptr() for x in tensors}


@pytest.mark.parametrize(
    ('num_frames', 'expected'),
    [(1, 1), (5, 5), (36, 36), (64, 64), (70, 35), (80, 40), (67, 1)],
)
def test_frames_per_launch(num_frames, expected):
    assert cuda.frames_per_launch(num_frames) == expected


def test_launches_divide_the_frames():
    value, locations, weights = inputs(num_frames=70, num_queries=1)
    run(on(cuda), (value, locations, weights), torch.float32)


def test_the_operator_gets_contiguous_float32(extension):
    value, locations, weights = (x.float() for x in inputs())
    value = value.transpose(1, 2).contiguous().transpose(1, 2)
    weights = weights[..., :1].expand_as(weights)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        leaf = value.to(dtype).requires_grad_()
        out = on(cuda)(leaf, locations, weights)
        # the gradient of a sum is one number, expanded
        out.sum().backward()
    assert extension.dtypes == [torch.float32] * 6


def test_the_operator_is_known_to_pytorch():
    levels = describe_levels(SHAPES, torch.empty(0))
    value, locations, weights = (x.requires_grad_() for x in inputs())
    torch.library.opcheck(
        torch.ops.referformer.sample_levels.default,
        (value, levels.sizes, levels.starts, locations, weights),
    )


def spy(monkeypatch):
    """Names of the implementations that are called."""
    called = []
    for module in MODULES:

        def record(value, levels, locations, weights, module=module):
            called.append(module.__name__.rpartition('.')[2])
            return value.new_empty(*locations.shape[:2], 16)

        monkeypatch.setattr(module, 'sample_levels', record)
    choose._warn_of_slow_path.cache_clear()
    return called


def test_cpus_use_their_engine(monkeypatch):
    called = spy(monkeypatch)
    with warnings.catch_warnings(action='error'):
        on(choose)(*inputs())
    assert called == ['cpu']


@pytest.mark.parametrize('compiled', [True, False])
def test_cuda_uses_the_operator_where_there_is_one(compiled, monkeypatch):
    called = spy(monkeypatch)
    monkeypatch.setattr(cuda, 'is_available', lambda: compiled)
    with FakeTensorMode():
        on(choose)(*(torch.empty_like(x, device='cuda') for x in inputs()))
    assert called == ['cuda' if compiled else 'grid_sample']


def test_other_devices_are_warned_once(monkeypatch):
    called = spy(monkeypatch)
    tensors = [x.to('meta') for x in inputs()]
    with pytest.warns(UserWarning, match='no compiled operator for meta'):
        on(choose)(*tensors)
    with warnings.catch_warnings(action='error'):
        on(choose)(*tensors)
    assert called == ['grid_sample'] * 2


def test_mmcv_lite_has_no_operator():
    # the test environment; a compiled mmcv is checked on GPUs
    cuda.is_available.cache_clear()
    assert not (cuda.is_available() and not torch.version.cuda)


def test_export_with_any_number_of_frames_and_queries():
    class Sampler(torch.nn.Module):
        def forward(self, value, locations, weights):
            levels = describe_levels(SHAPES, value)
            return sample_levels(value, levels, locations, weights)

    frames, queries = torch.export.Dim('frames'), torch.export.Dim('queries')
    moving = {0: frames, 1: queries}
    program = torch.export.export(
        Sampler(),
        tuple(x.float() for x in inputs()),
        dynamic_shapes=({0: frames}, moving, moving),
    )
    names = {str(node.target) for node in program.graph.nodes}
    assert any('grid_sampler' in name for name in names)
    tensors = [x.float() for x in inputs(num_frames=4, num_queries=5)]
    torch.testing.assert_close(
        program.module()(*tensors), on(cpu)(*tensors), rtol=1e-4, atol=1e-5
    )


def test_export_with_any_size_of_the_maps():
    class Sampler(torch.nn.Module):
        def forward(self, maps, locations, weights):
            value = maps.flatten(1, 2)
            levels = describe_levels((tuple(maps.shape[1:3]),), value)
            return sample_levels(value, levels, locations, weights)

    height, width = torch.export.Dim('height'), torch.export.Dim('width')

    def make(*size):
        points = (1, 3, 2, 1, 2)
        return (
            torch.randn(1, *size, 2, 4),
            torch.rand(*points, 2),
            torch.rand(points),
        )

    program = torch.export.export(
        Sampler(),
        make(6, 8),
        dynamic_shapes=({1: height, 2: width}, None, None),
    )
    tensors = make(9, 5)
    torch.testing.assert_close(program.module()(*tensors), Sampler()(*tensors))
