# Prediction: one video at a time, each exactly once.
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
)
test_cfg = dict(type='referformer.ResumableTestLoop')
