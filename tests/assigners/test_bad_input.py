"""Bad input: a clear error that names what to change. (Data sets: test_coco_dataset.py.)"""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.structures import InstanceData

from atss_plugin.assigners import (
    ATSSAssigner,
    CenterSamplingAssigner,
    DDODAssigner,
    IoUAssigner,
    RFLAAssigner,
    SimOTAAssigner,
    SpatialScaleAssigner,
    TopKIoUAssigner,
)
from tests.reference.definitions import MAKERS, define
from tests.reference.scenes import instances, make_layout, random_boxes

NAN, INF = float('nan'), float('inf')
BY_LEVEL = [name for name in MAKERS if name not in ('iou', 'iou_in_gt_box', 'topk_iou')]
A9 = dict(
    type='AnchorGenerator',
    ratios=[0.5, 1.0, 2.0],
    octave_base_scale=4,
    scales_per_octave=3,
    strides=[8, 16, 32, 64, 128],
)


def assign(name, images, layout=None, priors=None, levels=None):
    layout = layout or make_layout()
    priors = layout.priors if priors is None else priors
    return define(name, layout).assigner.assign_batch(priors, levels, images)


class TestGroundTruths:
    """Named by image and number."""

    @pytest.mark.parametrize('value', [NAN, INF, -INF])
    @pytest.mark.parametrize('name', MAKERS)
    def test_not_finite(self, name, value):
        boxes = random_boxes(5, seed=1)
        boxes[3, 2] = value
        images = [instances(random_boxes(2, seed=2)), instances([]), instances(boxes)]
        with pytest.raises(ValueError, match='ground truth 3 of image 2 in the batch is not finite.*repair or filter'):
            assign(name, images)
        with pytest.raises(ValueError, match='ground truth 3 of image 0'):
            define(name, make_layout()).assigner.assign(InstanceData(priors=make_layout().priors), images[2])

    @pytest.mark.parametrize('shape', [(3, 5), (4,), (2, 3, 4)], ids=str)
    @pytest.mark.parametrize('name', MAKERS)
    def test_shape(self, name, shape):
        bad = InstanceData(bboxes=torch.zeros(shape), labels=torch.zeros(shape[0], dtype=torch.long))
        with pytest.raises(
            ValueError, match=r'ground truths of image 1 in the batch must be \(G, 4\) boxes xyxy, not of shape'
        ):
            assign(name, [instances([[0.0, 0.0, 9.0, 9.0]]), bad])

    @pytest.mark.parametrize('name', MAKERS)
    def test_no_labels(self, name):
        images = [instances([[0.0, 0.0, 9.0, 9.0]]), InstanceData(bboxes=torch.zeros(1, 4))]
        with pytest.raises(ValueError, match='ground truths of image 1 in the batch have no labels'):
            assign(name, images)

    def test_no_boxes(self):
        with pytest.raises(ValueError, match='ground truths of image 1 in the batch have no bboxes'):
            assign('atss', [instances([[0.0, 0.0, 9.0, 9.0]]), InstanceData(labels=torch.zeros(1).long())])

    def test_labels(self):

        class Loose(dict):  # InstanceData itself refuses fields of different lengths
            __getattr__ = dict.__getitem__

        bad = Loose(bboxes=torch.zeros(3, 4), labels=torch.zeros(2, dtype=torch.long))
        with pytest.raises(ValueError, match='image 0 in the batch has 3 boxes but 2 labels'):
            assign('atss', [bad])

    @pytest.mark.parametrize('name', MAKERS)
    def test_forgotten(self, name):
        assigner = define(name, make_layout()).assigner
        for call in (lambda pred: assigner.assign(pred), lambda pred: assigner.assign(pred, [1, 2])):
            with pytest.raises(TypeError, match='gt_instances'):
                call(InstanceData(priors=make_layout().priors))


