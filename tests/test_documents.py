# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Links of the documents lead to files and headings that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / 'README.md',
    *sorted(ROOT.glob('docs/**/*.md')),
    *sorted(ROOT.glob('projects/**/*.md')),
]


def text_of(page):
    """Text of a page without blocks of code."""
    return re.sub(r'^```.*?^```', '', page.read_text(), flags=re.S | re.M)


def anchors_of(page):
    """Headings as GitHub names them."""
    headings = re.findall(r'^#+ (.*)$', text_of(page), re.M)
    return {
        re.sub(r'[^\w -]', '', h.lower()).replace(' ', '-') for h in headings
    }


@pytest.mark.parametrize(
    'page', PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)
def test_links_lead_somewhere(page):
    broken = []
    for link in re.findall(r'\]\(([^)\s]+)\)', text_of(page)):
        if link.startswith(('http://', 'https://')):
            continue
        file, _, anchor = link.partition('#')
        target = page.parent / file if file else page
        known = target.exists() and (
            not anchor or anchor in anchors_of(target)
        )
        if not known:
            broken.append(link)
    assert not broken


# Files that a reader or another run makes.
MADE = {'my_experiment', 'my_mix', 'my_davis', 'BACKBONE_RECIPE'}


@pytest.mark.parametrize(
    'page', PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)
def test_files_of_the_repository_exist(page):
    paths = re.findall(
        r'(?<![\w/.$])(?:referformer|configs|tools|tests|projects|requirements)'
        r'/(?:[\w.-]+/)*[\w.-]+\.(?:py|sh|txt|yml)\b',
        page.read_text(),
    )
    places = (ROOT, page.parent)
    missing = {
        path
        for path in paths
        if not any((place / path).is_file() for place in places)
        and not any(name in path for name in MADE)
    }
    assert not missing
