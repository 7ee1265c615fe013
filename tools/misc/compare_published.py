# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Time this code and the published one in turn, in one process.

Both get the same random weights and inputs and, on a GPU, the same compiled
operator of mmcv. Every figure is printed as soon as it is known, and ``--out``
is written again after every case. The checkout of the published code needs
its own requirements (torchvision, timm, einops, fvcore), but not its operator.

Example:
    python tools/misc/compare_published.py ../ReferFormer --backbone r50 \
        --frames 5 36 --budget 120 --out work_dirs/r50.json
"""

import argparse
import importlib
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import referformer.engine  # noqa: E402, F401
from referformer.checkpoints.published import from_published  # noqa: E402
from referformer.formats.files import write_json  # noqa: E402
from referformer.prediction import Predictor  # noqa: E402
from referformer.registry import MODELS  # noqa: E402
from referformer.structures import ClipTargets, TextTokens  # noqa: E402

THEIR_NAMES = {
    'r50': 'resnet50',
    'r101': 'resnet101',
    'swin-t': 'swin_t_p4w7',
    'swin-l': 'swin_l_p4w7',
    'vswin-t': 'video_swin_t_p4w7',
    'vswin-s': 'video_swin_s_p4w7',
    'vswin-b': 'video_swin_b_p4w7',
}
PRECISIONS = ('fp32', 'tf32', 'bf16')
LANGUAGE = dict(
    vocab_size=50265,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    max_position_embeddings=514,
    type_vocab_size=1,
    pad_token_id=1,
    bos_token_id=0,
    eos_token_id=2,
    layer_norm_eps=1e-5,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)
GIB = 2**30


def token_ids(number: int) -> list[int]:
    """Tokens of an expression; expressions have six to ten."""
    return [0, *(5 + 7 * number + i for i in range(4 + 3 * number % 5)), 2]


# -- the published code -------------------------------------------------------


class PublishedTokenizer:
    """Stands in for the tokenizer; a text is the number of an expression."""

    def batch_encode_plus(self, texts: list[str], **_: Any) -> Any:
        """Tokens of the one expression."""
        from transformers import BatchEncoding

        ids = torch.tensor([token_ids(int(text)) for text in texts])
        return BatchEncoding(
            {'input_ids': ids, 'attention_mask': torch.ones_like(ids)}
        )


def import_published(root: Path, on_gpu: bool) -> tuple[Any, Any]:
    """Import the published code without its operator and downloads.

    Args:
        root (Path): The checkout.
        on_gpu (bool): Whether to use mmcv's operator.

    Returns:
        tuple: Its modules ``opts`` and ``models``.
    """
    sys.path.insert(1, str(root))
    name = 'MultiScaleDeformableAttention'
    sys.modules[name] = types.ModuleType(name)
    attention = importlib.import_module('models.ops.modules.ms_deform_attn')
    if on_gpu:
        from mmcv.ops.multi_scale_deform_attn import (
            MultiScaleDeformableAttnFunction as Function,
        )
    else:
        from models.ops.functions.ms_deform_attn_func import (
            ms_deform_attn_core_pytorch,
        )

        def apply(value: Tensor, shapes: Tensor, _: Tensor, *rest: Any) -> Any:
            locations, weights, _ = rest
            shapes = [tuple(shape) for shape in shapes.tolist()]
            return ms_deform_attn_core_pytorch(
                value, shapes, locations, weights
            )

        Function = types.SimpleNamespace(apply=apply)

    attention.MSDeformAttnFunction = Function
    import torchvision
    import transformers

    model = importlib.import_module('models.referformer')
    model.RobertaTokenizerFast = types.SimpleNamespace(
        from_pretrained=lambda name: PublishedTokenizer()
    )
    config = transformers.RobertaConfig(**LANGUAGE)
    model.RobertaModel = types.SimpleNamespace(
        from_pretrained=lambda name: transformers.RobertaModel(config)
    )
    for name in ('resnet50', 'resnet101'):
        build = getattr(torchvision.models, name)
        setattr(
            torchvision.models,
            name,
            lambda build=build, pretrained=False, **kw: build(
                weights=None, **kw
            ),
        )
    return importlib.import_module('opts'), importlib.import_module('models')


class Published:
    """The published model: one expression at a time, as its scripts do."""

    def __init__(
        self, root: Path, backbone: str, frames: int, device: torch.device
    ) -> None:
        opts, models = import_published(root, device.type == 'cuda')
        parser = argparse.ArgumentParser(parents=[opts.get_args_parser()])
        args = parser.parse_args(
            '--with_box_refine --masks --binary --freeze_text_encoder '
            f'--device cpu --num_frames {frames} --dataset_file ytvos '
            f'--backbone {THEIR_NAMES[backbone]}'.split()
        )
        self.model, self.criterion, _ = models.build_model(args)
        without_dropout(self.model)
        randomise(self.model)
        self.model.to(device)
        self.criterion.to(device)
        self.device = device
        self.optimizer = None

    def predict(
        self, clip: Tensor, expressions: int, size: tuple[int, int]
    ) -> Tensor:
        """Masks (E, T, H, W) of a clip (T, 3, h, w)."""
        self.model.eval()
        masks = []
        for number in range(expressions):
            meta = torch.tensor(clip.shape[-2:], device=self.device)
            out = self.model([clip], [str(number)], [{'size': meta}])
            scores = out['pred_logits'][0].sigmoid().mean(0).max(-1)[0]
            best = scores.argmax()
            chosen = out['pred_masks'][0][:, best]
            chosen = resize(chosen, size).sigmoid() > 0.5
            masks.append(chosen.cpu())
        return torch.stack(masks)

    def train(self, clip: Tensor, targets: dict[str, Tensor]) -> float:
        """Take a step; return the loss."""
        from util.misc import nested_tensor_from_videos_list

        self.model.train()
        params = [p for p in self.model.parameters() if p.requires_grad]
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(
                params, lr=1e-9, weight_decay=5e-4
            )
        size = torch.tensor(clip.shape[-2:], device=self.device)
        target = {
            **targets,
            'valid': targets['valid'].long(),
            'size': size,
            'orig_size': size,
            'caption': '0',
        }
        batch = nested_tensor_from_videos_list([clip], size_divisibility=32)
        out = self.model(batch, ['0'], [target])
        losses = self.criterion(out, [target])
        weights = self.criterion.weight_dict
        loss = sum(losses[k] * weights[k] for k in losses if k in weights)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.optimizer.step()
        return loss.item()


# -- this code ----------------------------------------------------------------


def tokenize(texts: list[str]) -> TextTokens:
    """Stands in for the tokenizer; see :class:`PublishedTokenizer`."""
    rows = [token_ids(int(text)) for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    return TextTokens(ids, (ids != 1).long())


class Ours:
    """The model of this checkout, with the weights of the published one."""

    def __init__(
        self, backbone: str, weights: dict[str, Tensor], device: torch.device
    ) -> None:
        config = ROOT / f'configs/referformer_{backbone}_ytvos.py'
        self.cfg = Config.fromfile(config)
        cfg = self.cfg.model
        cfg.backbone.pop('init_cfg', None)
        if cfg.backbone.get('with_cp'):
            cfg.backbone.with_cp = False
        cfg.text_encoder.update(
            pretrained=None,
            hf_config=dict(LANGUAGE, model_type='roberta'),
            frozen=True,
        )
        self.model = MODELS.build(cfg)
        without_dropout(self.model)
        alias = 'transformer.decoder.bbox_embed.'
        weights = {k: v for k, v in weights.items() if alias not in k}
        found = self.model.load_state_dict(
            from_published(weights), strict=False
        )
        missing = [
            key
            for key in found.missing_keys
            if not key.endswith(('position_index', 'num_batches_tracked'))
        ]
        if missing or found.unexpected_keys:
            raise SystemExit(f'weights do not fit: {found}')
        self.model.text_encoder.tokenizer = tokenize
        self.model.to(device)
        self.device = device
        self.optimizer = None

    def predict(
        self,
        clip: Tensor,
        expressions: int,
        size: tuple[int, int],
        precision: str = 'fp32',
        cuda_graphs: bool = False,
    ) -> Tensor:
        """Masks (E, T, H, W) of a clip (T, 3, h, w)."""
        self.model.eval()
        predictor = Predictor(
            window=len(clip),
            precision='bf16' if precision == 'bf16' else 'fp32',
            cuda_graphs=cuda_graphs,
        )
        texts = list(map(str, range(expressions)))
        text = predictor.encode_text(self.model, texts)
        ((_, visual),) = predictor.encode_windows(
            self.model, range(len(clip)), lambda _: clip
        )
        found = predictor.decode(self.model, visual, text)
        masks = [
            (resize(logits[:, 0], size) > 0).cpu() for logits in found.masks
        ]
        return torch.stack(masks)

    def train(
        self, clip: Tensor, targets: dict[str, Tensor], precision: str = 'fp32'
    ) -> float:
        """Take a step; return the loss."""
        model = self.model.train()
        if self.optimizer is None:
            self.optimizer = build_optim_wrapper(model, self.cfg.optim_wrapper)
            for group in self.optimizer.optimizer.param_groups:
                group['lr'] = 1e-9
        height, width = clip.shape[-2:]
        padding = (0, -width % 32, 0, -height % 32)
        with autocast(self.device, precision):
            visual = model.extract_feat(
                F.pad(clip, padding)[None], [(height, width)]
            )
            text = model.extract_text(['0'])
            losses = model.head.loss(
                *model.decode(visual, text),
                visual.sizes,
                ClipTargets(
                    targets['labels'][:1],
                    targets['boxes'][None],
                    F.pad(targets['masks'], padding)[None],
                    targets['valid'][None],
                ),
            )
        loss, _ = model.parse_losses(losses)
        self.optimizer.update_params(loss)
        return loss.item()


# -- what both need -----------------------------------------------------------


def without_dropout(model: nn.Module) -> None:
    """Switch all kinds of dropout off, so that losses can be compared."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ('dropout', 'drop_prob'):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def randomise(model: nn.Module) -> None:
    """Give every weight a value that shows in the result."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for param in model.parameters():
            noise = torch.randn(param.shape, generator=generator)
            if param.dim() > 1:
                param.copy_(noise / param[0].numel() ** 0.5)
            else:
                param.add_(noise, alpha=0.05)


def resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (T, h, w) at the size of the video."""
    return F.interpolate(
        logits[None].float(), size=size, mode='bilinear', align_corners=False
    )[0]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The arithmetic of a precision; TF32 is no autocast."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=precision == 'bf16'
    )


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Allow matrix products in TF32; convolutions may use it by default."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == 'tf32'
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def make_targets(clip: Tensor) -> dict[str, Tensor]:
    """A rectangle that moves through the clip (T, 3, h, w)."""
    frames, _, height, width = clip.shape
    masks = torch.zeros(frames, height, width)
    boxes = torch.zeros(frames, 4)
    for t in range(frames):
        left, top = width * (t + 1) // (3 * frames), height // 4
        right, bottom = left + width // 3, top + height // 3
        masks[t, top:bottom, left:right] = 1
        boxes[t] = torch.tensor(
            [
                (left + right) / 2 / width,
                (top + bottom) / 2 / height,
                (right - left) / width,
                (bottom - top) / height,
            ]
        )
    targets = dict(
        masks=masks,
        boxes=boxes,
        valid=torch.ones(frames, dtype=torch.bool),
        labels=torch.zeros(frames, dtype=torch.int64),
    )
    return {name: part.to(clip.device) for name, part in targets.items()}


