# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the scoring code raises about the files it is given."""


class InputError(ValueError):
    """Files cannot be scored; the text says which, why and what to do."""
