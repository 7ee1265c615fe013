# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A recorded run of the published code, rebuilt with this package.

A case is ``<backbone>[_<variant>].npz`` beside ``<case>_keys.json``, of any
number of clips and frames. The weights are a pure function of the authors'
parameter names, so no checkpoint is stored; they go through the project's own
converter.
"""

import importlib.util
import json
import math
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope

from referformer.checkpoints.published import from_published
from referformer.models import ReferFormer
from referformer.models.layers import MaskFeatures
from referformer.prediction.data_samples import write_instances
from referformer.registry import MODELS
from referformer.structures import ClipTargets, TextTokens

ROOT = Path(__file__).parents[2]
GOLDEN_DIR = ROOT / 'tests/data/golden'
MODEL_DIR = ROOT / 'configs/_base_/models'
IDS = [[0, 5, 77, 210, 33, 2, 1, 1], [0, 901, 12, 6, 444, 78, 13, 2]]
MASK = [[1, 1, 1, 1, 1, 1, 0, 0], [1] * 8]
NOPAD_IDS = [[0, 5, 77, 210, 33, 2]]
NOPAD_SIZE = (90, 150)
ORI_SIZE = (177, 305)
TEXT = dict(
    model_type='roberta',
    vocab_size=1000,
    hidden_size=768,
    num_hidden_layers=2,
    num_attention_heads=12,
    intermediate_size=3072,
    max_position_embeddings=514,
    type_vocab_size=1,
    pad_token_id=1,
    layer_norm_eps=1e-5,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
)


def find_cases(golden_dir: Path) -> list[str]:
    """Names of the model cases in a folder."""
    cases = []
    for path in sorted(golden_dir.glob('*.npz')):
        with np.load(path) as record:
            if 'meta/frames' in record.files:
                cases.append(path.stem)
    return cases


def find_file(golden_dir: Path, name: str) -> Path:
    """A file of the folder, or this repository's where it has none."""
    path = golden_dir / name
    return path if path.exists() else GOLDEN_DIR / name


def recorded_weights(golden_dir: Path, name: str) -> dict[str, torch.Tensor]:
    """The authors' state dict of the case of a name."""
    keys = json.loads(find_file(golden_dir, f'{name}_keys.json').read_text())
    source = find_file(golden_dir, 'weights.py')
    spec = importlib.util.spec_from_file_location('golden_weights', source)
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    alias = 'transformer.decoder.bbox_embed.'
    blank = {
        name: torch.zeros(
            shape,
            dtype=torch.long
            if name.rsplit('.', 1)[-1] in weights.SKIP
            else torch.float32,
        )
        for name, shape in keys.items()
        if not name.startswith(alias)
    }
    return weights.fill(blank)


def without_dropout(cfg: Config) -> None:
    """Set every dropout and drop-path rate of a model config to 0."""
    for key, value in cfg.items():
        if isinstance(value, dict):
            without_dropout(value)
        elif key in ('dropout', 'drop_path_rate', 'drop_rate'):
            cfg[key] = 0.0


def build_model(
    backbone: str,
    weights: dict[str, torch.Tensor],
    num_classes: int = 1,
    frozen_text: bool = False,
) -> ReferFormer:
    """The configured model with the authors' weights, without dropout."""
    init_default_scope('referformer')
    cfg = Config.fromfile(MODEL_DIR / f'referformer_{backbone}.py').model
    cfg.backbone.pop('init_cfg')
    if cfg.backbone.get('with_cp'):
        cfg.backbone.with_cp = False
    cfg.text_encoder.update(
        pretrained=None, hf_config=TEXT, frozen=frozen_text
    )
    cfg.head.num_classes = num_classes
    without_dropout(cfg)
    model = MODELS.build(cfg)
    model.init_weights()
    missing, unexpected = model.load_state_dict(
        from_published(weights), strict=False
    )
    missing = [n for n in missing if not n.endswith('position_index')]
    assert not missing, missing
    assert not unexpected, unexpected
    return model


def draw_clip(seed: int, num_frames: int, size: tuple[int, int]):
    """Normalised pixels, shape (T, 3, h, w)."""
    clip = np.random.default_rng(seed).standard_normal(
        (num_frames, 3, *size), dtype=np.float32
    )
    return torch.from_numpy(clip)


def pad_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """The largest clip, rounded up to a multiple of 32."""
    sides = (max(side) for side in zip(*sizes, strict=True))
    return tuple(math.ceil(side / 32) * 32 for side in sides)


