# Evaluation on RefCOCO, RefCOCO+ and RefCOCOg (split by UMD): all splits in
# one run, with scores for each. An image is read once for all its sentences.
# For a single split, add to --cfg-options
#   test_dataloader.dataset.ann_file=refcoco/instances_refcoco_val.json
_base_ = './_test_loader.py'

dataset_type = 'RefCOCODataset'
data_root = 'data/coco/'

test_pipeline = [
    dict(type='NormalizeText'),
    dict(type='SampleAllFrames'),
    dict(
        type='TransformBroadcaster',
        transforms=[
            dict(type='LoadReferFrame'),
            dict(type='ReferResize', short_side=360, max_long_side=640),
            # After the resize: the ground truth keeps its own size.
            dict(type='LoadCocoReferAnnotations'),
        ],
    ),
    dict(type='PackReferInputs', test_mode=True),
]

test_dataloader = dict(
    num_workers=4,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file=[
            'refcoco/instances_refcoco_val.json',
            'refcoco/instances_refcoco_testA.json',
            'refcoco/instances_refcoco_testB.json',
            'refcoco+/instances_refcoco+_val.json',
            'refcoco+/instances_refcoco+_testA.json',
            'refcoco+/instances_refcoco+_testB.json',
            'refcocog/instances_refcocog_val.json',
            'refcocog/instances_refcocog_test.json',
        ],
        data_prefix=dict(img='train2014'),
        group_by_video=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='ReferSegMetric', kind='refcoco')
# Settings of the model for these scores: masks are resized in two steps.
protocol = dict(mask_resize='two_step')
