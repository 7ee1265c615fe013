# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Check of the installed versions, with no import of what is checked."""

from importlib import metadata
from typing import NamedTuple

from packaging.specifiers import SpecifierSet

from referformer.errors import MissingPackageError


class Requirement(NamedTuple):
    """A distribution and the versions of it this package runs on.

    Attributes:
        distribution: Name on the package index.
        versions: Accepted versions, as in a requirements file.
        command: What to type to get the version the tests run on.
    """

    distribution: str
    versions: str
    command: str


_BUILD = 'MMCV_WITH_OPS=1 pip install --no-build-isolation'

# The OpenMMLab packages come as two sets of distributions with the same
# import names. Keyed by the import name.
OPENMMLAB: dict[str, Requirement] = {
    'mmengine': Requirement(
        'mmengine', '>=0.10.3,<0.11', 'pip install mmengine==0.10.7'
    ),
    'mmcv': Requirement('mmcv', '>=2.0.0rc4,<2.2.0', f'{_BUILD} mmcv==2.1.0'),
    'mmdet': Requirement('mmdet', '>=3.3.0,<3.4', 'pip install mmdet==3.3.0'),
}
ONEDL: dict[str, Requirement] = {
    'mmengine': Requirement(
        'onedl-mmengine',
        '>=0.10.8,<0.11',
        'pip install onedl-mmengine==0.10.12',
    ),
    'mmcv': Requirement(
        'onedl-mmcv', '>=2.3.0,<2.4', f'{_BUILD} onedl-mmcv==2.3.6'
    ),
    'mmdet': Requirement(
        'onedl-mmdetection',
        '>=3.4.0,<3.6',
        'pip install onedl-mmdetection==3.5.1',
    ),
}
# mmcv without its compiled operators, enough where there is no CUDA.
MMCV_LITE = Requirement(
    'mmcv-lite', '>=2.0.0rc4,<2.2.0', 'pip install mmcv-lite==2.1.0'
)
COMMON: dict[str, Requirement] = {
    'torch': Requirement('torch', '>=2.6', 'pip install torch==2.13.0'),
    'transformers': Requirement(
        'transformers', '>=4.56,<6', 'pip install "transformers>=4.56,<6"'
    ),
}


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, ``None`` if absent."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _check_one(requirement: Requirement) -> None:
    """Raise ``MissingPackageError`` unless ``requirement`` is met."""
    name, versions, command = requirement
    found = installed_version(name)
    if found is None:
        reason = ', which is not installed'
    elif not SpecifierSet(versions, prereleases=True).contains(found):
        reason = f' but found {found}'
    else:
        return
    raise MissingPackageError(
        f'referformer needs {name} {versions}{reason}',
        value=found,
        remedy=f'run: {command}',
    )


def _refuse_both(one: str, other: str, remedy: str) -> None:
    """Raise ``MissingPackageError``: two distributions of the same files."""
    raise MissingPackageError(
        f'{one} and {other} are both installed and must not be mixed, because '
        'they write the same files',
        value=(one, other),
        remedy=remedy,
    )


def check_versions() -> None:
    """Check that one complete set of the packages we build on is there.

    Raises:
        MissingPackageError: When a package is missing, has a version that
            does not work, or when distributions that write the same files
            are mixed. The message names what was found, what is wanted and
            the command that brings it.
    """
    lite = installed_version(MMCV_LITE.distribution)
    forked = [r for r in ONEDL.values() if installed_version(r.distribution)]
    plain = [
        r for r in OPENMMLAB.values() if installed_version(r.distribution)
    ]
    if forked and plain:
        _refuse_both(
            plain[0].distribution,
            forked[0].distribution,
            'uninstall one set, for example: pip uninstall '
            f'{" ".join(r.distribution for r in forked)}',
        )
    wanted = ONEDL if forked else OPENMMLAB
    mmcv = wanted['mmcv'].distribution
    if lite and installed_version(mmcv):
        _refuse_both(
            mmcv,
            'mmcv-lite',
            f'run: pip uninstall -y mmcv-lite {mmcv}, then install one again '
            f'({MMCV_LITE.command}, or with compiled operators: '
            f'{wanted["mmcv"].command})',
        )
    if not forked and not installed_version(mmcv):
        wanted = {**wanted, 'mmcv': MMCV_LITE}
    for requirement in (*COMMON.values(), *wanted.values()):
        _check_one(requirement)
