# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The one reader of ``meta_expressions.json``."""

import json

import pytest

from referformer.errors import DataError, collect_errors
from referformer.formats.attributes import FIELDS, read_attributes
from referformer.formats.expressions import (
    lists_by_object,
    read_expressions,
    read_objects,
)

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
    (said,) = WHOLE['v1']['expressions'].values()
    assert videos['v1']['expressions'] == {'0': {**said, 'attributes': {}}}


def test_a_list_that_masks_are_counted_by_must_be_in_order(file):
    with pytest.raises(DataError, match='v1 lists its frames out of order'):
        read_expressions(file(WHOLE), positional=True)
    ordered = {'v': {**WHOLE['v1'], 'frames': ['0', '9', '10']}}
    assert read_expressions(file(ordered), positional=True)
    # the order of texts is not the order of time
    as_text = {'v': {**WHOLE['v1'], 'frames': ['0', '10', '9']}}
    with pytest.raises(DataError, match='out of order'):
        read_expressions(file(as_text), positional=True)


def test_attributes_come_from_a_table_or_from_the_field_of_a_set(file):
    own = {'exp': 'a', 'attributes': {'size': 'small'}}
    said = {'0': {**own, 'type': 'static+dynamic'}, '1': {'exp': 'b'}}
    path = file({'v': {'frames': ['0'], 'expressions': said}})
    (video,) = read_expressions(path).values()
    read = [e['attributes'] for e in video['expressions'].values()]
    assert read == [{'size': 'small'}, {}]
    with collect_errors() as errors:
        videos = read_expressions(path, attribute=FIELDS['long-rvos'])
    (kept,) = videos['v']['expressions'].values()
    assert kept['attributes'] == {'size': 'small', 'type': 'hybrid'}
    # an expression whose kind is not told belongs to no group
    assert [error.code for error in errors] == ['attribute-wrong']
    assert 'video v, expression 1 has type None; expected' in str(errors[0])


@pytest.mark.parametrize(
    ('name', 'value', 'kind'),
    [
        ('revos', 0, 'referring'),
        ('revos', 1, 'reasoning'),
        ('revos', 2, 'no-target'),
        ('ref-sav', 0, 'long'),
        ('ref-sav', 1, 'short'),
        ('long-rvos', 'static', 'static'),
        ('long-rvos', 'dynamic', 'dynamic'),
    ],
)
def test_what_the_fields_of_the_public_sets_say(name, value, kind):
    field = FIELDS[name]
    attributes = read_attributes({field.field: value}, field)
    assert attributes == {'type': kind}
    for wrong in (True, 3, '0', None, [0]):
        with pytest.raises(ValueError, match=f'has {field.field}'):
            read_attributes({field.field: wrong}, field)


FAULTS = {
    'attribute-wrong': {
        'v': {
            'frames': ['0'],
            'expressions': {'0': {'exp': 'a', 'attributes': ['static']}},
        },
    },
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


def by_object(*texts, frames=()):
    return {'expressions': list(texts), 'frames': list(frames)}


def test_sentences_by_object_are_numbered_in_their_order(file):
    objects = {
        '10': by_object('e', frames=['101']),
        '2': by_object('c', frames=['5', '15']),
        '1': by_object('a', 'b', frames=['15', '100']),
        '4': by_object('d'),
        '5': by_object(),
    }
    path = file({'set/v': {'objects': objects}, 'w': {'objects': {}}})
    assert lists_by_object(path)
    video = read_objects(path, 'x')['set/v']
    assert video['frames'] == ['5', '15', '100', '101']
    assert video['expressions'] == {
        '0': {'exp': 'a', 'obj_id': '1'},
        '1': {'exp': 'b', 'obj_id': '1'},
        '2': {'exp': 'c', 'obj_id': '2'},
        '3': {'exp': 'd', 'obj_id': '4'},
        '4': {'exp': 'e', 'obj_id': '10'},
    }
    with pytest.raises(DataError, match='sentences by object, without numb'):
        read_expressions(path)


def test_an_ordinary_file_names_objects_too(file):
    path = file(WHOLE)
    assert not lists_by_object(path)
    expressions = read_objects(path, 'x')['v1']['expressions']
    assert expressions == WHOLE['v1']['expressions']


def test_meta_json_names_no_expressions(file):
    path = file({'v': {'objects': {'1': {'category': 'dog', 'frames': []}}}})
    with pytest.raises(DataError, match='v, object 1 has no list "expr'):
        read_objects(path, 'expressions with objects')
    with collect_errors() as errors:
        assert read_objects(path, 'x')['v']['expressions'] == {}
    assert [error.code for error in errors] == ['table-wrong']
