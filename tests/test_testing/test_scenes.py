# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
import dataclasses
import filecmp
import hashlib
import json
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from referformer.errors import ConfigError
from referformer.testing.scenes import (
    MANIFEST,
    VOCABULARY,
    SyntheticParams,
    denoted_objects,
    make_synthetic_rvos,
    render_video,
    writing,
)
from referformer.testing.scenes.shapes import SHAPES
from referformer.testing.scenes.vocabulary import COLOURS, MOTIONS, SIZES

REPOSITORY = Path(__file__).parents[2]


def read(root, split):
    folder = root / 'meta_expressions' / split / 'meta_expressions.json'
    spoken = json.loads(folder.read_text())['videos']
    meta = json.loads((root / split / 'meta.json').read_text())['videos']
    return spoken, meta


def all_files(root):
    return sorted(
        str(p.relative_to(root)) for p in root.rglob('*') if p.is_file()
    )


def test_layout_and_masks_match_metadata(synthetic_root, synthetic_params):
    for split in ('train', 'valid'):
        spoken, meta = read(synthetic_root, split)
        assert len(spoken) == synthetic_params.videos(split)
        for video_id, video in spoken.items():
            assert len(video['frames']) == synthetic_params.frames
            seen = {number: [] for number in meta[video_id]['objects']}
            for name in video['frames']:
                assert len(name) == 5
                assert name.isdecimal()
                stem = synthetic_root / split
                image = cv2.imread(
                    str(stem / 'JPEGImages' / video_id / f'{name}.jpg')
                )
                with Image.open(
                    stem / 'Annotations' / video_id / f'{name}.png'
                ) as mask:
                    assert mask.mode == 'P'
                    ids = np.asarray(mask)
                assert image.shape[:2] == ids.shape == (48, 80)
                present = {str(i) for i in np.unique(ids)} - {'0'}
                assert present <= set(seen)
                for number in present:
                    seen[number].append(name)
            for number, entry in meta[video_id]['objects'].items():
                assert entry['frames'] == seen[number]
                assert len(seen[number]) >= synthetic_params.frames / 3


def test_every_expression_denotes_one_object(synthetic_root):
    for split in ('train', 'valid'):
        spoken, meta = read(synthetic_root, split)
        for video_id, video in spoken.items():
            cast = [
                entry['attributes']
                for entry in meta[video_id]['objects'].values()
            ]
            assert 2 <= len(cast) <= 4
            by_object = {}
            for expression in video['expressions'].values():
                own = cast[int(expression['obj_id']) - 1]
                said = {name: own[name] for name in expression['mentions']}
                assert denoted_objects(cast, said) == [
                    int(expression['obj_id'])
                ]
                words = expression['exp'].split()
                assert set(words) <= set(VOCABULARY)
                for name, value in said.items():
                    if name != 'motion':
                        assert value in words
                by_object.setdefault(expression['obj_id'], []).append(
                    expression['exp']
                )
            assert len(by_object) == len(cast)
            for texts in by_object.values():
                assert 2 <= len(texts) == len(set(texts))


def test_expressions_need_combinations_and_sometimes_motion():
    params = SyntheticParams(height=32, width=48)
    total = combined = moving = 0
    for index in range(150):
        video = render_video(params, 'train', index)
        cast = [obj.attributes for obj in video.objects]
        for expression in video.expressions:
            own = cast[expression.obj_id - 1]
            total += 1
            moving += 'motion' in expression.mentions
            combined += not any(
                len(denoted_objects(cast, {name: own[name]})) == 1
                for name in expression.mentions
            )
    assert combined / total > 0.7
    assert 0.08 < moving / total < 0.25


def test_motion_is_what_it_is_called():
    params = SyntheticParams(height=32, width=48)
    checked = set()
    for index in range(40):
        for obj in render_video(params, 'train', index).objects:
            step = obj.centres[-1] - obj.centres[0]
            checked.add(obj.motion)
            if obj.motion == 'still':
                assert np.abs(step).max() < 0.05
            else:
                assert step @ np.array(MOTIONS[obj.motion]) > 0.2
                across = np.array(MOTIONS[obj.motion])[::-1]
                assert abs(step @ across) < 0.05
    assert checked == set(MOTIONS)


