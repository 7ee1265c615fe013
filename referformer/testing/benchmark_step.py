# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""One step of a benchmark, here or in another checkout of this project.

Another checkout is measured by this file too, which a process of its own
loads by its path. So it imports, when it is asked for a step, only what every
checkout since 47752c0 has under the same name.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

STAGES = (
    'data_preprocessor',
    'backbone',
    'neck',
    'text_encoder',
    'fusion',
    'transformer.encoder',
    'transformer.decoder',
    'pixel_decoder',
    'head.mask_head',
    'head.criterion',
)


class Setting(NamedTuple):
    """What is measured.

    Attributes:
        frames (int): Frames T of a clip.
        height (int): Of a frame, in pixels.
        width (int): Likewise.
        batch (int): Clips at a time.
        expressions (int): Expressions of each clip (prediction only).
        amp (str): 'off', 'bf16' or 'fp16'.
        compile (bool): Whether to compile the model.
        options (tuple): Overrides of the config, (key, value) pairs.
    """

    frames: int
    height: int
    width: int
    batch: int
    expressions: int
    amp: str
    compile: bool
    options: tuple[tuple[str, Any], ...] = ()


def model_step(
    config: str, setting: Setting, device_name: str, training: bool
) -> Callable[[], Any]:
    """Build a model with random weights; return what measures a step of it.

    Args:
        config (str): Config file.
        setting (Setting): What to measure.
        device_name (str): Where.
        training (bool): A training step or a prediction.

    Returns:
        Callable: Runs the step once and returns a ``StepCost``.
    """
    import torch
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from referformer.registry import MODELS
    from referformer.testing import (
        DEMO_TEXTS,
        demo_refer_inputs,
        offline_model_cfg,
    )
    from referformer.utils.benchmark import StepMeter

    cfg = Config.fromfile(config)
    cfg.merge_from_dict(dict(setting.options))
    init_default_scope(cfg.get('default_scope', 'referformer'))
    device = torch.device(device_name)
    torch.manual_seed(0)
    model = MODELS.build(offline_model_cfg(cfg.model)).to(device)
    model.train(training)
    dtype = {'bf16': torch.bfloat16, 'fp16': torch.float16}.get(setting.amp)
    data = demo_refer_inputs(
        batch_size=setting.batch,
        num_frames=setting.frames,
        size=(setting.height, setting.width),
    )
    modules = dict(model.named_modules())
    stages = {
        path.split('.')[-1]: modules[path]
        for path in STAGES
        if path in modules
    }
    meter = StepMeter(stages, device)
    if training:
        step = _training_step(cfg.optim_wrapper, model, data, meter, dtype)
    else:
        if setting.expressions > 1:
            expressions = [
                dict(
                    text=DEMO_TEXTS[e % len(DEMO_TEXTS)],
                    exp_id=str(e),
                    obj_id='1',
                    label=0,
                )
                for e in range(setting.expressions)
            ]
            for sample in data['data_samples']:
                sample.set_metainfo(dict(expressions=expressions))

        def step() -> None:
            with (
                torch.inference_mode(),
                torch.autocast(device.type, dtype, enabled=dtype is not None),
            ):
                model.test_step(data)

    if setting.compile:
        model.compile()
    return lambda: meter.measure(step)


def _training_step(
    optim_cfg: Any, model: Any, data: dict, meter: Any, dtype: Any
) -> Callable[[], None]:
    """Return what runs forward, backward and the optimizer once."""
    import torch
    from mmengine.optim import build_optim_wrapper

    if dtype == torch.float16:  # scales the loss, which bf16 does not need
        optim_cfg.type = 'AmpOptimWrapper'
        optim_cfg.dtype = 'float16'
    optim = build_optim_wrapper(model, optim_cfg)
    device = next(model.parameters()).device.type

    def step() -> None:
        with (
            optim.optim_context(model),
            torch.autocast(device, dtype, enabled=dtype is not None),
        ):
            batch = model.data_preprocessor(data, True)
            losses = model(**batch, mode='loss')
        loss, _ = model.parse_losses(losses)
        with meter.stage('backward'):
            optim.backward(loss)
        with meter.stage('optimizer'):
            optim.step()
            optim.zero_grad()

    return step


def scoring_step(masks: int, height: int, width: int) -> Callable[[], Any]:
    """Draw masks; return what measures J and F of all of them.

    Args:
        masks (int): How many.
        height (int): Of a mask, in pixels.
        width (int): Likewise.

    Returns:
        Callable: Scores them once and returns a ``StepCost``.
    """
    import cv2
    import numpy as np

    from referformer.evaluation.functional import sequence_scores
    from referformer.utils.benchmark import StepMeter

    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)

    def blobs() -> list[np.ndarray]:
        # smooth outlines that cover about a sixth of the frame
        drawn = []
        for _ in range(masks):
            noise = rng.random((height // 40 + 2, width // 40 + 2))
            smooth = cv2.resize(noise, (width, height), interpolation=2)
            drawn.append(smooth > 0.75)
        return drawn

    truth, predicted = blobs(), blobs()
    meter = StepMeter({}, 'cpu')
    return lambda: meter.measure(lambda: sequence_scores(predicted, truth))