def draw_targets(
    seed: int,
    num_frames: int,
    size: tuple[int, int],
    padded: tuple[int, int],
    absent: int | None,
) -> ClipTargets:
    """The random boxes of one clip; the label is any of 65."""
    h, w = size
    boxes = torch.zeros(1, num_frames, 4)
    masks = torch.zeros(1, num_frames, *padded)
    valid = torch.zeros(1, num_frames, dtype=torch.bool)
    rng = np.random.default_rng(seed + 100)
    for t in range(num_frames):
        x0, y0 = rng.integers(0, w // 2), rng.integers(0, h // 2)
        bw = rng.integers(w // 8, w // 2)
        bh = rng.integers(h // 8, h // 2)
        if t == absent:
            continue  # drawn, but the object is absent here
        valid[0, t] = True
        masks[0, t, y0 : y0 + bh, x0 : x0 + bw] = 1
        boxes[0, t] = torch.tensor(
            [(x0 + bw / 2) / w, (y0 + bh / 2) / h, bw / w, bh / h]
        )
    return ClipTargets(
        torch.tensor([rng.integers(0, 65)]), boxes, masks, valid
    )


class GoldenCase:
    """One case: the record, the model, and what the model makes of it."""

    def __init__(self, golden_dir: Path, name: str, device: str = 'cpu'):
        self.name = name
        self.device = device
        self.record = dict(np.load(golden_dir / f'{name}.npz'))
        self.weights = recorded_weights(golden_dir, name)
        self.num_classes = self.record['out/pred_logits'].shape[-1]
        self.num_frames = int(self.record['meta/frames'])
        self.sizes = [tuple(map(int, s)) for s in self.record['meta/sizes']]
        valid = self.record.get('meta/valid_indices', np.zeros(0))
        self.valid_indices = [int(i) for i in valid] or None
        self.model = build_model(
            name.split('_')[0], self.weights, self.num_classes
        )
        self.model.to(device).eval()

    # -- inputs -------------------------------------------------------------

    @cached_property
    def batch(self) -> torch.Tensor:
        """Clips of the batch, (N, T, 3, H, W)."""
        padded = pad_size(self.sizes)
        batch = torch.zeros(len(self.sizes), self.num_frames, 3, *padded)
        for i, (h, w) in enumerate(self.sizes):
            batch[i, :, :, :h, :w] = draw_clip(i, self.num_frames, (h, w))
        return batch.to(self.device)

    @cached_property
    def tokens(self) -> TextTokens:
        """The sentences in turn, as long as they were recorded."""
        clips = range(len(self.sizes))
        length = self.record['mid/text/last_hidden'].shape[1]
        return TextTokens(
            *(
                torch.tensor(
                    [rows[i % 2][:length] for i in clips], device=self.device
                )
                for rows in (IDS, MASK)
            )
        )

    @cached_property
    def targets(self) -> ClipTargets:
        """The random boxes of the record."""
        num_frames = 1 if self.valid_indices else self.num_frames
        clips = [
            draw_targets(
                i,
                num_frames,
                size,
                pad_size(self.sizes),
                # frame 1 of clip 1, which one-frame targets do not have
                absent=1 if i == 1 else None,
            )
            for i, size in enumerate(self.sizes)
        ]
        targets = ClipTargets(
            *(torch.cat(parts) for parts in zip(*clips, strict=True))
        )
        if self.num_classes == 1:
            targets.labels[:] = 0
        return ClipTargets(*(part.to(self.device) for part in targets))

    # -- outputs ------------------------------------------------------------

    @cached_property
    def run(self) -> dict:
        """Everything the model computes on the batch, by name."""
        model = self.model
        out = {}
        handle = model.transformer.encoder.register_forward_hook(
            lambda module, args, result: out.update(encoder=result)
        )
        with torch.no_grad():
            out['text'] = model.text_encoder(self.tokens)
            out['language'] = model.text_encoder.language_model(
                input_ids=self.tokens.ids,
                attention_mask=self.tokens.attention_mask,
            )
            out['visual'] = model.extract_feat(
                self.batch, self.sizes, self.valid_indices
            )
            takes_clips = getattr(model.backbone, 'takes_clips', False)
            out['backbone'] = model.backbone(
                self.batch if takes_clips else self.batch.flatten(0, 1)
            )
            out['decoded'], out['mask_feats'] = model.decode(
                out['visual'], out['text']
            )
            out['preds'] = model.head(
                out['decoded'], out['mask_feats'], out['visual'].sizes
            )
            if isinstance(out['mask_feats'], MaskFeatures):
                out['mask_feats'] = out['mask_feats'].compute()
        handle.remove()
        return out

    @cached_property
    def losses(self) -> dict[str, torch.Tensor]:
        """Weighted losses, with gradients left in the model."""
        model = self.model
        model.zero_grad()
        visual = model.extract_feat(self.batch, self.sizes, self.valid_indices)
        decoded, mask_feats = model.decode(
            visual, model.text_encoder(self.tokens)
        )
        losses = model.head.loss(
            decoded, mask_feats, visual.sizes, self.targets
        )
        sum(losses.values()).backward()
        return losses

    @cached_property
    def nopad(self) -> dict:
        """The unpadded clip: raw predictions, selection and final masks."""
        clip = draw_clip(7, self.num_frames, NOPAD_SIZE)[None]
        ids = torch.tensor(NOPAD_IDS, device=self.device)
        model = self.model
        with torch.no_grad():
            text = model.text_encoder(TextTokens(ids, torch.ones_like(ids)))
            visual = model.extract_feat(
                clip.to(self.device),
                frame_indices=[self.num_frames // 2]
                if self.valid_indices
                else None,
            )
            decoded, mask_feats = model.decode(visual, text)
            found = model.predict_sequences(visual, text)
            frames = [
                DetDataSample(
                    metainfo=dict(img_shape=NOPAD_SIZE, ori_shape=ORI_SIZE)
                )
                for _ in range(found.masks.shape[1])
            ]
            for t, frame in enumerate(frames):
                write_instances(model.predictor, model, frame, found, 0, t)
            selected, _, _ = model.head.predict(
                decoded, mask_feats, visual.sizes
            )
            preds = model.head(decoded, mask_feats, visual.sizes)
        return {
            'preds': preds,
            'decoded': decoded,
            'selected': selected,
            'frames': [frame.pred_track_instances for frame in frames],
        }
