"""Every config of other papers' definitions is ATSS's or FCOS's except for the assigner, and trains."""

import re

import pytest

import atss_plugin
from tests.configs.helpers import CONFIGS, changes, load
from tests.configs.test_configs import ASSIGNER, POINT, check_prediction, check_training_step

NWD = dict(type='atss_plugin.GaussianWasserstein', constant=12.8)
ROWS = {
    'simota': {ASSIGNER: dict(type='atss_plugin.SimOTAAssigner')},
    'task_aligned': {ASSIGNER: dict(type='atss_plugin.TaskAlignedAssigner', topk=13)},
    'paa': {ASSIGNER: dict(type='atss_plugin.PAAAssigner', topk=9)},
    'atss_nwd': {f'{ASSIGNER}.iou_calculator': NWD},
    'rfla': {ASSIGNER: dict(type='atss_plugin.RFLAAssigner')},
}
ROWS.update({f'{name}_point': {**ROWS[name], **POINT} for name in ('simota', 'task_aligned', 'rfla')})


def test_every_config_is_here():
    assert {path.stem for path in (CONFIGS / 'beyond').glob('*.py')} == set(ROWS)


@pytest.mark.parametrize('name', ROWS)
def test_differs_from_the_final_model_in_the_two_switches_alone(name):
    assert changes(load(f'beyond/{name}.py'), load('atss_r50_fpn_1x.py')) == ROWS[name]


@pytest.mark.parametrize('name', ROWS)
def test_is_two_lines_below_a_line_that_names_the_paper(name):
    first, base, *rest = (CONFIGS / f'beyond/{name}.py').read_text(encoding='utf-8').splitlines()
    assert re.match(r'# .*\(arXiv:\d{4}\.\d{5}\)', first) and base.startswith('_base_')
    assert len([line for line in rest if not line.startswith('#')]) <= 8


@pytest.mark.parametrize('name', ROWS)
def test_trains_one_step_and_detects(name):
    cfg = load(f'beyond/{name}.py')
    cfg.model.test_cfg.score_thr = 0.0  # an untrained model's scores are about 0.01
    model = check_training_step(cfg)
    assigner = model.bbox_head.assigner
    assert type(assigner) is getattr(atss_plugin, cfg.model.train_cfg.assigner.type.split('.')[1])
    check_prediction(model)
