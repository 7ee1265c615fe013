# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A published model predicts the same, and a malicious one is refused.

The Hub is a server of this process; ``huggingface_hub`` is the real one.
"""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from mmengine.config import Config
from safetensors.torch import load_file, save_file

from referformer.apis import ReferInferencer, init_model
from referformer.apis.portable import from_portable, literal_config
from referformer.apis.release import open_release, publish
from referformer.checkpoints.convert import convert_file
from referformer.errors import (
    CheckpointError,
    ConfigError,
    MissingCheckpointError,
)
from tests.faults import SAFETY, fault
from tests.fixtures.hub import COMMIT, serve
from tests.fixtures.videos import moving_square

from ..fixtures.tools import script
from ..test_models.helpers import randomise

ROOT = Path(__file__).parents[2]
TEXTS = ['the white square', 'a  GREY wall on the left']


@pytest.fixture(scope='module')
def tool():
    return script('model_converters/publish_model')


@pytest.fixture(scope='module')
def trained(tmp_path_factory, config, checkpoint):
    """A checkpoint as mmengine writes it."""
    path = tmp_path_factory.mktemp('trained') / 'epoch_6.pth'
    model = config['model']
    init_cfg = dict(type='Pretrained', checkpoint='https://x.org/r18.pth')
    backbone = dict(model['backbone'], init_cfg=init_cfg)
    cfg = Config(
        dict(
            config,
            model=dict(model, backbone=backbone),
            optim_wrapper=dict(optimizer=dict(lr=1e-4, betas=(0.9, 0.999))),
        )
    )
    torch.save(
        dict(
            torch.load(checkpoint),
            optimizer={'state': {}, 'param_groups': [{'lr': 1e-4}]},
            meta=dict(
                cfg=cfg.pretty_text,
                experiment_name='referformer_r50_ytvos_20261126_120000',
            ),
        ),
        path,
    )
    return path


@pytest.fixture(scope='module')
def published(tool, trained, tmp_path_factory):
    """``owner/repo`` in a folder, written by the tool."""
    root = tmp_path_factory.mktemp('hub')
    tool.main([str(trained), str(root / 'owner/repo')])
    return root


@pytest.fixture
def hub(published, tmp_path, monkeypatch):
    """The Hub with the published model, and an empty cache."""
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    root = tmp_path / 'hub'
    shutil.copytree(published, root)
    with serve(root) as server:
        monkeypatch.setenv('HF_ENDPOINT', server.address)
        yield server


def predict(inferencer):
    video = moving_square()[..., ::-1]
    (result,) = inferencer(video, TEXTS, masks='array')['predictions']
    return [
        (expression.scores, expression.masks, expression.boxes)
        for expression in result.expressions
    ]


def assert_same(found, expected):
    assert len(found) == len(expected) == len(TEXTS)
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def load(source, **kwargs):
    return ReferInferencer.from_pretrained(
        source, 'cpu', show_progress=False, **kwargs
    )


# -- there and back -----------------------------------------------------------


def test_from_a_folder(published, inferencer):
    folder = published / 'owner/repo'
    expected = predict(inferencer)
    assert any(masks.any() for _, masks, _ in expected)
    assert_same(predict(load(folder)), expected)
    assert_same(predict(load(str(folder))), expected)


def test_from_the_hub_and_its_cache(hub, inferencer, monkeypatch):
    expected = predict(inferencer)
    assert_same(predict(load('owner/repo')), expected)
    # one look at the main branch; the rest is of the commit it is at
    asked = {path for path in hub.asked if 'resolve/main' in path}
    assert asked == {'/owner/repo/resolve/main/config.json'}
    assert all('/resolve/' in path for path in hub.asked)
    hub.asked.clear()
    load('hf://owner/repo@v1')
    load('owner/repo', revision=COMMIT)
    assert not any('main' in path for path in hub.asked)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    hub.asked.clear()
    assert_same(predict(load('owner/repo')), expected)
    assert not hub.asked
    with pytest.raises(
        MissingCheckpointError,
        match=r'config\.json of owner/other cannot be fetched.*cache does no',
    ):
        load('owner/other')


@pytest.mark.parametrize(
    'address',
    ['hf://owner/repo', 'hf://owner/repo/model.safetensors@v1'],
)
def test_weights_wherever_a_checkpoint_is_accepted(hub, config, address):
    for path in (address, Path(address)):
        init_model(config, path, 'cpu')
    inner = dict(type='Pretrained', checkpoint=address, prefix='backbone.')
    from mmengine.runner.checkpoint import CheckpointLoader

    loaded = CheckpointLoader.load_checkpoint(inner['checkpoint'], 'cpu')
    assert len(loaded['state_dict']) > 100


@pytest.mark.parametrize(
    ('source', 'reason'),
    [
        ('owner/none', 'there is no repository owner/none'),
        ('owner/repo@v9', 'owner/repo has no revision v9'),
        ('owner/repo/x.safetensors', 'names a file'),
        ('just-a-name', 'is not an address of the Hugging Face Hub'),
    ],
)
def test_what_the_hub_has_not(hub, source, reason):
    with pytest.raises(CheckpointError, match=reason):
        load(source)


@pytest.mark.parametrize(
    ('path', 'reason'),
    [
        ('model/model.safetensors', 'is a file; .* folder; give .*model'),
        ('epoch_6.pth', 'is a file; .* give the config of these weights too'),
        ('checkpoints/r50.pth', 'r50.pth does not exist; give the folder'),
    ],
)
def test_a_path_that_is_no_published_model(
    published, tmp_path, monkeypatch, path, reason
):
    shutil.copytree(published / 'owner/repo', tmp_path / 'model')
    (tmp_path / 'epoch_6.pth').touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=reason):
        load(path)


def test_a_missing_file_of_the_hub(hub, config):
    with pytest.raises(MissingCheckpointError, match='repo has no such file'):
        init_model(config, 'hf://owner/repo/x.safetensors', 'cpu')


# -- what is written ----------------------------------------------------------


def test_files(published, checkpoint):
    folder = published / 'owner/repo'
    names = sorted(path.name for path in folder.iterdir())
    assert names == ['README.md', 'config.json', 'model.safetensors']
    assert not list(folder.parent.glob('.*'))
    weights = load_file(folder / 'model.safetensors')
    expected = torch.load(checkpoint)['state_dict']
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        assert torch.equal(value, expected[name]), name
    content = json.loads((folder / 'config.json').read_text())
    text = json.dumps(content)
    for word in ('init_cfg', 'optim', 'Load', 'http', '/'):
        assert word not in text, word
    card = (folder / 'README.md').read_text()
    assert '# referformer_r50_ytvos\n' in card
    row = '| Ref-YouTube-VOS valid | J&F | 55.6 | competition server, 202 vid'
    assert row in card
    assert 'were not scored when they were published' in card
    for value in content['sha256'].values():
        assert value in card


def test_half_precision_and_results_of_these_weights(
    tool, trained, published, tmp_path
):
    entry = tmp_path / 'entry.json'
    metrics = {'J&F': 88.8}
    result = dict(Dataset='drawn', Protocol='mean', Metrics=metrics)
    result |= {'Source': 'measured', 'Measured By': 'us'}
    entry.write_text(
        json.dumps(
            {
                'Name': 'example',
                'Metadata': {'Training Minutes': 40},
                'Results': [result],
            }
        )
    )
    out = tmp_path / 'half'
    tool.main([str(trained), str(out), '--half', f'--entry={entry}'])
    weights = load_file(out / 'model.safetensors')
    assert {v.dtype for v in weights.values() if v.is_floating_point()} == {
        torch.float16
    }
    whole = published / 'owner/repo/model.safetensors'
    size = (out / 'model.safetensors').stat().st_size
    assert size < 0.55 * whole.stat().st_size
    card = (out / 'README.md').read_text()
    assert 'Of these weights.' in card
    assert '| drawn | J&F | 88.8 | mean | measured by us |' in card
    assert '- Training Minutes: 40' in card
    model = ReferInferencer.from_pretrained(out, device='cpu').model
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_tokenizers_and_other_language_models(config, tmp_path):
    """Files of a tokenizer go along, and no name on the Hub is left."""
    from tokenizers import Tokenizer, models
    from transformers import AutoModel, PreTrainedTokenizerFast

    words = ['<s>', '<pad>', '</s>', '<unk>', 'the', 'white', 'square']
    source = tmp_path / 'some-bert'
    vocab = {word: number for number, word in enumerate(words)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocab, '<unk>')),
        pad_token='<pad>',
        model_max_length=20,
    )
    tokenizer.save_pretrained(source)
    cfg = Config(dict(config)).copy()
    language = AutoModel.from_config(_transformers_config(cfg))
    language.save_pretrained(source)
    text = cfg.model.text_encoder
    text.pop('hf_config')
    text.update(pretrained=str(source), tokenizer=None)
    from referformer.registry import MODELS

    model = MODELS.build(cfg.model)
    randomise(model)
    file = tmp_path / 'weights.pth'
    torch.save(model.state_dict(), file)
    out = publish(file, tmp_path / 'out', cfg)
    before = ReferInferencer(cfg, file, 'cpu', show_progress=False)
    expected = predict(before)
    shutil.rmtree(source)
    moved = out.rename(tmp_path / 'moved')
    after = load(moved)
    assert_same(predict(after), expected)
    tokens = after.model.text_encoder.tokenize(['white'])
    assert tokens.ids.tolist() == [[5]]


def _transformers_config(cfg):
    from transformers import AutoConfig

    settings = dict(cfg.model.text_encoder.hf_config)
    return AutoConfig.for_model(settings.pop('model_type'), **settings)


@fault(
    SAFETY,
    'the config that a checkpoint keeps holds code',
    'it is not run when the model is published',
)
def test_the_config_of_a_checkpoint_is_not_run(trained, tmp_path):
    content = torch.load(trained, weights_only=True)
    marker = tmp_path / 'ran'
    content['meta']['cfg'] += f"\nx = open('{marker}', 'w')\n"
    file = tmp_path / 'evil.pth'
    torch.save(content, file)
    with pytest.raises(ConfigError, match=r'more than plain values.*not run'):
        publish(file, tmp_path / 'out')
    assert not marker.exists()
    for text in ('import os', 'a = b', 'a = dict(**c)', 'a = f(1)', 'a ='):
        with pytest.raises(ConfigError, match='more than plain values'):
            literal_config(text)
    cfg = literal_config("a = dict(b=(1, -2.5), c=[None, {'x.y': True}])")
    assert cfg.a.b == (1, -2.5)
    assert cfg.a.c[1] == {'x.y': True}


def test_what_cannot_be_published(config, checkpoint, trained, tmp_path):
    with pytest.raises(ConfigError, match='holds no config; give the config'):
        publish(checkpoint, tmp_path / 'out')
    cfg = Config(dict(config)).copy()
    cfg.model.queries.num_queries = 4
    with pytest.raises(CheckpointError, match='does not fit the model'):
        publish(checkpoint, tmp_path / 'out', cfg)
    cfg = Config(dict(config)).copy()
    cfg.test_pipeline = [dict(type='ReferResize', short_side=lambda: 1)]
    with pytest.raises(ConfigError, match='which JSON cannot hold'):
        publish(checkpoint, tmp_path / 'out', cfg)
    assert not list(tmp_path.iterdir())
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/mine').touch()
    with pytest.raises(ConfigError, match='is not an empty folder'):
        publish(trained, tmp_path / 'out')


@pytest.mark.parametrize(
    ('given', 'published'),
    [
        ('flow', {'type': 'FlowPropagator'}),
        (dict(type='FlowPropagator'), {'type': 'FlowPropagator'}),
        ('configs/propagators/flow.py', {'type': 'FlowPropagator'}),
        ('configs/propagators/sam2.1-large.py', None),
    ],
)
def test_propagators(config, checkpoint, tmp_path, given, published):
    """It is written as a dict; one with other weights is left out."""
    cfg = Config(dict(config)).copy()
    cfg.model.predictor = dict(
        type='Predictor',
        propagator=str(ROOT / given) if '/' in given else given,
    )
    if published is None:
        with pytest.warns(UserWarning, match='needs the weights .facebook/'):
            out = publish(checkpoint, tmp_path / 'out', cfg)
    else:
        out = publish(checkpoint, tmp_path / 'out', cfg)
    loaded = open_release(out).cfg.model.predictor.propagator
    assert loaded == published
    predictor = load(out).model.predictor
    assert (predictor.propagator is None) == (published is None)


def test_weights_of_the_hub_are_converted(hub, checkpoint, tmp_path):
    ours = torch.load(checkpoint)['state_dict']
    theirs, back = tmp_path / 'theirs.pth', tmp_path / 'back.pth'
    convert_file(Path('hf://owner/repo'), theirs, reverse=True)
    save_file(
        {k: v.clone() for k, v in torch.load(theirs)['model'].items()},
        hub.folder / 'owner/repo/theirs.safetensors',
    )
    address = Path('hf://owner/repo/theirs.safetensors')
    assert convert_file(address, back, reverse=False) == len(ours)
    found = torch.load(back)['state_dict']
    assert found.keys() == ours.keys()
    assert all(torch.equal(found[name], ours[name]) for name in ours)


# -- malicious repositories ---------------------------------------------------


class Evil:
    """Runs when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def repo(hub):
    return hub.folder / 'owner/repo'


