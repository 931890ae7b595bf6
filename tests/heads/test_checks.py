"""What a head refuses when it is built, with what to write instead, and what it accepts from mmdet's configs."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import TASK_UTILS as ROOT_TASK_UTILS
from mmengine.registry import DefaultScope, Registry
from mmengine.structures import InstanceData
from torch import nn

from atss_plugin.errors import UsageError
from atss_plugin.experiments import load_config

DELTAS = dict(type='mmdet.DeltaXYWHBBoxCoder')
SMALL = dict(num_classes=3, in_channels=8, feat_channels=32, stacked_convs=1)
ATSS = dict(assigner=dict(type='atss_plugin.ATSSAssigner'))
IOU_LOSSES = [name for name in ('IoULoss', 'GIoULoss', 'DIoULoss', 'CIoULoss', 'EIoULoss') if name in MODELS]


def build(kind='RetinaNetHead', **options):
    return MODELS.build(dict(SMALL, type=f'atss_plugin.{kind}', **options))


def losses(head):
    """Losses of two random images; at least one anchor is certainly positive."""
    torch.manual_seed(0)
    feats = [torch.randn(2, 8, 16 // 2**i, 16 // 2**i) for i in range(len(head.prior_generator.strides))]
    gt = InstanceData(bboxes=torch.tensor([[20.0, 30.0, 90.0, 100.0]]), labels=torch.tensor([1]))
    return head.loss_by_feat(*head(feats), [gt, gt], [{}, {}])


@MODELS.register_module(name='LossOfBoxes')
class LossOfBoxes(nn.Module):
    def forward(self, pred, target, reduction_override=None):
        return (pred - target).abs().mean(1)


@MODELS.register_module(name='LossOfNumbers')
class LossOfNumbers(nn.Module):
    def forward(self, pred, target, reduction_override=None):
        return (pred - target).abs()


@MODELS.register_module(name='LossElsewhere')
class LossElsewhere(nn.Module):
    def forward(self, pred, target, reduction_override=None):
        raise RuntimeError('runs on another device only')


class TestBoxLoss:
    @pytest.mark.parametrize('name', [*IOU_LOSSES, 'LossOfBoxes'])
    def test_a_loss_of_boxes_takes_decoded_boxes(self, name):
        build(loss_bbox=dict(type=name))
        with pytest.raises(UsageError, match=f'{name} compares boxes: write reg_decoded_bbox=True'):
            build(loss_bbox=dict(type=name), reg_decoded_bbox=False)

    @pytest.mark.parametrize('name', ['L1Loss', 'SmoothL1Loss', 'BalancedL1Loss', 'MSELoss', 'LossOfNumbers'])
    def test_a_loss_of_numbers_takes_encoded_ones(self, name):
        build(loss_bbox=dict(type=name), reg_decoded_bbox=False)
        with pytest.raises(UsageError, match=f"{name} compares the coder's numbers: write reg_decoded_bbox=False"):
            build(loss_bbox=dict(type=name))

    @pytest.mark.parametrize('decoded', [False, True])
    def test_a_loss_of_boxes_that_gives_four_numbers_has_no_place(self, decoded):
        with pytest.raises(UsageError, match='BoundedIoULoss'):
            build(loss_bbox=dict(type='BoundedIoULoss'), reg_decoded_bbox=decoded)

    @pytest.mark.parametrize('decoded', [False, True])
    def test_a_loss_that_cannot_be_tried_is_taken(self, decoded):
        build(loss_bbox=dict(type='LossElsewhere'), reg_decoded_bbox=decoded)

    @pytest.mark.parametrize('kind', ['RetinaNetHead', 'FCOSHead'])
    def test_what_is_built_trains(self, kind):
        for loss, decoded in (('GIoULoss', True), ('SmoothL1Loss', False)):
            head = build(kind, loss_bbox=dict(type=loss), reg_decoded_bbox=decoded, train_cfg=ATSS)
            assert all(value.isfinite() for value in losses(head).values())


class TestFCOS:
    def test_an_inherited_box_coder_is_said(self):
        head = load_config('mmdet::atss/atss_r50_fpn_1x_coco.py').model.bbox_head
        with pytest.raises(UsageError, match='regresses from the point .* DeltaXYWHBBoxCoder, perhaps inherited'):
            MODELS.build(dict(head, type='atss_plugin.FCOSHead'))

    def test_without_an_assigner_it_is_fcos(self):
        head = build('FCOSHead', strides=[8, 16], regress_ranges=((-1, 50), (50, 1e8)))
        assert type(head.assigner).__name__ == 'SpatialScaleAssigner'
        assert head.assigner.scale_ranges == [(-1, 50), (50, 1e8)]
        assert head.prior_generator.strides == [(8, 8), (16, 16)]
        assert losses(head)['loss_bbox'] > 0

    def test_center_sampling(self):
        head = build('FCOSHead', strides=[16, 32], regress_ranges=((-1, 64), (64, 1e8)), center_sampling=True)
        expected = dict(type='atss_plugin.CenterSamplingAssigner', radius=1.5, strides=[16, 32])
        same = build(
            'FCOSHead', strides=[16, 32], train_cfg=dict(assigner=dict(expected, scale_ranges=((-1, 64), (64, 1e8))))
        )
        priors, levels = head.get_priors([(16, 16), (8, 8)], 'cpu')
        gt = [InstanceData(bboxes=torch.tensor([[20.0, 30.0, 90.0, 200.0]]), labels=torch.tensor([1]))]
        one, two = (h.assigner.assign_batch(priors, levels, gt).gt_inds for h in (head, same))
        assert one.equal(two) and (one > 0).any()
        wide = build('FCOSHead', center_sampling=True, center_sample_radius=2.5)
        assert wide.assigner.radius == 2.5

    @pytest.mark.parametrize(
        'config',
        [
            pytest.param('fcos_r50-caffe_fpn_gn-head_1x_coco.py', id='plain'),
            pytest.param('fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py', id='all tricks'),
        ],
    )
    def test_mmdets_own_configs_need_one_line(self, config):
        head = load_config(f'mmdet::fcos/{config}').model.bbox_head
        head = MODELS.build(dict(head, **SMALL, type='atss_plugin.FCOSHead'))
        sampling = 'center' in config
        assert type(head.assigner).__name__ == ('CenterSamplingAssigner' if sampling else 'SpatialScaleAssigner')
        assert losses(head)['loss_bbox'] > 0

    @pytest.mark.parametrize(
        'options, message',
        [
            pytest.param(dict(regress_ranges=((-1, 64),)), 'regress_ranges=None.*scale_ranges', id='ranges'),
            pytest.param(dict(center_sampling=True), 'center_sampling=False.*CenterSamplingAssigner', id='sampling'),
        ],
    )
    def test_what_an_assigner_would_not_follow(self, options, message):
        with pytest.raises(UsageError, match=message):
            build('FCOSHead', train_cfg=ATSS, **options)

    def test_strides_are_given_once(self):
        generator = dict(type='mmdet.AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1)
        assert build('FCOSHead', anchor_generator=generator, strides=[8, 16]).prior_generator.strides[1] == (16, 16)
        with pytest.raises(UsageError, match='write them once'):
            build('FCOSHead', anchor_generator=dict(generator, strides=[8, 32]), strides=[8, 16])


@pytest.mark.parametrize(
    'kind, fixed, other',
    [
        ('FCOSHead', dict(norm_on_bbox=True), dict(norm_on_bbox=False)),
        ('FCOSHead', dict(centerness_on_reg=True), dict(centerness_on_reg=False)),
        ('FCOSHead', dict(conv_cfg=None), dict(conv_cfg=dict(type='DCNv2'))),
        ('FCOSHead', dict(cls_predictor_cfg=None), dict(cls_predictor_cfg=dict(type='NormedLinear'))),
        ('RetinaNetHead', dict(pred_kernel_size=3), dict(pred_kernel_size=1)),
        ('RetinaNetHead', dict(conv_cfg=None), dict(conv_cfg=dict(type='ConvWS'))),
        ('OneStageHead', dict(train_cfg=dict(allowed_border=-1)), dict(train_cfg=dict(allowed_border=0))),
        ('OneStageHead', dict(train_cfg=dict(pos_weight=-1)), dict(train_cfg=dict(pos_weight=2.0))),
        (
            'OneStageHead',
            dict(train_cfg=dict(sampler=dict(type='PseudoSampler'))),
            dict(train_cfg=dict(sampler=dict(type='RandomSampler', num=256))),
        ),
    ],
    ids=str,
)
def test_mmdets_arguments_are_followed_or_refused(kind, fixed, other):
    extra = dict(bbox_coder=DELTAS) if kind == 'OneStageHead' else {}
    build(kind, **fixed, **extra)
    (name,) = other.get('train_cfg') or other
    with pytest.raises(UsageError, match=name):
        build(kind, **other, **extra)


def test_conv_bias_auto_is_mmdets():
    assert build('FCOSHead', conv_bias='auto').cls_convs[0].conv.bias is None
    assert build('FCOSHead', conv_bias='auto', norm_cfg=None).cls_convs[0].conv.bias is not None


@pytest.mark.parametrize('train_cfg', [None, {}, dict(allowed_border=-1)], ids=str)
def test_training_without_an_assigner_says_what_to_write(train_cfg):
    with pytest.raises(UsageError, match='train_cfg=dict.assigner=dict.type=.atss_plugin.ATSSAssigner'):
        losses(build(train_cfg=train_cfg))


@pytest.fixture
def foreign_scope():
    """A package like mmyolo, apart from mmdet: its registries know mmengine's modules, but none of mmdet's."""
    roots = (ROOT_MODELS, ROOT_TASK_UTILS)
    for root in roots:
        Registry(root.name, parent=root, scope='foreign')
    with DefaultScope.overwrite_default_scope('foreign'):
        yield
    for root in roots:
        del root._children['foreign']


@pytest.mark.parametrize('kind', ['RetinaNetHead', 'FCOSHead'])
def test_defaults_are_found_from_another_packages_scope(foreign_scope, kind):
    with pytest.raises(KeyError, match='GIoULoss'):
        MODELS.build(dict(type='GIoULoss'))
    head = build(kind)
    head.init_weights()
    assert type(head.loss_bbox).__name__ == 'GIoULoss' and len(head.prior_generator.strides) == 5
