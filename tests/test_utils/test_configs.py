# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest

from referformer.errors import ConfigError
from referformer.utils.configs import read_config


def test_a_missing_package_is_named(tmp_path):
    """mmengine alone says which module of the config failed, not why."""
    file = tmp_path / 'config.py'
    file.write_text("custom_imports = dict(imports=['no_such.models'])\n")
    with pytest.raises(ConfigError, match=r"No module named 'no_such'.*insta"):
        read_config(file)
