# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""The server of the page."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from referformer.apis.web.page import Example, build_page
from referformer.apis.web.service import SegmentationService

_HERE = Path(__file__).parent
#: The page asks no other server for anything, and no other page may show it.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "frame-ancestors 'self'"
)


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
