# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading the masks of JHMDB-Sentences."""

from pathlib import Path

import numpy as np

from referformer.datasets.transforms.loading import BaseLoadReferAnnotations
from referformer.formats.jhmdb import read_puppet_mask
from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadJHMDBAnnotations(BaseLoadReferAnnotations):
    """Read the mask of the actor from the video's ``puppet_mask.mat``.

    Only that of the frame ``mask_frame`` (position in the video) is read.

    Required keys: those of :class:`BaseLoadReferAnnotations`, ``frame_id`` and
    ``mask_frame``.
    """

    def open(self, results: dict) -> np.ndarray | None:
        """Return the mask of the frame, ``None`` if it is not annotated.

        Raises:
            DataError: If the file ends before the frame.
        """
        position = results['mask_frame']
        if results['frame_id'] != position:
            return None
        return read_puppet_mask(
            Path(results['mask_path']), position, results['ori_shape']
        )

    def select(
        self, source: np.ndarray, results: dict, expression: dict
    ) -> np.ndarray:
        """Return the mask: every video shows one actor."""
        return source
