# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
from mmdet.models.backbones import ResNet
from mmdet.models.layers import SinePositionalEncoding
from mmdet.models.losses import DiceLoss, FocalLoss, GIoULoss, L1Loss
from mmdet.models.necks import ChannelMapper

from referformer.models import (
    ConditionalQueries,
    CrossModalFPN,
    DynamicMaskHead,
    HashTokenizer,
    HFTextEncoder,
    InstanceSequenceCriterion,
    InstanceSequenceMatcher,
    MeanScoreSelector,
    ReferDataPreprocessor,
    ReferDeformableTransformer,
    ReferFormer,
    ReferHead,
    VisionLanguageFusion,
)

focal = dict(type=FocalLoss, use_sigmoid=True, loss_weight=2.0)
model = dict(
    type=ReferFormer,
    data_preprocessor=dict(
        type=ReferDataPreprocessor,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32),
    backbone=dict(type=ResNet, depth=18, base_channels=8),
    neck=dict(
        type=ChannelMapper,
        in_channels=[16, 32, 64],
        out_channels=64,
        kernel_size=1,
        bias=True,
        act_cfg=None,
        norm_cfg=dict(type='GN', num_groups=8),
        num_outs=4),
    positional_encoding=dict(
        type=SinePositionalEncoding,
        num_feats=32,
        normalize=True,
        offset=-0.5),
    text_encoder=dict(
        type=HFTextEncoder,
        hf_config=dict(
            model_type='roberta',
            vocab_size=300,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
            pad_token_id=1),
        tokenizer=dict(type=HashTokenizer, vocab_size=300),
        embed_dims=64),
    fusion=dict(type=VisionLanguageFusion, embed_dims=64),
    queries=dict(type=ConditionalQueries, embed_dims=64),
    transformer=dict(
        type=ReferDeformableTransformer,
        embed_dims=64,
        num_encoder_layers=1,
        num_decoder_layers=1,
        feedforward_channels=64),
    pixel_decoder=dict(
        type=CrossModalFPN,
        in_channels=[8, 64, 64, 64],
        embed_dims=64,
        mask_channels=64,
        feedforward_channels=64),
    head=dict(
        type=ReferHead,
        embed_dims=64,
        num_layers=1,
        mask_head=dict(type=DynamicMaskHead, embed_dims=64, mask_channels=64),
        criterion=dict(
            type=InstanceSequenceCriterion,
            matcher=dict(type=InstanceSequenceMatcher),
            loss_cls=focal,
            loss_bbox=dict(type=L1Loss, loss_weight=5.0),
            loss_giou=dict(type=GIoULoss, loss_weight=2.0),
            loss_mask=focal,
            loss_dice=dict(
                type=DiceLoss, naive_dice=True, eps=1.0, loss_weight=5.0)),
        selector=dict(type=MeanScoreSelector)))
