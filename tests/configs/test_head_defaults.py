"""The head's own defaults, for configs of others, are the settings that the base config spells out for the tables."""

from inspect import signature

from atss_plugin import OneStageHead
from tests.configs.helpers import load, plain

# the same values, written for the rows: the anchors of Table 6's ratios are rounded
SPELLED_ANEW = {'anchor_generator': dict(type='atss_plugin.RoundedAnchorGenerator')}
REQUIRED = {'type', 'num_classes', 'in_channels', 'bbox_coder'}


def test_defaults_of_the_head_are_the_base_configs():
    spelled = plain(load('_base_/retinanet_r50_fpn.py').model.bbox_head)
    defaults = {name: parameter.default for name, parameter in signature(OneStageHead).parameters.items()}
    assert REQUIRED < set(spelled)
    for name, value in spelled.items():
        if name in REQUIRED:
            continue
        default = defaults[name]
        if name in SPELLED_ANEW:
            value, default = dict(value, type=None), dict(default, type=None)
        if isinstance(default, dict) and isinstance(default['type'], str):  # scoped, for models of other packages
            default = dict(default, type=default['type'].replace('mmdet.', ''))
        assert value == default, name
