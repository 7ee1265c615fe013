# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Files of strangers run no code and lead nowhere."""

import ast
import json
import os
import re
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader

from referformer.checkpoints.io import save_checkpoint
from referformer.checkpoints.latest import find_resumable
from referformer.engine.replay import replay_step
from referformer.errors import CheckpointError, DataError, MediaError
from referformer.formats import a2d, jhmdb, refcoco, sav
from referformer.formats.expressions import read_expressions
from referformer.formats.files import write_atomic
from referformer.formats.label_maps import write_binary_mask, write_label_map
from referformer.media.sources import open_source
from tests.faults import SAFETY, fault

ROOT = Path(__file__).parents[1]

# -- code -----------------------------------------------------------------

#: Calls that run what a text or a file says -> where one may stand, and why.
CODE = {
    'os.system': {},
    'os.popen': {},
    'subprocess.getoutput': {},
    'eval': {},
    'exec': {},
    'pickle.load': {},
    'pickle.loads': {
        'referformer/datasets/items.py': 'of bytes that it pickled itself',
    },
    'torch.load': {
        'referformer/checkpoints/io.py': 'with weights_only=True',
    },
    'numpy.load': {},
    'yaml.load': {},
    'shutil.unpack_archive': {},
}
_SHORT = {'np': 'numpy', 'sp': 'subprocess'}


