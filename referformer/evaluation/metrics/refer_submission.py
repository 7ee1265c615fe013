# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Predictions in the form the servers of the data sets take."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from referformer.errors import DataError, check_choice
from referformer.evaluation.metrics.predicted_clip import (
    PredictedClip,
    read_clip,
)
from referformer.formats.expressions import (
    read_expressions,
    read_video_table,
)
from referformer.formats.label_maps import write_binary_mask
from referformer.formats.predictions import pack_masks
from referformer.formats.records import write_records
from referformer.formats.text_files import read_json
from referformer.formats.tracks import encode_track
from referformer.registry import METRICS
from referformer.utils.cli import current_set_name
from referformer.utils.console import shorten

SubmissionLayout = Literal['ref-youtube-vos', 'mevis']
"""What the zip file begins with: ``Annotations/`` or the videos."""
SubmissionForm = Literal['zip', 'json', 'jsonl']
"""A zip file of PNGs, or one file of run-length codes."""


@METRICS.register_module()
class ReferSubmission(BaseMetric):
    """Write masks and pack them into one file; no scores.

    Every process writes the clips it predicts to
    ``<out_dir>/Annotations/<video>/<expression>/<frame>.png`` (0 =
    background, 255 = object) or, run-length encoded, to ``<video>/
    <expression>.json``. At the end the main process checks that all
    expressions are complete and that there is nothing else, and packs the
    tree into ``<out_dir>/submission.zip`` or ``submission.json``. Files
    appear under their names only when they are whole.

    Args:
        ann_file (str): The ``meta_expressions.json`` whose videos,
            expressions and frames the submission must hold.
        out_dir (str): Folder of the tree and the packed file, seen by all
            processes. Expected to be empty or from the same data.
        exclude_ann_file (str, optional): Another expressions file, whose
            videos are not wanted. The published file of the validation split
            lists the test videos as well; name the test file here.
        layout (str): Names in the zip file: ``'ref-youtube-vos'``,
            ``Annotations/<video>/<expression>/<frame>.png``, or ``'mevis'``,
            the same without ``Annotations/``.
        form (str): ``'zip'``, a zip file of PNGs; ``'json'``, a list of
            run-length codes as :mod:`referformer.formats.tracks` has
            it, or ``'jsonl'``, the same with one expression a line.
        **kwargs: Arguments of mmengine's ``BaseMetric``.

    Raises:
        DataError: If an expressions file does not exist or is not a
            ``meta_expressions.json``.
        ConfigError: If the layout or the form is unknown.
    """

    default_prefix = 'refer'

    def __init__(
        self,
        ann_file: str,
        out_dir: str,
        exclude_ann_file: str | None = None,
        layout: SubmissionLayout = 'ref-youtube-vos',
        form: SubmissionForm = 'zip',
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        layout = current_set_name(layout)
        check_choice('layout', layout, get_args(SubmissionLayout))
        check_choice('form', form, get_args(SubmissionForm))
        self.layout = layout
        self.form = form
        self.ann_file = Path(ann_file)
        self.out_dir = Path(out_dir)
        self.out_file = self.out_dir / f'submission.{form}'
        self._root = self.out_dir / 'Annotations'
        excluded = (
            read_video_table(exclude_ann_file, 'videos to leave out')
            if exclude_ann_file
            else {}
        )
        self._expected: dict[tuple[str, str], tuple[str, ...]] = {
            (video, expression): tuple(entry['frames'])
            for video, entry in read_expressions(ann_file).items()
            if video not in excluded
            for expression in entry['expressions']
        }

    def _files(self, video: str, expression: str) -> list[Path]:
        """Files of an expression: one for each frame, or one for all."""
        folder = self._root / video
        if self.form != 'zip':
            return [folder / f'{expression}.json']
        frames = self._expected[video, expression]
        return [folder / expression / f'{frame}.png' for frame in frames]

    def _write(self, clip: PredictedClip, names: Sequence[str]) -> None:
        """Write the masks of a clip with frames of these names."""
        key = clip.video_id, clip.exp_id
        frames, files = self._expected[key], self._files(*key)
        indices = {name: index for index, name in enumerate(names)}
        if self.form == 'zip':
            for frame, file in zip(frames, files, strict=True):
                if frame in indices:
                    write_binary_mask(file, clip.mask(indices[frame]))
            return
        lost = [frame for frame in frames if frame not in indices]
        if lost:
            # A later piece of the video would replace this one.
            raise DataError(
                f'{len(lost)} frames of {clip.name} were not predicted: '
                f'{shorten(lost)}; test on whole videos.'
            )
        masks = (clip.mask(indices[frame]) for frame in frames)
        entry = encode_track(*key, masks, clip.score)
        write_records(files[0], [entry])

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write the masks of a batch of clips.

        Raises:
            DataError: If the expressions file does not ask for a clip or
                for one of its frames.
            ConfigError: If a frame has no prediction or a meta key is
                missing.
        """
        written = []
        for data_sample in data_samples:
            clip = read_clip(data_sample)
            names = [clip.frame_name(t) for t in range(len(clip.frames))]
            key = clip.video_id, clip.exp_id
            expected = self._expected.get(key, ())
            unknown = [name for name in names if name not in expected]
            if unknown:
                what = (
                    f'frames {shorten(unknown)} of'
                    if key in self._expected
                    else 'expression'
                )
                raise DataError(
                    f'{self.ann_file} does not list the {what} {clip.name}; '
                    'test on the data set it belongs to.'
                )
            self._write(clip, names)
            written.append((*key, names))
        self.results.append(written)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Check that the submission is complete, then pack it.

        Returns:
            dict[str, float]: Empty: the ground truth is not here.

        Raises:
            DataError: If something is missing or superfluous.
        """
        written: dict[tuple[str, str], set[str]] = {}
        for video, expression, names in chain.from_iterable(results):
            written.setdefault((video, expression), set()).update(names)
        self._check_results(written)
        files = [file for key in self._expected for file in self._files(*key)]
        self._check_folder(set(files))
        if self.form == 'zip':
            top = (
                self.out_dir
                if self.layout == 'ref-youtube-vos'
                else self._root
            )
            pack_masks(self.out_file, top, files)
        else:
            entries = (entry for file in files for entry in read_json(file))
            write_records(self.out_file, entries)
        number = sum(map(len, self._expected.values()))
        MMLogger.get_current_instance().info(
            f'Submission of {len(self._expected)} expressions, {number} '
            f'masks: {self.out_file}'
        )
        return {}

    def _check_results(self, written: dict[tuple[str, str], set[str]]) -> None:
        """Raise unless every expression and frame was predicted."""
        lost = sorted(self._expected.keys() - written.keys())
        if lost:
            raise DataError(
                f'{len(lost)} of {len(self._expected)} expressions of '
                f'{self.ann_file} were not predicted: '
                f'{shorten(map("/".join, lost))}; nothing was packed. '
                'Test on the whole data set, or name videos that do not '
                'belong to it in exclude_ann_file.'
            )
        short = [
            f'{video}/{expression}/{name}.png'
            for (video, expression), names in sorted(self._expected.items())
            for name in names
            if name not in written[video, expression]
        ]
        if short:
            raise DataError(
                f'{len(short)} frames of {self.ann_file} were not '
                f'predicted: {shorten(short)}; nothing was packed. Test '
                'on whole videos.'
            )

    def _check_folder(self, files: set[Path]) -> None:
        """Raise unless the tree on disk is exactly the submission."""
        root = self._root
        present = {
            path
            for path in root.rglob('*')
            if path.is_file() and not path.name.startswith('.')
        }
        unseen = [*map(str, sorted(files - present))]
        if unseen:
            raise DataError(
                f'{len(unseen)} masks are not in {root} though they were '
                f'written: {shorten(unseen)}; all processes must share the '
                'folder.'
            )
        stale = [*map(str, sorted(present - files))]
        if stale:
            raise DataError(
                f'{len(stale)} files in {root} do not belong to '
                f'{self.ann_file}: {shorten(stale)}; nothing was packed. '
                'Empty the folder or choose another out_dir.'
            )
