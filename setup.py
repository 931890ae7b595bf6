"""``pip install .`` or ``pip install -e .``: never builds, upgrades or replaces torch, mmcv, mmengine or mmdet.

The metadata are in pyproject.toml; here is what it cannot say.
"""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# mim looks for these of an installed package in <package>/.mim
MIM_FILES = ('configs', 'tools/publish_model.py', 'tools/test.py', 'tools/train.py', 'model-index.yml')


class BuildWithMimFiles(build_py):
    """Put the configs into the wheel, where ``mim train atss_plugin``, ``mim search`` and the others find them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the checkout has them
            return
        target = Path(self.build_lib) / 'atss_plugin' / '.mim'
        shutil.rmtree(target, ignore_errors=True)  # what an earlier build left, renamed configs for example
        for name in MIM_FILES:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(ROOT / name, target / name)


def version() -> str:
    text = (ROOT / 'atss_plugin' / 'version.py').read_text()
    return re.search(r"__version__ = '(.+)'", text)[1]


def readme() -> str:
    """Return the README for a package index, where there are no files beside it: pictures by their names."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    return re.sub(r'!\[(.+?)\]\(([^:)]+)\)', r'*(Picture in the repository, `\2`: \1)*', text)


setup(
    version=version(),
    long_description=readme(),
    long_description_content_type='text/markdown',
    cmdclass={'build_py': BuildWithMimFiles},
)
