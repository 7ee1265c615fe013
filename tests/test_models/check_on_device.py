# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The whole model on a device without numbers: nothing mixed, no waiting.

``test_on_device.py`` runs these tests in a process of their own: a device
that is registered with PyTorch stays registered.
"""

import warnings
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.runner import LogProcessor

from referformer.engine import DeferredRuntimeInfoHook
from referformer.models.backbones import windows
from referformer.models.ops import choose, cuda, levels
from referformer.prediction import Predictor
from referformer.registry import MODELS
from referformer.testing import (
    demo_refer_inputs,
    shrink_model_cfg,
    tiny_model_cfg,
)
from tests.test_models.pretend_gpu import (
    DEVICE,
    PretendGPU,
    register_device,
)

register_device()  # before any test of this process goes backward

MODEL_DIR = Path(__file__).parents[2] / 'configs/_base_/models'
# The text encoders of the last two read their masks on the host, within
# transformers.
BACKBONES = sorted(
    {
        path.stem.removeprefix('referformer_')
        for path in MODEL_DIR.glob('referformer_*.py')
    }
    - {'tiny', 'r50-clip', 'r50-modernbert'}
)
PRECISIONS = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}
SIZES = [(64, 96), (60, 90)]


@pytest.fixture
def gpu(monkeypatch):
    # mmcv's operator exists there, what is kept per shape is kept there, and
    # transformers looks at masks as it does where they hold numbers
    monkeypatch.setattr(cuda, 'is_available', lambda: True)
    monkeypatch.setattr(levels, 'is_traced', lambda tensor: False)
    monkeypatch.setattr(
        'transformers.masking_utils.is_tracing',
        lambda *args: False,
        raising=False,
    )
    levels._describe_once.cache_clear()
    with PretendGPU() as gpu:
        yield gpu
    levels._describe_once.cache_clear()


def autocast(precision):
    dtype = PRECISIONS[precision]
    return torch.autocast(DEVICE, dtype, enabled=dtype is not None)


def tiny_model(gpu, **kwargs):
    return gpu.take(MODELS.build(tiny_model_cfg(dropout=0.1, **kwargs)))


def train(gpu, model, data, precision='fp32'):
    """Take a step."""
    optim_cfg = ConfigDict(
        type='ReferOptimWrapper',
        constructor='MergedOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1e-4, weight_decay=5e-4),
        clip_grad=dict(max_norm=0.1, norm_type=2),
    )
    wrapper = build_optim_wrapper(model.train(), optim_cfg)
    gpu.waits.clear()
    with autocast(precision):
        batch = model.data_preprocessor(data, True)
        losses = model(**batch, mode='loss')
    loss, _ = model.parse_losses(losses)
    wrapper.update_params(loss)
    assert loss.dtype == torch.float32
    # every weight had a gradient
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p in wrapper.optimizer.state for p in trained)


@pytest.mark.parametrize('backbone', BACKBONES)
def test_training_step_of_every_backbone(gpu, backbone):
    cfg = Config.fromfile(MODEL_DIR / f'referformer_{backbone}.py').model
    model = gpu.take(MODELS.build(shrink_model_cfg(cfg)))
    data = demo_refer_inputs(num_frames=2, sizes=SIZES)
    for precision in PRECISIONS:
        with warnings.catch_warnings():
            warnings.filterwarnings('error', 'Multi-scale deformable')
            train(gpu, model, data, precision)
        assert not gpu.waits, f'{precision}: {gpu.report()}'


@pytest.mark.parametrize('backbone', ['resnet', 'video-swin'])
def test_clips_with_one_annotated_frame(gpu, backbone):
    data = demo_refer_inputs(
        num_frames=3, annotated_positions=[2, 0], sizes=SIZES
    )
    train(gpu, tiny_model(gpu, backbone=backbone), data)
    assert not gpu.waits, gpu.report()


def test_losses_come_over_once_an_interval(gpu):
    norm = torch.zeros((), device=DEVICE)
    runner = SimpleNamespace(
        hooks=[LoggerHook(interval=3)],
        optim_wrapper=SimpleNamespace(last_grad_norm=norm),
        train_dataloader=range(100),
        message_hub=MessageHub('pretend'),
        log_processor=LogProcessor(),
    )
    hook = DeferredRuntimeInfoHook()
    hook._interval = 3
    losses = {f'loss_{i}': torch.ones((), device=DEVICE) for i in range(20)}
    for i in range(6):
        hook.after_train_iter(runner, i, outputs=losses)
    assert len(gpu.waits) == 2, gpu.report()


#: Window, windows, expressions, precision; each takes seconds.
WINDOWS = [
    (None, 1, 3, 'fp32'),
    (2, 3, 0, 'fp32'),
    (2, 3, 3, 'bf16'),
    (2, 3, 3, 'fp16'),
]
OTHER_WINDOWS = [
    (*windows, expressions, precision)
    for windows in ((None, 1), (2, 3))
    for expressions in (0, 3)
    for precision in PRECISIONS
    if (*windows, expressions, precision) not in WINDOWS
]


@pytest.mark.parametrize(
    ('window', 'windows', 'expressions', 'precision'),
    [
        *WINDOWS,
        *(pytest.param(*x, marks=pytest.mark.slow) for x in OTHER_WINDOWS),
    ],
)
def test_a_predicted_window_is_one_copy(
    gpu, window, windows, expressions, precision
):
    model = tiny_model(gpu).eval()
    model.predictor = Predictor(window)
    data = demo_refer_inputs(1, num_frames=5, with_annotations=False)
    if expressions:
        texts = ['the dog' + ' and another' * e for e in range(expressions)]
        data['data_samples'][0].set_metainfo(
            dict(expressions=[dict(text=text) for text in texts])
        )
    with autocast(precision), torch.no_grad():
        clips = model.test_step(data)
    assert len(clips) == max(1, expressions)
    assert len(gpu.waits) == windows, gpu.report()
    assert clips[0][4].pred_track_instances.bboxes.device.type == 'cpu'


@pytest.mark.parametrize('precision', PRECISIONS)
def test_coordinates_are_float32(gpu, precision):
    model = tiny_model(gpu).eval()
    data = demo_refer_inputs(num_frames=2)
    with autocast(precision), torch.no_grad():
        batch = model.data_preprocessor(data)
        visual, text = model.encode(batch['inputs'], batch['data_samples'])
        decoded, _ = model.decode(visual, text)
        predicted = model(**batch)
    assert visual.fine.map.dtype == (PRECISIONS[precision] or torch.float32)
    assert decoded.init_reference.dtype == torch.float32
    assert decoded.references.dtype == torch.float32
    assert {part.dtype for part in predicted} == {torch.float32}


@pytest.mark.parametrize('narrow', [True, False])
@pytest.mark.parametrize('backbone', ['swin', 'video-swin'])
def test_what_swin_computes_in_float32(gpu, monkeypatch, backbone, narrow):
    """The residual stream, and the attention of narrow networks."""
    if not narrow:
        monkeypatch.setattr(windows, '_NARROW', 0)
    net = tiny_model(gpu, backbone=backbone).eval().backbone
    seen = defaultdict(set)

    def watch(module, name):
        module.register_forward_hook(
            lambda module, args, out: seen[name].add(out.dtype)
        )

    for module in net.modules():
        if hasattr(module, 'qkv'):
            watch(module.qkv, 'attention')
            watch(module.proj, 'attention')
        elif hasattr(module, 'attn'):  # a block
            watch(module, 'stream')
            mlp = module.ffn.layers if backbone == 'swin' else module.mlp
            watch(mlp, 'mlp')
    patches = net.patch_embed
    watch(patches.projection if backbone == 'swin' else patches.proj, 'stream')
    clips = torch.zeros(1, 2, 3, 64, 96).to(DEVICE)
    with autocast('bf16'), torch.no_grad():
        net(clips if backbone == 'video-swin' else clips[0])
    half = {torch.bfloat16}
    full = {torch.float32}
    attention = full if narrow else half
    assert seen == dict(stream=full, attention=attention, mlp=half)


@pytest.mark.parametrize('precision', PRECISIONS)
def test_without_compiled_operators(gpu, monkeypatch, precision):
    monkeypatch.setattr(cuda, 'is_available', lambda: False)
    monkeypatch.setattr(choose, 'is_traced', lambda tensor: False)
    choose._warn_of_slow_path.cache_clear()
    data = demo_refer_inputs(num_frames=2)
    with pytest.warns(UserWarning, match='grid_sample') as caught:
        train(gpu, tiny_model(gpu), data, precision)
    assert sum('grid_sample' in str(w.message) for w in caught) == 1
    assert not gpu.waits, gpu.report()


def test_a_part_left_on_the_cpu_is_found(gpu):
    model = tiny_model(gpu)
    queries = model.queries.query_embed
    queries.weight = torch.nn.Parameter(torch.zeros(queries.weight.shape))
    with pytest.raises(RuntimeError, match='device'):
        train(gpu, model, demo_refer_inputs(num_frames=2))


WAITS = {
    'item': lambda x: x[0].item(),
    'bool': lambda x: bool((x > 0).all()),
    'cpu': lambda x: x.cpu(),
    'tolist': lambda x: x.tolist(),
    'new_tensor': lambda x: x.new_tensor([1.0]),
    'tensor': lambda x: torch.tensor([1.0], device=x.device),
    'list index': lambda x: x[[2, 1, 0]],
    'index on the host': lambda x: x[torch.tensor([2, 1])],
    'plain copy': lambda x: torch.ones(3).to(x.device),
    'unpinned copy': lambda x: torch.ones(3).to(x.device, non_blocking=True),
    'blocking copy': lambda x: torch.ones(3).pin_memory().to(x.device),
    'copy in place': lambda x: x.copy_(torch.ones(4)),
    'synchronize': lambda x: torch.cuda.synchronize(),
}


@pytest.mark.parametrize('name', WAITS)
def test_every_kind_of_wait_counts(gpu, name):
    x = torch.ones(4, device=DEVICE)
    assert not gpu.waits
    WAITS[name](x)
    assert len(gpu.waits) == 1, gpu.report()
    assert 'check_on_device.py' in gpu.waits[0].where


@pytest.mark.parametrize('select', [torch.nonzero, lambda x: x[x > 0]])
def test_a_size_that_depends_on_numbers_counts_and_fails(gpu, select):
    with pytest.raises(RuntimeError):
        select(torch.ones(4, device=DEVICE))
    assert gpu.waits
