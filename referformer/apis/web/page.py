# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The web page, with Gradio; what it does is in ``service.py``."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from referformer.apis.web.service import SegmentationService
from referformer.apis.web.visit import Outcome, Run, Status, VideoFacts
from referformer.errors import ReferError
from referformer.visualization.drawing import colour_of
from referformer.visualization.score_plot import plot_scores

_HERE = Path(__file__).parent
#: Seconds between two looks at a run.
_POLL = 0.25
#: The page asks no other server for anything, and no other page may show it.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "frame-ancestors 'self'"
)
_KINDS = ('overlay', 'masks', 'results', 'coco')
_LABELS = {
    'overlay': 'Overlay, MP4',
    'masks': 'Masks, PNG',
    'results': 'Scores, JSON',
    'coco': 'Masks, COCO',
}


class Example(NamedTuple):
    """A video that visitors may try.

    Attributes:
        video (Path): The file.
        texts (list[str]): What to look for in it.
    """

    video: Path
    texts: list[str]


class _Headers:
    """Middleware that adds headers which protect visitors."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def send_more(message: Message) -> None:
            if message['type'] == 'http.response.start':
                headers = MutableHeaders(scope=message)
                headers['Content-Security-Policy'] = _POLICY
                headers['Referrer-Policy'] = 'no-referrer'
                headers['X-Content-Type-Options'] = 'nosniff'
            await send(message)

        await self.app(scope, receive, send_more)


@contextmanager
def serve(
    service: SegmentationService,
    examples: Sequence[Example] = (),
    title: str = 'ReferFormer',
    host: str = '127.0.0.1',
    port: int | None = None,
) -> Iterator[str]:
    """Serve the page while the block runs.

    Args:
        service (SegmentationService): What the page is for. Uploads go to its
            folder, too.
        examples (Sequence[Example]): Videos to try.
        title (str): Name of the model.
        host (str): Address that the server listens at.
        port (int, optional): Its port. None is a free one.

    Yields:
        str: The address of the page.
    """
    # where Gradio puts uploads, and from where it serves files
    os.environ['GRADIO_TEMP_DIR'] = str(service.folder)
    page = build_page(service, examples, title)
    page.queue(default_concurrency_limit=None, api_open=False)
    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        max_file_size=f'{service.limits.max_mb:g}mb',
        app_kwargs={'middleware': [Middleware(_Headers)]},
        footer_links=[],
        enable_monitoring=False,
        ssr_mode=False,
        theme=_theme(),
        css=(_HERE / 'page.css').read_text('utf-8'),
        head=f'<script>{(_HERE / "page.js").read_text("utf-8")}</script>',
    )
    try:
        yield address
    finally:
        page.close(verbose=False)


def _theme() -> gr.themes.Base:
    """Return a plain theme with the fonts of the visitor's system."""
    return gr.themes.Base(
        primary_hue='sky',
        neutral_hue='zinc',
        radius_size='lg',
        font=['system-ui', 'sans-serif'],
        font_mono=['ui-monospace', 'monospace'],
    ).set(
        body_text_color_subdued='*neutral_500',
        body_text_color_subdued_dark='*neutral_400',
        button_secondary_background_fill='*neutral_100',
        button_secondary_background_fill_hover='*neutral_200',
    )


# -- what the page shows ------------------------------------------------------


def show_status(status: Status) -> str:
    """Return the line below the buttons, for a run that is not over."""
    share = round(100 * status.fraction)
    if status.state == 'waiting':
        text = {
            0: 'You are next.',
            1: 'One run is before yours.',
        }.get(status.ahead, f'{status.ahead} runs are before yours.')
        bar = ''
    else:
        text = escape(status.doing or 'Reading the video')
        bar = f' value="{share}"'
    left = ''
    if status.seconds_left is not None:
        left = f'about {duration(status.seconds_left)} left'
    return (
        '<div class="status working"><div class="what" role="status">'
        f'<span>{text}</span><span>{left}</span></div>'
        f'<progress max="100"{bar}></progress></div>'
    )


