# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A control: does a model read time?"""

import numpy as np
from mmcv.transforms import BaseTransform

from referformer.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ShuffleFrames(BaseTransform):
    """Put the frames of a clip out of order, the same way every time.

    It follows the sampler of frames. A model that understands motion must
    then confuse left and right; one that looks at single frames does not
    notice. A config takes it by ``custom_imports``.

    Args:
        seed: Seed of the order.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def transform(self, results: dict[str, list]) -> dict[str, list]:
        """Reorder the lists, all of them alike."""
        count = len(results['frame_id'])
        order = np.random.default_rng(self.seed).permutation(count)
        return {
            key: [values[t] for t in order] for key, values in results.items()
        }

    def __repr__(self) -> str:
        return f'{type(self).__name__}(seed={self.seed})'
