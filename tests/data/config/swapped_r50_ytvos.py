# Another backbone, text encoder and fusion, by inheritance alone.
_base_ = '../../../configs/referformer_r50_ytvos-scratch.py'

custom_imports = dict(imports=['projects.example_project.dummy'])

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmdet.RegNet',
        arch='regnetx_400mf',
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=True),
    neck=dict(in_channels=[64, 160, 384]),
    pixel_decoder=dict(in_channels=[32, 256, 256, 256]),
    text_encoder=dict(
        _delete_=True,
        type='HFTextEncoder',
        hf_config=dict(
            model_type='distilbert',
            vocab_size=300,
            dim=24,
            n_layers=1,
            n_heads=2,
            hidden_dim=48),
        tokenizer=dict(type='HashTokenizer', vocab_size=300),
        pooling='mean'),
    fusion=dict(_delete_=True, type='DummyFusion', embed_dims=256))
