# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import pytest

from referformer.errors import ConfigError

from ..fixtures.tools import ROOT, script

CONFIG = ROOT / 'configs/referformer_r50_ytvos.py'


def test_print_config(capsys):
    print_config = script('analysis_tools/print_config')
    print_config.main(
        [
            str(CONFIG),
            '--key',
            'model.queries',
            '--cfg-options',
            'model.queries.num_queries=7',
        ]
    )
    names: dict = {}
    exec(capsys.readouterr().out, names)
    assert names['queries'] == dict(
        type='ConditionalQueries', num_queries=7, embed_dims=256
    )
    print_config.main([str(CONFIG)])
    names = {}
    exec(capsys.readouterr().out, names)
    assert names['model']['fusion']['type'] == 'VisionLanguageFusion'
    with pytest.raises(ConfigError, match="'quarks' is missing"):
        print_config.main([str(CONFIG), '--key', 'model.quarks'])
    with pytest.raises(ConfigError, match=r'no_config\.py is neither'):
        print_config.main(['no_config.py'])


def test_zero_frames_are_refused(capsys):
    with pytest.raises(SystemExit):
        script('analysis_tools/get_flops').parse_args(
            [str(CONFIG), '--shape', '0', '64', '64']
        )
    assert 'is not a whole number above 0' in capsys.readouterr().err
