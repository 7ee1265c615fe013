# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The documentation site: all pages, no warning, a notebook that runs."""

import re
import shlex
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs'
NEEDED = ('sphinx', 'myst_nb', 'furo', 'sphinx_copybutton')


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """The built site; its notebook has run."""
    if not all(map(find_spec, NEEDED)):
        pytest.skip('needs pip install -r requirements/docs.txt')
    from sphinx.cmd.build import main

    out = tmp_path_factory.mktemp('site') / 'html'
    # -W ends with 1 if there was a warning, which is on the standard error;
    # the lists beside the pages of the API take a third of the time
    options = ['-W', '--keep-going', '-q', '-D', 'toc_object_entries=0']
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # those of its extensions' own code
        assert main([*options, str(DOCS), str(out)]) == 0
    return out


def test_the_site_holds_pages_api_and_results(site):
    for page in ('tutorial', 'datasets/mevis', 'gallery'):
        assert (site / f'{page}.html').is_file()
    api = (site / 'api' / 'apis.html').read_text()
    assert 'id="referformer.apis.ReferInferencer.from_pretrained"' in api
    # to the class on another page, by the name of its own module
    assert 'prediction.html#referformer.prediction.Predictor"' in api
    # a file of the repository
    assert '_downloads/' in (site / 'reliability.html').read_text()
    notebook = (site / 'notebooks' / 'first_video.html').read_text()
    assert re.search(r'score 0\.\d\d +J +\d+ +the car which', notebook)
    assert re.search(r'<img [^>]*_images/\w+\.png"', notebook)


def test_each_page_has_a_place():
    """Without Sphinx, which says so as well."""
    index = (DOCS / 'index.md').read_text()
    trees = re.findall(r'^```{toctree}\n.*?\n\n(.*?)^```', index, re.M | re.S)
    listed = '\n'.join(trees).split()
    pages = [
        str(path.relative_to(DOCS).with_suffix(''))
        for kind in ('md', 'ipynb')
        for path in DOCS.rglob(f'*.{kind}')
    ]
    assert sorted(listed) == sorted(set(pages) - {'index'})


def test_each_public_package_is_in_the_api():
    described = {
        name
        for page in DOCS.glob('api/*.md')
        for name in re.findall(r'automodule:: (\S+)', page.read_text())
    }
    public = {
        '.'.join(path.parent.relative_to(ROOT).parts)
        for path in ROOT.glob('referformer/*/**/__init__.py')
        if '__all__' in path.read_text()
    }
    assert public
    assert not public - described


def test_the_notebook_is_stored_without_results():
    for path in DOCS.rglob('*.ipynb'):
        assert not re.search(r'"(image/png|text/plain)":', path.read_text())


def test_the_gallery_shows_the_example_model(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'misc'))
    from draw_gallery import PAGE, fingerprint

    assert fingerprint() in PAGE.read_text(), (
        'the example model is another one: python tools/misc/draw_gallery.py'
    )


def test_the_gallery_is_drawn_again(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'misc'))
    import draw_gallery

    from referformer.testing.motion_scenes import cast

    page = tmp_path / 'gallery.md'
    page.write_text('above\n<!-- gallery -->\nold\n<!-- /gallery -->\nbelow\n')
    monkeypatch.setattr(draw_gallery, 'PAGE', page)
    monkeypatch.setattr(cast, 'CUES', {'colour': 1.0})
    draw_gallery.main([])
    text = page.read_text()
    assert text.startswith('above\n<!-- gallery -->\n\nWeights')
    assert text.endswith('|\n\n<!-- /gallery -->\nbelow\n')
    assert 'old' not in text
    [picture] = re.findall(r'\]\((.*?)\)', text)
    assert (tmp_path / picture).read_bytes()[8:12] == b'WEBP'
    assert len(re.findall(r'^\| .* \| 0\.\d\d \| \d+ \|$', text, re.M)) == 3


def commands_of(page):
    """Commands of the blocks for a shell, as lists of words."""
    blocks = re.findall(r'^```bash\n(.*?)^```', page.read_text(), re.M | re.S)
    lines = ''.join(blocks).replace('\\\n', ' ').splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def test_commands_of_the_tutorial_are_accepted(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import demo

    commands = commands_of(DOCS / 'tutorial.md')
    [line] = [words for words in commands if 'tools/demo.py' in words]
    args = demo.parse_args(line[2:])
    [convert] = [words for words in commands if words[1].endswith('_to_mm.py')]
    assert convert[3:] == [args.checkpoint]
    assert (ROOT / 'configs' / f'{args.config}.py').is_file()
    text = (DOCS / 'tutorial.md').read_text()
    for options in re.findall(r'`(--[^`]+)`', text):
        demo.parse_args([*line[2:], *options.split()])
