# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Make the tables of README.md and docs/model_zoo.md from the metafile.

A table stands between ``<!-- zoo: NAME -->`` and ``<!-- /zoo -->``; NAME is a
recipe (the last part of a config's name), ``overview``, ``measured`` or
``initial``. The metafile is checked first.

Examples:
    python tools/misc/generate_model_zoo.py
    python tools/misc/generate_model_zoo.py --check
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from referformer.errors import ConfigError, DataError
from referformer.utils.cli import run

ROOT = Path(__file__).resolve().parents[2]
METAFILE = 'configs/metafile.yml'
INDEX = 'model-index.yml'
PAGES = ('README.md', 'docs/model_zoo.md')
SOURCES = ('published', 'measured')
_NAME = re.compile(r'referformer_(?P<backbone>[^_]+)_(?P<recipe>[^_]+)')
_URL = re.compile(
    r'https://(drive\.google\.com/file/d/[\w-]{25,50}/view'
    r'|github\.com/[\w.-]+/[\w.-]+(/[\w./-]+)?|arxiv\.org/abs/\d{4}\.\d{5})'
)
_BLOCK = re.compile(r'(<!-- zoo: (\S+) -->\n).*?(<!-- /zoo -->)', re.S)
# The overview: a recipe, the metric it is judged by, and on what.
OVERVIEW = {
    'Ref-YouTube-VOS': ('ytvos', 'J&F'),
    'joint': ('joint', 'J&F'),
    'Ref-DAVIS17': ('davis', 'J&F'),
    'A2D mAP': ('a2d', 'mAP'),
    'JHMDB mAP': ('jhmdb', 'mAP'),
    'RefCOCO oIoU': ('refcoco', 'Overall IoU'),
}


class Model(NamedTuple):
    """An entry of the metafile.

    Attributes:
        name: Name of the config.
        config: Its path.
        backbone: As people call it.
        recipe: What follows the backbone in the name.
        results: The ``Results``.
        weights: Where the authors' weights are, if anywhere.
    """

    name: str
    config: str
    backbone: str
    recipe: str
    results: list[dict[str, Any]]
    weights: str | None


# -- the metafile -------------------------------------------------------------


def read_metafile(root: Path = ROOT) -> dict[str, Any]:
    """Read what ``model-index.yml`` imports."""
    content: dict[str, Any] = {'Collections': [], 'Models': []}
    for name in _load(root / INDEX)['Import']:
        for key, entries in _load(root / name).items():
            content[key].extend(entries)
    return content


def _load(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text('utf-8'))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f'{path} cannot be read: {error}') from None