class Comparison:
    """Times cases, the settings of a case in turn.

    Args:
        device (torch.device): Where.
        repeats (int): Counted runs of a setting.
        warmup (int): Runs before; graphs are recorded there.
        ends (float): Time of ``time.monotonic()`` after which nothing starts.
        out (Path, optional): File of the report.
    """

    def __init__(
        self,
        device: torch.device,
        repeats: int,
        warmup: int,
        ends: float,
        out: Path | None,
    ) -> None:
        self.device, self.repeats, self.warmup = device, repeats, warmup
        self.ends, self.out = ends, out
        self.cases: list[dict[str, Any]] = []

    def _wait(self) -> None:
        if self.device.type == 'cuda':
            torch.cuda.synchronize(self.device)

    def _first(self, call: Callable[[], Any]) -> tuple[Any, float | None]:
        """Warm up; return the last result and GiB on top of the weights."""
        result = None
        for _ in range(self.warmup):
            result = call()
        if self.device.type != 'cuda':
            return result, None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        self._wait()
        peak = torch.cuda.max_memory_allocated() - before
        return result, peak / GIB

    def compare(
        self, name: str, calls: dict[str, tuple[str, Callable[[], Any]]]
    ) -> None:
        """Time a case.

        Args:
            name (str): Name of the case.
            calls (dict): Precision and what to call, by name of the setting.
        """
        if time.monotonic() > self.ends:
            self._add({'case': name, 'not run': 'no time left'})
            return
        seconds: dict[str, list[float]] = {}
        rows: dict[str, dict[str, Any]] = {}
        first = None
        for who, (precision, call) in calls.items():
            row = rows[who] = {'case': name, 'who': who}
            try:
                with products_in(precision):
                    result, row['gib'] = self._first(call)
            except Exception as error:  # one of many
                reason = str(error).partition('\n')[0][:200]
                row['failed'] = f'{type(error).__name__}: {reason}'
                continue
            seconds[who] = []
            first = result if first is None else first
            if isinstance(result, Tensor):
                row['equal bits'] = (result == first).double().mean().item()
            else:
                row['loss'] = result
        for _ in range(self.repeats):
            for who, spent in seconds.items():
                precision, call = calls[who]
                with products_in(precision):
                    self._wait()
                    begin = time.perf_counter()
                    call()
                    self._wait()
                spent.append(time.perf_counter() - begin)
        for who, row in rows.items():
            if seconds.get(who):
                row['ms'] = 1e3 * statistics.median(seconds[who])
                row['least'] = 1e3 * min(seconds[who])
                if seconds.get('published'):
                    theirs = statistics.median(seconds['published'])
                    row['ratio'] = 1e3 * theirs / row['ms']
            self._add(row)

    def _add(self, row: dict[str, Any]) -> None:
        self.cases.append(row)
        print(
            '  '.join(
                f'{v:.4g} {k}' if isinstance(v, float) else str(v)
                for k, v in row.items()
            ),
            flush=True,
        )
        if self.out is not None:
            write_json(self.out, self.cases)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition('\n')[0],
    )
    parser.add_argument(
        'published', type=Path, help='checkout of the published code'
    )
    parser.add_argument('--backbone', default='r50', choices=THEIR_NAMES)
    parser.add_argument('--frames', type=int, nargs='+', default=[5])
    parser.add_argument('--expressions', type=int, nargs='+', default=[1, 8])
    parser.add_argument(
        '--precisions', nargs='+', default=PRECISIONS, choices=PRECISIONS
    )
    parser.add_argument(
        '--steps',
        nargs='+',
        default=('infer', 'train'),
        choices=('infer', 'train'),
        help='several expressions and training are timed with the first '
        'number of frames only',
    )
    parser.add_argument(
        '--compile', action='store_true', help='compile the backbone as well'
    )
    parser.add_argument('--size', type=int, nargs=2, default=(360, 640))
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--warmup', type=int, default=4)
    parser.add_argument(
        '--budget', type=float, default=1e9, help='seconds in all'
    )
    parser.add_argument('--out', type=Path, help='JSON file of the figures')
    return parser.parse_args()


