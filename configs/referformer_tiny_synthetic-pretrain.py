# First half of the quickstart: single frames, as the paper pre-trains on
# images. Seven eighths of the time go here.
_base_ = [
    './_base_/models/referformer_tiny.py', './_base_/datasets/synthetic.py',
    './_base_/schedules/quickstart.py', './_base_/default_runtime.py'
]
