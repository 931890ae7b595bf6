"""Write ``configs/metafile.yml``, which mim reads, from ``configs/paper_tables.yml``: ``python
tools/make_metafile.py``.

A row that is the same experiment as another has no entry of its own.  ``Results`` of what was trained are kept.
"""

import sys
from pathlib import Path
from typing import Any, Dict

import yaml

ROOT = Path(__file__).resolve().parents[1]
METRICS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')
HEADER = """\
# Every experiment of the paper's Tables 1-8, written by tools/make_metafile.py from paper_tables.yml. `Paper Results`
# are the paper's numbers (arXiv:1912.02424v4), on val2017 for Tables 1-7 and on test-dev for Table 8; `Results` are
# for what was trained here, and stand where that is so.
Collections:
  - Name: ATSS
    Metadata:
      Training Data: COCO
      Training Techniques:
        - SGD with Momentum
        - Weight Decay
      Architecture:
        - ATSS
        - FPN
        - ResNet
    Paper:
      URL: https://arxiv.org/abs/1912.02424
      Title: 'Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training Sample Selection'

Models:
"""
MODEL = """\
  - Name: {id}
    In Collection: ATSS
    Config: configs/{config}
    Metadata:
      Iterations: {iterations}
    Paper Results:
      - Task: Object Detection
        Dataset: COCO {dataset}
        Metrics: {{{metrics}}}
"""


def metafile(tables: Dict[int, dict], results: Dict[str, Any]) -> str:
    """Return the file's text.

    Args:
        tables (dict): those of ``paper_tables.yml`` by their number.
        results (dict): ``Results`` by the name of the model.
    """
    text = HEADER
    for number, table in tables.items():
        dataset, iterations = ('test-dev', 180000) if number == 8 else ('val2017', 90000)
        for row in table['rows']:
            if 'same_as' in row:
                continue
            metrics = ', '.join(f'box {name}: {row[name]}' for name in METRICS if name in row)
            text += MODEL.format(**row, dataset=dataset, iterations=iterations, metrics=metrics)
            if row['id'] in results:
                dumped = yaml.safe_dump({'Results': results[row['id']]}, sort_keys=False)
                text += ''.join(f'    {line}\n' for line in dumped.splitlines())
    return text


def generated() -> str:
    """Return the text that ``configs/metafile.yml`` should have."""
    tables = yaml.safe_load((ROOT / 'configs' / 'paper_tables.yml').read_text(encoding='utf-8'))['tables']
    models = yaml.safe_load((ROOT / 'configs' / 'metafile.yml').read_text(encoding='utf-8'))['Models']
    return metafile(tables, {model['Name']: model['Results'] for model in models if 'Results' in model})


if __name__ == '__main__':
    (ROOT / 'configs' / 'metafile.yml').write_text(generated(), encoding='utf-8')
    sys.exit()
