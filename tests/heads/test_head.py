"""The head: normalisers, batches without ground truth, Table 1's improvements, detections.

Values and gradients of the standard setting are held to the golden numbers (test_golden.py) and to
mmdet's ATSSHead (test_mmdet_second_opinion.py).
"""

import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import ATSSHead
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch.testing import assert_close

import atss_plugin.heads  # noqa: F401, registers the heads
from atss_plugin.heads import one_stage
from tests.reference.scenes import instances, random_boxes

SIZE = (128, 160)
STRIDES = (8, 16, 32, 64, 128)
ATSS = dict(type='atss_plugin.ATSSAssigner', topk=9)
SSC = dict(type='atss_plugin.SpatialScaleAssigner')
IOU = dict(type='atss_plugin.IoUAssigner', in_gt_box=True)
POINT = dict(type='atss_plugin.FCOSHead')
BOX = dict(type='atss_plugin.RetinaNetHead')
NO_GIOU = dict(loss_bbox=dict(type='SmoothL1Loss', beta=0.11, loss_weight=0.25), reg_decoded_bbox=False)
VARIANTS = {
    'box': BOX,
    'point': POINT,
    'no_centerness': dict(BOX, loss_centerness=None),
    'no_scalar': dict(BOX, with_scale=False),
    'no_groupnorm': dict(BOX, norm_cfg=None),
    'no_giou': dict(BOX, **NO_GIOU),
    'plain': dict(BOX, loss_centerness=None, with_scale=False, norm_cfg=None, count_images=True, **NO_GIOU),
    'a9': dict(
        BOX,
        anchor_generator=dict(
            type='AnchorGenerator',
            ratios=[0.5, 1.0, 2.0],
            octave_base_scale=4,
            scales_per_octave=3,
            center_offset=0.5,
            strides=list(STRIDES),
        ),
    ),
    'dcn': dict(BOX, dcn_on_last_conv=True),
}
METAS = [dict(img_shape=SIZE, pad_shape=SIZE, scale_factor=(1.0, 1.0), ori_shape=SIZE)]


def make_head(config, assigner=ATSS, num_classes=5, seed=0):
    torch.manual_seed(seed)
    head = MODELS.build(
        dict(
            dict(
                num_classes=num_classes,
                in_channels=8,
                feat_channels=32,
                stacked_convs=1,
                train_cfg=dict(assigner=assigner),
            ),
            **config,
        )
    )
    head.init_weights()
    return head