def calls_of(path):
    """Yield the dotted name of each call in a file, and the call."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            module, dot, name = ast.unparse(node.func).rpartition('.')
            yield f'{_SHORT.get(module, module)}{dot}{name}', node


def sources():
    """Yield all modules but the tests, with their names."""
    for folder in ('referformer', 'tools', 'projects', 'configs'):
        for path in sorted((ROOT / folder).rglob('*.py')):
            yield path.relative_to(ROOT).as_posix(), path


@fault(
    SAFETY,
    'a name with spaces, quotes or `;` reaches a command',
    'no shell reads it: commands are lists of arguments, everywhere',
)
def test_no_shell_and_no_code_from_files():
    known = set()
    for name, path in sources():
        for called, node in calls_of(path):
            shell = [k for k in node.keywords if k.arg == 'shell']
            assert not shell, f'{name}:{node.lineno}'
            if called.endswith('.extractall') or called == 'exec':
                raise AssertionError(f'{name}:{node.lineno}')
            if called in CODE:
                known.add((called, name))
                assert name in CODE[called], f'{name}:{node.lineno} {called}'
                if called == 'torch.load':
                    given = {k.arg: k.value for k in node.keywords}
                    assert given['weights_only'].value is True
    listed = {(c, name) for c, places in CODE.items() for name in places}
    assert known == listed  # no reason for what is gone


def test_shell_scripts_evaluate_no_text():
    for path in sorted(ROOT.glob('tools/**/*.sh')):
        text = path.read_text()
        assert not re.search(r'^\s*eval\b', text, re.M), path
        # the text of a shell that is started is fixed: single quotes
        for begin in re.findall(r'\bbash -c (.)', text):
            assert begin == "'", path


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def checkpoint(harmful):
    """A checkpoint as mmengine writes it, harmful where it is said."""
    weight = {'weight': torch.ones(2)}
    state = {'step': torch.tensor(1.0), 'exp_avg': torch.ones(2)}
    content = {
        'meta': {'iter': 4, 'epoch': 1},
        'state_dict': weight,
        'optimizer': {'state': {0: state}, 'param_groups': [{'lr': 1e-4}]},
        'param_schedulers': [{'last_step': 4}],
        'message_hub': {'runtime_info': {}},
    }
    harmful(content)
    return content


PLACES = {
    'the state of the optimizer': lambda c, bad: c['optimizer']['state'][
        0
    ].update(exp_avg=bad),
    'the weights': lambda c, bad: c['state_dict'].update(weight=bad),
    'the meta data': lambda c, bad: c['meta'].update(cfg=bad),
    'a learning-rate schedule': lambda c, bad: c['param_schedulers'].append(
        bad
    ),
    'the message hub': lambda c, bad: c['message_hub'].update(x=bad),
}


@pytest.mark.parametrize(
    'place',
    [
        pytest.param(
            place,
            marks=fault(
                SAFETY,
                f'{place} in a checkpoint runs code when it is unpickled',
                'neither `--resume` nor `load_from` runs it; the file is '
                'named',
            ),
        )
        for place in PLACES
    ],
)
def test_no_part_of_a_checkpoint_runs_code(tmp_path, place):
    trace, path = tmp_path / 'trace', tmp_path / 'epoch_1.pth'
    content = checkpoint(lambda c: PLACES[place](c, Harmful(trace)))
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r'epoch_1\.pth'):
        CheckpointLoader.load_checkpoint(str(path), 'cpu')
    with pytest.raises(CheckpointError, match=r'epoch_1\.pth'):
        find_resumable(tmp_path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # it would have
    assert trace.exists()


def dump(tmp_path, **model):
    path = tmp_path / 'step_7_rank_0.pth'
    meta = dict(iteration=6, seed=0, rank=0, precision='fp32', loss=None)
    content = {'meta': {**meta, 'model': model}, 'batch': {}, 'state_dict': {}}
    torch.save(content, path)
    return path


@fault(
    SAFETY,
    'the model in a dump of a bad step is a function, such as `os.system`',
    '`replay_step.py` builds nothing and names the entry',
)
def test_a_dump_builds_registered_components_only(tmp_path):
    trace = tmp_path / 'trace'
    bad = dict(type='os.mkdir', path=str(trace))
    for model in (
        bad,
        dict(type='ReferFormer', backbone=bad),
        dict(type='ReferFormer', queries=[dict(norm=(bad,))]),
        dict(type='mmdet.ResNet', init_cfg=dict(type='os.mkdir')),
        dict(type='ReferFormer', text_encoder=dict(trust_remote_code=True)),
        dict(type='ReferFormer', custom_imports=dict(imports=['antigravity'])),
    ):
        with pytest.raises(CheckpointError, match='could run code, so'):
            replay_step(dump(tmp_path, **model))
    assert not trace.exists()
    torch.save(checkpoint(lambda _: None), tmp_path / 'epoch_1.pth')
    with pytest.raises(CheckpointError, match='is no dump of a step'):
        replay_step(tmp_path / 'epoch_1.pth')


# -- names ----------------------------------------------------------------

NAMES = {
    '../x': 'that leads out of its folder',
    '/etc/passwd': 'that is absolute',
    'a\\..\\b': 'with backslashes',
    'a\nb': 'with the end of a line',
    '\x1b[2Ja': 'with control characters',
    '\ud800': 'that no file system takes',
}


def expressions_with(path, video='v', frame='00000', expression='0'):
    entry = {'frames': [frame], 'expressions': {expression: {'exp': 'a cat'}}}
    path.write_text(json.dumps({'videos': {video: entry}}))
    return read_expressions(path)


def a2d_with(path, name):
    path.write_text(json.dumps([['a cat', name, 1, 1]]))
    return a2d.read_samples(path)


def jhmdb_with(path, name):
    image = f'x/Rename_Images/run/{name}/00001.png'
    masks = 'x/puppet_mask/run/v/puppet_mask.mat'
    path.write_text(json.dumps([['v', image, masks, 3, 'a man']]))
    return jhmdb.read_samples(path)


def refcoco_with(path, name):
    image = {'id': 1, 'file_name': name, 'caption': 'a cat'}
    box = {'id': 1, 'image_id': 1, 'segmentation': [], 'bbox': [0, 0, 1, 1]}
    tables = {'images': [image], 'annotations': [box], 'categories': []}
    path.write_text(json.dumps(tables))
    return refcoco.read_sentences(path)


def ref_sav_with(path, name):
    entry = {'video_path': name, 'anno_path': 'sav/a.json', 'objects': {}}
    path.write_text(json.dumps({'v': entry}))
    return sav.read_ref_sav(path)


READERS = {
    'a video of an expression file': lambda p, n: expressions_with(p, n),
    'a frame of an expression file': lambda p, n: expressions_with(p, frame=n),
    'an id of an expression file': lambda p, n: expressions_with(
        p, expression=n
    ),
    'a video of A2D-Sentences': a2d_with,
    'a frame of JHMDB-Sentences': jhmdb_with,
    'an image of RefCOCO': refcoco_with,
    'a video of Ref-SAV': ref_sav_with,
}


@pytest.mark.parametrize(
    'reader',
    [
        pytest.param(
            READERS[kind],
            id=kind,
            marks=fault(
                SAFETY,
                f'{kind} has a name that leads elsewhere: absolute, `..`, '
                'backslashes, or with control characters',
                'the file is refused before anything is read or written',
            ),
        )
        for kind in READERS
    ],
)
def test_names_that_lead_elsewhere(tmp_path, reader):
    path = tmp_path / 'names.json'
    for name in NAMES:
        if reader is jhmdb_with and '\\' in name:
            continue  # of Windows: taken for slashes
        with pytest.raises(DataError, match=r'names\.json') as caught:
            reader(path, name)
        # nor does the message steer a terminal
        assert str(caught.value).isprintable(), name


def test_ordinary_names_are_taken(tmp_path):
    for name in ('a b', '-rf', 'é犬', "it's", '$(id)', 'a;b'):
        for reader in READERS.values():
            if reader is not ref_sav_with:
                assert reader(tmp_path / 'names.json', name)


@fault(
    SAFETY,
    'an output folder holds a symbolic link in the place of a result',
    'the link is replaced; what it leads to stays as it is',
)
def test_results_do_not_follow_links(tmp_path):
    outside = tmp_path / 'outside'
    outside.write_text('mine')
    link = tmp_path / 'out.pth'
    for write in (
        lambda: write_atomic(link, 'x'),
        lambda: write_label_map(link, np.ones((2, 2), np.uint8)),
        lambda: write_binary_mask(link, np.ones((2, 2), bool)),
        lambda: save_checkpoint({'a': torch.ones(1)}, link),
    ):
        link.symlink_to(outside)
        write()
        assert outside.read_text() == 'mine'
        assert not link.is_symlink()
        link.unlink()


PLAYLISTS = {
    'HLS': '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n'
    '#EXT-X-ENDLIST\n',
    'concat': 'ffconcat version 1.0\nfile {}\n',
    'DASH': '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" '
    'type="static"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL>'
    '</Representation></AdaptationSet></Period></MPD>',
}


@fault(
    SAFETY,
    'a video is a playlist that names other files or addresses',
    'it is refused, whatever its suffix; nothing is fetched',
)
@pytest.mark.parametrize('name', ['a.mp4', '%a.mp4', 'a.jpg'])
def test_a_video_names_no_other_files(tmp_path, name):
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.settimeout(0.2)
        address = f'http://127.0.0.1:{server.getsockname()[1]}/x.mp4'
        other = min((ROOT / 'tests/data/media').iterdir())
        for text in PLAYLISTS.values():
            for target in (address, str(other)):
                path = tmp_path / name
                path.write_text(text.format(target))
                with pytest.raises(MediaError, match=re.escape(name)):
                    open_source(path)
        with pytest.raises(TimeoutError):
            server.accept()
