# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Output files are whole or absent."""

import json
import os

import numpy as np
import pytest
import torch

from referformer.formats.files import atomic_path, write_atomic, write_json
from tests.faults import DISK, fault


@fault(
    DISK,
    'writing a result fails',
    'the old file stays, and no temporary one is left',
)
def test_a_failure_leaves_the_old_file(tmp_path):
    path = tmp_path / 'new' / 'a.txt'
    with atomic_path(path) as temporary:
        temporary.write_text('old')

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text('half')
            raise OSError('full')

    with pytest.raises(OSError, match='full'):
        fail()
    assert path.read_text() == 'old'
    assert list(path.parent.iterdir()) == [path]


def test_write_json(tmp_path):
    path = tmp_path / 'new' / 'out.json'
    write_json(path, {'a': np.float32(0.5), 'b': torch.tensor(2)})
    assert json.loads(path.read_text()) == {'a': 0.5, 'b': 2}
    with pytest.raises(TypeError, match='cannot be written as JSON'):
        write_json(path, {'a': object()})
    # The old file is whole, and nothing lies beside it.
    assert json.loads(path.read_text())['b'] == 2
    assert [item.name for item in path.parent.iterdir()] == ['out.json']


def test_write_atomic(tmp_path):
    path = tmp_path / 'new' / 'file.txt'
    write_atomic(path, 'früher')
    assert path.read_bytes() == 'früher'.encode()
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
