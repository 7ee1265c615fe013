# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Checkpoints load completely, or not at all and with a reason."""

import argparse
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from referformer.checkpoints import io as module
from referformer.checkpoints.io import (
    load_checkpoint_safely,
    require_matching_weights,
    use_safe_loading,
)
from referformer.errors import CheckpointError
from referformer.models.layers import MultiheadAttention


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


@pytest.fixture(params=['this torch', 'torch before 2.5'])
def loader(request, monkeypatch):
    """Both ways of loading: torch's own, and ours for older versions."""
    if request.param == 'torch before 2.5':
        monkeypatch.delattr(torch.serialization, 'safe_globals')
        # As it was then: a pickle_module excludes weights_only.
        assert not hasattr(torch.serialization, 'safe_globals')
    elif not hasattr(torch.serialization, 'safe_globals'):
        pytest.skip('this torch is older')
    return load_checkpoint_safely


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


def test_round_trip_of_an_mmengine_checkpoint(tmp_path, loader):
    path = tmp_path / 'epoch_3.pth'
    saved = mmengine_checkpoint()
    torch.save(saved, path)

    loaded = loader(path)

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


def test_names_of_the_other_numpy(tmp_path, loader):
    """Arrays written under numpy 1 load under numpy 2, and back."""
    path = tmp_path / 'a.pth'
    torch.save({'a': np.arange(3.0)}, path)
    here = np.empty(0).__reduce__()[0].__module__
    other = {
        'numpy._core.multiarray': 'numpy.core.multiarray',
        'numpy.core.multiarray': 'numpy._core.multiarray',
    }[here]
    # A stored (not compressed) zip: rewrite the pickle inside.
    with torch.serialization._open_zipfile_reader(str(path)) as reader:
        data = reader.get_record('data.pkl')
    data = data.replace(here.encode(), other.encode())
    unpickled = module._restricted_pickle(module.safe_globals())
    import io

    loaded = unpickled.load(io.BytesIO(data))
    np.testing.assert_array_equal(loaded['a'], [0, 1, 2])


def test_a_malicious_file_does_nothing(tmp_path, loader):
    path, target = tmp_path / 'evil.pth', tmp_path / 'touched'
    torch.save({'state_dict': {}, 'x': Evil(target)}, path)
    with pytest.raises(CheckpointError, match=r'evil\.pth holds an object of'):
        loader(path)
    assert not target.exists()
    # The file is what it claims to be: an unsafe loader would have run it.
    pickle.loads(pickle.dumps(Evil(target)))
    assert target.exists()


@pytest.mark.parametrize('protocol', [0, 1, 2, 4, 5])
def test_a_bare_malicious_pickle_does_nothing(tmp_path, loader, protocol):
    path, target = tmp_path / 'evil.pth', tmp_path / 'touched'
    path.write_bytes(pickle.dumps(Evil(target), protocol=protocol))
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        loader(path)
    assert not target.exists()


def test_getattr_reaches_statistics_only(tmp_path, loader):
    path = tmp_path / 'evil.pth'
    torch.save({'x': HiddenEvil()}, path)
    with pytest.raises(CheckpointError, match='getattr'):
        loader(path)


def test_a_foreign_class_is_named_and_can_be_allowed(tmp_path, loader):
    path = tmp_path / 'authors.pth'
    torch.save({'args': argparse.Namespace(lr=1e-4)}, path)
    with pytest.raises(
        CheckpointError, match=r'authors\.pth holds .* "argparse\.Namespace"'
    ):
        loader(path)
    loaded = loader(path, extra_safe_globals=[argparse.Namespace])
    assert loaded['args'].lr == 1e-4
    with pytest.raises(CheckpointError):
        loader(path)


@pytest.mark.parametrize(
    'content',
    [b'', b'<html>404</html>', b'\x80\x02.', b'PK\x03\x04' + b'0' * 99],
)
def test_something_else_is_no_checkpoint(tmp_path, loader, content):
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r'broken\.pth is not a readable'
    ):
        loader(path)


def test_a_truncated_file(tmp_path, loader):
    path = tmp_path / 'cut.pth'
    torch.save(mmengine_checkpoint(), path)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(CheckpointError, match=r'cut\.pth is not a readable'):
        loader(path)


def test_a_file_that_holds_no_dict(tmp_path, loader):
    path = tmp_path / 'tensor.pth'
    torch.save(torch.ones(2), path)
    with pytest.raises(CheckpointError, match='holds a Tensor where'):
        loader(path)


def test_a_missing_file(tmp_path, loader):
    with pytest.raises(FileNotFoundError, match=r'none\.pth is not a file'):
        loader(tmp_path / 'none.pth')


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


def test_an_archive_of_something_is_named(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / 'x.pth', 'w') as archive:
        archive.writestr('ytvos_r50.pth', b'')
        archive.writestr('readme', b'')
    with pytest.raises(
        CheckpointError, match=r'of ytvos_r50\.pth and 1 more;'
    ):
        load_checkpoint_safely(tmp_path / 'x.pth')


def test_nothing_is_left_allowed(tmp_path, loader):
    if not hasattr(torch.serialization, 'get_safe_globals'):
        pytest.skip('this torch has no list')
    # torch keeps a set, which has no order
    before = set(torch.serialization.get_safe_globals())
    path = tmp_path / 'epoch_3.pth'
    torch.save(mmengine_checkpoint(), path)
    loader(path)
    assert set(torch.serialization.get_safe_globals()) == before


class TestRequireMatchingWeights:
    """A checkpoint of another model is refused."""

    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))

    def check(self, change, strict=True):
        weights = self.model.state_dict()
        change(weights)
        require_matching_weights(
            self.model, {'state_dict': weights}, 'x.pth', strict=strict
        )

    def test_the_same_model_passes(self):
        self.check(lambda weights: None)

    def test_an_older_batch_norm_passes(self):
        self.check(lambda weights: weights.pop('1.num_batches_tracked'))

    def test_a_wrapped_model_passes(self):
        require_matching_weights(
            self.model,
            {f'module.{k}': v for k, v in self.model.state_dict().items()},
            'x.pth',
        )

    @pytest.mark.parametrize(
        ('change', 'reason'),
        [
            (lambda w: w.pop('0.bias'), r'1 weights are missing .*0\.bias'),
            (
                lambda w: w.update(y=torch.ones(1)),
                r'1 are unknown .*such as y',
            ),
            (
                lambda w: w.update({'0.bias': torch.ones(9)}),
                r'1 have another shape .*0\.bias',
            ),
        ],
    )
    def test_a_difference_is_named(self, change, reason):
        with pytest.raises(
            CheckpointError, match=rf'x\.pth does not .*{reason}'
        ):
            self.check(change)
        self.check(change, strict=False)

    def test_fine_tuning_needs_one_match_at_least(self):
        with pytest.raises(CheckpointError, match='does not fit'):
            require_matching_weights(
                self.model, {'conv.weight': torch.ones(1)}, 'x.pth', False
            )


def test_joint_projections_of_earlier_versions_match():
    model = MultiheadAttention(8, 2)
    earlier = torch.nn.MultiheadAttention(8, 2).state_dict()
    require_matching_weights(model, {'state_dict': earlier}, 'earlier.pth')
    del earlier['in_proj_bias']
    with pytest.raises(CheckpointError, match=r'3 weights are missing'):
        require_matching_weights(model, {'state_dict': earlier}, 'earlier.pth')
