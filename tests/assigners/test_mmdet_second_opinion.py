"""mmdet's own classes, where they do the same: assigners, FCOS's targets, ATSSHead's losses and detections."""

import pytest
import torch
from mmdet.models.dense_heads import ATSSHead
from mmdet.models.dense_heads import FCOSHead as MMDetFCOSHead
from mmdet.models.task_modules import AnchorGenerator, MaxIoUAssigner
from mmdet.models.task_modules import ATSSAssigner as MMDetATSSAssigner
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch.testing import assert_close

from atss_plugin.assigners import ATSSAssigner, CenterSamplingAssigner, IoUAssigner, SpatialScaleAssigner
from atss_plugin.heads import RetinaNetHead
from tests.reference.scenes import instances, make_layout, random_boxes

SIZE = (192, 256)
SEEDS = range(6)


def assign(assigner, layout, gts, ignore=None, levels=True):
    args = (layout.num_level_priors, gts, ignore) if levels else (gts, ignore)
    return assigner.assign(InstanceData(priors=layout.priors), *args)


@pytest.mark.parametrize('topk', [3, 9, 15])
@pytest.mark.parametrize('seed', SEEDS)
def test_atss_assigner(seed, topk):
    """One anchor per location, boxes without ties."""
    layout, gts = make_layout(size=SIZE), instances(random_boxes(12, SIZE, seed))
    ours, theirs = (assign(a, layout, gts) for a in (ATSSAssigner(topk=topk), MMDetATSSAssigner(topk=topk)))
    assert (ours.gt_inds > 0).any()
    assert_close(ours.gt_inds, theirs.gt_inds, rtol=0, atol=0)
    assert_close(ours.labels, theirs.labels, rtol=0, atol=0)
    positive = ours.gt_inds > 0
    assert_close(ours.max_overlaps[positive], theirs.max_overlaps[positive])


@pytest.mark.parametrize('seed', SEEDS)
def test_atss_assigner_with_k_anchors(seed):
    """mmdet counts anchors where we count locations: topk x A there, for the k x A of the paper."""
    layout = make_layout(size=SIZE, ratios=[1.0], octave_base_scale=4, scales_per_octave=3)
    gts = instances(random_boxes(12, SIZE, seed))
    ours, theirs = assign(ATSSAssigner(topk=9), layout, gts), assign(MMDetATSSAssigner(topk=27), layout, gts)
    assert_close(ours.gt_inds, theirs.gt_inds, rtol=0, atol=0)


@pytest.mark.parametrize('seed', SEEDS)
def test_max_iou_assigner(seed):
    """What is positive or ignored, and for which ground truth unless mmdet lets one take another's prior."""
    layout, gts = make_layout(size=SIZE), instances(random_boxes(8, SIZE, seed))
    inside = (gts.bboxes[:, :2] < torch.tensor([256.0, 192.0])).all(1) & (gts.bboxes[:, 2:] > 0).all(1)
    gts = gts[inside]  # without overlap, mmdet's considers every prior the best
    ours = assign(IoUAssigner(0.5, 0.4), layout, gts, levels=False)
    theirs = assign(MaxIoUAssigner(0.5, 0.4, min_pos_iou=0), layout, gts, levels=False)
    assert_close(ours.gt_inds.sign(), theirs.gt_inds.sign(), rtol=0, atol=0)
    assert_close(ours.max_overlaps, theirs.max_overlaps)
    plain = assign(MaxIoUAssigner(0.5, 0.4, min_pos_iou=0, match_low_quality=False), layout, gts, levels=False)
    above = plain.gt_inds > 0
    assert_close(ours.gt_inds[above], plain.gt_inds[above], rtol=0, atol=0)
    for i in range(len(gts)):  # alone, a ground truth cannot take a prior from another
        assert_close(
            assign(IoUAssigner(0.5, 0.4), layout, gts[i : i + 1], levels=False).gt_inds,
            assign(MaxIoUAssigner(0.5, 0.4, min_pos_iou=0), layout, gts[i : i + 1], levels=False).gt_inds,
        )


@pytest.mark.parametrize('negative', [0.4, (0.1, 0.4), (0.2, 0.5)], ids=str)
@pytest.mark.parametrize('seed', SEEDS)
def test_max_iou_assigner_without_low_quality(seed, negative):
    """Negatives from an interval, as mmdet accepts it, and only what reaches the threshold is positive."""
    layout, gts = make_layout(size=SIZE), instances(random_boxes(8, SIZE, seed))
    ours = assign(IoUAssigner(0.5, negative, match_low_quality=False), layout, gts, levels=False)
    theirs = assign(MaxIoUAssigner(0.5, negative, match_low_quality=False), layout, gts, levels=False)
    for name in ('gt_inds', 'labels', 'max_overlaps'):
        assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=0)


