# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Gradients of two processes equal those of one with the whole batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import init_default_scope
from torch import nn

from referformer.registry import MODELS
from referformer.testing import demo_refer_inputs, shrink_model_cfg

BACKBONES = ('r50', 'swin-t', 'vswin-t')
#: (backbone, activation checkpointing, only one annotated frame a clip)
CASES = [
    (backbone, *settings)
    for backbone in BACKBONES
    for settings in ((False, False), (True, True))
]


def perturb(model):
    """Leave no bias at zero and no scale at one, and stay well-conditioned."""
    gen = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for param in model.parameters():
            param.add_(torch.randn(param.shape, generator=gen) * 0.02)


def build(backbone, with_cp):
    """A small model of a config, the same in every process, no dropout."""
    init_default_scope('referformer')
    cfg = Config.fromfile(f'configs/referformer_{backbone}_ytvos-scratch.py')
    cfg = shrink_model_cfg(cfg.model)
    for part in ('backbone', 'transformer', 'pixel_decoder'):
        cfg[part]['with_cp'] = with_cp
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    perturb(model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ('dropout', 'drop_prob', 'drop_path_rate'):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    # in float64, so that the order of sums does not matter
    return model.double().train()


def batch(annotated):
    """Two clips of different sizes; the object is absent in one frame."""
    return demo_refer_inputs(
        num_frames=3,
        sizes=[(64, 96), (96, 64)],
        absent=() if annotated else [(1, 1)],
        annotated_positions=(2, 0) if annotated else None,
    )


def preprocess(model, data):
    data = model.data_preprocessor(data, training=True)
    return {**data, 'inputs': data['inputs'].double()}


def gradients(model, data):
    """Gradients of the sum of all losses."""
    model.zero_grad()
    losses = model(**preprocess(model, data), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    return {
        name: param.grad.clone()
        for name, param in model.named_parameters()
        if param.grad is not None
    }


def run_rank(rank, folder, backend='gloo'):
    torch.set_num_threads(1)
    device = 'cpu' if backend == 'gloo' else f'cuda:{rank}'
    if backend == 'nccl':
        torch.cuda.set_device(rank)
    dist.init_process_group(
        backend,
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=2,
    )
    for number, (backbone, with_cp, annotated) in enumerate(CASES):
        model = build(backbone, with_cp).to(device)
        wrapped = MMDistributedDataParallel(
            model,
            device_ids=None if device == 'cpu' else [rank],
            find_unused_parameters=False,
            broadcast_buffers=False,
        )
        # padded alike: padding is seen by the network
        whole = preprocess(model, batch(annotated))
        data = {key: part[rank : rank + 1] for key, part in whole.items()}
        total, _ = model.parse_losses(wrapped(**data, mode='loss'))
        total.backward()
        if rank == 0:
            torch.save(
                {
                    name: param.grad.cpu()
                    for name, param in model.named_parameters()
                    if param.grad is not None
                },
                folder / f'{number}.pth',
            )
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ddp')
    mp.spawn(run_rank, (folder,), nprocs=2)
    return folder


@pytest.mark.cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two GPUs')
def test_gradients_of_two_gpus(tmp_path):
    mp.spawn(run_rank, (tmp_path, 'nccl'), nprocs=2)
    for number in range(len(CASES)):
        test_gradients_equal_one_process(tmp_path, number)


@pytest.mark.parametrize('number', range(len(CASES)), ids=map(str, CASES))
def test_gradients_equal_one_process(folder, number):
    backbone, with_cp, annotated = CASES[number]
    model = build(backbone, with_cp)
    expected = gradients(model, batch(annotated))
    found = torch.load(folder / f'{number}.pth')
    assert found.keys() == expected.keys()
    assert len(found) > 100
    scale = max(grad.abs().max() for grad in expected.values())
    for name, grad in expected.items():
        assert (found[name] - grad).abs().max() <= 2e-6 * scale, name
    # no trained parameter is left out, so DDP need not search for any
    missing = [
        name
        for name, param in model.named_parameters()
        if param.requires_grad and name not in expected
    ]
    assert not missing


def test_another_batch_would_show():
    model = build('r50', False)
    expected = gradients(model, batch(False))
    found = gradients(model, batch(True))
    scale = max(grad.abs().max() for grad in expected.values())
    difference = max(
        (found[name] - grad).abs().max() for name, grad in expected.items()
    )
    assert difference > 1e-3 * scale
