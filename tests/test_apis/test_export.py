# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Exported graphs compute what the model computes, at any size."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from referformer.apis.export import (
    export_model,
    graphs_of,
    write_onnx,
    write_tokenizer,
    write_torch_export,
)
from referformer.apis.model import init_model
from referformer.errors import ConfigError
from referformer.testing import tiny_model_cfg
from tests.fixtures.videos import PIPELINE, moving_square, write_clip

from ..fixtures.tools import script
from ..test_models.helpers import build_model

ROOT = Path(__file__).parents[2]
TEXTS = ['the white square', 'a  GREY wall on the left']
#: Frames, height, width, expressions, tokens; none is that of the export.
SHAPES = [
    (1, 96, 64, 1, 3),
    (2, 65, 130, 3, 9),
    (5, 97, 75, 2, 5),
    (9, 33, 50, 1, 12),
    (3, 128, 190, 2, 6),
]
#: torch.export refuses sides of 64 and less.
LARGE_SHAPES = [
    (1, 66, 96, 1, 3),
    (2, 65, 130, 3, 9),
    (5, 97, 75, 2, 5),
    (9, 96, 70, 1, 12),
    (3, 128, 190, 4, 6),
]


@pytest.fixture(scope='module')
def runtime():
    return pytest.importorskip('onnxruntime')


def close(found, expected):
    """Within 1e-4, or 1e-4 of the largest where that is above 1."""
    for one, other in zip(found, expected, strict=True):
        other = other.numpy().astype(np.float64)
        assert one.shape == other.shape
        scale = max(1.0, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * scale)


def compare(runtime, path, model, name):
    """Run one graph at all shapes in onnxruntime and in PyTorch."""
    session = runtime.InferenceSession(
        str(path), providers=['CPUExecutionProvider']
    )
    taken = {node.name for node in session.get_inputs()}
    for frames, height, width, expressions, tokens in SHAPES:
        graph = graphs_of(model, frames, (height, width), expressions, tokens)[
            name
        ]
        values = zip(graph.inputs, graph.example, strict=True)
        feed = {key: x.numpy() for key, x in values if key in taken}
        with torch.no_grad():
            expected = graph.module(*graph.example)
        close(session.run(list(graph.outputs), feed), expected)


@pytest.fixture(scope='module')
def exported(runtime, config, checkpoint, tmp_path_factory):
    pytest.importorskip('onnx')
    folder = tmp_path_factory.mktemp('export')
    Config(config).dump(folder / 'tiny.py')
    out = folder / 'onnx'
    names = map(str, (folder / 'tiny.py', checkpoint, out))
    script('deployment/export').main(list(names))
    return out


@pytest.mark.parametrize('name', ['frames', 'text', 'decode'])
def test_graphs_at_any_size(runtime, exported, inferencer, name):
    compare(runtime, exported / f'{name}.onnx', inferencer.model, name)


@pytest.mark.parametrize(
    'backbone', [pytest.param('swin', marks=pytest.mark.slow), 'video-swin']
)
def test_windows_at_any_size(runtime, tmp_path, backbone):
    """Maps smaller than a window, and windows that are shifted, are there."""
    pytest.importorskip('onnx')
    model = build_model(backbone=backbone, num_layers=1).eval()
    write_onnx(graphs_of(model)['frames'], tmp_path / 'frames.onnx')
    assert not any(module.training for module in model.modules())
    compare(runtime, tmp_path / 'frames.onnx', model, 'frames')


def run_program(path, model, name):
    """Run one program at all shapes, and the model."""
    program = torch.export.load(path).module()
    for frames, height, width, expressions, tokens in LARGE_SHAPES:
        graph = graphs_of(model, frames, (height, width), expressions, tokens)[
            name
        ]
        values = dict(zip(graph.inputs, graph.example, strict=True))
        with torch.no_grad():
            found = program(values)
            expected = graph.module(*graph.example)
        assert list(found) == list(graph.outputs)
        close([x.numpy() for x in found.values()], expected)
    return program


