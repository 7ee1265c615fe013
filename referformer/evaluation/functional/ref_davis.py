# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Ref-DAVIS17: each object is described by four annotators.

Expression ``4 * k + a`` is what annotator ``a`` says of the ``k``-th object.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from referformer.errors import DataError
from referformer.evaluation.functional.davis import VideoScores, summarize

NUM_ANNOTATORS = 4
THRESHOLD = 0.5
"""Probability below which an object is not there at all."""


def merge_objects(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Let the objects of a frame compete for its pixels.

    Args:
        probabilities (Sequence[np.ndarray]): Foreground probability of each
            object, G arrays of shape (H, W).

    Returns:
        np.ndarray: Label map, uint8, (H, W): 0, or 1 + position of the
        object that is likeliest; of equally likely ones the first.
    """
    stack = np.stack([np.asarray(p, np.float32) for p in probabilities])
    # The protocol sets probabilities below the threshold to zero and gives
    # the background 0.1 everywhere, which this is the same as.
    best = stack.argmax(axis=0)
    present = stack.max(axis=0) >= THRESHOLD
    return np.where(present, best + 1, 0).astype(np.uint8)


def annotator_folders(root: str | Path) -> list[Path]:
    """Folders of the label maps of each annotator.

    Args:
        root (str | Path): Holds ``anno_0`` to ``anno_3``, or ``valid`` with
            them in it, as the published code writes it.

    Raises:
        DataError: If one is not there.
    """
    root = Path(root)
    if (root / 'valid' / 'anno_0').is_dir():
        root = root / 'valid'
    folders = [root / f'anno_{index}' for index in range(NUM_ANNOTATORS)]
    lost = [folder.name for folder in folders if not folder.is_dir()]
    if lost:
        raise DataError(
            f'{root} lacks {", ".join(lost)}; the published protocol takes '
            'anno_<0..3>/<video>/<frame>.png, label maps of one annotator '
            'each. For <video>/<expression>/<frame>.png take the '
            'per-expression protocol.'
        )
    return folders


def summarize_annotators(
    annotators: Sequence[Mapping[str, VideoScores]],
) -> dict[str, Any]:
    """Mean over objects, then over annotators.

    Args:
        annotators (Sequence[Mapping[str, VideoScores]]): For each annotator,
            scores by the video's name.

    Returns:
        dict: ``J&F``, ``J``, ``F`` as fractions, and ``per_annotator``:
        ``anno_<i>`` -> ``J&F``, ``J``, ``F``, ``per_object``.

    Raises:
        ValueError: If there is no object at all.
    """
    per_annotator = {}
    for index, videos in enumerate(annotators):
        # Sorted, so that the order of the videos does not matter.
        summary = summarize({name: videos[name] for name in sorted(videos)})
        per_annotator[f'anno_{index}'] = {
            'J&F': summary['J&F'],
            'J': summary['J-Mean'],
            'F': summary['F-Mean'],
            'per_object': summary['per_object'],
        }
    return {**_mean(per_annotator.values()), 'per_annotator': per_annotator}


def split_annotators(
    per_expression: Mapping[str, Mapping[str, float]],
) -> dict[str, dict[str, float]]:
    """Mean of each annotator's expressions.

    Args:
        per_expression (Mapping): ``<video>/<expression>`` -> ``J``, ``F``.

    Returns:
        dict: ``anno_<i>`` -> ``J&F``, ``J``, ``F``.

    Raises:
        DataError: If the expressions are not numbered as in Ref-DAVIS17.
    """
    groups: dict[str, list[Mapping[str, float]]] = {}
    for name, entry in per_expression.items():
        number = name.rpartition('/')[2]
        if not number.isdecimal():
            raise DataError(
                f'The expression {name} has no number; in Ref-DAVIS17 number '
                '4 * k + a is what annotator a says of object k.'
            )
        key = f'anno_{int(number) % NUM_ANNOTATORS}'
        groups.setdefault(key, []).append(entry)
    return {key: _mean(groups[key]) for key in sorted(groups)}


def _mean(entries: Any) -> dict[str, float]:
    """Mean J and F of some entries."""
    entries = list(entries)
    j, f = (
        math.fsum(entry[key] for entry in entries) / len(entries)
        for key in 'JF'
    )
    return {'J&F': (j + f) / 2, 'J': j, 'F': f}
