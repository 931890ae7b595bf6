"""mmdet's training script, where ``mim train atss_plugin CONFIG`` and habit look for it."""

import runpy
from pathlib import Path

import mmdet

if __name__ == '__main__':
    runpy.run_path(str(Path(mmdet.__file__).parent / '.mim' / 'tools' / 'train.py'), run_name='__main__')