def test_the_third_argument_is_named():
    with pytest.raises(TypeError, match='positional'):
        IoUAssigner(0.5, 0.4, 0.0)  # mmdet's min_pos_iou


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize(
    'sampling, assigner',
    [
        pytest.param(
            dict(center_sampling=True, center_sample_radius=1.5), CenterSamplingAssigner(radius=1.5), id='radius'
        ),
        pytest.param(
            dict(center_sampling=True, center_sample_radius=2.5), CenterSamplingAssigner(radius=2.5), id='wide'
        ),
        pytest.param(dict(center_sampling=False), SpatialScaleAssigner(), id='ssc'),
    ],
)
def test_fcos_targets(sampling, assigner, seed):
    """The classes that mmdet's FCOSHead computes inside its head."""
    layout, gts = make_layout(size=SIZE), []
    for num in (12, 0, 25):
        boxes = random_boxes(num, SIZE, seed + num)
        # no side within 0.1 of a point, as mmdet's constraint has no margin
        gts.append(instances(boxes.floor() + 0.1 + 0.3 * boxes.frac().abs()))
    head = MMDetFCOSHead(
        num_classes=80, strides=[8, 16, 32, 64, 128], in_channels=8, feat_channels=8, norm_cfg=None, **sampling
    )
    points = torch.from_numpy(layout.points).float().split(layout.num_level_priors)
    labels, deltas = head.get_targets(points, gts)
    expected = torch.cat([level.view(3, -1) for level in labels], 1)
    batch = assigner.assign_batch(layout.priors, layout.num_level_priors, gts)
    assert_close(torch.where(batch.gt_inds > 0, batch.labels, 80), expected, rtol=0, atol=0)
    positive = batch.gt_inds > 0
    sides = torch.cat([level.view(3, -1, 4) for level in deltas], 1)[positive]
    boxes = batch.boxes_at(positive.flatten())
    point = torch.from_numpy(layout.points).float().expand(3, -1, 2)[positive]
    assert_close(torch.cat([point - boxes[:, :2], boxes[:, 2:] - point], 1), sides, rtol=1e-5, atol=1e-4)


class TestATSSHead:
    """Our head with mmdet's weights, in mmdet's geometry."""

    GENERATOR = dict(
        type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=[8, 16, 32, 64, 128]
    )
    TEST_CFG = ConfigDict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100
    )

    @pytest.fixture
    def heads(self):
        torch.manual_seed(0)
        shared = dict(
            num_classes=6,
            in_channels=16,
            feat_channels=32,
            stacked_convs=2,
            anchor_generator=self.GENERATOR,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
            test_cfg=self.TEST_CFG,
        )
        theirs = ATSSHead(
            loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
            loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
            train_cfg=ConfigDict(assigner=dict(type='ATSSAssigner', topk=9), allowed_border=-1, pos_weight=-1),
            **shared,
        )
        ours = RetinaNetHead(
            conv_bias=False, train_cfg=dict(assigner=dict(type='atss_plugin.ATSSAssigner', topk=9)), **shared
        )
        theirs.init_weights()
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
            theirs.atss_cls.bias.add_(2.0)
        ours.load_state_dict(theirs.state_dict())  # strict: the names are mmdet's
        return ours.eval(), theirs.eval()

    @pytest.fixture
    def feats(self):
        torch.manual_seed(1)
        return [torch.randn(2, 16, -(-SIZE[0] // s), -(-SIZE[1] // s)) for s in (8, 16, 32, 64, 128)]

    METAS = [dict(img_shape=SIZE, pad_shape=SIZE, scale_factor=(2.0, 0.5), ori_shape=(96, 512))] * 2

    def test_outputs(self, heads, feats):
        for ours, theirs in zip(*(head(feats) for head in heads)):
            for a, b in zip(ours, theirs):
                assert_close(a, b)

    def test_losses_and_gradients(self, heads, feats):
        """Both images have positives, so mmdet's divisor is the recipe's."""
        gts = [instances(random_boxes(n, SIZE, n) * 0.8 + 20, torch.arange(n) % 6) for n in (7, 3)]
        ours, theirs = (head.loss_by_feat(*head(feats), gts, self.METAS) for head in heads)
        for key, value in theirs.items():
            assert_close(ours[key], sum(value), rtol=1e-5, atol=1e-6)
        sum(ours.values()).backward()
        sum(sum(value) for value in theirs.values()).backward()
        for (name, a), b in zip(heads[0].named_parameters(), heads[1].parameters()):
            assert_close(
                a.grad,
                b.grad,
                rtol=1e-4,
                atol=1e-6 + 1e-5 * float(b.grad.abs().max()),
                msg=lambda m, name=name: f'{name}: {m}',
            )

    @pytest.mark.parametrize('rescale', [False, True])
    def test_detections(self, heads, feats, rescale):
        """Our score is the root of mmdet's product of the two, in the same order."""
        with torch.no_grad():
            ours, theirs = (
                head.predict_by_feat(*head(feats), batch_img_metas=self.METAS, rescale=rescale) for head in heads
            )
        for a, b in zip(ours, theirs):
            assert len(a) == len(b) == 100
            assert_close(a.scores.square(), b.scores, rtol=1e-4, atol=1e-6)
            assert_close(a.labels, b.labels, rtol=0, atol=0)
            assert_close(a.bboxes, b.bboxes, rtol=1e-4, atol=1e-2)


def test_anchor_generator_is_mmdets():
    """The default priors of the head are AnchorGenerator's, centred in their cells."""
    head = RetinaNetHead(num_classes=2, in_channels=32)
    priors, num_level_priors = head.get_priors([(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)], torch.device('cpu'))
    generator = AnchorGenerator(strides=[8, 16, 32, 64, 128], ratios=[1.0], scales=[8], center_offset=0.5)
    levels = generator.grid_priors([(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)], device='cpu')
    assert num_level_priors == [len(level) for level in levels]
    assert_close(priors, torch.cat(levels), rtol=0, atol=0)
