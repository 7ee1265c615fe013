# Third training of the example model: words. The backbone sees whole clips;
# it comes from the second training and stays as it is. The rest, up to the
# encoder of the transformer, sees one frame of each clip.
_base_ = './referformer_temporal-resnet_words.py'
custom_imports = dict(imports=['referformer.testing.naming'])

model = dict(
    type='PixelGrounding',
    embed_dims=64,
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/example/naming-clips/epoch_1.pth',
            prefix='backbone.',
        ),
    ),
)
train_dataloader = dict(batch_size=32, sampler=dict(samples_per_epoch=10400))
optim_wrapper = dict(precision='bf16', optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        convert_to_iter_based=True,
        begin=0,
        end=1,
        T_max=1,
        eta_min=1e-5,
    ),
]
train_cfg = dict(max_epochs=1)
