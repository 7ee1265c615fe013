# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""docs/media_files.md is what is measured, and ffprobe agrees with it.

``python -m tests.test_media.test_strange_media`` writes the page.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from referformer.errors import MediaError, MissingPackageError
from referformer.media.sound import Sound
from referformer.media.sources import open_source
from referformer.media.writer import VideoWriter
from tests.fixtures.strange_media import CASES, COLOUR, DATA, SOUND

PAGE = Path(__file__).parents[2] / 'docs' / 'media_files.md'
MARK = '<!-- measured -->'
HDR = ('pq.mp4', 'hlg.mp4')
#: Why ffprobe says something else, or nothing.
NOT_BY_FFPROBE = {
    'moves.webp': 'it knows no animated WebP',
    'moves.mp4': 'it knows no animated WebP',
    'grid.avif': 'it sees the tiles',
    'pages.tif': 'it sees the first page',
    'stream.jpg': 'it takes the name for that of a picture',
    'stereo.jpg': 'it sees a video of two frames',
    '%03d.png': 'it takes the name for that of many files',
}
#: Clocks that jump, which ffprobe shows as they are.
JUMPING = ('two.ts', 'joined.ts', 'day.ts')
#: The time stamps that ffprobe makes up here are not those of the frames.
GUESSED = ('raw.h264', 'b_frames.avi')


class Answer:
    """What is said of a file: a source, or the sentence of an error."""

    def __init__(self, path):
        self.source = self.images = None
        try:
            self.source = open_source(path)
            images = [frame.image for frame in self.source]
            height, width = images[0].shape[:2]
            plural = 's' * (len(self.source) > 1)
            self.text = f'{len(self.source)} frame{plural}, {width} x {height}'
            self.images = images
            if self.source.is_picture:
                self.text = f'a picture, {width} x {height}'
            else:
                self.text += f', the last at {self.source.times[-1]:.2f} s'
        except (MediaError, MissingPackageError) as error:
            self.text = str(error).replace(str(path), path.name)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('media')


@pytest.fixture(scope='module')
def answers(folder):
    """Every file, and what is said of it."""
    with pytest.MonkeyPatch.context() as patch:
        # whether it is installed or not
        patch.setitem(sys.modules, 'pillow_heif', None)
        return _measure(folder)


def _measure(folder):
    answers = {}
    for case in CASES:
        path = folder / case.name
        case.make(path)
        answers[case.name] = Answer(path)
        if case.kind == SOUND:
            answers[case.name].text += f'; {_sound_of(path)}'
    return answers


