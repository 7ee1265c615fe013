# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Operations are counted where they happen, frames once for all words."""

import pytest
from mmengine.config import Config

from referformer.registry import MODELS
from referformer.testing import flops, tiny_model_cfg


def test_flops_of_parts():
    model = MODELS.build(tiny_model_cfg()).eval().requires_grad_(False)
    costs = {c.name: c for c in flops.count_cost(model, (2, 64, 96))}
    assert list(costs) == list(flops.PARTS)
    # the fused levels: 2 frames of 96 + 24 + 6 + 2 pixels, 12 words
    pixels, words, dims = 2 * (96 + 24 + 6 + 2), 12, 32
    projections = 2 * dims * dims * (2 * pixels + 4 * 2 * words)
    attention = 2 * 2 * dims * pixels * words
    assert costs['fusion'].flops == projections + attention
    assert costs['queries'].params == 3 * dims + 2 * dims + 2
    assert all(c.flops > 0 for c in costs.values())
    # twice the frames: twice the backbone, the same text
    longer = {c.name: c for c in flops.count_cost(model, (4, 64, 96))}
    assert longer['backbone'].flops == 2 * costs['backbone'].flops
    assert longer['text_encoder'].flops == costs['text_encoder'].flops
    assert not model.backbone._forward_hooks


def test_flops_table_counts_frames_once():
    costs = [
        flops.PartCost(name, 10**6, 10**9 * (i + 1))
        for i, name in enumerate(flops.PARTS)
    ]
    table = flops.format_costs(costs, (5, 360, 640), 2)
    total = next(x for x in table.splitlines() if x.startswith('total'))
    assert total.split() == ['total', '8.00', '69.00', '100.0%']  # 3 + 2 * 33


def test_flops_without_the_hub(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cfg = Config(dict(model=tiny_model_cfg())).model
    cfg.text_encoder = dict(
        type='HFTextEncoder', pretrained='no/encoder', embed_dims=32
    )
    # RoBERTa-base is large: this must not be built for a test
    monkeypatch.setattr(
        flops, 'offline_model_cfg', lambda cfg: dict(fusion=cfg.fusion)
    )
    with pytest.raises(KeyError, match='type'):
        flops.build_without_weights(cfg)
    assert 'RoBERTa-base takes its place' in capsys.readouterr().err
    assert cfg.text_encoder.pretrained == 'no/encoder'
