# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the data doctor may find, and its report."""

import json
import textwrap
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from referformer.datasets.doctor.problems import LEVELS, PROBLEMS
from referformer.formats.frames import natural_key

_SHOWN = 3
_INDENT = ' ' * 9


class Observation(NamedTuple):
    """One fault in one place.

    Attributes:
        code: A key of :data:`PROBLEMS`.
        path: File or folder, relative to the root where possible.
        detail: What is particular about it, possibly nothing.
    """

    code: str
    path: str
    detail: str = ''

    def __str__(self) -> str:
        return f'{self.path}: {self.detail}' if self.detail else self.path


class Finding(NamedTuple):
    """All faults of one kind.

    Attributes:
        level: One of :data:`LEVELS`.
        code: A key of :data:`PROBLEMS`.
        message: What is wrong, and what helps.
        path: Where it was found first.
        count: How often.
        examples: The first places, with details.
    """

    level: str
    code: str
    message: str
    path: str
    count: int
    examples: tuple[str, ...]


class Report:
    """Collects what is found.

    Args:
        title: What was examined.
        root: The folder; paths are shown relative to it.
    """

    def __init__(self, title: str, root: Path) -> None:
        self.title = title
        self.root = root
        self.counts: dict[str, int] = {}
        # Datasets of several splits may read the same file.
        self._seen: set[Observation] = set()

    def add(self, code: str, path: str | Path, detail: str = '') -> None:
        """Note a fault; ``code`` is a key of :data:`PROBLEMS`."""
        path = Path(path)
        if path != self.root and path.is_relative_to(self.root):
            path = path.relative_to(self.root)
        detail = detail.replace(f'{self.root}/', '')
        self._seen.add(Observation(code, path.as_posix(), detail))

    def extend(self, observations: Iterable[Observation]) -> None:
        """Note several faults."""
        for observation in observations:
            self.add(*observation)

    def findings(self) -> list[Finding]:
        """The faults by kind, the gravest first."""
        lost = {o.path for o in self._seen if o.code.endswith('-missing')}
        folders = {o.path for o in self._seen if o.code == 'folder-missing'}
        by_code: dict[str, list[Observation]] = defaultdict(list)
        # Processes report in any order; the report is always the same.
        for o in sorted(
            self._seen,
            key=lambda o: (natural_key(o.path), natural_key(o.detail)),
        ):
            # Files in a missing folder are not reported again.
            if lost.isdisjoint(map(str, PurePosixPath(o.path).parents)) and (
                o.path not in folders or o.code == 'folder-missing'
            ):
                by_code[o.code].append(o)
        found = []
        for code, (level, text) in PROBLEMS.items():
            if seen := by_code[code]:
                examples = tuple(map(str, seen[:_SHOWN]))
                place = seen[0].path
                found.append(
                    Finding(level, code, text, place, len(seen), examples)
                )
        return found

    @property
    def failed(self) -> bool:
        """Whether training or scoring would be wrong."""
        return any(f.level == 'error' for f in self.findings())

    def text(self) -> str:
        """The report as text."""
        counts = ', '.join(f'{n} {what}' for what, n in self.counts.items())
        lines = [f'{self.title} in {self.root}', counts or 'nothing read', '']
        findings = self.findings()
        numbers = dict.fromkeys(LEVELS, 0)
        for finding in findings:
            numbers[finding.level] += finding.count
            times = f'  x {finding.count}' if finding.count > 1 else ''
            lines.append(f'{finding.level:8} {finding.code}{times}')
            text = textwrap.fill(finding.message, 79 - len(_INDENT))
            lines.append(textwrap.indent(text, _INDENT))
            lines += [f'{_INDENT}- {example}' for example in finding.examples]
            more = finding.count - len(finding.examples)
            lines += [f'{_INDENT}- and {more} more'] if more else []
            lines.append('')
        said = ', '.join(
            f'{n} {level}{"s" if n > 1 else ""}'
            for level, n in numbers.items()
            if n
        )
        verdict = 'usable'
        if numbers['error']:
            verdict = 'training or scoring would be wrong'
        lines.append(f'{said or "Nothing found"}: {verdict}.')
        return '\n'.join(lines)

    def json(self) -> str:
        """The report as JSON."""
        return json.dumps(
            {
                'title': self.title,
                'root': str(self.root),
                'counts': self.counts,
                'usable': not self.failed,
                'findings': [f._asdict() for f in self.findings()],
            },
            indent=2,
            ensure_ascii=False,
        )
