# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Hook that counts the samples that could not be read."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from referformer.errors import ConfigError, DataError
from referformer.registry import HOOKS

# Samples that the end of the log names; the files have all of them.
_MAX_NAMED = 20


@HOOKS.register_module()
class SkippedSamplesHook(Hook):
    """Count the samples that ``on_error='skip'`` of a dataset left out.

    The sample that replaces another one carries the news (metainfo
    ``skipped``), so the count is exact for any number of workers. Each
    process writes ``<work dir>/skipped_samples/rank_<i>.jsonl``, one line a
    sample; a resumed run takes it up again. The first process reports all of
    them at the end.

    Args:
        max_share (float): Stop when more than this share of the samples of a
            process was left out, of at least one epoch. Defaults to 0.01.

    Raises:
        ConfigError: If ``max_share`` is not between 0 and 1.
    """

    def __init__(self, max_share: float = 0.01) -> None:
        if not 0 <= max_share <= 1:
            raise ConfigError(
                f'max_share is {max_share}; it must be between 0 and 1.'
            )
        self.max_share = max_share
        #: Samples left out by this process, with the reason.
        self.skipped: list[str] = []

    def before_train(self, runner: Runner) -> None:
        """Take up the file of this process as it was at this iteration."""
        folder = Path(runner.work_dir, 'skipped_samples')
        self._path = folder / f'rank_{get_rank()}.jsonl'
        entries = []
        if self._path.is_file():
            lines = self._path.read_text().splitlines(keepends=True)
            entries = [
                entry
                # the last line may have been cut
                for entry in map(json.loads, filter(_is_whole, lines))
                if entry['iteration'] <= runner.iter
            ]
            self._path.unlink()
        self.skipped = []
        for entry in entries:
            self._note(entry['iteration'], entry['skipped'])

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Count what the samples of the batch replace.

        Raises:
            DataError: If there are too many.
        """
        samples = _samples(data_batch)
        news = [
            text
            for sample in samples
            for text in getattr(sample, 'metainfo', {}).get('skipped', ())
        ]
        if not news:
            return
        for text in news:
            runner.logger.warning(f'A sample was left out: {text}')
            self._note(runner.iter + 1, text)
        seen = (runner.iter + 1) * len(samples)
        seen = max(seen, len(runner.train_dataloader) * len(samples))
        if len(self.skipped) > self.max_share * seen:
            raise DataError(
                f'{len(self.skipped)} samples of {seen} could not be read, '
                f'more than max_share={self.max_share}; the last is '
                f'{news[-1].rstrip(".")}',
                file=self._path,
                remedy='mend the data and go on with --resume, or raise '
                'default_hooks.skipped_samples.max_share.',
            )

    def after_train(self, runner: Runner) -> None:
        """Report the samples of all processes."""
        every = [
            text for own in all_gather_object(self.skipped) for text in own
        ]
        if not every:
            return
        counts = Counter(every).most_common()
        named = [f'{text} ({number}x)' for text, number in counts[:_MAX_NAMED]]
        if counts[_MAX_NAMED:]:
            named.append(f'and {len(counts) - _MAX_NAMED} others')
        runner.logger.warning(
            f'{len(every)} samples were left out, which are listed in '
            f'{self._path.parent}:\n' + '\n'.join(named)
        )

    def _note(self, iteration: int, text: str) -> None:
        """Remember a sample, also on the disk."""
        self.skipped.append(text)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open('a') as file:
            line = {'iteration': iteration, 'skipped': text}
            file.write(json.dumps(line) + '\n')


def _is_whole(line: str) -> bool:
    return line.endswith('\n')


def _samples(batch: Any) -> list[Any]:
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    return list(samples) if isinstance(samples, list | tuple) else []
