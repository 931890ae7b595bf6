"""configs/custom_coco.py, which users copy, works with the paper's network, too, when it is edited as it says."""

import inspect

from mmengine.config import Config
from mmengine.runner import IterBasedTrainLoop

from tests.conftest import ROOT

FILE = ROOT / 'configs' / 'custom_coco.py'


def test_with_the_papers_network(tmp_path):
    text = FILE.read_text().replace("'./miniature.py'", repr(str(ROOT / 'configs/atss_r50_fpn_1x.py')))
    edited = tmp_path / 'mine.py'
    edited.write_text(text[: text.index('# Schedule')])
    cfg, paper = Config.fromfile(edited), Config.fromfile(ROOT / 'configs' / 'atss_r50_fpn_1x.py')
    assert cfg.train_cfg == paper.train_cfg and cfg.param_scheduler == paper.param_scheduler
    assert set(cfg.train_cfg) - {'type'} <= set(inspect.signature(IterBasedTrainLoop).parameters)
    for dataloader, pipeline in ((cfg.train_dataloader, 'train_pipeline'), (cfg.val_dataloader, 'test_pipeline')):
        assert dataloader.dataset.data_root == 'data/cells' and dataloader.dataset.pipeline == paper[pipeline]
    assert cfg.model.bbox_head.num_classes == 3 and cfg.model.backbone == paper.model.backbone
    assert cfg.train_dataloader.batch_sampler == paper.train_dataloader.batch_sampler
