# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""A model as a service for visitors of a web page.

.. code-block:: text

    server ─ page ─┬─ html        pieces of the page
    (Gradio)       └─ service ─── visit ─── run ─── progress
"""
