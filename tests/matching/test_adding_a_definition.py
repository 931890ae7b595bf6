"""docs/adding_a_definition.md: the page's file is run unchanged, and equals a definition of the package."""

import re
import sys

import pytest
import torch
from hypothesis import given
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch.testing import assert_close

from atss_plugin.assigners import TaskAlignedAssigner
from atss_plugin.registry import TASK_UTILS
from tests.configs.helpers import batch_of_two, build, shrink
from tests.conftest import ROOT
from tests.matching.test_pyramid import QUICK
from tests.reference.predictions import predicted_scenes

FILE, CONFIG = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/adding_a_definition.md').read_text('utf-8'), re.DOTALL)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """The page's file and its config, in a folder next to the package's base config."""
    folder = tmp_path_factory.mktemp('user')
    (folder / 'my_definitions.py').write_text(FILE)
    (folder / 'config.py').write_text(CONFIG.replace('../atss_r50_fpn_1x.py', f'{ROOT}/configs/atss_r50_fpn_1x.py'))
    sys.path.insert(0, str(folder))
    init_default_scope('mmdet')
    yield Config.fromfile(folder / 'config.py')
    sys.path.remove(str(folder))
    sys.modules.pop('my_definitions', None)
    TASK_UTILS.module_dict.pop('MyAlignment', None)


@QUICK
@given(predicted_scenes())
def test_is_the_definition_that_the_package_has(written, scene):
    layout, images, predictions = scene
    found, expected = (
        assigner.assign_batch(layout.priors, layout.num_level_priors, images, None, predictions)
        for assigner in (TASK_UTILS.build(dict(type='atss_plugin.MyAlignment')), TaskAlignedAssigner())
    )
    assert_close(found.gt_inds, expected.gt_inds, rtol=0, atol=0)


def test_trains(written):
    model = build(shrink(written.model)).train()
    losses = model(**model.data_preprocessor(batch_of_two(), training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    assert type(model.bbox_head.assigner).__name__ == 'MyAlignment' and torch.isfinite(total)
