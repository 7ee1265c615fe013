# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest

from referformer import testing


def test_every_name_is_found():
    for name in testing.__all__:
        assert getattr(testing, name) is not None


def test_other_names_are_not():
    with pytest.raises(AttributeError, match='tiny_modle_cfg'):
        testing.tiny_modle_cfg  # noqa: B018
