# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Small models, and models of any config without files."""

import copy
from typing import Any

from referformer.errors import ConfigError
from referformer.models import VideoSwinTransformer

#: Families of language models: what is special in a small one.
_LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    # two more positions than the tokenizer's longest: ids start after padding
    'roberta': dict(
        model_type='roberta', max_position_embeddings=66, type_vocab_size=1
    ),
    'modernbert': dict(
        model_type='modernbert',
        max_position_embeddings=64,
        local_attention=8,
        cls_token_id=0,
        sep_token_id=2,
    ),
    'clip': dict(model_type='clip_text_model', max_position_embeddings=64),
}
_DROPOUTS = {
    'roberta': ('hidden_dropout_prob', 'attention_probs_dropout_prob'),
    'modernbert': ('embedding_dropout', 'mlp_dropout', 'attention_dropout'),
    'clip': ('attention_dropout',),
}


def tiny_text_encoder_cfg(
    embed_dims: int = 32,
    pooling: str = 'pooler',
    dropout: float = 0.0,
    frozen: bool = False,
    kind: str = 'roberta',
) -> dict:
    """Config of a language model with random weights that needs no files.

    Args:
        embed_dims (int): Channels C of the output.
        pooling (str): See :class:`~referformer.models.HFTextEncoder`.
        dropout (float): Every dropout rate.
        frozen (bool): Whether the language model gets no gradient.
        kind (str): ``'roberta'``, ``'modernbert'`` or ``'clip'``.

    Returns:
        dict: Config of an ``HFTextEncoder``.
    """
    hf_config = dict(
        vocab_size=512,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        **dict.fromkeys(_DROPOUTS[kind], dropout),
        **_LANGUAGE_MODELS[kind],
    )
    return dict(
        type='HFTextEncoder',
        hf_config=hf_config,
        tokenizer=dict(type='HashTokenizer', vocab_size=512, max_length=64),
        embed_dims=embed_dims,
        pooling=pooling,
        dropout=dropout,
        frozen=frozen,
    )


