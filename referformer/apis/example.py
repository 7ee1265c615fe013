# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The model that is part of the package."""

from pathlib import Path


def example_model() -> Path:
    """Return the folder of the example model.

    A small model, trained on drawn videos
    (:mod:`referformer.testing.motion_scenes`) by ``tools/train_example.sh``.
    Its card, ``README.md`` in the folder, tells what it knows and how well.

    .. code-block:: python

        inferencer = ReferInferencer.from_pretrained(example_model())

    Returns:
        Path: What :meth:`ReferInferencer.from_pretrained` takes.
    """
    return Path(__file__).parents[1] / 'example_model'