def change(repo, edit):
    """Edit the config of a repository."""
    file = repo / 'config.json'
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


@fault(
    SAFETY,
    'a published model comes with a Python config',
    'it is refused',
)
def test_a_python_config_is_refused(repo, tmp_path):
    code = f"open('{tmp_path}/ran', 'w')"
    (repo / 'config.py').write_text(code)
    (repo / 'config.json').write_text(code)
    with pytest.raises(
        CheckpointError, match=r'is no JSON .* could hold code'
    ):
        load('owner/repo')
    (repo / 'config.json').rename(repo / 'config.yaml')
    repo.rename(repo.parent / 'other')
    with pytest.raises(MissingCheckpointError, match='has no such file'):
        load('owner/other')
    assert not (tmp_path / 'ran').exists()


@fault(
    SAFETY,
    'a published model comes with pickled weights',
    'they are refused',
)
def test_pickled_weights_are_refused(repo, hub, config, tmp_path):
    pickled = pickle.dumps({'state_dict': Evil(tmp_path / 'ran')})
    (repo / 'model.safetensors').write_bytes(pickled)
    with pytest.raises(CheckpointError, match=r'another SHA-256'):
        load('owner/repo')
    for name in ('weights.pth', 'model.bin'):
        (repo / name).write_bytes(pickled)
        with pytest.raises(CheckpointError, match=r'pickles.* not fetched'):
            init_model(config, f'hf://owner/repo/{name}', 'cpu')
        assert not any(name in path for path in hub.asked)
    file = tmp_path / 'x.safetensors'
    file.write_bytes(pickled)
    with pytest.raises(CheckpointError, match='not a readable safetensors'):
        init_model(config, file, 'cpu')
    assert not (tmp_path / 'ran').exists()


