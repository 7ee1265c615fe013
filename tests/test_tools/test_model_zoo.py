# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The zoo says what was published, and nothing else."""

import copy
import re
from pathlib import Path

import pytest

from referformer.errors import ConfigError

from ..fixtures.tools import ROOT, script

zoo = script('misc/generate_model_zoo')

# The published tables, copied by hand: recipe -> backbone -> numbers.
PUBLISHED = {
    ('ytvos', ('J&F',)): {
        'r50': (55.6,),
        'r101': (57.3,),
        'swin-t': (58.7,),
        'swin-l': (62.4,),
        'vswin-t': (59.4,),
        'vswin-s': (60.1,),
        'vswin-b': (62.9,),
    },
    ('ytvos', ('J&F + CFBI',)): {
        'r50': (59.4,),
        'r101': (60.3,),
        'swin-t': (61.2,),
        'swin-l': (63.3,),
    },
    ('ytvos-scratch', ('J&F',)): {'vswin-t': (56.0,)},
    ('joint', ('J&F',)): {
        'r50': (58.7,),
        'r101': (59.3,),
        'swin-l': (64.2,),
        'vswin-t': (62.6,),
        'vswin-s': (63.3,),
        'vswin-b': (64.9,),
    },
    ('davis', ('J&F',)): {
        'r50': (58.5,),
        'swin-l': (60.5,),
        'vswin-b': (61.1,),
    },
    ('a2d', ('Overall IoU', 'Mean IoU', 'mAP')): {
        'vswin-t': (77.6, 69.6, 52.8),
        'vswin-s': (77.7, 69.8, 53.9),
        'vswin-b': (78.6, 70.3, 55.0),
    },
    ('a2d-scratch', ('Overall IoU', 'Mean IoU', 'mAP')): {
        'vswin-t': (72.3, 64.1, 48.6)
    },
    ('jhmdb', ('Overall IoU', 'Mean IoU', 'mAP')): {
        'vswin-t': (71.9, 71.0, 42.2),
        'vswin-s': (72.8, 71.5, 42.4),
        'vswin-b': (73.0, 71.8, 43.7),
    },
    ('jhmdb-scratch', ('Overall IoU', 'Mean IoU', 'mAP')): {
        'vswin-t': (70.0, 69.3, 39.1)
    },
}
# RefCOCO, +, g: boxes, then masks
REFCOCO = {
    'r50': ((85.0, 79.2, 79.0), (71.1, 64.1, 64.1)),
    'r101': ((85.4, 75.8, 79.9), (71.8, 61.1, 64.9)),
    'swin-t': ((86.7, 77.2, 80.6), (72.9, 62.4, 66.1)),
    'swin-l': ((89.8, 80.0, 83.9), (77.1, 65.8, 69.3)),
}
REFCOCO_SETS = ('RefCOCO val', 'RefCOCO+ val', 'RefCOCOg val (umd)')


@pytest.fixture(scope='module')
def content():
    return zoo.read_metafile()


@pytest.fixture(scope='module')
def models(content):
    return {model.name: model for model in zoo.models_of(content)}


def published(model):
    """(dataset, metric) -> number."""
    return {
        (result['Dataset'], metric): value
        for result in model.results
        if result['Source'] == 'published'
        for metric, value in result['Metrics'].items()
    }


def test_the_metafile_is_sound_and_the_pages_are_fresh(capsys):
    assert zoo.main(['--check']) == 0, capsys.readouterr().err


def test_every_published_number_has_its_config(models):
    expected = {}
    for (recipe, metrics), rows in PUBLISHED.items():
        for backbone, values in rows.items():
            name = f'referformer_{backbone}_{recipe}'
            expected.setdefault(name, {})
            expected[name].update(zip(metrics, values, strict=True))
    for name, numbers in expected.items():
        found = {key[1]: x for key, x in published(models[name]).items()}
        # the authors' README also tells J and F, which the paper does not
        parts = found.pop('J', None), found.pop('F', None)
        if None not in parts and name != 'referformer_vswin-t_joint':
            assert sum(parts) / 2 == pytest.approx(found['J&F'], abs=0.11)
        assert found == numbers, name
        assert models[name].weights, name
    for backbone, (boxes, masks) in REFCOCO.items():
        name = f'referformer_{backbone}_refcoco'
        numbers = published(models[name])
        for i, dataset in enumerate(REFCOCO_SETS):
            assert numbers.pop((dataset, 'P@0.5')) == boxes[i]
            assert numbers.pop((dataset, 'Overall IoU')) == masks[i]
        assert not numbers
        expected[name] = {}
    # and nobody else has one
    assert {n for n, m in models.items() if published(m)} == set(expected)