def tiny_model_cfg(
    backbone: str = 'resnet',
    embed_dims: int = 32,
    num_layers: int = 2,
    num_queries: int = 3,
    num_classes: int = 1,
    topk: int = 1,
    dropout: float = 0.0,
    frozen_text: bool = False,
) -> dict:
    """Config of a whole model that trains a step in a fraction of a second.

    Args:
        backbone (str): ``'resnet'`` (mmdet's ResNet-18, 8 channels),
            ``'swin'`` (mmdet's) or ``'video-swin'``.
        embed_dims (int): Channels C, divisible by 8.
        num_layers (int): Encoder layers, and decoder layers D.
        num_queries (int): Queries Q.
        num_classes (int): Classes K.
        topk (int): Sequences kept at prediction.
        dropout (float): Every dropout and drop-path rate; 0 makes the loss
            repeatable.
        frozen_text (bool): Whether the language model gets no gradient.

    Returns:
        dict: Model config for ``MODELS.build``.

    Raises:
        ConfigError: If ``backbone`` is unknown.
    """
    swin_arch = {
        'embed_dims': 8,
        'depths': (2, 1, 1, 1),
        'num_heads': (1, 2, 2, 2),
    }
    backbones: dict[str, dict[str, Any]] = {
        'resnet': dict(
            type='mmdet.ResNet',
            depth=18,
            base_channels=8,
            frozen_stages=1,
            norm_cfg=dict(type='BN', requires_grad=False),
            norm_eval=True,
        ),
        'swin': dict(
            type='SwinTransformer',
            window_size=4,
            drop_path_rate=dropout,
            **swin_arch,
        ),
        'video-swin': dict(
            type='VideoSwinTransformer',
            arch=swin_arch,
            window_size=(2, 4, 4),
            drop_path_rate=dropout,
        ),
    }
    if backbone not in backbones:
        raise ConfigError(
            f'backbone is {backbone!r}; choose one of {sorted(backbones)}.'
        )
    layer = dict(
        embed_dims=embed_dims,
        num_heads=4,
        feedforward_channels=2 * embed_dims,
        dropout=dropout,
    )
    focal = dict(type='mmdet.FocalLoss', use_sigmoid=True, loss_weight=2.0)
    return dict(
        type='ReferFormer',
        data_preprocessor=dict(
            type='ReferDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            pad_mask=True,
            pad_size_divisor=32,
        ),
        backbone=backbones[backbone],
        neck=dict(
            type='mmdet.ChannelMapper',
            in_channels=[16, 32, 64],
            out_channels=embed_dims,
            kernel_size=1,
            bias=True,
            act_cfg=None,
            norm_cfg=dict(type='GN', num_groups=4),
            num_outs=4,
        ),
        positional_encoding=dict(
            type='mmdet.SinePositionalEncoding',
            num_feats=embed_dims // 2,
            normalize=True,
            offset=-0.5,
        ),
        text_encoder=tiny_text_encoder_cfg(
            embed_dims, dropout=dropout, frozen=frozen_text
        ),
        fusion=dict(
            type='VisionLanguageFusion', embed_dims=embed_dims, num_heads=4
        ),
        queries=dict(
            type='ConditionalQueries',
            num_queries=num_queries,
            embed_dims=embed_dims,
        ),
        transformer=dict(
            type='ReferDeformableTransformer',
            num_points=2,
            num_encoder_layers=num_layers,
            num_decoder_layers=num_layers,
            **layer,
        ),
        pixel_decoder=dict(
            type='CrossModalFPN',
            in_channels=[8, embed_dims, embed_dims, embed_dims],
            mask_channels=embed_dims,
            norm_cfg=dict(type='GN', num_groups=4),
            **layer,
        ),
        head=dict(
            type='ReferHead',
            num_classes=num_classes,
            embed_dims=embed_dims,
            num_layers=num_layers,
            mask_head=dict(
                type='DynamicMaskHead',
                embed_dims=embed_dims,
                mask_channels=embed_dims,
            ),
            criterion=dict(
                type='InstanceSequenceCriterion',
                matcher=dict(type='InstanceSequenceMatcher'),
                loss_cls=focal,
                loss_bbox=dict(type='mmdet.L1Loss', loss_weight=5.0),
                loss_giou=dict(type='GIoULoss', loss_weight=2.0),
                loss_mask=focal,
                loss_dice=dict(
                    type='mmdet.DiceLoss',
                    naive_dice=True,
                    eps=1.0,
                    loss_weight=5.0,
                ),
            ),
            selector=dict(type='MeanScoreSelector', topk=topk),
        ),
    )


def _is(part: dict, name: str) -> bool:
    """Whether a config is of a type; pure-Python configs hold classes."""
    kind = part['type']
    if isinstance(kind, str):
        return kind == name
    return kind.__name__ == name.rsplit('.', 1)[-1]


def _shrink_backbone(backbone: dict) -> list[int] | None:
    """Shrink in place; channels of the outputs, None when left as it is."""
    if _is(backbone, 'mmdet.ResNet'):
        backbone['base_channels'] = 4
        expansion = 1 if backbone['depth'] < 50 else 4
        return [4 * expansion * 2**i for i in range(4)]
    # channels per head 4, blocks of both kinds (plain and shifted) kept
    if any(_is(backbone, f'{s}SwinTransformer') for s in ('', 'mmdet.')):
        backbone['embed_dims'] = width = 4 * backbone['num_heads'][0]
        backbone['depths'] = (2, 1, 1, 1)
        return [width * 2**i for i in range(4)]
    if _is(backbone, 'VideoSwinTransformer'):
        arch = backbone.get('arch', 'tiny')
        if isinstance(arch, str):
            arch = VideoSwinTransformer.arch_zoo[arch]
        width = 4 * arch['num_heads'][0]
        backbone['arch'] = dict(
            embed_dims=width,
            depths=(2, 1, 1, 1),
            num_heads=tuple(arch['num_heads']),
        )
        return [width * 2**i for i in range(4)]
    if _is(backbone, 'PaddedBackbone'):
        channels = _shrink_backbone(backbone['backbone'])
        if channels and backbone.get('pyramid'):
            backbone['pyramid']['in_channels'] = channels[-1]
            return None  # the pyramid gives what it gave
        return channels
    if _is(backbone, 'mmpretrain.ConvNeXt'):
        channels = [8, 16, 32, 64]
        backbone['arch'] = dict(depths=[1, 1, 1, 1], channels=channels)
        return channels
    vits = ('VisionTransformer', 'ViTEVA02', 'ViTSAM')
    if any(_is(backbone, f'mmpretrain.{name}') for name in vits):
        backbone['arch'] = dict(
            embed_dims=32,
            num_layers=2,
            num_heads=2,
            feedforward_channels=64,
            global_attn_indexes=[1],  # of SAM
        )
        return [backbone.get('out_channels', 32)]
    if _is(backbone, 'TimmBackbone'):
        if not backbone['model_name'].startswith('sam2_hiera'):
            return None
        # the last stage attends globally
        backbone.update(
            embed_dim=8,
            num_heads=1,
            stages=(1, 1, 2, 1),
            global_att_blocks=(3,),
        )
        return [8, 16, 32, 64]
    return None


