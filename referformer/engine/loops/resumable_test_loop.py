# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Test loop that continues an interrupted test."""

import json
import os
import shutil
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner, TestLoop
from torch.utils.data import DataLoader

from referformer.evaluation.metrics.threads import finished
from referformer.registry import (
    DATASETS,
    LOOPS,
    METRICS,
    MODELS,
    TASK_UTILS,
    TRANSFORMS,
)
from referformer.version import __version__

_PACKAGE = Path(__file__).parents[2]
_REGISTRIES = (MODELS, DATASETS, TRANSFORMS, METRICS, TASK_UTILS)


class Finished(NamedTuple):
    """A batch that was predicted and scored.

    Attributes:
        items (list[str]): Names of its items.
        results (list[list]): For each metric, its intermediate results.
    """

    items: list[str]
    results: list[list]


def item_name(item: Any) -> str:
    """Name an item of a test dataset, the same before and after loading.

    Args:
        item (Any): A dict of the dataset, or a data sample.

    Returns:
        str: Its subset, if there are several, its video and, unless it has
        all expressions, its expression.
    """
    facts = (item.get(key) for key in ('subset', 'video_id', 'exp_id'))
    return json.dumps([str(fact) for fact in facts if fact is not None])


class Journal:
    """Finished batches on disk, one line of JSON each.

    A process appends to a file of its own; a line that was cut off by an
    interruption does not count. Numbers come back bit by bit. A batch whose
    scores are still being computed in the background waits for its turn.

    Args:
        folder (Path): Where the files lie.
        fingerprint (str): Digest of what the results depend on. Files with
            another one are removed from the folder.
        fresh (bool): Whether to remove everything.
    """

    def __init__(
        self, folder: Path, fingerprint: str, fresh: bool = False
    ) -> None:
        self.folder = folder
        self._file: Any = None
        self._waiting: deque[Finished] = deque()
        stamp = folder / 'fingerprint'
        if is_main_process():
            known = stamp.is_file() and stamp.read_text() == fingerprint
            if folder.is_dir() and (fresh or not known):
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
            stamp.write_text(fingerprint)
        barrier()

    def read(self) -> list[Finished]:
        """Return what was finished before."""
        entries = []
        for path in sorted(self.folder.glob('*.jsonl')):
            for line in path.read_text(encoding='utf-8').splitlines():
                try:
                    entries.append(Finished(*json.loads(line)))
                except (ValueError, TypeError):
                    continue  # cut off while it was written
        return entries

    def append(self, entry: Finished) -> None:
        """Write a batch as soon as it is finished.

        Args:
            entry (Finished): Its results may be of
                :class:`concurrent.futures.Future`.

        Raises:
            TypeError: If the results of a metric are not JSON.
            Exception: What a metric raised in the background.
        """
        self._waiting.append(entry)
        self.flush()

    def flush(self) -> None:
        """Write what was finished in the background, see :meth:`append`."""
        while self._waiting and not any(
            isinstance(result, Future) and not result.done()
            for results in self._waiting[0].results
            for result in results
        ):
            entry = self._waiting.popleft()
            results = [[*map(finished, r)] for r in entry.results]
            self._write(entry._replace(results=results))

    def _write(self, entry: Finished) -> None:
        line = json.dumps(entry, ensure_ascii=False)
        if self._file is None:
            # never a file of an earlier run: its last line may be cut off
            number = 0
            while self._file is None:
                try:
                    path = self.folder / f'{number:04d}.jsonl'
                    self._file = path.open('x', encoding='utf-8')
                except FileExistsError:
                    number += 1
        self._file.write(line + '\n')
        self._file.flush()

    def close(self) -> None:
        """Close the file of this process."""
        if self._file is not None:
            self._file.close()
            self._file = None


