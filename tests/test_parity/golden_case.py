# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A recorded run of the published code, rebuilt with this package.

A case is ``<backbone>[_<variant>].npz`` beside ``<case>_keys.json``. The
weights are a pure function of the authors' parameter names, so no checkpoint
is stored; they go through the project's own converter.
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
from referformer.registry import MODELS
from referformer.structures import ClipTargets, TextTokens

ROOT = Path(__file__).parents[2]
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


def recorded_weights(golden_dir: Path, keys: dict) -> dict[str, torch.Tensor]:
    """The authors' state dict of a case."""
    source = golden_dir / 'weights.py'
    if not source.exists():
        source = ROOT / 'tests/data/golden/weights.py'
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


class GoldenCase:
    """One case: the record, the model, and what the model makes of it."""

    def __init__(self, golden_dir: Path, name: str, device: str = 'cpu'):
        self.name = name
        self.device = device
        self.record = dict(np.load(golden_dir / f'{name}.npz'))
        keys = json.loads((golden_dir / f'{name}_keys.json').read_text())
        self.weights = recorded_weights(golden_dir, keys)
        self.num_classes = self.record['out/pred_logits'].shape[-1]
        self.num_frames = int(self.record['meta/frames'])
        self.sizes = [tuple(map(int, s)) for s in self.record['meta/sizes']]
        valid = self.record.get('meta/valid_indices', np.zeros(0))
        self.valid_indices = [int(i) for i in valid] or None
        self.model = self._build(name.split('_')[0]).to(device).eval()

    def _build(self, backbone: str):
        init_default_scope('referformer')
        cfg = Config.fromfile(MODEL_DIR / f'referformer_{backbone}.py').model
        cfg.backbone.pop('init_cfg')
        if cfg.backbone.get('with_cp'):
            cfg.backbone.with_cp = False
        cfg.text_encoder.update(pretrained=None, hf_config=TEXT, frozen=False)
        cfg.head.num_classes = self.num_classes
        without_dropout(cfg)
        model = MODELS.build(cfg)
        model.init_weights()
        missing, unexpected = model.load_state_dict(
            from_published(self.weights), strict=False
        )
        missing = [n for n in missing if not n.endswith('position_index')]
        assert not missing, missing
        assert not unexpected, unexpected
        return model

    # -- inputs -------------------------------------------------------------

    @cached_property
    def padded_size(self) -> tuple[int, int]:
        """The largest clip, rounded up to a multiple of 32."""
        sides = (max(side) for side in zip(*self.sizes, strict=True))
        return tuple(math.ceil(side / 32) * 32 for side in sides)

    @cached_property
    def batch(self) -> torch.Tensor:
        """Clips of the batch, (N, T, 3, H, W)."""
        batch = torch.zeros(
            len(self.sizes), self.num_frames, 3, *self.padded_size
        )
        for i, (h, w) in enumerate(self.sizes):
            clip = np.random.default_rng(i).standard_normal(
                (self.num_frames, 3, h, w), dtype=np.float32
            )
            batch[i, :, :, :h, :w] = torch.from_numpy(clip)
        return batch.to(self.device)

    @cached_property
    def tokens(self) -> TextTokens:
        return TextTokens(
            torch.tensor(IDS, device=self.device),
            torch.tensor(MASK, device=self.device),
        )

    @cached_property
    def targets(self) -> ClipTargets:
        """The random boxes of the record."""
        num_frames = 1 if self.valid_indices else self.num_frames
        shape = (len(self.sizes), num_frames)
        labels = torch.zeros(len(self.sizes), dtype=torch.long)
        boxes = torch.zeros(*shape, 4)
        masks = torch.zeros(*shape, *self.padded_size)
        valid = torch.zeros(shape, dtype=torch.bool)
        for i, (h, w) in enumerate(self.sizes):
            rng = np.random.default_rng(i + 100)
            for t in range(num_frames):
                x0, y0 = rng.integers(0, w // 2), rng.integers(0, h // 2)
                bw, bh = rng.integers(w // 8, w // 2), 0
                bh = rng.integers(h // 8, h // 2)
                if (i, t) == (1, 1):
                    continue  # drawn, but the object is absent here
                valid[i, t] = True
                masks[i, t, y0 : y0 + bh, x0 : x0 + bw] = 1
                boxes[i, t] = torch.tensor(
                    [(x0 + bw / 2) / w, (y0 + bh / 2) / h, bw / w, bh / h]
                )
            label = int(rng.integers(0, 65))
            labels[i] = label if self.num_classes > 1 else 0
        return ClipTargets(
            *(x.to(self.device) for x in (labels, boxes, masks, valid))
        )

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
        clip = np.random.default_rng(7).standard_normal(
            (1, self.num_frames, 3, *NOPAD_SIZE), dtype=np.float32
        )
        ids = torch.tensor(NOPAD_IDS, device=self.device)
        model = self.model
        with torch.no_grad():
            text = model.text_encoder(TextTokens(ids, torch.ones_like(ids)))
            visual = model.extract_feat(
                torch.from_numpy(clip).to(self.device),
                frame_indices=[self.num_frames // 2]
                if self.valid_indices
                else None,
            )
            decoded, mask_feats = model.decode(visual, text)
            found = model.answer(visual, text)
            frames = [
                DetDataSample(
                    metainfo=dict(img_shape=NOPAD_SIZE, ori_shape=ORI_SIZE)
                )
                for _ in range(found.masks.shape[1])
            ]
            for t, frame in enumerate(frames):
                model.predictor.write_instances(model, frame, found, 0, t)
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
