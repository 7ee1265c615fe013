# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The example model that is part of the package."""

import numpy as np
import pytest

from referformer.apis import ReferInferencer, example_model
from referformer.testing.motion_scenes import MotionSceneParams, render_scene

#: Of videos that neither its training nor its scores have seen.
SEED = 77


@pytest.fixture(scope='module')
def inferencer():
    return ReferInferencer.from_pretrained(
        example_model(), 'cpu', show_progress=False
    )


def test_it_is_small():
    files = list(example_model().iterdir())
    assert {file.name for file in files} == {
        'README.md',
        'config.json',
        'model.safetensors',
    }
    assert sum(file.stat().st_size for file in files) < 4e6


@pytest.mark.parametrize('index', [0, 2])
def test_it_cuts_three_objects_out_of_an_unseen_video(inferencer, index):
    scene = render_scene(MotionSceneParams(seed=SEED), 'valid', index)
    texts = {e.obj_id: e.text for e in scene.expressions if e.obj_id < 4}
    assert len(texts) == 3
    results = inferencer(
        scene.frames[..., ::-1], list(texts.values()), masks='array'
    )
    overlaps = []
    for number, found in zip(
        texts, results['predictions'][0].expressions, strict=True
    ):
        truth = scene.ids == number
        union = (found.masks | truth).sum(axis=(1, 2))
        overlap = (found.masks & truth).sum(axis=(1, 2)) / union
        overlaps.append(overlap.mean())
    assert np.mean(overlaps) > 0.7, overlaps