def test_only_the_quickstart_is_measured(models):
    measured = {
        model.name
        for model in models.values()
        for result in model.results
        if result['Source'] == 'measured'
    }
    assert measured == {'referformer_tiny_synthetic'}


def test_fine_tuned_models_have_their_beginning(models):
    """Where the authors publish a fine-tuned model, also the pre-trained."""
    for model in models.values():
        if model.recipe in ('ytvos', 'a2d') and model.weights:
            start = model.name.rsplit('_', 1)[0] + '_refcoco-pretrain'
            assert models[start].weights, start


def change(content, name='referformer_r50_ytvos'):
    content = copy.deepcopy(content)
    (entry,) = [e for e in content['Models'] if e['Name'] == name]
    return content, entry


@pytest.mark.parametrize(
    ('break_it', 'problem'),
    [
        (lambda e: e.update(Config='configs/gone.py'), 'does not exist'),
        (
            lambda e: e.update(Config='configs/referformer_r101_ytvos.py'),
            'is not that of its config',
        ),
        (lambda e: e.update(Name='referformer_r101_ytvos'), 'has 2 entries'),
        (
            lambda e: e['Results'][0].update(Source='measured'),
            'Measured By belongs to every measured result',
        ),
        (
            lambda e: e['Results'][0].update({'Measured By': 'me'}),
            'Measured By belongs to every measured result',
        ),
        (lambda e: e['Results'][0].update(Source='ours'), "Source .*'ours'"),
        (lambda e: e['Results'][0].pop('Protocol'), 'has no Protocol'),
        (
            lambda e: e['Results'][0].update(Metrics={'J&F': 556}),
            '556 instead of a number',
        ),
        (
            lambda e: e['Converted From'].update(Weights='http://drive.x/1'),
            'is not an address',
        ),
        (lambda e: e.update({'In Collection': 'X'}), 'collection is not def'),
        (lambda e: e['Metadata'].pop('Backbone'), 'no Backbone'),
    ],
)
def test_mistakes_are_found(content, break_it, problem):
    broken, entry = change(content)
    break_it(entry)
    assert any(re.search(problem, text) for text in zoo.find_problems(broken))


def test_a_config_without_entry_is_found(content):
    broken, entry = change(content)
    broken['Models'].remove(entry)
    assert zoo.find_problems(broken) == [
        'configs/referformer_r50_ytvos.py has no entry.'
    ]


def test_a_stale_page_is_found(tmp_path, monkeypatch, capsys):
    page = tmp_path / 'README.md'
    old = (ROOT / 'README.md').read_text()
    page.write_text(old.replace('[55.6]', '[55.7]'))
    for name in ('configs', 'model-index.yml'):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setattr(zoo, 'ROOT', tmp_path)
    monkeypatch.setattr(zoo, 'PAGES', ('README.md',))
    monkeypatch.setattr(zoo.read_metafile, '__defaults__', (tmp_path,))
    assert zoo.main(['--check']) == 1
    assert 'README.md is stale' in capsys.readouterr().err
    assert page.read_text() != old
    assert zoo.main([]) == 0
    assert page.read_text() == old


def test_marks_are_checked(models):
    page = Path('README.md')
    with pytest.raises(ConfigError, match=r'has no <!-- zoo: NAME -->'):
        zoo.fill('# Title\n', models.values(), page)
    with pytest.raises(ConfigError, match="there is no recipe 'x'"):
        zoo.fill('<!-- zoo: x -->\n<!-- /zoo -->', models.values(), page)


def test_initial_weights_are_those_of_the_configs():
    text = (ROOT / 'docs/model_zoo.md').read_text()
    for path in (ROOT / 'configs/_base_/models').glob('*.py'):
        for url in re.findall(r"'(https://\S+\.pth)'", path.read_text()):
            assert url in text, path


def test_links_of_the_zoo_exist():
    for name in ('README.md', 'docs/model_zoo.md'):
        page = ROOT / name
        for link in re.findall(r'\]\((?!https?:)([^)#]+)', page.read_text()):
            assert (page.parent / link).exists(), f'{name}: {link}'