class TestPriors:
    """Shape, values and levels of the priors."""

    @pytest.mark.parametrize('shape', [(10, 2), (10,), (2, 10, 4)], ids=str)
    @pytest.mark.parametrize('name', MAKERS)
    def test_shape(self, name, shape):
        with pytest.raises(ValueError, match=r'priors must be \(N, 4\) boxes xyxy, not of shape'):
            assign(name, [instances([[0.0, 0.0, 9.0, 9.0]])], priors=torch.zeros(shape))

    def test_rotated(self):
        with pytest.raises(ValueError, match='rotated boxes'):
            assign('iou', [instances([[0.0, 0.0, 9.0, 9.0]])], priors=torch.zeros(10, 5))

    @pytest.mark.parametrize('value', [NAN, INF])
    @pytest.mark.parametrize('name', MAKERS)
    def test_not_finite(self, name, value):
        layout = make_layout()
        layout.priors[17, 1] = value
        with pytest.raises(ValueError, match='priors contain NaN or infinite.*anchor generator'):
            assign(name, [instances([[0.0, 0.0, 50.0, 50.0]])], layout, levels=layout.num_level_priors)

    @pytest.mark.parametrize('name', BY_LEVEL)
    def test_levels_that_cannot_be_inferred(self, name):
        layout = make_layout()
        shuffled = layout.priors[torch.randperm(len(layout.priors), generator=torch.manual_seed(0))]
        with pytest.raises(ValueError, match=r'cannot infer the pyramid levels.*num_level_priors=\[...\]'):
            assign(name, [instances([[0.0, 0.0, 50.0, 50.0]])], priors=shuffled)

    @pytest.mark.parametrize('name', ['iou', 'iou_in_gt_box', 'topk_iou'])
    def test_no_levels_needed(self, name):
        """These two look at all priors alike: any order will do, and gives the same result."""
        layout, gts = make_layout(), [instances(random_boxes(6, seed=3))]
        order = torch.randperm(len(layout.priors), generator=torch.manual_seed(0))
        plain, shuffled = assign(name, gts, layout), assign(name, gts, priors=layout.priors[order])
        assert plain.gt_inds[0][order].tolist() == shuffled.gt_inds[0].tolist()

    @pytest.mark.parametrize('levels', [[320, 80, 20], [320, 80, 20, 6, 3], [-1, 321, 80, 20, 8, 1], []], ids=str)
    @pytest.mark.parametrize('name', BY_LEVEL)
    def test_levels_that_do_not_add_up(self, name, levels):
        if sum(levels) == 428:
            levels = [-1, 429]
        with pytest.raises(ValueError, match='num_level_priors .* add up to .*, but there are 428 priors'):
            assign(name, [instances([[0.0, 0.0, 50.0, 50.0]])], levels=levels)


class TestSettings:
    """Arguments of the constructors."""

    @pytest.mark.parametrize('topk', [0, -3, 2.5, '9', None])
    @pytest.mark.parametrize('kind', [ATSSAssigner, CenterSamplingAssigner, TopKIoUAssigner])
    def test_topk(self, kind, topk):
        with pytest.raises(ValueError, match=f'topk must be a whole number of at least 1, not {topk!r}'):
            kind(topk=topk)

    def test_topk_in_a_config(self):
        with pytest.raises(Exception, match='topk must be a whole number of at least 1, not 0'):
            TASK_UTILS.build(dict(type='atss_plugin.ATSSAssigner', topk=0))

    @pytest.mark.parametrize(
        'kwargs, message',
        [
            (dict(anchors_per_location=0), 'anchors_per_location must be a whole number of at least 1, not 0'),
            (dict(min_positives=-1), 'min_positives must be a whole number of at least 0, not -1'),
        ],
    )
    def test_atss(self, kwargs, message):
        with pytest.raises(ValueError, match=message):
            ATSSAssigner(**kwargs)

    @pytest.mark.parametrize('radius', [0, -1.5])
    def test_radius(self, radius):
        with pytest.raises(ValueError, match=f'radius must be positive .* not {radius}'):
            CenterSamplingAssigner(radius=radius)

    @pytest.mark.parametrize(
        'ranges', [[(64, -1)], [(1, 2, 3)], [(0, NAN)], [64, 128]], ids=['turned', 'triple', 'nan', 'flat']
    )
    @pytest.mark.parametrize('kind', [SpatialScaleAssigner, CenterSamplingAssigner])
    def test_scale_ranges(self, kind, ranges):
        with pytest.raises(ValueError, match=r'scale_ranges must be \(low, high\) pairs with low <= high'):
            kind(scale_ranges=ranges)

    @pytest.mark.parametrize(
        'assigner',
        [
            pytest.param(SpatialScaleAssigner([(-1, 64), (64, INF)]), id='ssc'),
            pytest.param(CenterSamplingAssigner(scale_ranges=[(-1, 64), (64, INF)]), id='center_sampling'),
            pytest.param(CenterSamplingAssigner(radius=1.5, scale_ranges=[(-1, 64), (64, INF)]), id='radius'),
        ],
    )
    def test_scale_ranges_of_other_levels(self, assigner):
        layout = make_layout()
        with pytest.raises(
            ValueError, match='scale_ranges has 2 entries, but the priors have 5 levels.*one entry for each'
        ):
            assigner.assign_batch(layout.priors, layout.num_level_priors, [instances([[0.0, 0.0, 50.0, 50.0]])])

    @pytest.mark.parametrize('values', [(8, 0), (8, -16), 8, [(8, 8)]])
    def test_strides_and_fields(self, values):
        for make in (
            lambda: CenterSamplingAssigner(radius=1.5, strides=values),
            lambda: SimOTAAssigner(strides=values),
            lambda: RFLAAssigner(receptive_fields=values),
        ):
            with pytest.raises(ValueError, match='must be positive numbers of pixels, one for each level'):
                make()

    def test_numbers_of_any_kind(self):
        ranges = np.array([[-1, 64], [64, INF]])
        assert CenterSamplingAssigner(radius=1.5, strides=np.array([8, 16])).strides == [8.0, 16.0]
        assert SpatialScaleAssigner(ranges).scale_ranges == [(-1.0, 64.0), (64.0, INF)]

    def test_two_stages(self):
        with pytest.raises(ValueError, match='topk must be two numbers, of the first stage and of the second, not 3'):
            RFLAAssigner(topk=3)

    def test_strides_of_other_levels(self):
        layout = make_layout()
        assigner = CenterSamplingAssigner(radius=1.5, strides=[8, 16])
        with pytest.raises(ValueError, match='strides has 2 entries, but the priors have 5 levels'):
            assigner.assign_batch(layout.priors, layout.num_level_priors, [instances([[0.0, 0.0, 50.0, 50.0]])])

    @pytest.mark.parametrize('pos, neg', [(0.4, 0.5), (1.1, 0.4), (0.5, -0.1)])
    def test_thresholds(self, pos, neg):
        with pytest.raises(ValueError, match=f'neg_iou_thr={neg}, pos_iou_thr={pos}'):
            IoUAssigner(pos_iou_thr=pos, neg_iou_thr=neg)

    def test_alpha_without_predictions(self):
        layout = make_layout()
        with pytest.raises(ValueError, match="alpha=0.8 is DDOD's cost.*atss_plugin.DDODAssigner"):
            ATSSAssigner(alpha=0.8)
        with pytest.raises(ValueError, match='DDODAssigner needs scores and bboxes in pred_instances'):
            DDODAssigner(alpha=0.8).assign(InstanceData(priors=layout.priors), instances([[0.0, 0.0, 50.0, 50.0]]))


