# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the data doctor may find, and how it is told."""

import json
import textwrap
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
        self._seen: dict[str, dict[Observation, None]] = {}

    def relative(self, path: str | Path) -> str:
        """A path as it is shown."""
        path = Path(path)
        if path != self.root and path.is_relative_to(self.root):
            path = path.relative_to(self.root)
        return path.as_posix()

    def add(self, code: str, path: str | Path, detail: str = '') -> None:
        """Note a fault.

        Raises:
            KeyError: If the code is not in :data:`PROBLEMS`.
        """
        PROBLEMS[code]
        detail = detail.replace(f'{self.root}/', '')
        observation = Observation(code, self.relative(path), detail)
        # Datasets of several splits may read the same file.
        self._seen.setdefault(code, {})[observation] = None

    def extend(self, observations: Iterable[Observation]) -> None:
        """Note several faults."""
        for observation in observations:
            self.add(*observation)

    def count(self, what: str, amount: int) -> None:
        """Count what was looked at."""
        self.counts[what] = self.counts.get(what, 0) + amount

    def findings(self) -> list[Finding]:
        """The faults by kind, the gravest first."""
        found = []
        lost = {
            observation.path
            for code, seen in self._seen.items()
            if code.endswith('-missing')
            for observation in seen
        }
        folders = {o.path for o in self._seen.get('folder-missing', ())}
        for code, (level, message) in PROBLEMS.items():
            # Processes report in any order; the report is always the same.
            # What a missing folder lacks is not told again.
            seen = [
                o
                for o in self._seen.get(code, ())
                if lost.isdisjoint(map(str, PurePosixPath(o.path).parents))
                and (o.path not in folders or code == 'folder-missing')
            ]
            seen.sort(key=lambda o: (*map(natural_key, (o.path, o.detail)),))
            if seen:
                examples = tuple(map(str, seen[:_SHOWN]))
                found.append(
                    Finding(
                        level,
                        code,
                        message,
                        seen[0].path,
                        len(seen),
                        examples,
                    )
                )
        return sorted(found, key=lambda f: LEVELS.index(f.level))

    @property
    def failed(self) -> bool:
        """Whether training or scoring would be wrong."""
        return any(f.level == 'error' for f in self.findings())

    def text(self) -> str:
        """The report for people."""
        counts = ', '.join(f'{n} {what}' for what, n in self.counts.items())
        lines = [f'{self.title} in {self.root}', counts or 'nothing read', '']
        findings = self.findings()
        for finding in findings:
            times = f'  x {finding.count}' if finding.count > 1 else ''
            lines.append(f'{finding.level:8} {finding.code}{times}')
            lines += textwrap.wrap(
                finding.message,
                width=79,
                initial_indent=_INDENT,
                subsequent_indent=_INDENT,
            )
            lines += [f'{_INDENT}- {example}' for example in finding.examples]
            more = finding.count - len(finding.examples)
            if more:
                lines.append(f'{_INDENT}- and {more} more')
            lines.append('')
        lines.append(self._verdict(findings))
        return '\n'.join(lines)

    @staticmethod
    def _verdict(findings: list[Finding]) -> str:
        numbers = {
            level: sum(f.count for f in findings if f.level == level)
            for level in LEVELS
        }
        said = ', '.join(
            f'{n} {level}{"s" if n > 1 else ""}'
            for level, n in numbers.items()
            if n
        )
        if numbers['error']:
            return f'{said}: training or scoring would be wrong.'
        return f'{said}: usable.' if said else 'Nothing found: usable.'

    def json(self) -> str:
        """The report for programs."""
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
