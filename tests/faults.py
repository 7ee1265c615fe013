# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The table of planted faults.

A test that breaks something on purpose says what it breaks and what it
checks::

    @fault(CHECKPOINTS, 'the newest file is truncated', 'the one before ...')
    def test_a_truncated_file(tmp_path): ...

    @pytest.mark.parametrize(
        'content',
        [pytest.param(b'', marks=fault(FILES, 'an empty file', '...'))],
    )
    def test_a_damaged_file(content): ...

``tests/test_faults.py`` collects them into docs/reliability.md. So every row
of the page has its test; ``pytest -m fault`` runs them all.
"""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

NUMBERS = 'Numbers'
CHECKPOINTS = 'Checkpoints'
DISK = 'Disk'
PROCESSES = 'Signals and processes'
NETWORK = 'Several machines'
DATA = 'Data sets'
FILES = 'Files'
CONFIGS = 'Configs and options'
SAFETY = 'Files of strangers'
#: The sections of the page, in their order.
AREAS = (
    NUMBERS,
    CHECKPOINTS,
    DISK,
    PROCESSES,
    NETWORK,
    DATA,
    FILES,
    CONFIGS,
    SAFETY,
)

ROOT = Path(__file__).parents[1]


class Fault(NamedTuple):
    """A row of the table."""

    area: str
    what: str
    answer: str
    file: str
    """Of the test, relative to the repository."""


def fault(area: str, what: str, answer: str) -> pytest.MarkDecorator:
    """Mark a test, or a parameter of one.

    Args:
        area: One of ``AREAS``.
        what: What is broken.
        answer: What the test checks that the program does then.
    """
    if area not in AREAS:
        raise ValueError(f'{area!r} is no section of the page')
    for text in (what, answer):
        if not text or '\n' in text:
            raise ValueError(f'{text!r} is not one line')
    return pytest.mark.fault(area, what, answer)


def planted_faults() -> list[Fault]:
    """All faults that tests plant, in the order of the page."""
    found = []
    for path in sorted(ROOT.glob('tests/**/test_*.py')):
        if 'from tests.faults import' not in path.read_text():
            continue
        file = path.relative_to(ROOT)
        module = importlib.import_module('.'.join(file.with_suffix('').parts))
        for test in _tests_of(module):
            rows = [mark.args for mark in _marks_of(test)]
            found += [Fault(*row, file=file.as_posix()) for row in rows]
    return sorted(found, key=lambda row: AREAS.index(row.area))


def _tests_of(module: ModuleType) -> Iterator[Callable]:
    places = [module]
    places += [
        value
        for name, value in vars(module).items()
        if name.startswith('Test') and value.__module__ == module.__name__
    ]
    for place in places:
        for name, value in vars(place).items():
            if name.startswith('test_') and callable(value):
                yield value


def _marks_of(test: Callable) -> Iterator[pytest.Mark]:
    """Marks ``fault`` of a test and of its parameters, as written."""
    # the decorator that is nearest to the function comes first
    for mark in reversed(getattr(test, 'pytestmark', [])):
        if mark.name == 'fault':
            yield mark
        elif mark.name == 'parametrize':
            for value in mark.args[1]:
                for inner in getattr(value, 'marks', ()):
                    if inner.name == 'fault':
                        yield inner
