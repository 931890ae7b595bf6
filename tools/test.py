"""mmdet's test script, where ``mim test atss_plugin CONFIG`` and habit look for it."""

import runpy
from pathlib import Path

import mmdet

if __name__ == '__main__':
    runpy.run_path(str(Path(mmdet.__file__).parent / '.mim' / 'tools' / 'test.py'), run_name='__main__')
