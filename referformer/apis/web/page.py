# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The components of the page, with Gradio, and what their events do."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from referformer.apis.web.html import (
    show_colour,
    show_facts,
    show_message,
    show_row,
    show_scores,
    show_status,
)
from referformer.apis.web.run import Run
from referformer.apis.web.service import SegmentationService
from referformer.apis.web.visit import VideoFacts
from referformer.errors import ReferError

#: Seconds between two looks at a run.
_POLL = 0.25
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
                    gr.HTML(show_colour(number), elem_classes='colour')
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
            show_facts(facts, limits.max_seconds),
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
        found = [show_row(row) for row in outcome.rows]
        found += [''] * (len(self.found) - len(found))
        message = show_message(f'{len(outcome.times)} frames, done.', 'done')
        if outcome.missing:
            message = show_message(
                f'The video is cut off: {outcome.missing} frames are missing.',
                'warning',
            )
        return message, [
            str(files[0]),
            show_scores(outcome),
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
