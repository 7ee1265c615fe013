# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import importlib.util
from pathlib import Path

import pytest

from referformer.registry import MODELS
from referformer.testing import tiny_model_cfg

TOOLS = Path(__file__).parents[2] / 'tools/analysis_tools'
CONFIG = Path(__file__).parents[2] / 'configs/referformer_r50_ytvos.py'


def tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_flops_of_parts():
    get_flops = tool('get_flops')
    model = MODELS.build(tiny_model_cfg()).eval().requires_grad_(False)
    costs = {c.name: c for c in get_flops.measure(model, (2, 64, 96))}
    assert list(costs) == list(get_flops.PARTS)
    # the fused levels: 2 frames of 96 + 24 + 6 + 2 pixels, 12 words
    pixels, words, dims = 2 * (96 + 24 + 6 + 2), 12, 32
    projections = 2 * dims * dims * (2 * pixels + 4 * 2 * words)
    attention = 2 * 2 * dims * pixels * words
    assert costs['fusion'].flops == projections + attention
    assert costs['queries'].params == 3 * dims + 2 * dims + 2
    assert all(c.flops > 0 for c in costs.values())
    # twice the frames: twice the backbone, the same text
    longer = {c.name: c for c in get_flops.measure(model, (4, 64, 96))}
    assert longer['backbone'].flops == 2 * costs['backbone'].flops
    assert longer['text_encoder'].flops == costs['text_encoder'].flops
    assert not model.backbone._forward_hooks


def test_flops_table_counts_frames_once():
    get_flops = tool('get_flops')
    costs = [
        get_flops.PartCost(name, 10**6, 10**9 * (i + 1))
        for i, name in enumerate(get_flops.PARTS)
    ]
    table = get_flops.format_table(costs, (5, 360, 640), 2)
    total = next(x for x in table.splitlines() if x.startswith('total'))
    assert total.split() == ['total', '8.00', '69.00', '100.0%']  # 3 + 2 * 33


def test_flops_without_the_hub(tmp_path, monkeypatch, capsys):
    get_flops = tool('get_flops')
    monkeypatch.chdir(tmp_path)
    cfg = get_flops.Config(dict(model=tiny_model_cfg())).model
    cfg.text_encoder = dict(
        type='HFTextEncoder', pretrained='no/encoder', embed_dims=32
    )
    # RoBERTa-base is large: this must not be built for a test
    monkeypatch.setattr(
        get_flops, 'ConfigDict', lambda *args, **kwargs: dict(standin=kwargs)
    )
    with pytest.raises(KeyError, match='type'):
        get_flops.build(cfg)
    assert 'RoBERTa-base takes its place' in capsys.readouterr().err
    assert cfg.text_encoder.pretrained == 'no/encoder'


def test_print_config(capsys):
    print_config = tool('print_config')
    print_config.main(
        [
            str(CONFIG),
            '--key',
            'model.queries',
            '--cfg-options',
            'model.queries.num_queries=7',
        ]
    )
    names: dict = {}
    exec(capsys.readouterr().out, names)
    assert names['queries'] == dict(
        type='ConditionalQueries', num_queries=7, embed_dims=256
    )
    print_config.main([str(CONFIG)])
    names = {}
    exec(capsys.readouterr().out, names)
    assert names['model']['fusion']['type'] == 'VisionLanguageFusion'
    with pytest.raises(SystemExit, match="'quarks' is missing"):
        print_config.main([str(CONFIG), '--key', 'model.quarks'])
    with pytest.raises(SystemExit):
        print_config.main(['no_config.py'])
    assert 'no_config.py is not a file' in capsys.readouterr().err


def test_zero_frames_are_refused(capsys):
    with pytest.raises(SystemExit):
        tool('get_flops').parse_args([str(CONFIG), '--shape', '0', '64', '64'])
    assert 'must be positive' in capsys.readouterr().err
