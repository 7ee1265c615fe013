# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A model as a service for visitors of a web page.

``service.py`` and what it imports know nothing of the page, which is built by
``page.py`` with Gradio.
"""
