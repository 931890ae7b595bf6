"""``pip install .`` or ``pip install -e .``: never builds, upgrades or replaces torch, mmcv, mmengine or mmdet."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# mim looks for these of an installed package in <package>/.mim
MIM_FILES = ('configs', 'tools', 'model-index.yml')
EXPORT = ['onnx', 'onnxruntime', 'onnxscript']


class BuildWithMimFiles(build_py):
    """Put the configs into the wheel, where ``mim train atss_plugin``, ``mim search`` and the others find them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # the checkout has them
            return
        target = Path(self.build_lib) / 'atss_plugin' / '.mim'
        shutil.rmtree(target, ignore_errors=True)  # what an earlier build left, renamed configs for example
        target.mkdir(parents=True)
        for name in MIM_FILES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(ROOT / name, target / name)


def version() -> str:
    namespace = {}
    exec((ROOT / 'atss_plugin' / 'version.py').read_text(), namespace)
    return namespace['__version__']


def readme() -> str:
    path = ROOT / 'README.md'
    return path.read_text(encoding='utf-8') if path.is_file() else ''


setup(
    name='atss_plugin',
    version=version(),
    description='ATSS (CVPR 2020) for mmdetection 3.x, exactly as in the paper, all tables',
    long_description=readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    classifiers=[
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    packages=find_packages(include=['atss_plugin', 'atss_plugin.*']),
    package_data={'atss_plugin.analysis': ['explorer/*']},
    python_requires='>=3.8',
    # torch, mmcv, mmengine and mmdet are missing on purpose: there are several distributions of each (CPU, CUDA, the
    # onedl forks), mmcv has to match the torch that is there, and pip would pull another one over it.
    # tabulate writes pandas' markdown; SciPy judges the claims
    install_requires=['matplotlib', 'numpy', 'pandas', 'plotly', 'rich', 'scipy>=1.7', 'tabulate'],
    extras_require={
        # mmdet 3.3 refuses mmcv 2.2; mmcv has to be built with its ops (README).
        'openmmlab': ['mmcv>=2.0.0,<2.2.0', 'mmengine>=0.7.1', 'mmdet>=3.0.0'],
        'onedl': ['onedl-mmcv', 'onedl-mmengine', 'onedl-mmdetection'],
        # atss-plugin export; onnxruntime runs what it wrote
        'export': EXPORT,
        # seaborn: mmdet's analyze_logs; selenium: the page of `explore` in a browser
        'test': ['hypothesis', 'pytest', 'scikit-learn', 'seaborn', 'selenium', 'submitit', *EXPORT],
        'slurm': ['submitit'],  # `atss-plugin run --array`
    },
    entry_points={'console_scripts': ['atss-plugin=atss_plugin.cli:main']},
    cmdclass={'build_py': BuildWithMimFiles},
    zip_safe=False,
)
