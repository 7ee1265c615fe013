# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The one reader of ``meta_expressions.json``."""

import json

import pytest

from referformer.errors import DataError, collect_errors
from referformer.formats.expressions import read_expressions

WHOLE = {
    'v1': {
        'frames': ['10', '9', '0'],
        'expressions': {'0': {'exp': 'a dog', 'obj_id': '1', 'type': 'x'}},
    },
    'set/v2': {'frames': ['a'], 'expressions': {}},
}


@pytest.fixture
def file(tmp_path):
    def write(videos, encoding='utf-8'):
        path = tmp_path / 'meta_expressions.json'
        content = {'videos': videos}
        path.write_bytes(json.dumps(content).encode(encoding))
        return path

    return write


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_frames_come_in_natural_order(file, encoding):
    videos = read_expressions(file(WHOLE, encoding))
    assert list(videos) == ['v1', 'set/v2']
    assert videos['v1']['frames'] == ['0', '9', '10']
    assert videos['v1']['expressions'] == WHOLE['v1']['expressions']


def test_a_list_that_masks_are_counted_by_must_be_in_order(file):
    with pytest.raises(DataError, match='v1 lists its frames out of order'):
        read_expressions(file(WHOLE), positional=True)
    ordered = {'v': {**WHOLE['v1'], 'frames': ['0', '9', '10']}}
    assert read_expressions(file(ordered), positional=True)
    # the order of texts is not the order of time
    as_text = {'v': {**WHOLE['v1'], 'frames': ['0', '10', '9']}}
    with pytest.raises(DataError, match='out of order'):
        read_expressions(file(as_text), positional=True)


FAULTS = {
    'name-unsafe': {
        '../v': WHOLE['v1'],
        'v2': {**WHOLE['v1'], 'frames': ['../x', '1']},
        'v3': {**WHOLE['v1'], 'expressions': {'a/b': {'exp': 'a'}}},
    },
    'frames-none': {'v1': {'frames': [], 'expressions': {}}, 'v2': {}},
    'table-wrong': {
        'v1': [1],
        'v2': {'frames': ['0'], 'expressions': []},
        'v3': {'frames': ['0'], 'expressions': {'0': 'a dog'}},
    },
    'frame-listed-twice': {'v': {**WHOLE['v1'], 'frames': ['0', '1', '0']}},
    'expression-empty': {
        'v1': {'frames': ['0'], 'expressions': {'0': {'exp': ' '}}},
        'v2': {'frames': ['0'], 'expressions': {'0': {'exp': None}}},
    },
}


@pytest.mark.parametrize('code', FAULTS)
def test_faults_are_raised_one_by_one_or_collected(file, code):
    path = file({**FAULTS[code], 'good': WHOLE['v1']})
    with pytest.raises(DataError) as caught:
        read_expressions(path)
    assert caught.value.code == code
    assert caught.value.file == str(path)
    assert str(path) in str(caught.value)
    with collect_errors() as errors:
        videos = read_expressions(path)
    assert [error.code for error in errors] == [code] * len(FAULTS[code])
    assert videos['good']['frames'] == ['0', '9', '10']
    assert all(video['frames'] for video in videos.values())


def test_the_message_does_not_repeat_a_long_entry(file):
    path = file({'v' * 10: ['a secret ' * 999]})
    with pytest.raises(DataError) as caught:
        read_expressions(path)
    assert len(str(caught.value)) < 400
    assert 'secret' not in str(caught.value)


def test_an_expression_named_twice(tmp_path):
    path = tmp_path / 'a.json'
    path.write_text(
        '{"videos": {"v": {"frames": ["0"], "expressions": '
        '{"0": {"exp": "a"}, "0": {"exp": "b"}}}}}'
    )
    with pytest.raises(DataError, match="the key '0' twice"):
        read_expressions(path)
