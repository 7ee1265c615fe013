# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Compare a model in onnxruntime with PyTorch: differences and speed.

Without a checkpoint the weights are random, which needs no file.

Example:
    python tools/deployment/check_onnx.py referformer_r50_ytvos --threads 1
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from referformer.utils.cli import add_traceback, positive, run

#: Frames, height, width, expressions, tokens.
SHAPES = [
    (1, 96, 128, 1, 4),
    (2, 128, 161, 2, 7),
    (3, 144, 256, 1, 12),
    (5, 97, 75, 3, 5),
    (9, 64, 96, 1, 9),
]
SPEED_SHAPE = (4, 160, 224, 1, 8)


def build(config: str, checkpoint: str | None) -> Any:
    """Build a model, with random weights where there is no checkpoint."""
    import torch
    from mmengine.registry import DefaultScope

    from referformer.apis import init_model
    from referformer.registry import MODELS
    from referformer.testing import offline_model_cfg
    from referformer.utils.configs import read_config

    if checkpoint is not None:
        return init_model(config, checkpoint, 'cpu')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('referformer'):
        model = MODELS.build(offline_model_cfg(read_config(config).model))
    for parameter in model.parameters():  # no branch is left at zero
        parameter.data.add_(torch.randn_like(parameter), alpha=0.01)
    return model.eval()


def seconds_of(function: Callable[[], Any]) -> float:
    """Processor time of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def main(argv: list[str] | None = None) -> None:
    """Print a row for each graph."""
    parser = argparse.ArgumentParser(
        description='Compare a model in onnxruntime with PyTorch.'
    )
    parser.add_argument('config', help='config file, or name of a config')
    parser.add_argument('--checkpoint', help='default: random weights')
    parser.add_argument(
        '--rounds', type=positive, default=3, help='timings of each, in turn'
    )
    parser.add_argument(
        '--threads', type=positive, default=1, help='of either (default: 1)'
    )
    add_traceback(parser)
    args = parser.parse_args(argv)

    import numpy as np
    import onnxruntime
    import torch

    from referformer.apis.export import graphs_of, write_onnx

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    model = build(args.config, args.checkpoint)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    print(
        f'{args.config}, {len(SHAPES)} shapes, speed at T, H, W, E, L = '
        f'{SPEED_SHAPE}'
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, graph in graphs_of(model).items():
            path = Path(folder, f'{name}.onnx')
            spent = seconds_of(lambda g=graph, p=path: write_onnx(g, p))
            session = onnxruntime.InferenceSession(
                str(path), options, providers=['CPUExecutionProvider']
            )
            taken = {node.name for node in session.get_inputs()}
            outputs = list(graph.outputs)

            def feed_of(shape: tuple, name: str = name) -> tuple:
                frames, height, width, *rest = shape
                graph = graphs_of(model, frames, (height, width), *rest)[name]
                named = zip(graph.inputs, graph.example, strict=True)
                return graph, dict(named)

            worst: dict[str, float] = {}
            for shape in SHAPES:
                graph, values = feed_of(shape)
                feed = {k: v.numpy() for k, v in values.items() if k in taken}
                found = session.run(outputs, feed)
                expected = graph.module(*graph.example)
                for key, a, b in zip(outputs, found, expected, strict=True):
                    b = b.numpy().astype(np.float64)
                    scale = max(1.0, float(np.abs(b).max()))
                    apart = float(np.abs(a - b).max()) / scale
                    worst[key] = max(worst.get(key, 0), apart)
            graph, values = feed_of(SPEED_SHAPE)
            feed = {k: v.numpy() for k, v in values.items() if k in taken}
            times: dict[str, list[float]] = {'torch': [], 'onnx': []}
            for _ in range(args.rounds):
                times['torch'].append(
                    seconds_of(lambda g=graph: g.module(*g.example))
                )
                times['onnx'].append(
                    seconds_of(
                        lambda s=session, o=outputs, f=feed: s.run(o, f)
                    )
                )
            medians = {k: statistics.median(v) for k, v in times.items()}
            listed = ', '.join(f'{k} {v:.1e}' for k, v in worst.items())
            print(
                f'{name:7} export {spent:.1f} s, '
                f'{path.stat().st_size / 1e6:.1f} MB, '
                f'torch {medians["torch"]:.2f} s, '
                f'onnxruntime {medians["onnx"]:.2f} s, '
                f'ratio {medians["onnx"] / medians["torch"]:.2f}; '
                f'largest differences: {listed}',
                flush=True,
            )


if __name__ == '__main__':
    run(main)
