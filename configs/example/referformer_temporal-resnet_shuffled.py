# Scores the example model on videos whose frames are out of order: what it
# then loses, it owes to motion.
_base_ = './referformer_temporal-resnet_example.py'
custom_imports = dict(imports=['referformer.testing.shuffle_frames'])

test_pipeline = [
    *_base_.test_pipeline[:2],
    dict(type='ShuffleFrames'),
    *_base_.test_pipeline[2:],
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