@pytest.fixture(scope='module')
def programs(tmp_path_factory):
    """The folder of a model with ResNet, and the model."""
    folder = tmp_path_factory.mktemp('programs')
    config = Config(
        dict(model=tiny_model_cfg(num_layers=1), test_pipeline=PIPELINE)
    )
    config.dump(folder / 'tiny.py')
    weights = build_model(num_layers=1).state_dict()
    torch.save({'state_dict': weights}, folder / 'tiny.pth')
    names = [str(folder / name) for name in ('tiny.py', 'tiny.pth', 'out')]
    script('deployment/export').main([*names, '--format', 'torch-export'])
    model = init_model(config, folder / 'tiny.pth', 'cpu')
    return folder / 'out', model


@pytest.mark.slow
@pytest.mark.parametrize('name', ['frames', 'text', 'decode'])
def test_programs_at_any_size(programs, name):
    folder, model = programs
    program = run_program(folder / f'{name}.pt2', model, name)
    # no weights of other parts
    parts = {key.split('.')[2] for key in program.state_dict()}
    assert parts.isdisjoint(
        {'text_encoder', 'backbone'}
        if name == 'decode'
        else {'transformer', 'head'}
    )
    facts = json.loads((folder / 'model.json').read_text())
    assert facts['kind'] == 'torch-export'
    assert facts['graphs'][name]['file'] == f'{name}.pt2'


@pytest.mark.slow
@pytest.mark.parametrize('backbone', ['swin', 'video-swin'])
def test_programs_with_windows_at_any_size(tmp_path, backbone):
    model = build_model(backbone=backbone, num_layers=1).eval()
    write_torch_export(graphs_of(model)['frames'], tmp_path / 'frames.pt2')
    run_program(tmp_path / 'frames.pt2', model, 'frames')


def test_the_model_file(exported):
    """All that a runtime needs is in the folder."""
    facts = json.loads((exported / 'model.json').read_text())
    files = {graph['file'] for graph in facts['graphs'].values()}
    assert {p.name for p in exported.iterdir()} == files | {'model.json'}
    assert facts['opset'] == 18
    assert facts['precision'] == 'fp32'
    assert facts['channels'] == 'RGB'
    assert facts['mean'] == pytest.approx([123.675, 116.28, 103.53])
    assert facts['resize'] == {'short_side': 32, 'max_long_side': None}
    assert facts['masks']['resize'] == 'direct'
    graphs = facts['graphs']
    given = graphs['frames']['outputs'] | graphs['text']['outputs']
    assert graphs['decode']['inputs'].keys() == given.keys() | {'frame_size'}
    assert not list(exported.parent.glob('.*'))


