# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Compare exported graphs with PyTorch: differences and speed.

Without a checkpoint the weights are random, which needs no file.

Example:
    python tools/deployment/check_export.py referformer_r50_ytvos --threads 1
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

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
#: What is added to the sides: torch.export refuses small ones.
ADDED = {'onnx': 0, 'torch-export': 161}


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


def load(path: Path, format: str, threads: int) -> Callable[[Any], list]:
    """Load a graph; return what runs it on its example inputs."""
    if format == 'torch-export':
        import torch

        program = torch.export.load(path).module()

        def run_program(graph: Any) -> list[np.ndarray]:
            values = dict(zip(graph.inputs, graph.example, strict=True))
            return [x.numpy() for x in program(values).values()]

        return run_program

    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider']
    )
    taken = {node.name for node in session.get_inputs()}

    def run_session(graph: Any) -> list[np.ndarray]:
        values = zip(graph.inputs, graph.example, strict=True)
        feed = {name: x.numpy() for name, x in values if name in taken}
        return session.run(list(graph.outputs), feed)

    return run_session


def main(argv: list[str] | None = None) -> None:
    """Print a row for each graph."""
    parser = argparse.ArgumentParser(
        description='Compare exported graphs with PyTorch.'
    )
    parser.add_argument('config', help='config file, or name of a config')
    parser.add_argument('--checkpoint', help='default: random weights')
    parser.add_argument(
        '--format', choices=tuple(ADDED), default='onnx', help='default: onnx'
    )
    parser.add_argument(
        '--rounds', type=positive, default=3, help='timings of each, in turn'
    )
    parser.add_argument(
        '--threads', type=positive, default=1, help='of either (default: 1)'
    )
    add_traceback(parser)
    args = parser.parse_args(argv)

    import torch

    from referformer.apis.export import WRITERS, graphs_of

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    model = build(args.config, args.checkpoint)
    write, suffix = WRITERS[args.format]
    added = ADDED[args.format]

    def graph_of(name: str, shape: tuple[int, ...]) -> Any:
        frames, height, width, *rest = shape
        size = (height + added, width + added)
        return graphs_of(model, frames, size, *rest)[name]

    print(
        f'{args.config}, {args.format}, {len(SHAPES)} shapes, speed at T, H, '
        f'W, E, L = {SPEED_SHAPE}, {added} pixels added to the sides',
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, whole in graphs_of(model).items():
            path = Path(folder, name + suffix)
            spent = seconds_of(lambda g=whole, p=path: write(g, p))
            call = load(path, args.format, args.threads)
            worst = dict.fromkeys(whole.outputs, 0.0)
            for shape in SHAPES:
                graph = graph_of(name, shape)
                found, expected = call(graph), graph.module(*graph.example)
                for key, a, b in zip(worst, found, expected, strict=True):
                    b = b.numpy().astype(np.float64)
                    scale = max(1.0, float(np.abs(b).max()))
                    apart = np.abs(a - b).max() / scale
                    worst[key] = np.maximum(worst[key], apart)  # keeps NaN
            graph = graph_of(name, SPEED_SHAPE)
            times: dict[str, list[float]] = {'torch': [], 'exported': []}
            for _ in range(args.rounds):
                times['torch'].append(
                    seconds_of(lambda g=graph: g.module(*g.example))
                )
                times['exported'].append(
                    seconds_of(lambda g=graph, c=call: c(g))
                )
            medians = {k: statistics.median(v) for k, v in times.items()}
            listed = ', '.join(f'{k} {v:.1e}' for k, v in worst.items())
            print(
                f'{name:7} export {spent:.1f} s, '
                f'{path.stat().st_size / 1e6:.1f} MB, '
                f'torch {medians["torch"]:.2f} s, '
                f'exported {medians["exported"]:.2f} s, '
                f'ratio {medians["exported"] / medians["torch"]:.2f}; '
                f'largest differences: {listed}',
                flush=True,
            )


if __name__ == '__main__':
    run(main)