def main() -> None:
    """Compare."""
    args = parse_args()
    ends = time.monotonic() + args.budget
    MMLogger.get_instance('compare', log_level='ERROR')
    init_default_scope('referformer')
    device = torch.device(args.device)
    torch.manual_seed(0)
    theirs = Published(args.published, args.backbone, args.frames[0], device)
    ours = Ours(args.backbone, theirs.model.state_dict(), device)
    comparison = Comparison(device, args.repeats, args.warmup, ends, args.out)
    rng = np.random.default_rng(3)
    clips = [
        torch.from_numpy(
            rng.standard_normal((frames, 3, *args.size), np.float32)
        ).to(device)
        for frames in args.frames
    ]
    size = tuple(2 * side for side in args.size)
    graphs = (False, True) if device.type == 'cuda' else (False,)

    def infer(clip: Tensor, expressions: int) -> None:
        given = (clip, expressions, size)
        calls = {'published': ('fp32', lambda: theirs.predict(*given))}
        if 'tf32' in args.precisions:
            calls['published tf32'] = ('tf32', calls['published'][1])
        for precision in args.precisions:
            for graph in graphs:
                name = f'{precision}{" graphs" if graph else ""}'
                calls[name] = (
                    precision,
                    lambda p=precision, g=graph: ours.predict(*given, p, g),
                )
        name = f'infer {args.backbone} T={len(clip)} E={expressions}'
        with torch.no_grad():
            comparison.compare(name, calls)

    def train(clip: Tensor) -> None:
        targets = make_targets(clip)
        calls = {
            'published': ('fp32', lambda: theirs.train(clip, targets)),
            **{
                precision: (
                    precision,
                    lambda p=precision: ours.train(clip, targets, p),
                )
                for precision in args.precisions
            },
        }
        comparison.compare(f'train {args.backbone} T={len(clip)}', calls)

    for clip in clips:
        if 'infer' in args.steps:
            for expressions in args.expressions if clip is clips[0] else [1]:
                infer(clip, expressions)
        if 'train' in args.steps and clip is clips[0]:
            train(clip)
    if args.compile:
        ours.model.backbone.compile()
        infer(clips[0], 1)


if __name__ == '__main__':
    main()
