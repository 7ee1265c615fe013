# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the long run calls growth."""

import pytest

from .long_training import Line, Sample, compare, table_of


def run(growth=0.0, workers=0.0, slower=0.0, files=0):
    """An hour of 3600 iterations, with a wave of 1 % in the memory."""
    samples = [
        Sample(
            seconds=t,
            iteration=t,
            trainer_mib=600 * (1 + growth * t / 3600) + 6 * (t // 10 % 2),
            workers_mib=60,
            workers_mapped_mib=800 + workers * t / 3600,
            files=28 + files * t // 3600,
            threads=3,
            processes=3,
            cpu_seconds=0.3 * t + slower * t**2 / 7200,
        )
        for t in range(10, 3601, 10)
    ]
    return samples, [Line(t, 1.0, 0.05) for t in range(10, 3601, 10)]


def grown(*args):
    return {each.name for each in compare(*args) if each.grows}


def test_what_grows():
    assert grown(*run()) == set()
    assert grown(*run(growth=0.1)) == {'memory of the trainer, MiB'}
    shared = 'the same with pages shared with the trainer, MiB'
    assert grown(*run(workers=10)) == {shared}
    assert grown(*run(slower=0.2)) == {'CPU time of an iteration, ms'}
    assert grown(*run(files=9)) == {'open files and pipes'}
    table = table_of(compare(*run(files=9)))
    assert '| open files and pipes | 29.0 | 36.0 **grows** |' in table


def test_a_run_that_is_too_short():
    samples, lines = run()
    with pytest.raises(RuntimeError, match='too short'):
        compare([s._replace(iteration=7) for s in samples], lines)