def test_trained_weights_are_not_initialized_again(tmp_path):
    head = make_head(POINT)
    assert head.atss_reg.bias.unique() == 4
    torch.nn.init.constant_(head.atss_reg.bias, 1.5)
    head.init_weights()
    assert head.atss_reg.bias.unique() == 1.5
    torch.save(head.state_dict(), tmp_path / 'head.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'head.pth'))
    assert make_head(dict(POINT, init_cfg=pretrained)).atss_reg.bias.unique() == 1.5


def make_feats(batch, seed=0):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn((batch, 8, -(-SIZE[0] // s), -(-SIZE[1] // s)), generator=random) for s in STRIDES]


def make_images(*counts):
    return [instances(random_boxes(n, (100, 120), seed=n) + 10, torch.arange(n) % 5) for n in counts]


def losses_of(head, feats, gts, ignore=None):
    return head.loss_by_feat(*head(feats), gts, METAS * len(gts), ignore)


def positives_of(head, feats, gts):
    """gt_inds (B, N) and the priors."""
    priors, levels = head.get_priors([f.shape[-2:] for f in feats], feats[0].device)
    return head.assigner.assign_batch(priors, levels, gts).gt_inds, priors


def centerness_of(prior, box):
    """The recipe's target, in plain numbers."""
    x, y = (prior[0] + prior[2]) / 2, (prior[1] + prior[3]) / 2
    left, top, right, bottom = x - box[0], y - box[1], box[2] - x, box[3] - y
    if min(left, top, right, bottom) <= 0:
        return 0.0
    return math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))


class TestNormalisers:
    """Divided by what the whole batch has."""

    @pytest.mark.parametrize('variant', ['box', 'point', 'no_centerness', 'no_giou', 'a9'])
    @pytest.mark.parametrize('counts', [(6, 3), (1, 9), (4, 4)], ids=str)
    def test_batch_from_its_images(self, variant, counts):
        """The losses of a batch, put together from the losses of its images and their divisors."""
        head, feats, gts = make_head(VARIANTS[variant]), make_feats(2), make_images(*counts)
        both = losses_of(head, feats, gts)
        alone = [losses_of(head, [f[i : i + 1] for f in feats], gts[i : i + 1]) for i in range(2)]
        gt_inds, priors = positives_of(head, feats, gts)
        num = (gt_inds > 0).sum(1).float()
        assert num.min() > 0
        weights = dict(loss_cls=num, loss_centerness=num, loss_bbox=num)
        if variant not in ('no_centerness',):
            weights['loss_bbox'] = torch.tensor(
                [
                    sum(
                        centerness_of(priors[p].tolist(), gts[i].bboxes[gt_inds[i, p] - 1].tolist())
                        for p in (gt_inds[i] > 0).nonzero().flatten().tolist()
                    )
                    for i in range(2)
                ]
            )
        for key, value in both.items():
            w = weights[key]
            assert_close(value, (alone[0][key] * w[0] + alone[1][key] * w[1]) / w.sum(), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize('variant', ['box', 'point', 'plain'])
    def test_18_and_0_positives_are_divided_by_18(self, variant):
        """mmdet's ATSSHead divides by 19."""
        head, feats = make_head(VARIANTS[variant], SSC), make_feats(2)
        gts = [instances([[40.0, 40.0, 64.0, 88.0]], [3]), instances([])]
        gt_inds, _ = positives_of(head, feats, gts)
        assert (gt_inds > 0).sum(1).tolist() == [18, 0]
        both = losses_of(head, feats, gts)
        first, second = (losses_of(head, [f[i : i + 1] for f in feats], gts[i : i + 1]) for i in range(2))
        # alone the second image is divided by 1; plain RetinaNet counts images besides, so 19, 1 and 20
        divisors = (19, 1, 20) if variant == 'plain' else (18, 1, 18)
        assert_close(
            both['loss_cls'] * divisors[2],
            first['loss_cls'] * divisors[0] + second['loss_cls'] * divisors[1],
            rtol=1e-5,
            atol=0,
        )
        assert_close(both['loss_bbox'], first['loss_bbox'], rtol=1e-5, atol=0)
        if 'loss_centerness' in both:
            assert_close(both['loss_centerness'], first['loss_centerness'], rtol=1e-5, atol=0)

    @pytest.mark.parametrize('count_images', [False, True])
    def test_classification_by_hand(self, count_images):
        """Focal loss of every prior that is not ignored, from the formula."""
        head, feats = make_head(dict(BOX, count_images=count_images), IOU), make_feats(3)
        gts = make_images(6, 0, 4)
        gt_inds, _ = positives_of(head, feats, gts)
        assert (gt_inds < 0).any()
        logits = torch.cat([m.permute(0, 2, 3, 1).reshape(3, -1, 5) for m in head(feats)[0]], 1).double()
        target = torch.zeros_like(logits)
        for i, gt in enumerate(gts):
            for p in (gt_inds[i] > 0).nonzero().flatten().tolist():
                target[i, p, gt.labels[gt_inds[i, p] - 1]] = 1
        p_t = torch.where(target == 1, logits.sigmoid(), 1 - logits.sigmoid())
        focal = -torch.where(target == 1, 0.25, 0.75) * (1 - p_t) ** 2 * p_t.log()
        expected = focal[gt_inds >= 0].sum() / ((gt_inds > 0).sum() + 3 * count_images)
        assert_close(losses_of(head, feats, gts)['loss_cls'].double(), expected, rtol=1e-5, atol=0)

    def test_smooth_l1_by_hand(self):
        """Without GIoU and centerness: smooth L1 (beta 0.11) on deltas, divided by 4 x positives."""
        head, feats, gts = make_head(VARIANTS['plain']), make_feats(2), make_images(6, 3)
        gt_inds, priors = positives_of(head, feats, gts)
        outputs = torch.cat([m.permute(0, 2, 3, 1).reshape(2, -1, 4) for m in head(feats)[1]], 1)
        total, num = 0.0, 0
        for i in range(2):
            for p in (gt_inds[i] > 0).nonzero().flatten().tolist():
                a, g = priors[p].tolist(), gts[i].bboxes[gt_inds[i, p] - 1].tolist()
                w, h = a[2] - a[0], a[3] - a[1]
                deltas = [
                    (g[0] + g[2] - a[0] - a[2]) / 2 / w / 0.1,
                    (g[1] + g[3] - a[1] - a[3]) / 2 / h / 0.1,
                    math.log((g[2] - g[0]) / w) / 0.2,
                    math.log((g[3] - g[1]) / h) / 0.2,
                ]
                for x, y in zip(outputs[i, p].tolist(), deltas):
                    d = abs(x - y)
                    total += d * d / 2 / 0.11 if d < 0.11 else d - 0.11 / 2
                num += 1
        assert_close(losses_of(head, feats, gts)['loss_bbox'].item(), total / 4 / num, rtol=1e-5, atol=0)

    def test_centerness_by_hand(self):
        head, feats, gts = make_head(BOX), make_feats(2), make_images(6, 3)
        gt_inds, priors = positives_of(head, feats, gts)
        outputs = torch.cat([m.permute(0, 2, 3, 1).reshape(2, -1) for m in head(feats)[2]], 1)
        pairs = [(i, p) for i in range(2) for p in (gt_inds[i] > 0).nonzero().flatten().tolist()]
        targets = torch.tensor(
            [centerness_of(priors[p].tolist(), gts[i].bboxes[gt_inds[i, p] - 1].tolist()) for i, p in pairs]
        )
        logits = torch.stack([outputs[i, p] for i, p in pairs])
        expected = F.binary_cross_entropy_with_logits(logits, targets)
        assert_close(losses_of(head, feats, gts)['loss_centerness'], expected, rtol=1e-5, atol=1e-6)


class TestNoGroundTruth:
    """Zero box and centerness loss, and a gradient for every parameter."""

    @pytest.mark.parametrize('assigner', [ATSS, SSC, IOU], ids=['atss', 'ssc', 'iou'])
    @pytest.mark.parametrize('variant', VARIANTS)
    def test_whole_batch(self, variant, assigner):
        head, feats = make_head(VARIANTS[variant], assigner), make_feats(2)
        losses = losses_of(head, feats, [instances([])] * 2)
        assert float(losses['loss_cls']) > 0 and float(losses['loss_bbox']) == 0
        assert float(losses.get('loss_centerness', torch.zeros(()))) == 0
        sum(losses.values()).backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
            if name.startswith(('reg_convs', 'atss_reg', 'atss_centerness', 'scales')):
                assert not parameter.grad.any(), name

    @pytest.mark.parametrize('variant', ['box', 'point', 'plain'])
    def test_boxes_of_no_use(self, variant):
        """Boxes without area, and outside: as if there were none."""
        head, feats = make_head(VARIANTS[variant]), make_feats(1)
        useless = [instances([[30.0, 30.0, 30.0, 50.0], [900.0, 900.0, 950.0, 950.0]])]
        for key, value in losses_of(head, feats, [instances([])]).items():
            assert_close(losses_of(head, feats, useless)[key], value, rtol=0, atol=0)


@pytest.mark.parametrize('variant', ['box', 'point', 'plain'])
def test_what_is_not_finite_at_a_background_location_is_no_part_of_the_box_loss(variant, monkeypatch):
    """On an accelerator, which looks at all locations, as on the CPU, which looks at the positives."""
    found = []
    for rows in (one_stage.box_loss_rows, lambda positive: slice(None)):
        monkeypatch.setattr(one_stage, 'box_loss_rows', rows)
        head, feats = make_head(VARIANTS[variant]), make_feats(2)
        outputs = head(feats)
        outputs[1][0].data[1, :, 0, 0] = torch.tensor([float('inf'), float('nan'), 1.0, -float('inf')])
        losses = head.loss_by_feat(*outputs, [instances([[20.0, 20.0, 50.0, 60.0]]), instances([])], [{}] * 2)
        losses['loss_bbox'].backward()
        assert bool(head.atss_reg.bias.grad.isfinite().all())
        found.append(float(losses['loss_bbox']))
    assert found[0] > 0 and found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_scale_does_not_leave_the_range_of_half_precision():
    head = make_head(VARIANTS['box'])
    head.atss_reg.forward = lambda x: torch.full((1, 4, *x.shape[-2:]), 60000.0, dtype=torch.float16)
    head.scales[0].scale.data.fill_(2.0)
    assert (head(make_feats(1))[1][0] == 120000).all()


@pytest.mark.parametrize('num', [4, 6])
def test_a_neck_with_another_number_of_levels(num):
    with pytest.raises(ValueError, match=f'the neck gives {num} feature maps, but .*strides has 5 .* num_outs=5'):
        make_head(VARIANTS['box'])((make_feats(1) * 2)[:num])


@pytest.mark.parametrize('variant', VARIANTS)
def test_one_positive_trains_every_parameter(variant):
    head, feats = make_head(VARIANTS[variant]), make_feats(2)
    sum(losses_of(head, feats, make_images(7, 0)).values()).backward()
    untouched = [name for name, p in head.named_parameters() if p.grad is None or not bool(p.grad.isfinite().all())]
    assert not untouched
    # all that predicts at the positives gets a gradient (the scale of a level without positives has none)
    for name in ('atss_cls.weight', 'atss_reg.weight', 'cls_convs.0.conv.weight', 'reg_convs.0.conv.weight'):
        assert bool(head.get_parameter(name).grad.any()), name


def test_ignored_regions_carry_no_loss():
    """No gradient comes from priors in a crowd."""
    assigner = dict(ATSS, ignore_iof_thr=0.5)
    head, feats = make_head(BOX, assigner), make_feats(1)
    region = [[0.0, 0.0, 90.0, 90.0]]
    priors, levels = head.get_priors([f.shape[-2:] for f in feats], feats[0].device)
    outputs = [[m.detach().requires_grad_() for m in maps] for maps in head(feats)]
    losses = head.loss_by_feat(*outputs, make_images(6), METAS, [instances(region)])
    sum(losses.values()).backward()
    corner = priors.clamp(min=0, max=90)
    shared = (corner[:, 2] - corner[:, 0]) * (corner[:, 3] - corner[:, 1])
    hidden = shared / ((priors[:, 2:] - priors[:, :2]).prod(1)) > 0.5
    grads = []
    for maps in outputs:  # the box losses of a level without positives leave no gradient
        levels = [torch.zeros_like(m) if m.grad is None else m.grad for m in maps]
        grads.append(torch.cat([m.permute(0, 2, 3, 1).reshape(-1, m.size(1)) for m in levels]))
    assert hidden.any() and not any(g[hidden].any() for g in grads)
    assert bool(grads[0][~hidden].abs().sum(1).gt(0).all())


def test_permuted_ground_truths_give_the_same_losses():
    head, feats, (gts,) = make_head(BOX), make_feats(1), make_images(9)
    before = losses_of(head, feats, [gts])
    after = losses_of(head, feats, [gts[torch.randperm(9)]])
    for key in before:
        assert_close(after[key], before[key], rtol=1e-6, atol=1e-7)


def test_losses_are_the_same_again():
    head, feats, gts = make_head(BOX), make_feats(2), make_images(9, 2)
    first, second = losses_of(head, feats, gts), losses_of(head, feats, gts)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_mmdets_assigner_fits_too():
    """Image by image, with mmdet's own ATSSAssigner: the same losses."""
    head, feats, gts = make_head(BOX), make_feats(2), make_images(9, 2)
    other = make_head(BOX, dict(type='ATSSAssigner', topk=9))
    for key, value in losses_of(head, feats, gts).items():
        assert_close(losses_of(other, feats, gts)[key], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('variant', ['box', 'point', 'plain'])
def test_loss_and_predict_of_data_samples(variant):
    """mmdet's entrances: loss() with ignored instances, predict(), loss_and_predict()."""
    head, feats, gts = make_head(VARIANTS[variant], dict(ATSS, ignore_iof_thr=0.5)), make_feats(2), make_images(5, 0)
    head.test_cfg = ConfigDict(
        nms_pre=100, min_bbox_size=0, score_thr=0.005, nms=dict(type='nms', iou_threshold=0.6), max_per_img=7
    )
    ignore = [instances([[0.0, 0.0, 70.0, 70.0]]), instances([])]
    samples = [DetDataSample(gt_instances=gt, ignored_instances=i, metainfo=METAS[0]) for gt, i in zip(gts, ignore)]
    losses = head.loss(feats, samples)
    expected = losses_of(head, feats, gts, ignore)
    assert set(losses) == set(expected)
    assert all(torch.equal(losses[key], expected[key]) for key in expected)
    assert any(not torch.equal(losses[key], value) for key, value in losses_of(head, feats, gts).items())
    predictions = head.predict(feats, samples)
    again = head.loss_and_predict(feats, samples)[1]
    assert [len(p) for p in predictions] == [7, 7]
    for a, b in zip(predictions, again):
        assert_close(a.bboxes, b.bboxes)


class TestImprovements:
    """Table 1 by config: what is not ticked is not there."""

    def names(self, config):
        return {name for name, _ in make_head(config).named_parameters()}

    def test_all_ticked(self):
        tower = {
            f'{tower}.0.{name}'
            for tower in ('cls_convs', 'reg_convs')
            for name in ('conv.weight', 'conv.bias', 'gn.weight', 'gn.bias')
        }
        outputs = {f'atss_{name}.{kind}' for name in ('cls', 'reg', 'centerness') for kind in ('weight', 'bias')}
        assert self.names(BOX) == self.names(POINT) == tower | outputs | {f'scales.{i}.scale' for i in range(5)}

    @pytest.mark.parametrize(
        'change, missing',
        [
            pytest.param(dict(norm_cfg=None), '.gn.', id='groupnorm'),
            pytest.param(dict(loss_centerness=None), 'atss_centerness', id='centerness'),
            pytest.param(dict(with_scale=False), 'scales', id='scalar'),
            pytest.param(dict(conv_bias=False), '.conv.bias', id='conv_bias'),
        ],
    )
    def test_off(self, change, missing):
        on, off = self.names(BOX), self.names(dict(BOX, **change))
        assert off == {name for name in on if missing not in name} and off < on

    def test_names_are_mmdets(self):
        """All of mmdet's ATSSHead, of its default depth and width, and nothing else."""
        theirs = ATSSHead(
            num_classes=80,
            in_channels=256,
            anchor_generator=dict(
                type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=list(STRIDES)
            ),
        )
        ours = MODELS.build(dict(type='atss_plugin.RetinaNetHead', num_classes=80, in_channels=256, conv_bias=False))
        shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
        assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == shapes

    def test_scalar_multiplies_the_regression(self):
        head, feats = make_head(BOX), make_feats(1)
        before = head(feats)[1]
        with torch.no_grad():
            for i, scale in enumerate(head.scales):
                assert float(scale.scale) == 1
                scale.scale.fill_(i + 2.0)
        for i, (a, b) in enumerate(zip(before, head(feats)[1])):
            assert_close(b, a * (i + 2))

    def test_no_centerness_in_the_outputs(self):
        head = make_head(VARIANTS['no_centerness'])
        assert len(head(make_feats(1))[2]) == 0
        assert set(losses_of(head, make_feats(1), make_images(3))) == {'loss_cls', 'loss_bbox'}

    def test_initial_values(self):
        """Probability 0.01, weights N(0, 0.01), biases 0; the point start begins with the anchors."""
        head = make_head(dict(POINT, feat_channels=256))
        assert_close(head.atss_cls.bias, torch.full_like(head.atss_cls.bias, -math.log(0.99 / 0.01)))
        assert_close(head.atss_reg.bias, torch.full((4,), 4.0))
        assert float(head.atss_centerness.bias) == 0 and not head.cls_convs[0].conv.bias.any()
        for conv in (head.atss_cls, head.atss_reg, head.cls_convs[0].conv, head.reg_convs[0].conv):
            assert_close(conv.weight.std(), torch.tensor(0.01), rtol=0.05, atol=0)
        assert not make_head(BOX).atss_reg.bias.any()

    def test_deformable_convolution(self):
        head = make_head(dict(VARIANTS['dcn'], stacked_convs=2))
        kinds = [[type(m.conv).__name__ for m in tower] for tower in (head.cls_convs, head.reg_convs)]
        assert kinds == [['Conv2d', 'ModulatedDeformConv2dPack']] * 2

    @pytest.mark.parametrize('variant', VARIANTS)
    def test_shapes(self, variant):
        head, feats = make_head(VARIANTS[variant]), make_feats(2)
        anchors = 9 if variant == 'a9' else 1
        cls_scores, bbox_preds, centernesses = head(feats)
        for i, feat in enumerate(feats):
            assert cls_scores[i].shape == (2, anchors * 5, *feat.shape[-2:])
            assert bbox_preds[i].shape == (2, anchors * 4, *feat.shape[-2:])
            if centernesses:
                assert centernesses[i].shape == (2, anchors, *feat.shape[-2:])


def logit(p):
    return math.log(p / (1 - p))


class TestDetections:
    """On hand-made outputs: two classes, box deltas of 0, so every box is its anchor."""

    CFG = dict(nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100)
    META = dict(img_shape=(500, 500), scale_factor=(2.0, 4.0), ori_shape=(125, 250))

    @pytest.fixture
    def maps(self):
        """Levels of 3 x 3, 2 x 2 cells and single ones; no class is likely anywhere, centerness is 1/2."""
        sizes = [3, 2, 1, 1, 1]
        return (
            [torch.full((1, 2, n, n), -20.0) for n in sizes],
            [torch.zeros(1, 4, n, n) for n in sizes],
            [torch.zeros(1, 1, n, n) for n in sizes],
        )

    def put(self, maps, level, y, x, label, score, centerness=None):
        maps[0][level][0, label, y, x] = logit(score)
        if centerness is not None:
            maps[2][level][0, 0, y, x] = logit(centerness)

    def predict(self, maps, with_centerness=True, with_nms=True, rescale=False, **cfg):
        head = make_head(BOX if with_centerness else VARIANTS['no_centerness'], num_classes=2)
        (result,) = head.predict_by_feat(
            maps[0],
            maps[1],
            maps[2] if with_centerness else (),
            batch_img_metas=[self.META],
            cfg=ConfigDict(self.CFG, **cfg),
            with_nms=with_nms,
            rescale=rescale,
        )
        return result

    def test_score_is_the_root_of_the_product(self, maps):
        self.put(maps, 1, 0, 1, 1, 0.64, 0.25)
        result = self.predict(maps)
        assert_close(result.scores, torch.tensor([0.4]))
        assert result.labels.tolist() == [1]
        assert_close(result.bboxes, torch.tensor([[0.0, 0.0, 88.0, 72.0]]))  # 128 pixels around (24, 8), clipped

    def test_without_centerness_it_is_the_classification(self, maps):
        self.put(maps, 1, 0, 1, 1, 0.64)
        assert_close(self.predict(maps, with_centerness=False).scores, torch.tensor([0.64]))

    def test_threshold_is_on_the_classification_alone(self, maps):
        self.put(maps, 0, 0, 0, 0, 0.06, 0.0001)  # the product is far below, the root too
        self.put(maps, 3, 0, 0, 0, 0.049, 0.999)  # root 0.22
        result = self.predict(maps)
        assert_close(result.scores, torch.tensor([math.sqrt(0.06 * 0.0001)]))

    def test_threshold_is_strict(self, maps):
        maps[0][0][0, 0, 0, 0] = 0.0
        assert len(self.predict(maps, score_thr=0.5)) == 0
        assert len(self.predict(maps, score_thr=0.49)) == 1

    def test_best_of_a_level_by_the_product(self, maps):
        """nms_pre=1: the likelier class loses to the better centred one; other levels keep their own."""
        self.put(maps, 0, 0, 0, 0, 0.9, 0.1)
        self.put(maps, 0, 2, 2, 1, 0.5, 0.9)
        self.put(maps, 1, 0, 0, 0, 0.06, 0.01)
        result = self.predict(maps, with_nms=False, nms_pre=1)
        assert_close(result.scores, torch.tensor([math.sqrt(0.45), math.sqrt(0.0006)]))
        assert result.labels.tolist() == [1, 0]

    def test_classes_of_a_location_count_separately(self, maps):
        self.put(maps, 0, 1, 1, 0, 0.9)
        self.put(maps, 0, 1, 1, 1, 0.8)
        assert sorted(self.predict(maps).labels.tolist()) == [0, 1]
        assert self.predict(maps, nms_pre=1).labels.tolist() == [0]

    def test_nms_is_by_class(self, maps):
        """Neighbours of level 0 overlap by 7/9 of their area: IoU 0.78 before clipping."""
        for x, score in ((0, 0.9), (1, 0.8)):
            self.put(maps, 0, 0, x, 0, score, 0.5)
        self.put(maps, 0, 0, 2, 1, 0.7, 0.5)
        result = self.predict(maps)
        assert_close(result.scores, torch.tensor([math.sqrt(0.45), math.sqrt(0.35)]))
        assert len(self.predict(maps, max_per_img=1)) == 1

    def test_rescale(self, maps):
        self.put(maps, 1, 1, 1, 1, 0.64, 0.25)
        plain, scaled = self.predict(maps), self.predict(maps, rescale=True)
        assert_close(scaled.bboxes, plain.bboxes / torch.tensor([2.0, 4.0, 2.0, 4.0]))
        assert_close(scaled.scores, plain.scores)

    def test_nothing(self, maps):
        result = self.predict(maps)
        assert len(result) == 0 and result.bboxes.shape == (0, 4) and result.labels.dtype == torch.long

    def test_images_of_a_batch(self, maps):
        """As each alone, clipped to its own size."""
        head, feats = make_head(BOX), make_feats(3, seed=5)
        with torch.no_grad():
            head.atss_cls.bias.add_(4)
            outputs = head(feats)
            metas = [dict(METAS[0], img_shape=shape) for shape in ((128, 160), (100, 90), (60, 160))]
            cfg = ConfigDict(self.CFG)
            batch = head.predict_by_feat(*outputs, batch_img_metas=metas, cfg=cfg)
            for i, meta in enumerate(metas):
                (alone,) = head.predict_by_feat(
                    *([m[i : i + 1] for m in maps] for maps in outputs), batch_img_metas=[meta], cfg=cfg
                )
                assert len(alone) == 100
                for field in ('bboxes', 'scores', 'labels'):
                    assert_close(batch[i][field], alone[field])
                limit = torch.tensor([meta['img_shape'][1], meta['img_shape'][0]])
                assert bool((batch[i].bboxes[:, 2:] <= limit).all()) and float(batch[i].bboxes.min()) >= 0

    def test_point_start(self, maps):
        """Outputs of 1 are one stride on every side; negative ones nothing."""
        head = make_head(POINT, num_classes=2)
        self.put(maps, 1, 1, 1, 0, 0.9, 0.5)
        maps[1][1].fill_(1.0)
        maps[1][1][:, 0].fill_(-1.0)
        (result,) = head.predict_by_feat(*maps, batch_img_metas=[self.META], cfg=ConfigDict(self.CFG))
        assert_close(result.bboxes, torch.tensor([[24.0, 8.0, 40.0, 40.0]]))


def test_predictions_do_not_know_the_assigner():
    """A head without train_cfg predicts."""
    head = MODELS.build(dict(BOX, num_classes=2, in_channels=8, feat_channels=32, test_cfg=TestDetections.CFG))
    sample = DetDataSample(gt_instances=InstanceData(), metainfo=METAS[0])
    head.test_cfg = ConfigDict(TestDetections.CFG)
    assert len(head.predict(make_feats(1), [sample], rescale=False)) == 1
