# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Checkpoints load completely, or not at all and with a reason."""

import argparse
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from referformer.checkpoints.io import (
    load_checkpoint_safely,
    save_checkpoint,
    state_dict_of,
)
from referformer.checkpoints.mmengine_loader import use_safe_loading
from referformer.errors import CheckpointError, MissingCheckpointError
from tests.faults import CHECKPOINTS, DISK, SAFETY, fault


class Evil:
    """Writes a file when unpickled by an unsafe loader."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


class HiddenEvil:
    """Reaches for the builtins through an allowed class."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


def mmengine_checkpoint():
    """One of each thing mmengine puts into a checkpoint."""
    buffer = HistoryBuffer()
    for value in (1.5, 2.5):
        buffer.update(value)
    model = nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        'meta': {
            'epoch': 3,
            'seed': np.int64(7),
            'dataset_meta': ConfigDict(palette=np.arange(6).reshape(2, 3)),
        },
        'message_hub': {
            'log_scalars': {'train/loss': buffer},
            'runtime_info': {'best_score': np.float64(0.25), 'flag': np.True_},
        },
        'state_dict': model.state_dict(),
        'optimizer': optimizer.state_dict(),
    }


def test_round_trip_of_an_mmengine_checkpoint(tmp_path):
    path = tmp_path / 'epoch_3.pth'
    saved = mmengine_checkpoint()
    torch.save(saved, path)

    loaded = load_checkpoint_safely(path)

    buffer = loaded['message_hub']['log_scalars']['train/loss']
    assert buffer.mean() == 2.0
    assert buffer.statistics('max') == 2.5
    assert loaded['meta']['seed'] == 7
    np.testing.assert_array_equal(
        loaded['meta']['dataset_meta']['palette'], [[0, 1, 2], [3, 4, 5]]
    )
    assert loaded['message_hub']['runtime_info']['best_score'] == 0.25
    for name, value in saved['state_dict'].items():
        assert torch.equal(loaded['state_dict'][name], value)
    step = loaded['optimizer']['state'][0]['exp_avg']
    assert torch.equal(step, saved['optimizer']['state'][0]['exp_avg'])


def test_names_of_the_other_numpy(tmp_path):
    """Arrays written under numpy 1 load under numpy 2, and back."""
    path = tmp_path / 'a.pth'
    torch.save({'a': np.arange(3.0)}, path)
    here = np.empty(0).__reduce__()[0].__module__
    other = {
        'numpy._core.multiarray': 'numpy.core.multiarray',
        'numpy.core.multiarray': 'numpy._core.multiarray',
    }[here]
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w') as archive:  # stored, not compressed
        for name, data in records.items():
            archive.writestr(name, data.replace(here.encode(), other.encode()))
    assert not any(other.encode() in data for data in records.values())
    loaded = load_checkpoint_safely(path)
    np.testing.assert_array_equal(loaded['a'], [0, 1, 2])


@fault(
    SAFETY,
    'a checkpoint that runs code when it is unpickled',
    'the code does not run; the error names the file and the object',
)
def test_a_malicious_file_does_nothing(tmp_path):
    path, target = tmp_path / 'evil.pth', tmp_path / 'touched'
    torch.save({'state_dict': {}, 'x': Evil(target)}, path)
    with pytest.raises(CheckpointError, match=r'evil\.pth holds an object of'):
        load_checkpoint_safely(path)
    assert not target.exists()
    # The file is what it claims to be: an unsafe loader would have run it.
    pickle.loads(pickle.dumps(Evil(target)))
    assert target.exists()


@fault(
    SAFETY,
    'the same as a bare pickle, of every protocol',
    'the code does not run; the error names the file',
)
# torch tells of protocols that it does not write
@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
@pytest.mark.parametrize('protocol', [0, 1, 2, 4, 5])
def test_a_bare_malicious_pickle_does_nothing(tmp_path, protocol):
    path, target = tmp_path / 'evil.pth', tmp_path / 'touched'
    path.write_bytes(pickle.dumps(Evil(target), protocol=protocol))
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load_checkpoint_safely(path)
    assert not target.exists()


