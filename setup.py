# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Packaging of ReferFormer-MM.

mmengine, mmcv and mmdet are not in ``install_requires``: they exist as two
sets of distributions with the same import names, and mmcv must be compiled
against the torch that is already installed. ``requirements/mminstall*.txt``
list both sets; ``import referformer`` checks what it finds.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Return ``__version__`` without importing the package."""
    text = (ROOT / 'referformer' / 'version.py').read_text('utf-8')
    return re.search(r"^__version__ = '([^']+)'$", text, re.M)[1]


def read_requirements(name: str) -> list[str]:
    """Return the requirement lines of ``requirements/<name>.txt``."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text('utf-8')
    stripped = (line.split('#', 1)[0].strip() for line in lines.splitlines())
    return [line for line in stripped if line]


def read_readme() -> str:
    """Return the README, or nothing where it was not shipped."""
    path = ROOT / 'README.md'
    return path.read_text('utf-8') if path.is_file() else ''


extras = {
    'tests': read_requirements('tests'),
    'docs': read_requirements('docs'),
    'mmpretrain': read_requirements('optional'),
}
extras['all'] = sorted({item for items in extras.values() for item in items})

setup(
    name='referformer-mm',
    version=read_version(),
    description='Referring video object segmentation from registered '
    'OpenMMLab components',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    author='The ReferFormer-MM authors',
    license='Apache-2.0',
    packages=find_packages(include=['referformer', 'referformer.*']),
    include_package_data=True,
    package_data={'referformer': ['py.typed']},
    python_requires='>=3.10',
    install_requires=read_requirements('runtime'),
    extras_require=extras,
    zip_safe=False,
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
)