@LOOPS.register_module()
class ResumableTestLoop(TestLoop):
    """Test, and on repetition predict only what is missing.

    After each batch, the intermediate results of the metrics are appended to
    a file. An interrupted run leaves these files behind; the next run of the
    same model, checkpoint, dataset and metrics takes them over and predicts
    the other items only. The score is the same. When the score is known, the
    files are removed. A change of the config, of an annotation file or of the
    source code (this package, and the modules of other classes that the
    config names) makes the next run predict everything again.

    The intermediate results of metrics must be JSON, in which tuples become
    lists; those of this package are. With other metrics, the log has a warning
    and the test cannot be continued.

    Args:
        runner (Runner): The runner.
        dataloader (DataLoader | dict): The items.
        evaluator (Evaluator | dict | list): The metrics.
        progress_dir (str, optional): Folder for the notes, seen by all
            processes. Defaults to None: ``test_progress`` in the work
            directory.
        fresh (bool): Whether to predict everything again. Defaults to False.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        evaluator: Evaluator | dict | list,
        progress_dir: str | None = None,
        fresh: bool = False,
    ) -> None:
        self.journal: Journal | None = None
        self.finished: list[Finished] = []
        if isinstance(dataloader, Mapping):
            dataloader = dict(dataloader)
            if isinstance(dataloader['dataset'], Mapping):
                parts = [dataloader['dataset'], evaluator]
                dataset = DATASETS.build(dataloader['dataset'])
                dataloader['dataset'] = dataset
                # other datasets may lack unique item names
                names = _names(dataset)
                if len(set(names)) == len(dataset):
                    folder = Path(runner.work_dir, 'test_progress')
                    self.journal = Journal(
                        Path(progress_dir or folder),
                        _fingerprint(runner, parts, names),
                        fresh,
                    )
                    self._skip_finished(runner, dataloader, names)
        super().__init__(runner, dataloader, evaluator)
        self.taking_notes = self.journal is not None

    def _skip_finished(
        self, runner: Runner, dataloader: dict, names: Sequence[str]
    ) -> None:
        """Take over the results of an earlier run and leave its items out."""
        done: list = [None]
        if is_main_process():
            self.finished = self.journal.read()
            done = [{n for entry in self.finished for n in entry.items}]
        broadcast_object_list(done)
        left = [i for i, name in enumerate(names) if name not in done[0]]
        if len(left) < len(names):
            dataloader['sampler'] = dict(
                type='referformer.RemainingSampler', indices=left
            )
            runner.logger.warning(
                f'{len(names) - len(left)} of {len(names)} items were '
                f'finished before (noted in {self.journal.folder}), '
                f'{len(left)} are left; --fresh predicts all again'
            )

    def run(self) -> dict:
        """Test what is left and score everything."""
        # the results of all processes are gathered: one contributes them
        for entry in self.finished:
            for metric, results in zip(
                self.evaluator.metrics, entry.results, strict=True
            ):
                metric.results.extend(results)
        try:
            metrics = super().run()
        finally:
            if self.journal is not None:
                # An error that ended the test is being raised already.
                with suppress(Exception):
                    self.journal.flush()
                self.journal.close()
        if self.journal is not None:
            barrier()
            if is_main_process():
                shutil.rmtree(self.journal.folder, ignore_errors=True)
        return metrics

    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Predict and score a batch, then append it to the journal."""
        before = [len(metric.results) for metric in self.evaluator.metrics]
        super().run_iter(idx, data_batch)
        if not self.taking_notes:
            return
        results = [
            metric.results[start:]
            for metric, start in zip(
                self.evaluator.metrics, before, strict=True
            )
        ]
        names = [item_name(sample) for sample in data_batch['data_samples']]
        try:
            self.journal.append(Finished(names, results))
        except TypeError as error:
            self.runner.logger.warning(
                f'The results of a metric are not JSON ({error}); '
                'if interrupted, this test starts anew.'
            )
            self.taking_notes = False


def _names(dataset: Sized) -> list[str]:
    """Names of all items; none if the dataset does not tell them."""
    if hasattr(dataset, 'item_id'):
        items = (dataset.item_id(i)._asdict() for i in range(len(dataset)))
    elif hasattr(dataset, 'get_data_info'):
        items = (dataset.get_data_info(i) for i in range(len(dataset)))
    else:
        items = ()
    return [item_name(item) for item in items]


def _fingerprint(
    runner: Runner, parts: Sequence[Any], names: Sequence[str]
) -> str:
    """Digest of everything that the results of the metrics depend on."""
    model, dataset = runner.cfg.get('model'), parts[0]
    files = {
        str(Path(str(runner._load_from)).resolve()),
        *map(str, _PACKAGE.rglob('*.py')),
        *_source_files([model, *parts]),
        *_data_files(dataset),
    }
    settings = model, runner._load_from, *parts
    facts = [__version__, *map(str, settings), *names]
    for file in sorted(filter(os.path.isfile, files)):
        stat = Path(file).stat()
        facts.append([file, stat.st_size, stat.st_mtime_ns])
    return sha256(json.dumps(facts).encode()).hexdigest()


def _source_files(part: Any) -> Iterator[str]:
    """Yield the modules of the classes that a part of a config names."""
    if isinstance(part, Mapping):
        kind = part.get('type')
        if isinstance(kind, str):
            found = (registry.get(kind) for registry in _REGISTRIES)
            kind = next(filter(None, found), None)
        module = sys.modules.get(getattr(kind, '__module__', None))
        yield getattr(module, '__file__', None) or ''
        part = list(part.values())
    if isinstance(part, list | tuple):
        for value in part:
            yield from _source_files(value)


def _data_files(part: Any, root: str = '') -> Iterator[str]:
    """Yield what may be files in the config of a dataset: annotations."""
    if isinstance(part, str):
        yield str(Path(root, part))
    elif isinstance(part, Mapping):
        root = part.get('data_root') or root
        part = list(part.values())
    if isinstance(part, list | tuple):
        for value in part:
            yield from _data_files(value, root)
