# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A model as graphs that other runtimes load.

.. code-block:: text

    frames ── frames graph ── maps ──┐
                                     ├── decode graph ── scores, boxes, masks
    ids ───── text graph ── words ───┘

The frames graph runs once a window, whatever the number of expressions. What
a graph gives has the name of the input that takes it. Frames, sides, tokens
and expressions may vary.
"""

import copy
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

import torch
from mmengine.config import Config
from torch import Tensor, nn

from referformer.apis.model import init_model, split_pipeline
from referformer.datasets.transforms import NormalizeText, ReferResize
from referformer.errors import ConfigError, MissingPackageError, check_choice
from referformer.formats.files import write_json
from referformer.models import HashTokenizer, ReferFormer
from referformer.prediction.predictor import DEFAULT_WINDOW
from referformer.registry import TRANSFORMS
from referformer.structures import TextFeatures, TextTokens
from referformer.utils.configs import read_config
from referformer.version import __version__

__all__ = [
    'WRITERS',
    'ExportFormat',
    'Graph',
    'export_model',
    'graphs_of',
    'write_onnx',
    'write_tokenizer',
    'write_torch_export',
]

ExportFormat = Literal['onnx', 'torch-export']

#: TensorRT reads GridSample of this one, and not of later ones.
OPSET = 18
MODEL_FILE = 'model.json'
TOKENIZER_FILE = 'tokenizer.json'
_FORMAT = 1


class Graph(NamedTuple):
    """A part of a model with the names of what it takes and gives.

    Attributes:
        module (nn.Module): The part.
        example (tuple[Tensor]): Inputs to record it with.
        inputs (dict): Name of each input -> its axes: a number, or the name
            of an axis that varies.
        outputs (dict): The same of each output.
    """

    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]


class _Part(nn.Module):
    """A part of a model.

    Args:
        model (ReferFormer): The model.
        names (Sequence[str]): Modules that the part consists of.
    """

    def __init__(self, model: ReferFormer, names: Sequence[str]) -> None:
        super().__init__()
        # torch.export stores all weights that a module has
        self.model = copy.copy(model)
        self.model._modules = {n: getattr(model, n) for n in names}
        # what records it puts the mode of the whole back to that of this
        self.train(model.training)


class _Frames(_Part):
    """Normalised frames (T, 3, H, W) to maps (T, C_l, h, w)."""

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        return self.model.extract_maps(frames[None])


class _Text(_Part):
    """Ids and attention mask (E, L) to features of words and sentences."""

    def forward(self, ids: Tensor, attention_mask: Tensor) -> tuple:
        return tuple(self.model.text_encoder(TextTokens(ids, attention_mask)))


class _Decode(_Part):
    """Maps of T frames and E expressions to the best sequences of each."""

    def forward(self, frame_size: Tensor, *features: Tensor) -> tuple:
        maps, text = features[:-4], TextFeatures(*features[-4:])
        visual = self.model.describe_maps(maps, frame_size[None].float())
        visual = visual.repeat(text.sentence.shape[0])
        found = self.model.predict_sequences(visual, text)
        return found.scores, found.frame_scores, found.boxes, found.masks


@torch.no_grad()
def graphs_of(
    model: ReferFormer,
    frames: int = 3,
    size: tuple[int, int] = (256, 288),
    expressions: int = 2,
    tokens: int = 6,
) -> dict[str, Graph]:
    """Take a model apart.

    Args:
        model (ReferFormer): On the CPU, in evaluation mode.
        frames (int): Frames T of the example inputs.
        size (tuple[int, int]): Their height and width.
        expressions (int): Expressions E.
        tokens (int): Tokens L of each.

    Returns:
        dict[str, Graph]: ``frames``, ``text`` and ``decode``.
    """
    clip = torch.randn(frames, 3, *size)
    ids = torch.arange(expressions * tokens).view(expressions, tokens) + 3
    mask = torch.ones_like(ids)
    mask[1:, tokens - 1 :] = 0
    encode = _Frames(model, ('backbone', 'neck'))
    text = _Text(model, ('text_encoder',))
    decode = _Decode(
        model,
        (
            'positional_encoding',
            'fusion',
            'queries',
            'transformer',
            'pixel_decoder',
            'head',
        ),
    )
    maps, words = encode(clip), text(ids, mask)
    names = ['fine', *(f'level{i}' for i in range(len(maps) - 1))]
    map_axes = {
        name: ['T', level.shape[1], f'h_{name}', f'w_{name}']
        for name, level in zip(names, maps, strict=True)
    }
    channels = words[0].shape[-1]
    text_axes: dict[str, list[int | str]] = {
        'words': ['E', 'L', channels],
        'word_pos': ['E', 'L', channels],
        'padding_mask': ['E', 'L'],
        'sentence': ['E', channels],
    }
    kept = min(model.head.selector.topk, model.queries.num_queries)
    return {
        'frames': Graph(
            encode, (clip,), {'frames': ['T', 3, 'H', 'W']}, map_axes
        ),
        'text': Graph(
            text,
            (ids, mask),
            {'ids': ['E', 'L'], 'attention_mask': ['E', 'L']},
            text_axes,
        ),
        'decode': Graph(
            decode,
            (torch.tensor(size), *maps, *words),
            {'frame_size': [2], **map_axes, **text_axes},
            {
                'scores': ['E', kept],
                'frame_scores': ['E', 'T', kept],
                'boxes': ['E', 'T', kept, 4],
                'masks': ['E', 'T', kept, 'h_fine', 'w_fine'],
            },
        ),
    }


def export_model(
    config: str | os.PathLike[str] | Config | dict,
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    format: ExportFormat = 'onnx',
) -> dict[str, Path]:
    """Write the graphs of a model, and what a runtime has to know.

    Args:
        config (str | PathLike | Config | dict): A config, its file or name.
        checkpoint (str | PathLike): Its weights.
        out (str | PathLike): Folder, which must be new or empty.
        format (ExportFormat): ``'onnx'`` or ``'torch-export'``.

    Returns:
        dict[str, Path]: The files by name.

    Raises:
        ConfigError: If the format is unknown, the folder is not empty, or
            the model's pipeline has a step that only Python can run.
        CheckpointError: If the weights are not those of the config.
        MissingPackageError: If the package onnx is missing.
    """
    check_choice('format', format, WRITERS)
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f'{out} is not an empty folder; give a new one.')
    if format == 'onnx':
        _require_onnx()
    cfg = read_config(config)
    facts = _describe_pipeline(cfg)
    model = init_model(cfg, checkpoint, 'cpu')
    numbers = _describe_model(model)
    write, suffix = WRITERS[format]
    temporary = out.with_name(f'.{out.name}.part')
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        graphs = {}
        for name, graph in graphs_of(model).items():
            file = name + suffix
            write(graph, temporary / file)
            graphs[name] = dict(
                file=file,
                inputs={
                    key: dict(dtype=str(value.dtype)[6:], shape=axes)
                    for (key, axes), value in zip(
                        graph.inputs.items(), graph.example, strict=True
                    )
                },
                outputs=graph.outputs,
            )
        facts['text']['tokenizer'] = write_tokenizer(
            model.text_encoder.tokenizer, temporary
        )
        head = dict(
            library='referformer-mm',
            format=_FORMAT,
            version=__version__,
            kind=format,
            opset=OPSET if format == 'onnx' else None,
            precision='fp32',
        )
        write_json(
            temporary / MODEL_FILE,
            {**head, **numbers, **facts, 'graphs': graphs},
        )
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {path.name: path for path in sorted(out.iterdir())}


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f'the format onnx needs a package that is missing ({error})',
            value='onnx',
            remedy="run: pip install 'referformer-mm[export]'",
        ) from error


def write_onnx(graph: Graph, path: Path) -> None:
    """Record a graph as ONNX.

    By tracing, which holds for all sizes from one on.
    """
    axes = {
        name: {i: axis for i, axis in enumerate(shape) if axis == str(axis)}
        for name, shape in (*graph.inputs.items(), *graph.outputs.items())
    }
    with (
        warnings.catch_warnings(),
        mock.patch.object(Tensor, 'unflatten', _unflatten),
    ):
        # of decisions that do not depend on the sizes
        warnings.simplefilter('ignore')
        torch.onnx.export(
            graph.module,
            graph.example,
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes=axes,
        )


def _unflatten(
    tensor: Tensor, dim: int, sizes: Sequence[int | Tensor]
) -> Tensor:
    """Stand in for ``Tensor.unflatten`` while ONNX is recorded.

    The exporter takes the sizes at hand for the only ones that its result
    may have. Of a reshape it does not.
    """
    dim %= tensor.ndim
    shape = tensor.shape
    return tensor.reshape(*shape[:dim], *sizes, *shape[dim + 1 :])


class _Named(nn.Module):
    """A graph that takes and gives tensors by their names."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.part = graph.module
        self.axes, self.names = graph.inputs, list(graph.outputs)
        self.train(graph.module.training)

    def forward(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        sizes: dict[str, int | torch.SymInt] = {}
        for name, axes in self.axes.items():
            for axis, size in zip(axes, values[name].shape, strict=True):
                # one symbol for an axis of several inputs; with one for each
                # sympy takes ten times as long
                torch._check(sizes.setdefault(str(axis), size) == size)
        given = self.part(*(values[name] for name in self.axes))
        return dict(zip(self.names, given, strict=True))


def write_torch_export(graph: Graph, path: Path) -> None:
    """Record a graph with ``torch.export``, for ``torch.export.load``.

    The program takes and gives a dict of tensors. It refuses sizes for which
    the model would run other operations: sides of 64 pixels and less.
    """
    values = dict(zip(graph.inputs, graph.example, strict=True))
    dynamic = {
        name: {
            i: torch.export.Dim.DYNAMIC
            for i, axis in enumerate(axes)
            if axis == str(axis)
        }
        for name, axes in graph.inputs.items()
    }
    program = torch.export.export(
        _Named(graph),
        (values,),
        dynamic_shapes=(dynamic,),
        prefer_deferred_runtime_asserts_over_guards=True,
    )
    torch.export.save(program, path)


#: How to write a graph in each format, and the suffix of its file.
WRITERS: dict[ExportFormat, tuple[Callable[[Graph, Path], None], str]] = {
    'onnx': (write_onnx, '.onnx'),
    'torch-export': (write_torch_export, '.pt2'),
}

# -- what a runtime has to know -----------------------------------------------


def _describe_pipeline(cfg: Config) -> dict[str, Any]:
    """Return how frames and sentences are prepared, as plain values."""
    frames, texts = split_pipeline(cfg)
    resize: dict[str, Any] = {}
    for step in frames:
        kind = step['type']
        kind = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
        built = kind(**{k: v for k, v in step.items() if k != 'type'})
        plain = type(built) is ReferResize and (
            built.backend == 'pillow' and built.interpolation == 'bilinear'
        )
        if not plain or resize or len(built.short_sides) != 1:
            raise ConfigError(
                f'the test pipeline has {built!r}; a runtime without Python '
                'packages knows one ReferResize to one short_side.',
                value=step['type'],
            )
        [short] = built.short_sides
        resize = dict(short_side=short, max_long_side=built.max_long_side)
    for step in texts:
        kind = step['type']
        kind = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
        if kind is not NormalizeText:
            raise ConfigError(
                f'the test pipeline has {step["type"]}; a runtime knows '
                'NormalizeText alone.',
                value=step['type'],
            )
    return {'resize': resize or None, 'text': {'lower_case': bool(texts)}}


def _describe_model(model: ReferFormer) -> dict[str, Any]:
    """Return the numbers of a model that its graphs do not hold."""
    preprocessor, predictor = model.data_preprocessor, model.predictor
    mean = std = None
    if getattr(preprocessor, '_enable_normalize', False):
        mean, std = preprocessor.mean, preprocessor.std
    return {
        'channels': 'RGB' if preprocessor.reverse_channels else 'BGR',
        'mean': [0.0] * 3 if mean is None else mean.flatten().tolist(),
        'std': [1.0] * 3 if std is None else std.flatten().tolist(),
        'window': predictor.window or DEFAULT_WINDOW,
        'masks': dict(
            stride=model.head.mask_head.stride,
            threshold=predictor.mask_thr,
            score_threshold=predictor.score_thr,
            resize=model.mask_resize,
        ),
    }


def write_tokenizer(tokenizer: Any, folder: Path) -> dict[str, Any]:
    """Write a tokenizer, or describe one that needs no file.

    Raises:
        ConfigError: If it can be neither written nor described.
    """
    if type(tokenizer) is HashTokenizer:
        return dict(
            type='hash',
            vocab_size=tokenizer.vocab_size,
            max_length=tokenizer.max_length,
            pad_id=tokenizer.pad_id,
        )
    backend = getattr(tokenizer, 'backend_tokenizer', None)
    if backend is None:
        raise ConfigError(
            f'the tokenizer {type(tokenizer).__name__} runs in Python only; '
            'use one that the package tokenizers can store.'
        )
    backend.save(str(folder / TOKENIZER_FILE))
    return dict(
        type='tokenizers',
        file=TOKENIZER_FILE,
        max_length=min(tokenizer.model_max_length, 2**31 - 1),
        pad_id=tokenizer.pad_token_id,
    )
