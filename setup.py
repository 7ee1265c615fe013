# Copyright (c) The ReferFormer-MM authors. Licensed under Apache-2.0.
"""Packaging of ReferFormer-MM.

mmengine, mmcv and mmdet exist as several distributions that write the same
files: ``mmcv-lite`` without operators, ``mmcv`` with compiled ones, and a fork
of all three. pip does not know that they exclude each other, so what is
required depends on what the environment holds already.
"""

import re
import site
import sysconfig
from importlib import metadata
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """Return ``__version__`` without importing the package."""
    text = (ROOT / 'referformer' / 'version.py').read_text('utf-8')
    return re.search(r"^__version__ = '([^']+)'$", text, re.M)[1]


def read_requirements(name: str) -> list[str]:
    """Return the requirement lines of ``requirements/<name>.txt``.

    In place of a line ``-r OTHER.txt`` stand those of the other file.
    """
    text = (ROOT / 'requirements' / f'{name}.txt').read_text('utf-8')
    stripped = [line.split('#', 1)[0].strip() for line in text.splitlines()]
    found = []
    for line in filter(None, stripped):
        other = re.fullmatch(r'-r (\w+)\.txt', line)
        found += read_requirements(other[1]) if other else [line]
    return found


def openmmlab_requirements() -> list[str]:
    """Return the OpenMMLab distributions that this environment lacks.

    The build runs isolated from the environment that the package goes into,
    but with its interpreter: its folders are looked into by their paths.
    """
    folders = {sysconfig.get_path('purelib'), sysconfig.get_path('platlib')}
    folders.update(site.getsitepackages(), [site.getusersitepackages()])
    found = {
        re.sub(r'[-_.]+', '-', distribution.metadata['Name'] or '').lower()
        for distribution in metadata.distributions(path=sorted(folders))
    }
    if any(name.startswith('onedl-mm') for name in found):
        return []  # the fork; `import referformer` tells what it lacks
    return [
        line
        for line in read_requirements('mminstall')
        if not (line.startswith('mmcv-lite') and 'mmcv' in found)
    ]


def read_readme() -> str:
    """Return the README, or nothing where it was not shipped."""
    path = ROOT / 'README.md'
    return path.read_text('utf-8') if path.is_file() else ''


extras = {
    'tests': read_requirements('tests'),
    'dev': read_requirements('dev'),
    'docs': read_requirements('docs'),
    'export': read_requirements('export'),
    'heic': read_requirements('heic'),
    'web': read_requirements('web'),
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
    package_data={
        'referformer': [
            'py.typed',
            'example_model/*',
            'testing/report.html.jinja',
        ],
        'referformer.apis.web': ['page.css', 'page.js'],
    },
    python_requires='>=3.10',
    install_requires=[
        *read_requirements('scoring'),
        *read_requirements('runtime'),
        *openmmlab_requirements(),
    ],
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
