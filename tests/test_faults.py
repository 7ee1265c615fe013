# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""docs/reliability.md lists the faults that tests plant.

``python -m tests.test_faults`` writes the table.
"""

from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest

from tests.faults import FILES, fault, planted_faults

PAGE = Path(__file__).parents[1] / 'docs' / 'reliability.md'
MARK = '<!-- generated -->\n'


def _table():
    """Return the generated part of the page."""
    lines = []
    for area, faults in groupby(planted_faults(), lambda row: row.area):
        lines += [
            f'\n### {area}\n',
            '| What is broken | What happens | Test |',
            '|---|---|---|',
        ]
        for row in faults:
            what, answer = (
                text.replace('|', '\\|') for text in (row.what, row.answer)
            )
            name = Path(row.file).stem
            link = f'[{name}](../{row.file})'
            lines.append(f'| {what} | {answer} | {link} |')
    return '\n'.join(lines) + '\n'


def test_the_page_lists_what_tests_plant():
    _, written = PAGE.read_text().split(MARK)
    assert written == _table(), 'run: python -m tests.test_faults'


def test_every_fault_is_listed_once():
    rows = Counter((row.area, row.what) for row in planted_faults())
    assert [row for row, count in rows.items() if count > 1] == []


@pytest.mark.parametrize(
    ('area', 'what'), [('Others', 'x'), (FILES, ''), (FILES, 'x\ny')]
)
def test_a_row_is_two_lines_of_a_known_section(area, what):
    with pytest.raises(ValueError, match='is no'):
        fault(area, what, 'a sentence')


def main():
    """Write the generated part of the page."""
    text, _ = PAGE.read_text().split(MARK)
    PAGE.write_text(text + MARK + _table())


if __name__ == '__main__':
    main()