def test_sizes_are_far_apart_and_objects_leave_and_hide():
    params = SyntheticParams(height=48, width=80)
    biggest = {name: [] for name in SIZES}
    absent = occluded = 0
    for index in range(60):
        video = render_video(params, 'train', index)
        for number, obj in enumerate(video.objects, start=1):
            area = (video.ids == number).mean(axis=(1, 2))
            biggest[obj.size].append(area.max())
            absent += (area == 0).any()
            occluded += ((area > 0) & (area < 0.7 * area.max())).any()
    # Visible area only: occlusion may make a large one look smaller, so
    # compare the middle of the distributions and the limits.
    assert np.median(biggest['large']) > 2 * np.median(biggest['small'])
    assert max(biggest['small']) < 0.06
    assert max(biggest['large']) < 0.16
    assert absent > 10
    assert occluded > 20


def test_masks_are_of_what_is_seen():
    params = SyntheticParams(height=96, width=160)
    compared = 0
    for index in range(8):
        video = render_video(params, 'train', index)
        for frame, ids in zip(video.frames, video.ids, strict=True):
            for number, obj in enumerate(video.objects, start=1):
                mask = (ids == number).astype(np.uint8)
                inside = cv2.erode(mask, np.ones((7, 7)), borderValue=0) > 0
                if inside.sum() < 10:
                    continue
                colour = frame[inside].mean(axis=0)
                wanted = np.array(COLOURS[obj.colour])
                assert np.abs(colour - wanted).max() < 30
                compared += 1
    assert compared > 100


def test_same_parameters_give_same_bytes(synthetic_root, tmp_path):
    params = SyntheticParams(
        train_videos=3, valid_videos=2, height=48, width=80, seed=3
    )
    again = make_synthetic_rvos(tmp_path / 'again', params, progress=False)
    # A smaller set is the beginning of a larger one.
    files = [f for f in all_files(again) if not f.endswith('.json')]
    assert len(files) == 5 * 8 * 2
    same, different, missing = filecmp.cmpfiles(
        again, synthetic_root, files, shallow=False
    )
    assert (len(same), different, missing) == (len(files), [], [])


def test_processes_draw_the_same_set(
    synthetic_root, synthetic_params, tmp_path
):
    again = make_synthetic_rvos(
        tmp_path / 'again', synthetic_params, progress=False, jobs=2
    )
    files = all_files(synthetic_root)
    assert sorted(all_files(again)) == sorted(files)
    _, different, missing = filecmp.cmpfiles(
        again, synthetic_root, files, shallow=False
    )
    assert (different, missing) == ([], [])


# Digests of the masks and sentences of two videos each, and the mean of their
# pixels (which JPEG and processors may change by a little).
RECORDED = [
    ({}, '1ced9d10f7f9f6f3', 124.066),
    (
        dict(objects=2, height=72, width=112, colours=6, shapes=3),
        '0182acf5f8762467',
        139.625,
    ),
    (dict(frames=1, height=40, width=33, seed=7), '1fe9298a716b07ae', 132.374),
]


@pytest.mark.parametrize(('options', 'digest', 'mean'), RECORDED)
def test_sets_of_a_seed_stay_what_they_were(options, digest, mean):
    found, means = hashlib.sha256(), []
    for split in ('train', 'valid'):
        video = render_video(SyntheticParams(**options), split, 3)
        found.update(video.ids.tobytes())
        for expression in video.expressions:
            found.update(f'{expression.obj_id} {expression.text}\n'.encode())
        means.append(video.frames.mean())
    assert found.hexdigest()[:16] == digest
    assert np.mean(means) == pytest.approx(mean, abs=0.01)


def test_seed_and_split_change_the_video():
    params = SyntheticParams(height=32, width=48)
    other = dataclasses.replace(params, seed=1)
    first = render_video(params, 'train', 0).frames
    assert (first == render_video(params, 'train', 0).frames).all()
    assert (first != render_video(params, 'valid', 0).frames).any()
    assert (first != render_video(params, 'train', 1).frames).any()
    assert (first != render_video(other, 'train', 0).frames).any()


def test_train_and_valid_are_disjoint(synthetic_root):
    def pictures(split):
        folder = synthetic_root / split / 'JPEGImages'
        return {p.read_bytes() for p in folder.rglob('*.jpg')}

    spoken = {s: set(read(synthetic_root, s)[0]) for s in ('train', 'valid')}
    assert not spoken['train'] & spoken['valid']
    assert not pictures('train') & pictures('valid')


def test_resolution_does_not_change_the_scene():
    small = render_video(SyntheticParams(height=48, width=80), 'train', 5)
    large = render_video(SyntheticParams(height=192, width=320), 'train', 5)
    assert small.expressions == large.expressions
    for a, b in zip(small.ids, large.ids, strict=True):
        assert (a == b[2::4, 2::4]).mean() > 0.97


