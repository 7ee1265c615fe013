# JHMDB-Sentences, without training: for models of A2D-Sentences trained alone,
# which read six frames.
_base_ = [
    '../datasets/jhmdb.py',
    '../default_runtime.py',
]

test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='NormalizeText'),
            dict(type='SampleWindow', num_frames=6),
            *_base_.load_for_test,
        ]
    )
)
