# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What the processor of this machine can do."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

_CPUINFO = Path('/proc/cpuinfo')


@cache
def processor() -> Mapping[str, str]:
    """Read the fields of the first core in ``/proc/cpuinfo``.

    ``vendor_id``, ``model name`` and ``flags`` are such fields on x86. The
    result is empty on systems without this file.
    """
    try:
        first = _CPUINFO.read_text().split('\n\n', 1)[0]
    except OSError:
        return {}
    fields = (line.partition(':') for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}


def has_amx() -> bool:
    """Whether the processor multiplies bfloat16 matrices in tiles (AMX)."""
    return 'amx_bf16' in processor().get('flags', '').split()