@pytest.mark.parametrize('frames', [1, 2, 20])
def test_any_length(frames):
    params = SyntheticParams(frames=frames, height=40, width=33)
    video = render_video(params, 'valid', 0)
    assert video.frames.shape == (frames, 40, 33, 3)
    if frames == 1:
        for expression in video.expressions:
            assert 'motion' not in expression.mentions


def test_identical_set_is_reused_and_another_refused(tmp_path):
    params = SyntheticParams(
        train_videos=1, valid_videos=1, frames=2, height=32, width=48
    )
    out = make_synthetic_rvos(tmp_path / 'set', params, progress=False)
    stamp = (out / 'train' / 'meta.json').stat().st_mtime_ns
    make_synthetic_rvos(out, params, progress=False)
    assert (out / 'train' / 'meta.json').stat().st_mtime_ns == stamp

    other = dataclasses.replace(params, seed=1)
    with pytest.raises(ConfigError, match=r'\(seed is 0, not 1\)'):
        make_synthetic_rvos(out, other, progress=False)
    foreign = tmp_path / 'foreign'
    foreign.mkdir()
    (foreign / 'thesis.txt').write_text('keep me')
    with pytest.raises(ConfigError, match='no synthetic set'):
        make_synthetic_rvos(foreign, params, progress=False)
    assert (foreign / 'thesis.txt').exists()


def test_interrupted_set_leaves_nothing(tmp_path, monkeypatch):
    params = SyntheticParams(
        train_videos=2, valid_videos=1, frames=2, height=32, width=48
    )
    genuine = writing.render_video

    def fail_on_second(params, split, index):
        if index == 1:
            raise KeyboardInterrupt
        return genuine(params, split, index)

    monkeypatch.setattr(writing, 'render_video', fail_on_second)
    with pytest.raises(KeyboardInterrupt):
        make_synthetic_rvos(tmp_path / 'set', params, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('name', 'value'), [('frames', 0), ('height', 8), ('seed', -1)]
)
def test_bad_parameters(name, value):
    with pytest.raises(ConfigError, match=name):
        SyntheticParams(**{name: value})


def test_command_line(tmp_path, monkeypatch):
    tool = REPOSITORY / 'tools/dataset_converters/make_synthetic_rvos.py'
    sizes = '--train-videos 1 --valid-videos 1 --frames 2 --height 32'
    command = [str(tool), str(tmp_path / 'set'), *sizes.split()]
    monkeypatch.setattr(sys, 'argv', command)
    runpy.run_path(str(tool), run_name='__main__')
    manifest = json.loads((tmp_path / 'set' / MANIFEST).read_text())
    assert manifest['params']['height'] == 32
    monkeypatch.setattr(sys, 'argv', [*command, '--seed', '1'])
    with pytest.raises(SystemExit, match='another synthetic set') as error:
        runpy.run_path(str(tool), run_name='__main__')
    assert '\n' not in str(error.value)


def test_pairs_differ_in_one_attribute():
    params = SyntheticParams(
        height=48, width=80, objects=2, colours=3, shapes=2
    )
    differing = set()
    for index in range(40):
        first, second = (
            obj.attributes
            for obj in render_video(params, 'train', index).objects
        )
        differing.add(
            tuple(name for name in first if first[name] != second[name])
        )
        for attributes in (first, second):
            assert attributes['colour'] in list(COLOURS)[:3]
            assert attributes['shape'] in list(SHAPES)[:2]
    assert {('shape',), ('size',), ('colour',)} <= differing
    assert all(len(names) == 1 for names in differing)


@pytest.mark.parametrize(
    'wrong', [{'objects': 5}, {'objects': 1}, {'colours': 99}, {'shapes': 1}]
)
def test_choices_out_of_range_are_refused(wrong):
    name = next(iter(wrong))
    with pytest.raises(ConfigError, match=f'{name} is {wrong[name]}; it must'):
        SyntheticParams(**wrong)


def test_drawing_needs_no_torch():
    """The quickstart draws at once; torch takes seconds to import."""
    code = """
import sys
sys.modules['torch'] = None  # an import of it fails
from referformer.testing.scenes import SyntheticParams, render_video
render_video(SyntheticParams(frames=1, height=32, width=32), 'train', 0)
"""
    subprocess.run([sys.executable, '-c', code], check=True, cwd=REPOSITORY)