def _without_pretrained(cfg: Any) -> None:
    """Drop everything that would load a file, in place."""
    if isinstance(cfg, dict):
        init = cfg.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == 'Pretrained':
            del cfg['init_cfg']
        if cfg.get('pretrained') is True:
            cfg['pretrained'] = False
        for value in cfg.values():
            _without_pretrained(value)
    elif isinstance(cfg, list | tuple):
        for value in cfg:
            _without_pretrained(value)


def shrink_model_cfg(
    model_cfg: dict, num_layers: int = 1, backbone: bool = True
) -> dict:
    """Shrink a model config so that it builds and steps on a CPU at once.

    Widths that several parts agree on stay, so that a component of your own
    keeps fitting: what shrinks is the inside of the backbone, the number of
    layers, the hidden channels, and the text encoder, which becomes a random
    one without files. Parts of unknown types are left alone.

    Args:
        model_cfg (dict): The ``model`` of any config; not changed.
        num_layers (int): Encoder layers, and decoder layers.
        backbone (bool): Whether to shrink the backbone.

    Returns:
        dict: The shrunken copy.
    """
    cfg = copy.deepcopy(model_cfg)
    _without_pretrained(cfg)
    channels = _shrink_backbone(cfg['backbone']) if backbone else None
    if channels is not None:
        cfg['neck']['in_channels'] = channels[1:]
        inputs = list(cfg['pixel_decoder']['in_channels'])
        cfg['pixel_decoder']['in_channels'] = [channels[0], *inputs[1:]]
    text = cfg['text_encoder']
    if _is(text, 'HFTextEncoder') and text.get('pretrained'):
        name = text.pop('pretrained').lower()
        kinds = [kind for kind in _LANGUAGE_MODELS if kind in name]
        tiny = tiny_text_encoder_cfg(kind=kinds[0] if kinds else 'roberta')
        text['hf_config'] = tiny['hf_config']
        text['tokenizer'] = tiny['tokenizer']
    if _is(cfg['transformer'], 'ReferDeformableTransformer'):
        cfg['transformer'].update(
            num_encoder_layers=num_layers,
            num_decoder_layers=num_layers,
            feedforward_channels=64,
        )
        cfg['head']['num_layers'] = num_layers
    if _is(cfg['pixel_decoder'], 'CrossModalFPN'):
        cfg['pixel_decoder']['feedforward_channels'] = 64
    return cfg


def offline_model_cfg(model_cfg: dict) -> dict:
    """Make a model config build at its full size without any file.

    For measuring speed, memory and operations, which do not depend on the
    weights. A text encoder that would be loaded becomes one of RoBERTa-base's
    shape.

    Args:
        model_cfg (dict): The ``model`` of any config; not changed.

    Returns:
        dict: A copy without pretrained parts.
    """
    cfg = copy.deepcopy(model_cfg)
    _without_pretrained(cfg)
    text = cfg['text_encoder']
    if _is(text, 'HFTextEncoder') and text.pop('pretrained', None):
        vocab_size = 50265
        text['hf_config'] = dict(
            model_type='roberta',
            vocab_size=vocab_size,
            max_position_embeddings=514,
            type_vocab_size=1,
        )
        text['tokenizer'] = dict(type='HashTokenizer', vocab_size=vocab_size)
    return cfg