class TestHead:
    """Arguments that contradict each other."""

    def test_point_start_with_several_anchors(self):
        with pytest.raises(Exception, match='AnchorPointCoder starts from the point.*9 anchors.*DeltaXYWHBBoxCoder'):
            MODELS.build(dict(type='atss_plugin.FCOSHead', num_classes=2, in_channels=8, anchor_generator=A9))
        with pytest.raises(Exception, match='AnchorPointCoder starts from the point'):
            MODELS.build(
                dict(
                    type='atss_plugin.RetinaNetHead',
                    num_classes=2,
                    in_channels=8,
                    anchor_generator=A9,
                    bbox_coder=dict(type='atss_plugin.AnchorPointCoder'),
                )
            )

    def test_levels_of_different_anchors(self):
        ssd = dict(
            type='SSDAnchorGenerator',
            strides=[8, 16, 32],
            ratios=[[2], [2, 3], [2]],
            min_sizes=[20, 50, 90],
            max_sizes=[50, 90, 120],
            scale_major=False,
        )
        with pytest.raises(Exception, match=r'anchor_generator gives \[4, 6, 4\] anchors.*needs the same'):
            MODELS.build(dict(type='atss_plugin.RetinaNetHead', num_classes=2, in_channels=8, anchor_generator=ssd))

    def test_bad_boxes_reach_the_message(self):
        """From the training loss, too, the error names image and ground truth."""
        head = MODELS.build(
            dict(
                type='atss_plugin.RetinaNetHead',
                num_classes=2,
                in_channels=8,
                feat_channels=32,
                train_cfg=dict(assigner=dict(type='atss_plugin.ATSSAssigner')),
            )
        )
        feats = [torch.zeros(2, 8, n, n) for n in (8, 4, 2, 1, 1)]
        gts = [instances([[0.0, 0.0, 9.0, 9.0]]), instances([[0.0, 0.0, 9.0, 9.0], [0.0, NAN, 9.0, 9.0]])]
        with pytest.raises(ValueError, match='ground truth 1 of image 1'):
            head.loss_by_feat(*head(feats), gts, [{}] * 2)


@pytest.mark.parametrize('name', MAKERS)
@pytest.mark.parametrize(
    'box',
    [
        pytest.param([50.0, 50.0, 50.0, 90.0], id='no_width'),
        pytest.param([50.0, 50.0, 90.0, 50.0], id='no_height'),
        pytest.param([50.0, 50.0, 50.0, 50.0], id='a_point'),
        pytest.param([90.0, 50.0, 50.0, 90.0], id='turned'),
        pytest.param([90.0, 90.0, 50.0, 50.0], id='turned_twice'),
        pytest.param([3000.0, 3000.0, 3100.0, 3100.0], id='outside'),
        pytest.param([-3000.0, -50.0, -2900.0, 50.0], id='outside_left'),
    ],
)
def test_useless_boxes_never_become_positive(name, box):
    """Alone, and together with a box that it must not disturb."""
    alone = assign(name, [instances([box])])
    assert not (alone.gt_inds > 0).any() and bool(alone.max_overlaps.isfinite().all())
    good = [40.0, 30.0, 100.0, 101.0]
    beside, expected = assign(name, [instances([good, box])]), assign(name, [instances([good])])
    assert not (beside.gt_inds > 1).any()
    if name != 'topk_iou':  # there the largest distance of the image counts
        assert beside.gt_inds.tolist() == expected.gt_inds.tolist()
