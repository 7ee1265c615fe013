# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Precision by the device, and what a processor can do."""

import pytest
import torch

from referformer.utils import precision, processor
from referformer.utils.precision import autocast, choose_precision

MATRICES = 'instructions for bfloat16 matrices)'
XEON = 'vendor_id\t: GenuineIntel\nmodel name\t: Xeon\nflags\t\t: fpu {}\n\n'


@pytest.fixture(autouse=True)
def _nothing_known():
    """Forget the processor before and after."""
    known = processor.processor, precision._fastest_precision
    for function in known:
        function.cache_clear()
    yield
    for function in known:
        function.cache_clear()


@pytest.mark.parametrize(
    ('flag', 'expected', 'why'),
    [
        ('amx_bf16', 'bf16', 'bf16 (Xeon has '),
        ('avx512f', 'fp32', 'fp32 (Xeon has no '),
    ],
)
def test_auto_on_a_cpu(monkeypatch, tmp_path, flag, expected, why):
    cpuinfo = tmp_path / 'cpuinfo'
    cpuinfo.write_text(XEON.format(flag) + 'flags : none')
    monkeypatch.setattr(processor, '_CPUINFO', cpuinfo)
    lines = []
    monkeypatch.setattr(precision, 'print_log', lambda t, _: lines.append(t))
    for _ in range(2):
        assert choose_precision('auto', 'cpu') == expected
    assert lines == [f'precision auto: {why}{MATRICES}']


def test_auto_on_an_unknown_system(monkeypatch, tmp_path):
    monkeypatch.setattr(processor, '_CPUINFO', tmp_path / 'gone')
    assert choose_precision('auto', 'cpu') == 'fp32'
    assert choose_precision('auto', 'meta') == 'fp32'
    assert choose_precision('bf16', 'cpu') == 'bf16'


@pytest.mark.cuda
def test_auto_on_a_gpu():
    modern = torch.cuda.get_device_capability() >= (8, 0)
    assert choose_precision('auto', 'cuda') == ('bf16' if modern else 'fp32')


def test_float32_leaves_the_callers_autocast():
    cpu = torch.device('cpu')
    product = torch.ones(2, 2)
    with torch.autocast('cpu', torch.bfloat16), autocast('fp32', cpu):
        assert (product @ product).dtype == torch.bfloat16
    with autocast('bf16', cpu):
        assert (product @ product).dtype == torch.bfloat16
