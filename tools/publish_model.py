"""mmdet's script that prepares a checkpoint for publication: ``python tools/publish_model.py IN.pth OUT.pth``.

mmdet's own calls ``torch.load``, which since torch 2.6 refuses the history of the losses in mmengine's checkpoints;
here its few types are allowed.
"""

import runpy
from pathlib import Path

import mmdet
import torch

from atss_plugin.checkpoint_loading import mmengine_globals

if __name__ == '__main__':
    if hasattr(torch.serialization, 'add_safe_globals'):
        torch.serialization.add_safe_globals(mmengine_globals())
    script = Path(mmdet.__file__).parent / '.mim' / 'tools' / 'model_converters' / 'publish_model.py'
    runpy.run_path(str(script), run_name='__main__')