@fault(
    SAFETY,
    'a checkpoint that reaches a function through `getattr`',
    'it is refused',
)
def test_getattr_reaches_statistics_only(tmp_path):
    path = tmp_path / 'evil.pth'
    torch.save({'x': HiddenEvil()}, path)
    with pytest.raises(CheckpointError, match='getattr'):
        load_checkpoint_safely(path)


@fault(
    SAFETY,
    'a checkpoint with an object of another class',
    'it is refused and the class named; it can be allowed for one call',
)
def test_a_foreign_class_is_named_and_can_be_allowed(tmp_path):
    path = tmp_path / 'authors.pth'
    torch.save({'args': argparse.Namespace(lr=1e-4)}, path)
    with pytest.raises(
        CheckpointError, match=r'authors\.pth holds .* "argparse\.Namespace"'
    ):
        load_checkpoint_safely(path)
    loaded = load_checkpoint_safely(
        path, extra_safe_globals=[argparse.Namespace]
    )
    assert loaded['args'].lr == 1e-4
    with pytest.raises(CheckpointError):
        load_checkpoint_safely(path)


@fault(
    CHECKPOINTS,
    'the file is empty, a web page, a broken archive or a text',
    'the error says which',
)
@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (b'', 'it is empty'),
        (b'<html>404</html>', 'it is a web page'),
        (b'\x80\x02.', r'\('),
        (b'PK\x03\x04' + b'0' * 99, 'it is truncated'),
        (
            b'lr = 0.1\n' * 9,
            r"it is not a file of torch\.save \(it begins with 'lr = 0\.1",
        ),
    ],
)
def test_something_else_is_no_checkpoint(tmp_path, content, reason):
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError,
        match=rf'broken\.pth is not a readable checkpoint:? {reason}',
    ):
        load_checkpoint_safely(path)


@fault(
    CHECKPOINTS,
    'a checkpoint is cut off',
    'the error says that it is truncated',
)
def test_a_truncated_file(tmp_path):
    path = tmp_path / 'cut.pth'
    torch.save(mmengine_checkpoint(), path)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(CheckpointError, match=r'cut\.pth .*: it is truncated'):
        load_checkpoint_safely(path)


@fault(
    CHECKPOINTS,
    'the file holds a tensor alone',
    'the error says what it holds',
)
def test_a_file_that_holds_no_dict(tmp_path):
    path = tmp_path / 'tensor.pth'
    torch.save(torch.ones(2), path)
    with pytest.raises(CheckpointError, match='holds a Tensor where'):
        load_checkpoint_safely(path)


@fault(
    CHECKPOINTS,
    'the file does not exist',
    'the error names it',
)
def test_a_missing_file(tmp_path):
    with pytest.raises(
        MissingCheckpointError, match=r'none\.pth is not a file'
    ):
        load_checkpoint_safely(tmp_path / 'none.pth')


def test_mmengine_loads_through_here(tmp_path):
    use_safe_loading()
    path = tmp_path / 'epoch_3.pth'
    torch.save(mmengine_checkpoint(), path)
    loaded = CheckpointLoader.load_checkpoint(str(path), 'cpu')
    assert loaded['meta']['epoch'] == 3
    torch.save({'x': Evil(tmp_path / 'touched')}, path)
    with pytest.raises(CheckpointError):
        CheckpointLoader.load_checkpoint(str(path), 'cpu')
    assert not (tmp_path / 'touched').exists()


def test_an_address_loads_through_here(tmp_path, monkeypatch):
    use_safe_loading()
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    fetched = []

    def download(url, path, hash_prefix, progress):
        assert hash_prefix is None
        fetched.append(url)
        torch.save(mmengine_checkpoint(), path)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    for _ in range(2):
        loaded = CheckpointLoader.load_checkpoint('https://a.b/c/d.pth?x=1')
        assert loaded['meta']['epoch'] == 3
    assert fetched == ['https://a.b/c/d.pth?x=1']
    assert (tmp_path / 'checkpoints' / 'd.pth').is_file()


