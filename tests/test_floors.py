# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The package's imports keep to the floors of docs/architecture.md."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'referformer'
MODULES = sorted(PACKAGE.rglob('*.py'))
# what may not be needed to read files and to score predictions
HEAVY = ('torch', 'torchvision', 'mmcv', 'mmdet', 'mmengine', 'transformers')
WITHOUT_HEAVY = ('formats', 'evaluation/functional')


class Import(NamedTuple):
    """One import statement.

    Attributes:
        line: Line of the statement.
        module: Dotted name of the module, without ``referformer.``; empty
            for the package itself.
    """

    line: int
    module: str


def read_floors() -> dict[str, int]:
    """Rooms and their floors, the highest with the greatest number."""
    text = (ROOT / 'docs/architecture.md').read_text()
    section = text.split('\n## Floors\n')[1].split('\n## ')[0]
    rows = [line for line in section.splitlines() if line.startswith('| ')]
    floors = [re.findall(r'`([\w/.]+)`', row) for row in rows[2:]]
    return {
        room: floor
        for floor, rooms in enumerate(reversed(floors))
        for room in rooms
    }


FLOORS = read_floors()


def room_of(path: str) -> str | None:
    """The room of a path below ``referformer/``; None without one."""
    parents = [path, *(str(parent) for parent in Path(path).parents)]
    return next((place for place in parents if place in FLOORS), None)


def target_of(module: str) -> str | None:
    """The room of a dotted name below ``referformer``."""
    path = module.replace('.', '/')
    return room_of(f'{path}.py' if path else '__init__.py') or room_of(path)


def is_module(name: str) -> bool:
    path = ROOT / name.replace('.', '/')
    return path.is_dir() or path.with_suffix('.py').is_file()


def imports_of(source: str) -> Iterator[Import]:
    """Imports of the package or of what stands above it, in any scope."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'line {node.lineno}: relative import'
            # `from package import name`: a name may be a module itself
            names = [
                full if is_module(full) else node.module
                for full in (f'{node.module}.{a.name}' for a in node.names)
            ]
        else:
            continue
        for name in names:
            top, _, rest = name.partition('.')
            if top == 'referformer':
                yield Import(node.lineno, rest)
            assert top not in ('tools', 'projects', 'tests', 'configs'), (
                f'line {node.lineno}: {name} stands above the package'
            )


def arrows_up(path: str, source: str) -> list[tuple[int, str]]:
    """Lines of a file that import from its own floor or above, and whence."""
    own = room_of(path)
    return [
        (line, target)
        for line, module in imports_of(source)
        if (target := target_of(module)) != own
        and (target is None or FLOORS[target] >= FLOORS[own])
    ]


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_every_room_has_a_floor():
    # the folder of evaluation holds two rooms and no code
    assert not list(
        imports_of((PACKAGE / 'evaluation/__init__.py').read_text())
    )
    homeless = {relative(p) for p in MODULES if not room_of(relative(p))}
    assert homeless == {'evaluation/__init__.py'}
    assert all((PACKAGE / room).exists() for room in FLOORS)


@pytest.mark.parametrize('room', FLOORS)
def test_imports_go_down(room):
    found = {
        f'{name}:{line}': target
        for path in MODULES
        if room_of(name := relative(path)) == room
        for line, target in arrows_up(name, path.read_text())
    }
    assert not found


@pytest.mark.parametrize(
    ('path', 'source', 'found'),
    [
        ('formats/rle.py', 'import referformer.errors', []),
        ('formats/rle.py', 'from referformer import errors', []),
        ('formats/rle.py', 'from referformer.formats import coco', []),
        (
            'formats/rle.py',
            'def f():\n    from referformer.models import HFTextEncoder',
            [(2, 'models')],
        ),
        # neighbours do not know each other
        (
            'datasets/mevis.py',
            'from referformer import models',
            [(1, 'models')],
        ),
        (
            'evaluation/functional/segm.py',
            'import referformer.evaluation.metrics.refer_vos_metric as m',
            [(1, 'evaluation/metrics')],
        ),
        ('utils/seeding.py', 'import referformer', [(1, '__init__.py')]),
    ],
)
def test_arrows_up_are_noticed(path, source, found):
    assert arrows_up(path, source) == found


def test_what_stands_above_is_noticed():
    with pytest.raises(AssertionError, match='above the package'):
        arrows_up('apis/inferencer.py', 'from tools import train')


@pytest.mark.parametrize('room', WITHOUT_HEAVY)
def test_room_loads_without_torch(room):
    names = [
        f'referformer.{relative(path).removesuffix(".py").replace("/", ".")}'
        for path in MODULES
        if room_of(relative(path)) == room
    ]
    assert len(names) > 5
    code = f"""
import importlib, sys
for name in {HEAVY}:
    sys.modules[name] = None  # an import of it fails
for name in {names}:
    importlib.import_module(name.removesuffix('.__init__'))
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