def run_alone(*arguments):
    """Run the tool; it must not import what a small runtime lacks."""
    code = (
        'import runpy, sys\n'
        f'sys.argv = {[str(a) for a in arguments]!r}\n'
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "unwanted = {'torch', 'referformer', 'cv2', 'PIL', 'mmengine'}\n"
        'assert not unwanted & set(sys.modules), sys.modules.keys()\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_video_without_torch(exported, inferencer, tmp_path):
    """The files are those of tools/demo.py."""
    video = write_clip(tmp_path / 'clip.mp4', moving_square(8, 66, 90))
    tool = ROOT / 'tools/deployment/run_onnx.py'
    printed = run_alone(
        *(tool, video, *TEXTS, '--model', exported),
        *('--out', tmp_path / 'onnx', '--window', 3),
    )
    assert 'the white square' in printed
    inferencer(
        str(video),
        TEXTS,
        out_dir=tmp_path / 'torch',
        masks='png',
        overlay=False,
        window=3,
    )
    found, expected = (tmp_path / name / 'clip' for name in ('onnx', 'torch'))
    names = sorted(p.relative_to(expected) for p in expected.rglob('*.png'))
    assert len(names) == 16
    assert names == sorted(p.relative_to(found) for p in found.rglob('*.png'))
    differing = total = 0
    for name in names:
        one, other = (
            cv2.imread(str(root / name), cv2.IMREAD_UNCHANGED)
            for root in (found, expected)
        )
        assert one.shape == other.shape == (66, 90)
        differing += (one != other).sum()
        total += one.size
    assert differing <= total / 1000
    one, other = (
        json.loads((root / 'results.json').read_text())
        for root in (found, expected)
    )
    for row, reference in zip(one['frames'], other['frames'], strict=True):
        assert row['name'] == reference['name']
        assert row['time'] == pytest.approx(reference['time'], abs=1e-6)
        assert row['scores'] == pytest.approx(reference['scores'], abs=2e-4)
        np.testing.assert_allclose(row['boxes'], reference['boxes'], atol=0.02)
    assert one['windows'] == [
        {'start': w['start'], 'scores': pytest.approx(w['scores'], abs=2e-4)}
        for w in other['windows']
    ]


@pytest.fixture(scope='module')
def tool():
    return script('deployment/run_onnx')


@pytest.mark.slow
def test_differences_and_speed_are_printed(runtime, capsys):
    pytest.importorskip('onnx')
    check = script('deployment/check_export')
    check.main(['referformer_tiny_synthetic', '--rounds', '1'])
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ['frames', 'text', 'decode']
    for row in rows:
        listed = row.split('differences: ')[1].split(', ')
        assert all(float(each.split()[1]) < 1e-4 for each in listed)


def test_frames_are_resized_as_the_pipeline_does(tool):
    from referformer.datasets.transforms import ReferResize

    rng = np.random.default_rng(0)
    for shape in ((48, 85), (85, 48), (31, 40)):
        image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        for short, longest in ((32, None), (32, 50), (60, None)):
            expected = ReferResize(short, longest)(
                {'img': image, 'img_shape': shape}
            )['img']
            rule = dict(short_side=short, max_long_side=longest)
            size = tool.network_size(*shape, rule)
            assert size == expected.shape[:2]
            np.testing.assert_array_equal(tool.shrink(image, size), expected)


@pytest.mark.parametrize('resize', ['direct', 'two_step'])
def test_masks_get_the_size_of_the_frame(tool, resize):
    from referformer.structures import FrameGeometry, SoftMasks

    logits = torch.randn(2, 9, 12)
    expected = SoftMasks(
        logits, FrameGeometry((34, 47), (68, 95), 4), 0.0, resize
    ).to_ndarray()
    rule = dict(threshold=0.5, resize=resize, stride=4)
    found = tool.masks_of(logits.numpy(), (34, 47), (68, 95), rule)
    assert found.shape == expected.shape
    assert (found != expected).mean() < 1e-3


def test_tokens_are_those_of_the_model(tool, exported, inferencer, tmp_path):
    facts = json.loads((exported / 'model.json').read_text())
    texts = ['Été: 柔道!', *TEXTS]
    ids, mask = tool.tokenize(texts, facts, exported)
    normal = [inferencer.pipeline.normalize(text) for text in texts]
    tokens = inferencer.model.text_encoder.tokenize(normal)
    np.testing.assert_array_equal(ids, tokens.ids)
    np.testing.assert_array_equal(mask, tokens.attention_mask)
    with pytest.raises(SystemExit, match='too long'):
        tool.tokenize(['a ' * 70], facts, exported)


def test_tokenizer_files(tool, tmp_path):
    from tokenizers import Tokenizer, models

    transformers = pytest.importorskip('transformers')
    words = ['<s>', '<pad>', '</s>', '<unk>', 'the', 'white']
    vocab = {word: number for number, word in enumerate(words)}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocab, '<unk>')),
        pad_token='<pad>',
        model_max_length=20,
    )
    rule = write_tokenizer(tokenizer, tmp_path)
    facts = {'text': {'tokenizer': rule, 'lower_case': True}}
    ids, mask = tool.tokenize(['the  WHITE', 'the'], facts, tmp_path)
    assert rule['max_length'] == 20
    expected = tokenizer(['the white', 'the'], padding='longest')
    assert ids.tolist() == expected['input_ids']
    assert mask.tolist() == expected['attention_mask']


def test_what_cannot_be_exported(config, checkpoint, tmp_path):
    pytest.importorskip('onnx')
    cfg = Config(dict(config)).copy()
    cfg.test_pipeline = [dict(type='mmdet.Resize', scale=(64, 32))]
    with pytest.raises(ConfigError, match='knows one ReferResize'):
        export_model(cfg, checkpoint, tmp_path / 'out')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/mine').touch()
    with pytest.raises(ConfigError, match='is not an empty folder'):
        export_model(config, checkpoint, tmp_path / 'out')
    with pytest.raises(ConfigError, match='format'):
        export_model(config, checkpoint, tmp_path / 'new', 'coreml')
