# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The propagator that docs/propagation.md shows."""

import re
from pathlib import Path

import numpy as np

from referformer.prediction.propagation import build_propagator

from .helpers import box, run, textured

PAGE = Path(__file__).parents[3] / 'docs' / 'propagation.md'


def test_the_example_of_the_documents(tmp_path, monkeypatch):
    text = PAGE.read_text()
    [source] = re.findall(r'```python\n(import cv2.*?)```', text, re.DOTALL)
    [config] = re.findall(r'```python\n(custom_im.*?)```', text, re.DOTALL)
    assert len([line for line in source.splitlines() if line]) <= 40
    (tmp_path / 'my_propagator.py').write_text(source)
    (tmp_path / 'my_config.py').write_text(config)
    monkeypatch.syspath_prepend(str(tmp_path))
    propagator = build_propagator(str(tmp_path / 'my_config.py'))
    mask = box(10, 20, 20, 20, (72, 112))
    picture = textured(mask[None])[0]
    frames = np.stack([np.roll(picture, 3 * t, 1) for t in range(5)])
    truth = np.stack([np.roll(mask, 3 * t, 1)[None] for t in range(5)])
    own = truth.copy()
    own[3] = 1
    scores = [[0.9], [0.1], [0.1], [0.1], [0.1]]
    masks = run(propagator, frames, own, scores)
    overlap = (masks & truth).sum((1, 2, 3)) / (masks | truth).sum((1, 2, 3))
    assert (overlap > 0.9).all()