def show_message(text: str, kind: str = 'note') -> str:
    """Return a sentence for the line below the buttons."""
    role = 'alert' if kind == 'error' else 'status'
    return f'<div class="status {kind}" role="{role}">{escape(text)}</div>'


def show_facts(facts: VideoFacts, service: SegmentationService) -> str:
    """Describe a video."""
    width, height = facts.size
    text = f'{width} × {height} pixels, {facts.seconds:.1f} s'
    kind = 'facts'
    if facts.missing:
        text += f'; it is cut off, and {facts.missing} frames are missing'
        kind = 'facts warning'
    if facts.seconds > service.limits.max_seconds:
        text += f'; choose at most {service.limits.max_seconds:g} s of it'
    return f'<div class="{kind}">{text}</div>'


def duration(seconds: float) -> str:
    """Write a time as people say it."""
    seconds = max(1, round(seconds))
    if seconds < 90:
        return f'{seconds} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 90 else f'{minutes / 60:.1f} h'


def _swatch(number: int) -> str:
    return f'<i class="swatch" style="background:rgb{colour_of(number)}"></i>'


def _plot(outcome: Outcome) -> str:
    rows = outcome.rows
    return plot_scores(
        [row.text for row in rows],
        [row.scores for row in rows],
        outcome.times,
        outcome.seconds,
        [colour_of(number) for number in range(len(rows))],
    )


# -- the page -----------------------------------------------------------------


def build_page(
    service: SegmentationService,
    examples: Sequence[Example] = (),
    title: str = 'ReferFormer',
) -> gr.Blocks:
    """Build the page.

    Args:
        service (SegmentationService): What it is for.
        examples (Sequence[Example]): Videos to try; they are copied.
        title (str): Name of the model.
    """
    return _Page(service, examples, title).blocks