def find_problems(content: dict[str, Any], root: Path = ROOT) -> list[str]:
    """Say what is wrong with the metafile."""
    models = content['Models']
    names = [entry.get('Name') for entry in models]
    problems = [
        f'{name} has {names.count(name)} entries.'
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    problems += [
        f'{url} is not an address this zoo knows.'
        for url in re.findall(r'"([^"]*://[^"]*)"', json.dumps(content))
        if not _URL.fullmatch(url)
    ]
    collections = {entry['Name'] for entry in content['Collections']}
    for entry in models:
        found = list(_problems_of(entry, root))
        if entry.get('In Collection') not in collections:
            found.append('its collection is not defined.')
        problems += [f'{entry.get("Name")}: {text}' for text in found]
    # the earlier steps of the quickstart lead to one model
    return problems + [
        f'configs/{path.name} has no entry.'
        for path in sorted((root / 'configs').glob('*.py'))
        if not path.stem.startswith('referformer_tiny_synthetic-')
        and f'configs/{path.name}' not in [e.get('Config') for e in models]
    ]


def _problems_of(entry: dict[str, Any], root: Path) -> Iterator[str]:
    """What is wrong with one model."""
    config = entry.get('Config', '')
    if not (root / config).is_file() or not config:
        yield f'its config {config!r} does not exist.'
    elif Path(config).stem != entry['Name'] or not _NAME.fullmatch(
        entry['Name']
    ):
        yield f'its name is not that of its config {config!r}.'
    if 'Backbone' not in entry.get('Metadata', {}):
        yield 'its Metadata has no Backbone.'
    for result in entry.get('Results', []):
        for key in ('Task', 'Dataset', 'Protocol', 'Metrics'):
            if not result.get(key):
                yield f'a result has no {key}.'
        for name, value in result.get('Metrics', {}).items():
            if not isinstance(value, int | float) or not 0 <= value <= 100:
                yield f'{name} is {value!r} instead of a number up to 100.'
        source = result.get('Source')
        if source not in SOURCES:
            yield f'the Source of a result is {source!r}, not of {SOURCES}.'
        if (source == 'measured') != ('Measured By' in result):
            yield 'Measured By belongs to every measured result, and to no '
            'other.'


def models_of(content: dict[str, Any]) -> list[Model]:
    """Turn a checked metafile into models."""
    return [
        Model(
            entry['Name'],
            entry['Config'],
            entry['Metadata']['Backbone'],
            _NAME.fullmatch(entry['Name'])['recipe'],
            entry.get('Results', []),
            entry.get('Converted From', {}).get('Weights'),
        )
        for entry in content['Models']
    ]


# -- tables -------------------------------------------------------------------


def table_of(name: str, models: list[Model], page: Path) -> str:
    """Make the Markdown of a table, with links relative to its page.

    Raises:
        ConfigError: If there is nothing of this name.
    """
    up = '../' * (len(page.parts) - 1)
    if name in TABLES:
        return TABLES[name](models, up)
    chosen = [model for model in models if model.recipe == name]
    if not chosen:
        raise ConfigError(f'{page}: there is no recipe {name!r}.')
    return _recipe_table(chosen, up)


def _recipe_table(models: list[Model], up: str) -> str:
    """What is known of a recipe, one row a model."""
    results = [(model, result) for model in models for result in model.results]
    columns = list(
        dict.fromkeys(
            (result['Dataset'], metric, result['Source'])
            for _, result in results
            for metric in result['Metrics']
        )
    )
    several = len({dataset for dataset, _, _ in columns}) > 1
    titles = [
        f'{dataset}: {metric} ({source})'
        if several
        else f'{metric} ({source})'
        for dataset, metric, source in columns
    ]
    rows = []
    for model in models:
        values = dict.fromkeys(columns, '')
        for result in model.results:
            for metric, value in result['Metrics'].items():
                key = (result['Dataset'], metric, result['Source'])
                values[key] = _number(value)
        weights = f'[file]({model.weights})' if model.weights else ''
        rows.append(
            [_link(model, up), model.backbone, *values.values(), weights]
        )
    remarks = [
        f'Protocol of {", ".join(result["Metrics"])}: {result["Protocol"]}.'
        for _, result in results
    ]
    remarks += [
        f'`{model.name}`: {result["Note"]}.'
        for model, result in results
        if 'Note' in result
    ]
    header = ['Config', 'Backbone', *titles, "Authors' weights"]
    return _markdown(header, rows) + ''.join(
        f'\n{remark}\n' for remark in dict.fromkeys(remarks)
    )


def _overview(models: list[Model], up: str) -> str:
    """Published numbers, one row a backbone, each linked to its config."""
    numbers: dict[tuple[str, str, str], str] = {}
    for model in models:
        for result in model.results:
            if result['Source'] != 'published':
                continue
            for metric, value in result['Metrics'].items():
                numbers.setdefault(
                    (model.backbone, model.recipe, metric),
                    f'[{_number(value)}]({up}{model.config})',
                )
    rows = []
    for backbone in dict.fromkeys(model.backbone for model in models):
        for suffix, label in (('', ''), ('-scratch', ', not pre-trained')):
            cells = [
                numbers.get((backbone, recipe + suffix, metric), '')
                for recipe, metric in OVERVIEW.values()
            ]
            if any(cells):
                rows.append([backbone + label, *cells])
    return _markdown(['Backbone', *OVERVIEW], rows)


def _measured(models: list[Model], up: str) -> str:
    """What this code has reached."""
    rows, header = [], []
    for model in models:
        for result in model.results:
            if result['Source'] != 'measured':
                continue
            header = ['Config', 'Data', *result['Metrics'], 'Measured by']
            rows.append(
                [
                    _link(model, up),
                    result['Dataset'],
                    *map(_number, result['Metrics'].values()),
                    result['Measured By'],
                ]
            )
    return _markdown(header, rows)


def _initial_weights(models: list[Model], up: str) -> str:
    """The file that each backbone begins with."""
    rows = []
    for model in models:
        if model.recipe != 'ytvos-scratch':
            continue
        backbone = _NAME.fullmatch(model.name)['backbone']
        base = f'configs/_base_/models/referformer_{backbone}.py'
        (url,) = re.findall(r"'(https://\S+\.pth)'", (ROOT / base).read_text())
        name = url.rsplit('/', 1)[-1]
        rows.append(
            [model.backbone, f'[`{base}`]({up}{base})', f'[`{name}`]({url})']
        )
    return _markdown(['Backbone', 'Config', 'File'], rows)


# Tables that are not of one recipe.
TABLES = {
    'overview': _overview,
    'measured': _measured,
    'initial': _initial_weights,
}


def _link(model: Model, up: str) -> str:
    return f'[`{model.name}`]({up}{model.config})'


def _number(value: float) -> str:
    return f'{value:.1f}'


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ['---'] * len(header), *rows]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def fill(text: str, models: Iterable[Model], page: Path) -> str:
    """Put the tables between the marks of a page.

    Raises:
        ConfigError: If it has no marks, or marks nothing can fill.
    """
    models = list(models)
    if not _BLOCK.search(text):
        raise ConfigError(f'{page} has no <!-- zoo: NAME --> to fill.')
    return _BLOCK.sub(
        lambda match: (
            f'{match[1]}\n{table_of(match[2], models, page)}\n{match[3]}'
        ),
        text,
    )


def main(argv: list[str] | None = None) -> int:
    """Check the metafile and write or check the pages."""
    parser = argparse.ArgumentParser(
        description='Make the tables of the model zoo from configs/metafile.'
        'yml and model-index.yml.'
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='write nothing; fail if the metafile is wrong or a page stale',
    )
    args = parser.parse_args(argv)
    content = read_metafile()
    problems = find_problems(content)
    if not problems:
        models = models_of(content)
        for name in PAGES:
            page = ROOT / name
            old = page.read_text('utf-8')
            new = fill(old, models, Path(name))
            if args.check and new != old:
                problems.append(
                    f'{name} is stale; run tools/misc/generate_model_zoo.py.'
                )
            elif new != old:
                page.write_text(new, 'utf-8')
                print(f'{name}: written')
    for problem in problems:
        print(problem, file=sys.stderr)
    return int(bool(problems))


if __name__ == '__main__':
    run(main)
