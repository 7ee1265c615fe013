# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
from hashlib import sha256

from referformer.formats import jhmdb


def image_ids(first=1):
    """As many frames as are scored in the whole set."""
    return [
        f'v_video{i // 3}_f_{i % 3 + first}' for i in range(jhmdb.NUM_FRAMES)
    ]


def test_a_choice_of_frames_is_known_by_its_content(monkeypatch):
    published, other = jhmdb._CHOICES.values()
    assert published.published
    assert 'those of MTTR' in published.text
    assert not other.published
    assert 'SOC' in other.text
    digest = sha256('\n'.join(sorted(image_ids())).encode()).hexdigest()
    mine = jhmdb.FrameChoice(True, 'mine.')
    monkeypatch.setitem(jhmdb._CHOICES, digest, mine)
    # The order of the file says nothing.
    assert jhmdb.identify_frames(reversed(image_ids())) == mine
    unknown = jhmdb.identify_frames(image_ids(2))
    assert not unknown.published
    assert 'not comparable' in unknown.text
    # A part of the set has no name.
    assert jhmdb.identify_frames(image_ids()[1:]) is None
