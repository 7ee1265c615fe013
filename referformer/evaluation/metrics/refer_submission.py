# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Predictions in the form the servers of the data sets take."""

import zipfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from referformer.evaluation.functional import (
    atomic_path,
    read_expressions,
    shorten,
    write_atomic,
)
from referformer.evaluation.metrics.clip_reader import (
    frame_name,
    predicted_mask,
    read_clip,
)
from referformer.registry import METRICS

# Equal predictions shall give equal bytes, so entries carry no real time.
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


SubmissionLayout = Literal['ref-ytvos', 'mevis']
"""What the zip file begins with: ``Annotations/`` or the videos."""


@METRICS.register_module()
class ReferSubmission(BaseMetric):
    """Write masks as PNGs and pack them into a zip file; no scores.

    Every process writes the clips it predicts to
    ``<out_dir>/Annotations/<video>/<expression>/<frame>.png`` (0 =
    background, 255 = object). At the end the main process checks that all
    expressions are complete and that there is nothing else, and packs the
    tree into ``<out_dir>/submission.zip``. Files appear under their names
    only when they are whole.

    Args:
        ann_file (str): The ``meta_expressions.json`` whose videos,
            expressions and frames the submission must hold.
        out_dir (str): Folder of the tree and the zip file, seen by all
            processes. Expected to be empty or from the same data.
        exclude_ann_file (str, optional): Another expressions file, whose
            videos are not wanted. The published file of the validation split
            lists the test videos as well; name the test file here.
        layout (str): Names in the zip file: ``'ref-ytvos'``, ``Annotations/
            <video>/<expression>/<frame>.png``, or ``'mevis'``, the same
            without ``Annotations/``.
        collect_device (str): 'cpu' or 'gpu', how results are gathered.
        prefix (str, optional): Part of mmengine's interface; there are no
            scores to put it before.
        collect_dir (str, optional): Folder shared by the processes, to
            gather results on the CPU.

    Raises:
        FileNotFoundError: If an expressions file does not exist.
        ValueError: If it is not a ``meta_expressions.json``, or the layout
            is unknown.
    """

    default_prefix = 'refer'

    def __init__(
        self,
        ann_file: str,
        out_dir: str,
        exclude_ann_file: str | None = None,
        layout: SubmissionLayout = 'ref-ytvos',
        collect_device: str = 'cpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(
            collect_device=collect_device,
            prefix=prefix,
            collect_dir=collect_dir,
        )
        if layout not in get_args(SubmissionLayout):
            raise ValueError(
                f'layout={layout!r} is unknown; choose one of '
                f'{get_args(SubmissionLayout)}.'
            )
        self.layout = layout
        self.ann_file = Path(ann_file)
        self.out_dir = Path(out_dir)
        excluded = (
            read_expressions(exclude_ann_file) if exclude_ann_file else {}
        )
        self._expected: dict[tuple[str, str], frozenset[str]] = {
            (video, expression): frozenset(entry['frames'])
            for video, entry in read_expressions(ann_file).items()
            if video not in excluded
            for expression in entry['expressions']
        }

    @property
    def zip_file(self) -> Path:
        """Where the packed submission goes."""
        return self.out_dir / 'submission.zip'

    @property
    def _root(self) -> Path:
        """Folder of the tree."""
        return self.out_dir / 'Annotations'

    def _mask_file(self, video: str, expression: str, frame: str) -> Path:
        return self._root / video / expression / f'{frame}.png'

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write the masks of a batch of clips.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): ``TrackDataSample.to_dict()`` of
                each clip, with ``pred_track_instances`` in its frames.

        Raises:
            ValueError: If the expressions file does not ask for a clip or
                for one of its frames.
            KeyError: If a frame has no prediction or a meta key is missing.
        """
        written = []
        for data_sample in data_samples:
            clip = read_clip(data_sample)
            names = [
                frame_name(clip, index) for index in range(len(clip.frames))
            ]
            expected = self._expected.get((clip.video_id, clip.exp_id))
            if expected is None:
                raise ValueError(
                    f'{self.ann_file} does not list the expression '
                    f'{clip.name}; test on the data set it belongs to.'
                )
            unknown = [name for name in names if name not in expected]
            if unknown:
                raise ValueError(
                    f'{self.ann_file} does not list the frames '
                    f'{shorten(unknown)} of {clip.name}; test on the data set '
                    'it belongs to.'
                )
            for index, name in enumerate(names):
                path = self._mask_file(clip.video_id, clip.exp_id, name)
                pixels = predicted_mask(clip, index).astype(np.uint8) * 255
                done, png = cv2.imencode('.png', pixels)
                if not done:
                    raise OSError(f'{path} could not be encoded as PNG.')
                write_atomic(path, png.tobytes())
            written.append((clip.video_id, clip.exp_id, names))
        self.results.append(written)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Check that the submission is complete, then pack it.

        Args:
            results (list[list[tuple[str, str, list[str]]]]): For each batch,
                video, expression and frames of its samples.

        Returns:
            dict[str, float]: Empty: the ground truth is not here.

        Raises:
            ValueError: If something is missing or superfluous.
        """
        written: dict[tuple[str, str], set[str]] = {}
        for video, expression, names in chain.from_iterable(results):
            written.setdefault((video, expression), set()).update(names)
        self._check_results(written)
        files = {
            self._mask_file(video, expression, name)
            for (video, expression), names in self._expected.items()
            for name in names
        }
        self._check_folder(files)

        top = self.out_dir if self.layout == 'ref-ytvos' else self._root
        with (
            atomic_path(self.zip_file) as temporary,
            # PNGs are compressed already.
            zipfile.ZipFile(temporary, 'w', zipfile.ZIP_STORED) as archive,
        ):
            for path in sorted(files):
                entry = zipfile.ZipInfo(
                    path.relative_to(top).as_posix(), _ZIP_TIME
                )
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, path.read_bytes())
        MMLogger.get_current_instance().info(
            'Submission of %d expressions, %d masks: %s',
            len(self._expected),
            len(files),
            self.zip_file,
        )
        return {}

    def _check_results(self, written: dict[tuple[str, str], set[str]]) -> None:
        """Raise unless every expression and frame was predicted."""
        lost = sorted(self._expected.keys() - written.keys())
        if lost:
            names = [f'{video}/{expression}' for video, expression in lost]
            raise ValueError(
                f'{len(lost)} of {len(self._expected)} expressions of '
                f'{self.ann_file} were not predicted: '
                f'{shorten(names)}; no zip file was written. Test on the '
                'whole data set, or name videos that do not belong to it in '
                'exclude_ann_file.'
            )
        short = [
            f'{video}/{expression}/{name}.png'
            for (video, expression), names in sorted(self._expected.items())
            for name in sorted(names - written[video, expression])
        ]
        if short:
            raise ValueError(
                f'{len(short)} frames of {self.ann_file} were not '
                f'predicted: {shorten(short)}; no zip file was written. Test '
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
        unseen = sorted(files - present)
        if unseen:
            raise ValueError(
                f'{len(unseen)} masks are not in {root} though they were '
                f'written: {shorten(map(str, unseen))}; all processes must '
                'share the folder.'
            )
        stale = sorted(present - files)
        if stale:
            raise ValueError(
                f'{len(stale)} files in {root} do not belong to '
                f'{self.ann_file}: {shorten(map(str, stale))}; no zip '
                'file was written. Empty the folder or choose another out_dir.'
            )
