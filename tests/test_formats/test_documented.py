# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What docs/formats.md says about readers and writers."""

import re
import runpy
from importlib import import_module
from pathlib import Path

import numpy as np

from referformer.formats.label_maps import write_label_map

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/formats.md').read_text()


def test_the_table_names_what_exists():
    rows = re.findall(r'\| `(\w+)\.py` \|(.*?\|.*?)\|', PAGE)
    assert len(rows) > 10
    for file, functions in rows:
        module = import_module(f'referformer.formats.{file}')
        names = re.findall(r'`(\w+)`', functions)
        assert names
        assert all(callable(getattr(module, name)) for name in names)


def test_every_module_is_in_the_table():
    modules = (ROOT / 'referformer/formats').glob('[a-z]*.py')
    missing = [m.name for m in modules if f'| `{m.name}` |' not in PAGE]
    assert not missing


def test_a_reader_of_predictions(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, body in re.findall(
        r'```python\n# (\S+\.py)\n(.*?)```', PAGE, re.S
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(body)
    labels = np.zeros((20, 30), np.uint8)
    labels[5:10, 5:15] = 1
    folder = tmp_path / 'predictions/dogs/0'
    folder.mkdir(parents=True)
    for name in ('00000', '00005'):
        write_label_map(tmp_path / f'Annotations/dogs/{name}.png', labels)
    np.save(folder / '00000.npy', labels == 1)
    np.save(folder / '00005.npy', labels == 2)
    runpy.run_path('my_project/score_arrays.py')
    assert capsys.readouterr().out == '0.5 0.5\n'