class _Page:
    """The components, and what their events do."""

    def __init__(
        self,
        service: SegmentationService,
        examples: Sequence[Example],
        title: str,
    ) -> None:
        self.service = service
        self.examples = []
        for number, (video, texts) in enumerate(examples):
            folder = service.folder / 'examples' / str(number)
            folder.mkdir(parents=True)
            copy = Path(shutil.copy(video, folder))
            self.examples.append(Example(copy, texts))
        with gr.Blocks(
            title=title,
            analytics_enabled=False,
            # what no visit owns, such as an upload that was broken off
            delete_cache=(3600, 86400),
        ) as self.blocks:
            gr.HTML(
                f'<header><h1>{escape(title)}</h1><p>Describe objects, and '
                'see where they are in every frame.</p></header>'
            )
            with gr.Row(elem_id='main'):
                with gr.Column(scale=5, min_width=320):
                    self._build_inputs()
                with gr.Column(scale=7, min_width=320):
                    self._build_results()
            self._connect()

    def _build_inputs(self) -> None:
        limits = self.service.limits
        self.video = gr.Video(
            label='Video',
            sources=['upload'],
            height=260,
            elem_id='video',
        )
        self.facts = gr.HTML(
            f'<div class="facts">Up to {limits.max_mb:g} MB, and '
            f'{limits.max_seconds:g} seconds of it.</div>',
            elem_id='facts',
        )
        self.buttons = []
        if self.examples:
            with gr.Row(elem_id='examples'):
                for number, _ in enumerate(self.examples):
                    name = (
                        'Try the example'
                        if len(self.examples) == 1
                        else f'Example {number + 1}'
                    )
                    button = gr.Button(
                        name, size='sm', elem_id=f'example-{number}'
                    )
                    self.buttons.append(button)
        with gr.Row(elem_id='part'):
            settings = dict(minimum=0, min_width=120, step=0.1)
            self.start = gr.Number(
                None, label='From (seconds)', elem_id='start', **settings
            )
            self.end = gr.Number(
                None, label='To (seconds)', elem_id='end', **settings
            )
        self.count = gr.State(1)
        self.rows, self.texts, self.found, self.removes = [], [], [], []
        with gr.Column(elem_id='rows'):
            gr.HTML('<h2>Objects <span>score, frames found</span></h2>')
            for number in range(limits.max_expressions):
                with gr.Row(
                    visible=number == 0,
                    elem_id=f'row-{number}',
                    elem_classes='expression',
                ) as row:
                    gr.HTML(_swatch(number), elem_classes='colour')
                    text = gr.Textbox(
                        show_label=False,
                        label=f'Object {number + 1}',
                        placeholder='such as: the dog on the left',
                        container=False,
                        max_lines=1,
                        max_length=300,
                        elem_id=f'text-{number}',
                    )
                    found = gr.HTML('', elem_classes='found')
                    remove = gr.Button(
                        '✕',
                        size='sm',
                        elem_id=f'remove-{number}',
                        elem_classes='remove',
                    )
                self.rows.append(row)
                self.texts.append(text)
                self.found.append(found)
                self.removes.append(remove)
            self.add = gr.Button('Add an object', size='sm', elem_id='add')
        with gr.Row(elem_id='actions'):
            self.go = gr.Button('Segment', variant='primary', elem_id='go')
            self.cancel = gr.Button(
                'Cancel', interactive=False, elem_id='cancel'
            )
        self.status = gr.HTML('', elem_id='status')

    def _build_results(self) -> None:
        self.player = gr.Video(
            label='Result',
            interactive=False,
            autoplay=True,
            loop=True,
            buttons=[],
            elem_id='player',
        )
        self.plot = gr.HTML(
            '<div class="empty">Scores over time appear here. Click on them '
            'to move the video there.</div>',
            elem_id='plot',
        )
        gr.HTML('<h2>Downloads</h2>')
        with gr.Row(elem_id='downloads'):
            self.downloads = [
                gr.DownloadButton(
                    _LABELS[kind],
                    size='sm',
                    interactive=False,
                    min_width=100,
                    elem_id=f'download-{kind}',
                )
                for kind in _KINDS
            ]

    def _connect(self) -> None:
        quiet: dict[str, Any] = dict(
            api_visibility='private', show_progress='hidden'
        )
        fresh = [self.facts, self.start, self.end, self.status, self.go]
        rows = [self.count, *self.texts, *self.rows, self.add]
        shown = [self.player, self.plot, *self.downloads, *self.found]
        self.video.upload(
            self._choose, self.video, [*fresh, self.video], **quiet
        )
        self.video.clear(self._clear, None, fresh, **quiet)
        for number, button in enumerate(self.buttons):
            button.click(
                self._example(number),
                None,
                [*fresh, self.video, *rows],
                **quiet,
            )
        self.add.click(self._add, [self.count, *self.texts], rows, **quiet)
        for number, button in enumerate(self.removes):
            button.click(
                self._remove(number),
                [self.count, *self.texts],
                rows,
                **quiet,
            )
        gr.on(
            [self.go.click, *(text.submit for text in self.texts)],
            self._run,
            [self.video, self.count, self.start, self.end, *self.texts],
            [self.status, self.go, self.cancel, *shown],
            trigger_mode='once',
            **quiet,
        )
        self.cancel.click(self._cancel, **quiet)
        self.blocks.unload(self._leave)

    # -- rows -----------------------------------------------------------------

    def _arrange(self, texts: Sequence[str]) -> list:
        """Return updates that show a row for each text."""
        most = len(self.rows)
        shown = list(texts) + [''] * (most - len(texts))
        visible = [gr.Row(visible=n < len(texts)) for n in range(most)]
        add = gr.Button(visible=len(texts) < most)
        return [len(texts), *shown, *visible, add]

    def _add(self, count: int, *texts: str) -> list:
        return self._arrange([*texts[:count], ''][: len(self.rows)])

    def _remove(self, number: int) -> Any:
        def remove(count: int, *texts: str) -> list:
            left = [t for n, t in enumerate(texts[:count]) if n != number]
            return self._arrange(left or [''])

        return remove

    # -- the video ------------------------------------------------------------

    def _choose(self, path: str | None, request: gr.Request) -> list:
        """Take an upload; a broken one leaves the place empty."""
        if path is None:
            return [*self._clear(request), None]
        visit = self.service.visit(request.session_hash)
        try:
            facts = visit.choose(Path(path))
        except ReferError as error:
            return [*self._clear(request, str(error)), None]
        return [*self._take(facts), gr.skip()]

    def _example(self, number: int) -> Any:
        def choose(request: gr.Request) -> list:
            video, texts = self.examples[number]
            visit = self.service.visit(request.session_hash)
            facts = visit.choose(video)
            texts = texts[: len(self.rows)]
            return [*self._take(facts), str(video), *self._arrange(texts)]

        return choose

    def _take(self, facts: VideoFacts) -> list:
        limits = self.service.limits
        end = min(facts.seconds, limits.max_seconds)
        return [
            show_facts(facts, self.service),
            0,
            # upwards, so that the last frame belongs to it
            int(10 * end + 0.999) / 10,
            '',
            gr.Button(interactive=True),
        ]

    def _clear(self, request: gr.Request, error: str = '') -> list:
        """Forget the video; say why, if there is a reason."""
        self.service.visit(request.session_hash).leave_video()
        message = show_message(error, 'error') if error else ''
        return ['', None, None, message, gr.skip()]

    # -- runs -----------------------------------------------------------------

    async def _run(
        self,
        request: gr.Request,
        path: str | None,
        count: int,
        start: float | None,
        end: float | None,
        *texts: str,
    ) -> AsyncIterator[list]:
        """Start a run, and show how it is going until it is over."""
        visit = self.service.visit(request.session_hash)
        nothing = [gr.skip()] * (6 + len(self.found))
        idle = [gr.Button(interactive=True), gr.Button(interactive=False)]
        busy = [gr.Button(interactive=False), gr.Button(interactive=True)]
        texts = texts[:count]
        try:
            if visit.video is None and path is not None:
                visit.choose(Path(path))  # the visit ended, the page did not
            run = visit.start(texts, start or None, end)
        except ReferError as error:
            yield [show_message(str(error), 'error'), *idle, *nothing]
            return
        try:
            while not run.over:
                yield [show_status(run.status), *busy, *nothing]
                await asyncio.sleep(_POLL)
        finally:
            run.cancel()  # if the visitor has left
        status, results = self._show(run)
        yield [status, *idle, *(results or nothing)]

    def _show(self, run: Run) -> tuple[str, list | None]:
        """Return the line of a run that is over, and its results."""
        if run.error is not None:
            return show_message(run.error, 'error'), None
        outcome = run.outcome
        if outcome is None:
            return show_message('Cancelled.'), None
        files = [outcome.files[kind] for kind in _KINDS]
        found = [
            '<span title="mean score, and frames with a mask"><b>'
            f'{row.scores.mean():.2f}</b> {row.found}/{len(row.scores)}</span>'
            for row in outcome.rows
        ]
        found += [''] * (len(self.found) - len(found))
        message = show_message(f'{len(outcome.times)} frames, done.', 'done')
        if outcome.missing:
            message = show_message(
                f'The video is cut off: {outcome.missing} frames are missing.',
                'warning',
            )
        return message, [
            str(files[0]),
            _plot(outcome),
            *(
                gr.DownloadButton(value=str(file), interactive=True)
                for file in files
            ),
            *found,
        ]

    def _cancel(self, request: gr.Request) -> None:
        self.service.visit(request.session_hash).cancel()

    def _leave(self, request: gr.Request) -> None:
        self.service.end(request.session_hash)