@fault(
    SAFETY,
    'a published model names files outside of its folder',
    'it is refused',
)
@pytest.mark.parametrize(
    'name', ['../../evil.json', 'tokenizer/../../x', '/etc/passwd', 'run.py']
)
def test_names_that_leave_the_folder_are_refused(repo, hub, name):
    change(repo, lambda content: content['sha256'].update({name: '0'}))
    with pytest.raises(CheckpointError, match='which no published model has'):
        load('owner/repo')
    assert not any(name in path for path in hub.asked)


@pytest.mark.parametrize(
    'address',
    [
        'hf://owner/repo/../../x.safetensors',
        'hf://../owner/model.safetensors',
        'hf://owner/repo/a/../model.safetensors',
        'hf://owner/repo@../../main',
        'hf://owner/repo//etc/x.safetensors',
    ],
)
def test_addresses_that_leave_the_repository_are_refused(hub, config, address):
    with pytest.raises(CheckpointError, match='is not an address'):
        init_model(config, address, 'cpu')
    assert not hub.asked


def setting(*keys, value):
    def edit(content):
        node = content['config']
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return edit


BACKBONE = ('model', 'backbone')
TEXT = ('model', 'text_encoder')


@fault(
    SAFETY,
    'the config of a published model names functions, modules, files or '
    'addresses',
    'it is refused, and nothing is built',
)
@pytest.mark.parametrize(
    'edit',
    [
        # modules to import
        setting('custom_imports', value={'imports': ['antigravity']}),
        setting('model', 'custom_imports', value={'imports': ['os']}),
        setting('_base_', value='x'),
        # types that a registry would import
        setting(*BACKBONE, value={'type': 'os.system', 'command': 'id'}),
        setting('model', 'type', value='subprocess.Popen'),
        setting('model', 'neck', 'norm_cfg', value={'type': 'builtins.exec'}),
        setting('test_pipeline', value=[{'type': 'shutil.rmtree'}]),
        setting('test_pipeline', value=[{'type': ['os.system']}]),
        setting('model', 'predictor', value={'type': 'mmdet.os'}),
        # a type of another kind of registry
        setting('test_pipeline', value=[{'type': 'ReferFormer'}]),
        # files and addresses
        setting(*BACKBONE, 'init_cfg', value={'type': 'Pretrained'}),
        setting(*BACKBONE, 'pretrained', value='torchvision-resnet50'),
        setting(*BACKBONE, 'style', value='/etc/passwd'),
        setting(*BACKBONE, 'style', value='..'),
        setting(*BACKBONE, 'style', value='weights.PTH'),
        setting(*BACKBONE, 'style', value={'$tuple': ['http://x']}),
        setting(*TEXT, 'tokenizer', value='some-name'),
        setting(*TEXT, 'local_root', value='x'),
        setting(*TEXT, 'pretrained', value='roberta-base'),
        # what makes transformers run code
        setting(*TEXT, 'hf_config', 'auto_map', value={'AutoModel': 'm.M'}),
        setting(*TEXT, 'hf_config', '_attn_implementation', value='x'),
        setting(*TEXT, 'hf_config', 'attn_implementation', value='a/b'),
        setting(*TEXT, 'hf_config', 'trust_remote_code', value=True),
    ],
)
def test_configs_that_could_run_code_are_refused(repo, edit):
    change(repo, edit)
    with pytest.raises(ConfigError, match=r'portable config|nothing was buil'):
        load('owner/repo')


def test_every_type_of_a_config_is_checked():
    with pytest.raises(ConfigError, match="lacks 'test_pipeline'"):
        from_portable({'model': {}})
    head = {'type': 'ReferHead', 'x': [[{'y': {'type': 'mmcv.os'}}]]}
    parts = {'model': {'head': head}, 'test_pipeline': []}
    with pytest.raises(ConfigError, match=r'model\.head\.x\.y\.type is'):
        from_portable(parts)


def test_another_library_is_refused(repo, tmp_path):
    change(repo, lambda content: content.update(library='transformers'))
    with pytest.raises(CheckpointError, match='is not the config of a model'):
        load(repo)
    change(repo, lambda c: c.update(library='referformer-mm', format=2))
    with pytest.raises(CheckpointError, match=r'has format 2.*newer'):
        load(repo)
    with pytest.raises(MissingCheckpointError, match='is no published model'):
        open_release(tmp_path)
