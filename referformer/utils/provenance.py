# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""What has to be known of a process to repeat what it computed."""

import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from referformer.utils.versions import installed_version
from referformer.version import __version__

_PACKAGES = (
    *('torch', 'transformers', 'numpy', 'mmengine', 'onedl-mmengine'),
    *('mmcv', 'mmcv-lite', 'onedl-mmcv', 'mmdet', 'onedl-mmdetection'),
)


def describe_process() -> dict[str, Any]:
    """Return the command line, the versions and the state of the code.

    Returns:
        dict[str, Any]: Plain values: ``command``, ``folder`` (where it was
        started), ``started``, ``versions``, ``commit`` (None where the code
        is not in a git repository) and ``changed_files`` (files that differ
        from the commit).
    """
    versions = {'referformer': __version__, 'python': sys.version.split()[0]}
    for name in _PACKAGES:
        version = installed_version(name)
        if version is not None:
            versions[name] = version
    commit, changed = _state_of_code()
    return {
        'command': shlex.join(sys.orig_argv),
        'folder': str(Path.cwd()),
        'started': time.strftime('%Y-%m-%dT%H:%M:%S%z'),
        'system': platform.platform(),
        'versions': versions,
        'commit': commit,
        'changed_files': changed,
    }


def _state_of_code() -> tuple[str | None, list[str]]:
    """Return the commit of this package, and what differs from it."""
    package = Path(__file__).parents[1]
    try:
        # a package in a virtual environment is in no repository, even if
        # the environment is
        _git(package, 'ls-files', '--error-unmatch', '__init__.py')
        commit = _git(package, 'rev-parse', 'HEAD').strip()
        changed = _git(package, 'diff', '--name-only', '-z', 'HEAD')
    except (OSError, subprocess.SubprocessError):
        return None, []
    return commit, changed.split('\0')[:-1]


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ['git', '-C', str(folder), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors='replace',
        check=True,
        timeout=20,
    ).stdout