@fault(
    CHECKPOINTS,
    'weights have an address, and there is no network',
    'the error says where to put the file, and a file put there is taken',
)
def test_an_address_without_network(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.chdir(tmp_path)
    url = 'https://a.b/c/net-0123abcd.pth'

    def download(url, path, hash_prefix, progress):
        assert hash_prefix == '0123abcd'
        raise OSError('no route to host')

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    reason = r'net-0123abcd\.pth could not be downloaded \(no route to host\)'
    with pytest.raises(
        CheckpointError, match=rf'{reason}; .* put it at checkpoints/net-'
    ):
        CheckpointLoader.load_checkpoint(url)
    # ... and a file put there is taken
    (tmp_path / 'checkpoints').mkdir()
    torch.save(
        mmengine_checkpoint(), tmp_path / 'checkpoints' / Path(url).name
    )
    assert CheckpointLoader.load_checkpoint(url)['meta']['epoch'] == 3


@fault(
    CHECKPOINTS,
    'the file is an archive of checkpoints',
    'the error names its content',
)
def test_an_archive_of_something_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / 'x.pth', 'w') as archive:
        archive.writestr('ytvos_r50.pth', b'')
        archive.writestr('readme', b'')
    with pytest.raises(
        CheckpointError, match=r'of ytvos_r50\.pth and 1 more;'
    ):
        load_checkpoint_safely(tmp_path / 'x.pth')


def test_nothing_is_left_allowed(tmp_path):
    # torch keeps a set, which has no order
    before = set(torch.serialization.get_safe_globals())
    path = tmp_path / 'epoch_3.pth'
    torch.save(mmengine_checkpoint(), path)
    load_checkpoint_safely(path)
    assert set(torch.serialization.get_safe_globals()) == before


@fault(
    DISK,
    'the disk is full while a file of weights is replaced',
    'the old file stays, and nothing else is left',
)
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'new' / 'x.pth'
    save_checkpoint({'a': torch.ones(1)}, path)

    def full_disk(content, path):
        Path(path).write_bytes(b'half of it')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full_disk)
    with pytest.raises(OSError, match='No space left'):
        save_checkpoint({'a': torch.zeros(1)}, path)
    assert load_checkpoint_safely(path) == {'a': torch.ones(1)}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize('prefix', ['module.', 'module.module.'])
@pytest.mark.parametrize('key', ['state_dict', 'model', None])
def test_weights_of_a_wrapped_model(tmp_path, key, prefix):
    """As several processes save them; every reader meets the plain names."""
    saved, model = nn.Linear(2, 3), nn.Linear(2, 3)
    weights = {f'{prefix}{k}': v for k, v in saved.state_dict().items()}
    path = tmp_path / 'x.pth'
    save_checkpoint({key: weights} if key else weights, path)
    model.load_state_dict(state_dict_of(load_checkpoint_safely(path)))
    assert torch.equal(model.weight, saved.weight)
    loaded = CheckpointLoader.load_checkpoint(str(path), 'cpu')
    # mmengine looks nowhere else
    assert set(loaded.get('state_dict', loaded)) == {'weight', 'bias'}


def test_versions_of_layers_are_unwrapped_too(tmp_path):
    path = tmp_path / 'x.pth'
    model = nn.Sequential(nn.BatchNorm1d(2))
    wrapped = nn.Module()
    wrapped.module = model
    save_checkpoint({'state_dict': wrapped.state_dict()}, path)
    loaded = load_checkpoint_safely(path)['state_dict']
    assert loaded._metadata['0'] == model.state_dict()._metadata['0']
    assert loaded._metadata['0']['version'] == 2


def test_a_part_called_module_keeps_its_name(tmp_path):
    path = tmp_path / 'x.pth'
    save_checkpoint({'module.a': torch.ones(1), 'b': torch.ones(1)}, path)
    assert set(load_checkpoint_safely(path)) == {'module.a', 'b'}
