# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The page in a browser; needs gradio, playwright and Chromium.

.. code-block:: bash

    pip install "gradio>=6,<7" playwright && apt-get install chromium
    python -m pytest -m slow tests/test_apis/test_web
"""

import json
import re
import shutil
import threading
import urllib.error
import urllib.request
import zipfile

import pytest

from referformer.apis.web.service import Limits, SegmentationService
from tests.fixtures.videos import moving_square, write_clip

pytest.importorskip('av')
pytest.importorskip('gradio')
sync_api = pytest.importorskip('playwright.sync_api')
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason='no Chromium'),
    # gradio's own
    pytest.mark.filterwarnings('ignore::DeprecationWarning'),
]
TEXTS = ['the white square', 'a grey floor', 'something else']
PATIENCE = 120_000  # milliseconds


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp('videos') / 'my clip.mp4'
    return write_clip(path, moving_square(10, 64, 96))


@pytest.fixture(scope='module')
def service(inferencer, tmp_path_factory):
    folder = tmp_path_factory.mktemp('service').resolve()
    predictor = inferencer.model.predictor.override(window=4)
    limits = Limits(max_mb=1, max_expressions=3)
    with SegmentationService(inferencer, folder, predictor, limits) as service:
        yield service


@pytest.fixture(scope='module')
def address(service, clip):
    from referformer.apis.web.page import Example
    from referformer.apis.web.server import serve

    example = Example(clip, TEXTS[:2])
    with serve(service, [example], port=None) as address:
        yield address


@pytest.fixture(scope='module')
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=['--no-sandbox']
        )
        yield browser
        browser.close()


class Visitor:
    """A browser window with the page."""

    def __init__(self, browser, address):
        self.context = browser.new_context(accept_downloads=True)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.requests = []
        self.page.on('request', lambda r: self.requests.append(r.url))
        self.page.goto(address)
        self.page.wait_for_selector('#go')
        self.expect = sync_api.expect

    def upload(self, path):
        self.page.set_input_files('#video input[type=file]', path)

    def describe(self, *texts):
        for number, text in enumerate(texts):
            row = self.page.locator(f'#text-{number} input')
            if not row.is_visible():
                self.page.click('#add')
            row.fill(text)

    def segment(self):
        self.page.click('#go')
        self.page.wait_for_selector('#status .working')
        self.wait_for('done')

    def wait_for(self, kind):
        self.page.wait_for_selector(f'#status .{kind}')

    def overlay(self):
        video = self.page.locator('#player video')
        video.wait_for()
        return video.get_attribute('src')

    def download(self, kind, folder):
        with self.page.expect_download() as waiting:
            self.page.click(f'#download-{kind}')
        path = folder / waiting.value.suggested_filename
        waiting.value.save_as(path)
        return path


@pytest.fixture
def visitor(browser, address):
    visitor = Visitor(browser, address)
    yield visitor
    visitor.context.close()


def test_from_upload_to_download(visitor, address, service, clip, tmp_path):
    page = visitor.page
    assert page.locator('#download-masks').is_disabled()
    visitor.upload(clip)
    page.wait_for_selector('text=96 × 64 pixels, 1.0 s')
    visitor.describe(*TEXTS[:2])
    visitor.segment()
    assert page.locator('#rows .found b:visible').count() == 2
    first = visitor.overlay()
    assert page.locator('.score-plot polyline[stroke]').count() == 2

    # a click on the plot moves the player to the beginning of a frame
    area = page.locator('.score-plot .area')
    width = area.bounding_box()['width']
    page.wait_for_function(
        "document.querySelector('#player video').readyState > 1"
    )
    area.click(position={'x': 0.75 * width, 'y': 9})
    time = page.evaluate("document.querySelector('#player video').currentTime")
    assert time == pytest.approx(0.701, abs=1e-3)
    page.keyboard.press('Tab')
    page.locator('.score-plot').focus()
    page.keyboard.press('ArrowLeft')
    time = page.evaluate("document.querySelector('#player video').currentTime")
    assert time == pytest.approx(0.601, abs=1e-3)

    # all the files
    paths = {
        kind: visitor.download(kind, tmp_path)
        for kind in ('overlay', 'masks', 'results', 'coco')
    }
    content = json.loads(paths['results'].read_text())
    assert [e['text'] for e in content['expressions']] == TEXTS[:2]
    coco = json.loads(paths['coco'].read_text())
    assert len(coco['images']) == 10
    with zipfile.ZipFile(paths['masks']) as file:
        names = [n for n in file.namelist() if n.endswith('.png')]
    assert len(names) == 20
    assert paths['overlay'].read_bytes()[4:8] == b'ftyp'

    # an edit
    visitor.describe(TEXTS[0], TEXTS[2])
    page.locator('#text-1 input').press('Enter')
    page.wait_for_function(
        f"document.querySelector('#player video').src != {first!r}"
    )
    visitor.wait_for('done')
    content = json.loads(visitor.download('results', tmp_path).read_text())
    assert [e['text'] for e in content['expressions']] == [TEXTS[0], TEXTS[2]]
    # the files of the run before are gone
    with pytest.raises(urllib.error.HTTPError, match='403'):
        urllib.request.urlopen(first, timeout=20)

    # nothing is asked of any other server
    assert len(visitor.requests) > 10
    others = [
        url
        for url in visitor.requests
        if not url.startswith((address, 'blob:', 'data:'))
    ]
    assert others == []


def test_rows(visitor):
    page = visitor.page
    rows = page.locator('#rows input:visible')
    assert rows.count() == 1
    visitor.describe('a', 'b', 'c')
    assert page.locator('#add').is_hidden()
    page.click('#remove-1')
    visitor.expect(rows).to_have_count(2)
    assert [rows.nth(n).input_value() for n in range(2)] == ['a', 'c']
    visitor.expect(page.locator('#add')).to_be_visible()
    for _ in range(2):
        page.click('#remove-0')
    visitor.expect(rows).to_have_count(1)
    visitor.expect(rows.first).to_have_value('')


def test_the_example(visitor):
    page = visitor.page
    page.click('#example-0')
    visitor.expect(page.locator('#text-1 input')).to_have_value(TEXTS[1])
    visitor.segment()
    assert visitor.overlay()


def test_errors_are_one_sentence(visitor, service, tmp_path):
    page = visitor.page
    page.click('#go')
    visitor.wait_for('error')
    assert page.inner_text('#status') == 'Choose a video first.'
    broken = tmp_path / 'broken.mp4'
    broken.write_bytes(b'no video ' * 1000)
    visitor.upload(broken)
    page.wait_for_selector('#status .error:has-text("broken.mp4")')
    assert str(service.folder) not in page.content()
    assert page.locator('#go').is_enabled()
    # and the page goes on
    page.click('#example-0')
    visitor.expect(page.locator('#text-0 input')).to_have_value(TEXTS[0])
    page.fill('#start input', '9')
    page.fill('#end input', '10')
    page.click('#go')
    page.wait_for_selector('#status .error:has-text("start=9")')


def test_a_page_that_was_left_open(visitor, service):
    page = visitor.page
    page.click('#example-0')
    visitor.expect(page.locator('#text-1 input')).to_have_value(TEXTS[1])
    for key in list(service._visits):
        service.end(key)
    visitor.segment()


def test_a_large_file_is_refused(visitor, tmp_path):
    large = tmp_path / 'large.mp4'
    large.write_bytes(b'x' * 1_200_000)
    visitor.upload(large)
    visitor.page.wait_for_selector('text=/maximum allowed size/i')


def test_cancel(visitor, service, inferencer):
    page = visitor.page
    page.click('#example-0')
    visitor.expect(page.locator('#text-1 input')).to_have_value(TEXTS[1])
    assert page.locator('#cancel').is_disabled()
    gate = threading.Event()

    def wait(module, args):
        gate.wait(PATIENCE / 1000)

    handle = inferencer.model.backbone.register_forward_pre_hook(wait)
    try:
        page.click('#go')
        page.wait_for_selector('#status .working')
        assert page.locator('#go').is_disabled()
        page.click('#cancel')
        visitor.expect(page.locator('#status')).to_have_text('Cancelled.')
    finally:
        gate.set()
        handle.remove()
    visitor.segment()


def test_visitors_see_nothing_of_one_another(browser, address, service):
    one, two = Visitor(browser, address), Visitor(browser, address)
    before = set(service.folder.glob('visits/*/*'))
    one.page.click('#example-0')
    one.expect(one.page.locator('#text-1 input')).to_have_value(TEXTS[1])
    one.segment()
    overlay = one.overlay()
    # an unguessable folder of the visit, and one of the run
    assert len(re.findall(r'/[\w-]{22}/', overlay)) == 1
    assert len(re.findall(r'[\w-]{22}', overlay)) >= 2
    assert two.page.locator('#text-1 input').is_hidden()
    assert two.page.locator('#player video').count() == 0
    for path in ('', '/visits', '/visits/'):
        url = f'{address}gradio_api/file={service.folder}{path}'
        with pytest.raises(urllib.error.HTTPError, match=r'40[34]'):
            urllib.request.urlopen(url, timeout=20)
    assert set(service.folder.glob('visits/*/*')) > before
    one.context.close()
    two.page.wait_for_timeout(500)
    deadline = 60
    while set(service.folder.glob('visits/*/*')) - before and deadline:
        two.page.wait_for_timeout(500)
        deadline -= 1
    assert set(service.folder.glob('visits/*/*')) <= before
    two.context.close()
