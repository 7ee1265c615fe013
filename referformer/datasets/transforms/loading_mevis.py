# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Reading the masks of MeViS."""

import numpy as np

from referformer.datasets.transforms.loading import BaseLoadReferAnnotations
from referformer.formats.mask_dict import (
    MaskTable,
    open_mask_table,
)
from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadMeViSAnnotations(BaseLoadReferAnnotations):
    """Read the union of the objects meant from ``mask_dict.json``.

    Required keys: ``mask_path`` (the table, ``None`` without ground truth),
    ``frame_id``, ``anno_ids``, ``label``, ``ori_shape``. Added keys: those of
    :class:`BaseLoadReferAnnotations`.
    """

    def open(self, results: dict) -> MaskTable | None:
        """Return the table, opened once a process."""
        if results['mask_path'] is None:
            return None
        return open_mask_table(results['mask_path'])

    def select(
        self, source: MaskTable, results: dict, expression: dict
    ) -> np.ndarray:
        """Return the union of the masks an expression means.

        Raises:
            DataError: If a mask is unreadable or has another size than the
                frame.
        """
        return source.mask(
            expression['anno_ids'], results['frame_id'], results['ori_shape']
        )