def _sound_of(path):
    """Write frames with the sound of a file; say what became of it."""
    import av

    source = open_source(path)
    result = path.with_name('with_sound.mp4')
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        end = float(source.times[-1]) + 0.1
        sound = Sound(str(path), 0.0, end)
        with VideoWriter(result, source.fps, sound) as writer:
            for frame in source:
                writer.write(frame.image[..., ::-1], frame.time)
    said = [str(w.message) for w in caught if 'sound' in str(w.message)]
    with av.open(str(result)) as container:
        [video] = container.streams.video
        assert video.frames == len(source)
        if not container.streams.audio:
            [text] = said
            return text.replace(str(path), path.name)
        assert not said
        [track] = container.streams.audio
        frames = list(container.decode(track))
    rate, name = track.codec_context.sample_rate, track.codec_context.name
    wave = np.concatenate([f.to_ndarray().mean(0) for f in frames])
    heard = wave[rate // 4 : rate]
    pitch = np.abs(np.fft.rfft(heard)).argmax() * rate / len(heard)
    if path.name != 'flac.mkv':  # half of it is noise
        assert pitch == pytest.approx(200, abs=5), path.name
        assert len(wave) / rate == pytest.approx(end, abs=0.15), path.name
    return f'sound becomes {name} of {rate} Hz'


def _page(answers):
    """Return the measured part of the page."""
    lines = []
    for kind, cases in groupby(CASES, lambda case: case.kind):
        lines += [
            f'\n## {kind}\n',
            '| File | Name | Answer |',
            '|---|---|---|',
        ]
        for case in cases:
            name = case.name.replace('\n', '\\n').replace('|', '\\|')
            answer = answers[case.name].text.replace('\n', '\\n')
            answer = answer.replace('|', '\\|')
            lines.append(f'| {case.what} | `{name}` | {answer} |')
    return '\n'.join(lines) + '\n'


def test_the_page_is_what_is_measured(answers):
    _, written = PAGE.read_text().split(MARK)
    assert written == _page(answers), (
        'run: python -m tests.test_media.test_strange_media'
    )


def test_an_answer_is_a_sentence_that_names_the_file(answers):
    for name, answer in answers.items():
        if answer.images is None:
            assert name in answer.text
            assert ';' in answer.text  # what is wrong; what to do
            assert answer.text.endswith('.')


def test_the_square_moves_right(answers):
    """In all videos of 20 frames that are stored upright."""
    checked = 0
    for case in CASES:
        images = answers[case.name].images
        if not images or len(images) < 20 or 'turned' in case.what:
            continue
        if 'mirrored' in case.what or case.kind == COLOUR or '90' in case.what:
            continue
        if case.name in ('cut.mp4', 'edited.mp4'):
            continue
        places = [np.nonzero(i.min(2) > 180)[1].mean() for i in images]
        for part in (places[:20], places[20:]):
            assert part == sorted(part), case.name
        checked += 1
    assert checked > 35


def test_what_is_transparent_is_white(answers):
    for case in CASES:
        if not case.name.startswith('glass'):
            continue
        for image in answers[case.name].images:
            assert image[:, 30:].min() > 240, case.name
            assert abs(image[20:, :20].astype(int) - 90).max() < 12, case.name


def test_high_dynamic_range_is_mapped(answers):
    """A grey of 90/255 and white, in the levels of either kind."""
    for name, (grey, white) in zip(HDR, ((95, 255), (101, 255)), strict=True):
        image = answers[name].images[0]
        assert np.median(image) == pytest.approx(grey, abs=3), name
        assert image.max() == pytest.approx(white, abs=3), name


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_ffprobe_agrees(answers, folder, case):
    if shutil.which('ffprobe') is None:
        pytest.skip('ffprobe is not installed')
    answer = answers[case.name]
    if answer.images is None or case.name in NOT_BY_FFPROBE:
        return
    count, size, times = _probe(folder / case.name)
    assert count == len(answer.images)
    height, width = answer.images[0].shape[:2]
    assert size == (width, height)
    if case.name not in JUMPING + GUESSED and not answer.source.is_picture:
        known = np.isfinite(times)
        assert known[:-1].all()
        expected = answer.source.times[known]
        assert times[known] == pytest.approx(expected, abs=2e-3)


def _probe(path):
    """Frames, size as it is shown, and times, by ffprobe."""
    done = subprocess.run(
        [
            *('ffprobe', '-v', 'error', '-select_streams', 'V:0'),
            *('-show_streams', '-show_frames', '-of', 'json', '-i'),
            f'file:{path}',
        ],
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout)
    [stream] = found['streams']
    width, height = stream['width'], stream['height']
    aspect = stream.get('sample_aspect_ratio', '1:1')
    a, b = map(int, aspect.split(':'))
    if a > 0 and b > 0 and 1 / 8 <= a / b <= 8:
        width, height = (
            (round(width * a / b), height)
            if a > b
            else (width, round(height * b / a))
        )
    if any(
        abs(data.get('rotation', 0)) == 90
        for data in stream.get('side_data_list', ())
    ):
        width, height = height, width
    times = np.array(
        [
            float(frame.get('best_effort_timestamp_time', 'nan'))
            for frame in found['frames']
        ]
    )
    return len(times), (width, height), times - times[:1]


def test_heic_is_read_whole():
    pytest.importorskip('pillow_heif')
    [frame] = open_source(DATA / 'grid.heic')
    assert frame.image.shape == (256, 512, 3)
    left, right = np.median(frame.image.reshape(256, 2, 256, 3), (0, 2))
    assert left.argmax() == 2  # red; the order is BGR
    assert right.argmax() == 0


def main():
    """Write the measured part of the page."""
    sys.modules['pillow_heif'] = None
    with tempfile.TemporaryDirectory() as folder:
        answers = _measure(Path(folder))
    text, _ = re.split(MARK, PAGE.read_text())
    PAGE.write_text(text + MARK + _page(answers))


if __name__ == '__main__':
    main()
