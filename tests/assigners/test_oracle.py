"""Every assigner against plain loops written from the definitions (``oracle.py``), and their details."""

import pytest
import torch
from mmengine.structures import InstanceData
from torch.testing import assert_close

from atss_plugin.assigners import (
    ATSSAssigner,
    CenterSamplingAssigner,
    IoUAssigner,
    SpatialScaleAssigner,
    TopKIoUAssigner,
)
from tests.reference import oracle
from tests.reference.definitions import MAKERS, define
from tests.reference.scenes import assert_equals_oracle, instances, make_layout, random_boxes, to_scene

A3 = dict(ratios=[0.5, 1.0, 2.0], octave_base_scale=8, scales_per_octave=1)
A9 = dict(ratios=[0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3)
LAYOUTS = {
    'a1': dict(),
    'a1_float64': dict(dtype=torch.float64),
    'a1_corner': dict(center_offset=0.0),
    'a3': dict(size=(96, 128), strides=(8, 16, 32), **A3),
    'a9': dict(size=(64, 96), strides=(8, 16, 32), **A9),
    'a9_float64': dict(size=(64, 64), strides=(8, 16, 32), dtype=torch.float64, **A9),
    'odd_offset': dict(size=(77, 101), strides=(8, 16, 32), center_offset=0.37),
    'one_level': dict(size=(64, 64), strides=(8,)),
    'tiny_levels': dict(size=(32, 48), strides=(8, 16, 32, 64, 128)),
}


def one_image(assigner, layout, boxes, ignored=None, levels=True):
    """gt_inds (N,) of one image; the priors of each level given or not."""
    ignore = None if ignored is None else [instances(ignored)]
    levels = layout.num_level_priors if levels else None
    return assigner.assign_batch(layout.priors, levels, [instances(boxes, dtype=layout.priors.dtype)], ignore).gt_inds[
        0
    ]


@pytest.mark.parametrize('layout_name', LAYOUTS)
@pytest.mark.parametrize('name', MAKERS)
def test_random_scenes(name, layout_name):
    layout = make_layout(**LAYOUTS[layout_name])
    definition = define(name, layout)
    size = LAYOUTS[layout_name].get('size', (128, 160))
    clear = []
    for seed, (num, grid) in enumerate([(1, 0), (7, 0), (15, 0), (7, 1), (12, 4), (15, 8)]):
        boxes = random_boxes(num, size, seed, grid, layout.priors.dtype)
        answer = define(name, layout).loops(to_scene(layout, boxes))
        assert_equals_oracle(one_image(definition.assigner, layout, boxes, levels=seed % 2), answer)
        clear.append(answer.clear.mean())
    # nearly everything is decided by the definition, not by rounding; sides such as 32 sqrt(2) blur ties
    exact = layout_name in ('a1', 'a1_float64', 'a1_corner')
    assert sum(clear) / len(clear) > (0.97 if exact else 0.6)


@pytest.mark.parametrize('name', MAKERS)
def test_ignored_regions(name):
    """Ignored priors are never positive; the others are what they were without."""
    layout = make_layout(size=(96, 96), strides=(8, 16, 32))
    definition, plain = define(name, layout, iof_thr=0.5), define(name, layout)
    boxes = random_boxes(10, (96, 96), seed=5, grid=2)
    ignored = torch.tensor([[0.0, 0.0, 60.0, 50.0], [40.0, 40.0, 200.0, 200.0], [30.0, 30.0, 30.0, 30.0]])
    gt_inds = one_image(definition.assigner, layout, boxes, ignored)
    assert_equals_oracle(gt_inds, definition.loops(to_scene(layout, boxes, ignored)))
    hidden = torch.from_numpy(oracle.ignored_priors(to_scene(layout, boxes, ignored), 0.5))
    without = one_image(plain.assigner, layout, boxes)
    assert hidden.any() and (without[hidden] > 0).any()
    assert_close(gt_inds, torch.where(hidden, -1, without), rtol=0, atol=0)
    assert_close(one_image(plain.assigner, layout, boxes, ignored), without, rtol=0, atol=0)  # the default is off


@pytest.mark.parametrize('name', [name for name in MAKERS if not name.startswith('iou')])
def test_ignored_priors_have_no_overlap(name):
    """max_overlaps is 0 where not positive, also where an ignored region took the positive away."""
    layout = make_layout(size=(96, 96), strides=(8, 16, 32))
    boxes, region = random_boxes(10, (96, 96), seed=5, grid=2), instances([[0.0, 0.0, 60.0, 50.0]])
    result = define(name, layout, iof_thr=0.5).assigner.assign(
        InstanceData(priors=layout.priors), instances(boxes), region
    )
    assert bool((result.max_overlaps[result.gt_inds <= 0] == 0).all())
    assert bool((result.labels[result.gt_inds <= 0] == -1).all())


@pytest.mark.parametrize('name', MAKERS)
def test_result_fields(name):
    """labels and max_overlaps say the same as gt_inds, in mmdet's terms."""
    layout = make_layout()
    boxes, labels = random_boxes(12, seed=8), torch.arange(12).flip(0) + 20
    result = define(name, layout).assigner.assign(InstanceData(priors=layout.priors), instances(boxes, labels))
    assert result.num_gts == 12 and result.gt_inds.dtype == result.labels.dtype == torch.long
    positive = result.gt_inds > 0
    assert_close(result.labels[positive], labels[result.gt_inds[positive] - 1], rtol=0, atol=0)
    assert bool((result.labels[~positive] == -1).all())
    expected = [
        oracle.iou(layout.priors[p].tolist(), boxes[result.gt_inds[p] - 1].tolist())
        for p in positive.nonzero().flatten().tolist()
    ]
    assert_close(result.max_overlaps[positive], torch.tensor(expected), rtol=1e-5, atol=1e-6)
    if 'iou' not in name or name == 'topk_iou':
        assert bool((result.max_overlaps[~positive] == 0).all())


def test_iou_reports_highest_overlap_of_negatives():
    layout, boxes = make_layout(), random_boxes(9, seed=8)
    result = IoUAssigner().assign(InstanceData(priors=layout.priors), instances(boxes))
    highest = [max(oracle.iou(prior, box) for box in boxes.tolist()) for prior in layout.priors.tolist()]
    assert_close(result.max_overlaps, torch.tensor(highest), rtol=1e-5, atol=1e-6)


class TestTies:
    """Ties go to the lower prior, and between ground truths to the lower ground truth."""

    def test_distance(self):
        """A centre on a corner of four cells is equally far from four anchors, which are taken in order."""
        layout = make_layout(size=(32, 32), strides=(8,))
        box = torch.tensor([[0.0, 0.0, 32.0, 32.0]])
        for k, expected in [(1, [5]), (2, [5, 6]), (3, [5, 6, 9]), (4, [5, 6, 9, 10])]:
            for levels in (None, [16]):
                c = ATSSAssigner(topk=k).candidates(layout.priors, levels, box)
                assert sorted(c.prior[0].tolist()) == expected

    def test_distance_after_four_equal_ones(self):
        """Eight anchors are next nearest to that corner, at the same distance."""
        layout = make_layout(size=(32, 32), strides=(8,))
        c = ATSSAssigner(topk=9).candidates(layout.priors, None, torch.tensor([[0.0, 0.0, 32.0, 32.0]]))
        assert sorted(c.prior[0].tolist()) == sorted([5, 6, 9, 10] + [1, 2, 4, 7, 8])

    @pytest.mark.parametrize('name', MAKERS)
    def test_equal_ground_truths(self, name):
        layout = make_layout()
        box = torch.tensor([[30.0, 20.0, 101.0, 90.0]])
        once = one_image(define(name, layout).assigner, layout, box)
        twice = one_image(define(name, layout).assigner, layout, box.repeat(3, 1))
        assert bool((once > 0).any())
        assert_close(twice, once, rtol=0, atol=0)

    def test_equal_iou(self):
        """An anchor in the middle between two boxes belongs to the lower one."""
        layout = make_layout(size=(24, 24), strides=(8,), ratios=[1.0], octave_base_scale=1, scales_per_octave=1)
        left, right = [4.0, 8.0, 16.0, 16.0], [8.0, 8.0, 20.0, 16.0]
        for boxes in ([left, right], [right, left]):
            gt_inds = one_image(ATSSAssigner(topk=1), layout, torch.tensor(boxes))
            assert gt_inds.nonzero().flatten().tolist() == [4]
            assert gt_inds[4] == 1

    def test_equal_area(self):
        layout = make_layout(size=(64, 64), strides=(8,))
        boxes = torch.tensor([[0.0, 0.0, 40.0, 20.0], [0.0, 0.0, 20.0, 40.0]])
        gt_inds = one_image(SpatialScaleAssigner([(-1, 1e9)]), layout, boxes)
        shared = (layout.points < 20).all(1)
        assert shared.sum() == 4 and bool((gt_inds[torch.from_numpy(shared)] == 1).all())


class TestDetails:
    """What the recipe says in passing."""

    @pytest.mark.parametrize(
        'box, positive',
        [
            pytest.param([0.0, 0.0, 50.0, 50.0], True, id='inside'),
            pytest.param([40.0, 40.0, 90.0, 90.0], False, id='outside'),
        ],
    )
    def test_single_candidate_is_its_own_threshold(self, box, positive):
        layout = make_layout(size=(32, 32), strides=(64,))
        c = ATSSAssigner().candidates(layout.priors, None, torch.tensor([box]))
        assert_close(c.threshold, c.iou[0].to(c.threshold))
        assert float(c.std) == 0
        assert one_image(ATSSAssigner(), layout, torch.tensor([box])).tolist() == [int(positive)]

    def test_statistics(self):
        """Mean and sample standard deviation of the candidates of all levels, counting those that exist."""
        layout = make_layout(size=(32, 48))
        boxes = random_boxes(6, (32, 48), seed=4)
        c = ATSSAssigner().candidates(layout.priors, layout.num_level_priors, boxes)
        assert c.prior.shape == (6, 9 + 6 + 2 + 1 + 1)
        for g, box in enumerate(boxes.tolist()):
            index = c.prior[g].tolist()
            ious = torch.tensor([oracle.iou(layout.priors[p].tolist(), box) for p in index], dtype=torch.float64)
            assert_close(c.iou[g].double(), ious, rtol=1e-5, atol=1e-6)
            assert_close(c.mean[g].double(), ious.mean(), rtol=1e-5, atol=1e-6)
            assert_close(c.std[g].double(), ious.std(), rtol=1e-5, atol=1e-6)
            assert_close(c.threshold[g], c.mean[g] + c.std[g])
            levels = [sum(p >= n for n in (24, 30, 32, 33)) for p in index]
            assert c.level == tuple(levels)

    @pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize('topk', [3, 5, 6, 7, 9, 11, 13])
    def test_equal_overlaps_are_all_positive(self, topk, dtype):
        """If all candidates have the same IoU, all reach the threshold: rounding must not decide."""
        layout = make_layout(size=(64, 64), strides=(8,), dtype=dtype, ratios=[1.0], scales=[1.0])
        for seed in range(10):
            border = torch.rand(4, generator=torch.Generator().manual_seed(seed), dtype=dtype)
            box = torch.tensor([-1.0, -1.0, 65.0, 65.0], dtype=dtype) + border * torch.tensor([-9, -9, 9, 9])
            gt_inds = one_image(ATSSAssigner(topk=topk), layout, box[None])
            assert int((gt_inds > 0).sum()) == topk

    @pytest.mark.parametrize(
        'depth, positive',
        [
            pytest.param(0.0, False, id='on_the_border'),
            pytest.param(0.009, False, id='within_the_margin'),
            pytest.param(0.011, True, id='beyond_the_margin'),
        ],
    )
    @pytest.mark.parametrize('name', ['atss', 'ssc', 'center_sampling', 'topk_iou', 'iou_in_gt_box'])
    def test_margin(self, name, depth, positive):
        """The centre (4, 4) of the only anchor counts as inside if it is 0.01 away from all sides."""
        layout = make_layout(size=(8, 8), strides=(8,), ratios=[1.0], octave_base_scale=1, scales_per_octave=1)
        gt_inds = one_image(define(name, layout).assigner, layout, [[4 - depth, 0.0, 12.0, 8.0]])
        assert gt_inds.tolist() == [1 if positive else -1 if name == 'iou_in_gt_box' else 0]

    @pytest.mark.parametrize(
        'size, levels',
        [
            pytest.param(63.5, [0], id='below_64'),
            pytest.param(64, [0, 1], id='64'),
            pytest.param(64.5, [1], id='above_64'),
            pytest.param(128, [1, 2], id='128'),
            pytest.param(1000, [4], id='1000'),
        ],
    )
    @pytest.mark.parametrize(
        'make',
        [SpatialScaleAssigner, lambda: CenterSamplingAssigner(topk=9), lambda: CenterSamplingAssigner(radius=1.5)],
        ids=['ssc', 'center_sampling', 'radius_sampling'],
    )
    def test_range_ends_are_included(self, make, size, levels):
        """An anchor whose farthest side is exactly 64 away is positive on both levels."""
        strides = (8, 8, 8, 8, 8)
        layout = make_layout(size=(8, 8), strides=strides)
        assigner = make()
        assigner.strides = [1000.0] * 5
        gt_inds = assigner.assign_batch(layout.priors, [1] * 5, [instances([[0.0, 0.0, 4.0 + size, 8.0]])]).gt_inds[0]
        assert gt_inds.nonzero().flatten().tolist() == levels

    def test_radius_is_strict(self):
        """1.5 strides around the centre (20, 20): the points 8 and 32 are on the square's border, and out."""
        layout = make_layout(size=(40, 40), strides=(8,), center_offset=0.0)
        assigner = CenterSamplingAssigner(radius=1.5, scale_ranges=[(-1, 1e9)], strides=[8])
        gt_inds = one_image(assigner, layout, [[0.0, 0.0, 40.0, 40.0]])
        assert sorted({tuple(p) for p in layout.points[(gt_inds > 0).numpy()].tolist()}) == [
            (16.0, 16.0),
            (16.0, 24.0),
            (24.0, 16.0),
            (24.0, 24.0),
        ]

    @pytest.mark.parametrize('depth, positive', [(0.0, False), (0.005, True)])
    def test_radius_has_no_margin(self, depth, positive):
        """Unlike in the other definitions: the point (4, 4) just inside the box, and just inside the square."""
        layout = make_layout(size=(8, 8), strides=(8,), ratios=[1.0], scales=[1.0])
        by_box = CenterSamplingAssigner(radius=100, scale_ranges=[(-1, 1e9)], strides=[8])
        assert one_image(by_box, layout, [[4 - depth, 0.0, 12.0, 8.0]]).tolist() == [positive]
        by_square = CenterSamplingAssigner(radius=1, scale_ranges=[(-1, 1e9)], strides=[8])
        assert one_image(by_square, layout, [[-8.0 - depth, -40.0, 32.0 - depth, 40.0]]).tolist() == [positive]

    @pytest.mark.parametrize('gap, winner', [(0.95e-5, 0), (1.05e-5, 1)])
    def test_topk_iou_prefers_the_nearer_by_a_thousandth(self, gap, winner):
        """1 pixel of distance where the farthest anchor is 100 away weighs as much as 1e-5 of IoU."""
        side = 10 / (10 / 12 - gap) ** 0.5  # a concentric square of IoU 10 / 12 - gap
        near = [5 - side / 2, 5 - side / 2, 5 + side / 2, 5 + side / 2]
        shifted, farthest = (
            [0.0, 0.0, 12.0, 10.0],
            [100.0, 0.0, 110.0, 10.0],
        )  # IoU 10 / 12, 1 pixel away; 100 pixels away
        priors = torch.tensor([near, shifted, farthest], dtype=torch.float64)
        gts = instances([[0.0, 0.0, 10.0, 10.0]], dtype=torch.float64)
        result = TopKIoUAssigner(topk=1).assign(InstanceData(priors=priors), gts)
        assert result.gt_inds.nonzero().flatten().tolist() == [winner]

    def test_rescued_for_its_own_best(self):
        """The best prior of a small box, far below the thresholds, has a better ground truth of its own."""
        priors = torch.tensor([[0.0, 0.0, 100.0, 100.0], [200.0, 0.0, 300.0, 100.0]])
        small, large = [0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 100.0, 45.0]
        result = IoUAssigner().assign(InstanceData(priors=priors), instances([small, large]), None)
        assert result.gt_inds.tolist() == [2, 0]

    def test_all_ties_are_rescued(self):
        """Small inside all of them: two priors have the same highest IoU and both become positive."""
        priors = torch.tensor([[0.0, 0.0, 64.0, 64.0], [8.0, 0.0, 72.0, 64.0], [0.0, 0.0, 80.0, 80.0]])
        result = IoUAssigner().assign(InstanceData(priors=priors), [3], instances([[20.0, 20.0, 30.0, 30.0]]))
        assert result.gt_inds.tolist() == [1, 1, 0]

    def test_nothing_is_rescued_where_nothing_overlaps(self):
        layout = make_layout()
        gt_inds = one_image(IoUAssigner(), layout, [[5000.0, 5000.0, 5100.0, 5100.0], [50.0, 50.0, 50.0, 70.0]])
        assert bool((gt_inds == 0).all())

    def test_k_counts_locations(self):
        layout = make_layout(size=(96, 128), strides=(8, 16, 32), **A3)
        boxes = random_boxes(5, (96, 128), seed=1)
        c = ATSSAssigner(topk=9).candidates(layout.priors, None, boxes)
        assert c.prior.shape == (5, 3 * (9 + 9 + 9))
        c = ATSSAssigner(topk=9, anchors_per_location=1).candidates(layout.priors, layout.num_level_priors, boxes)
        assert c.prior.shape == (5, 9 + 9 + 9)

    def test_a9_one_shape_at_a_time(self):
        """All nine anchors of a location are candidates together."""
        layout = make_layout(size=(64, 64), strides=(8, 16), **A9)
        c = ATSSAssigner(topk=4).candidates(layout.priors, None, random_boxes(3, (64, 64), seed=1))
        for row in c.prior:
            locations = torch.unique(torch.div(row, 9, rounding_mode='floor'), return_counts=True)
            assert locations[1].tolist() == [9] * 8

    @pytest.mark.parametrize('levels', [[40], [15, 25]], ids=['one_level', 'two_levels'])
    def test_priors_without_a_grid(self, levels):
        """Proposals: each is a location of its own."""
        boxes = random_boxes(40, seed=11).sort(dim=1).values  # any boxes, in no order
        boxes = torch.stack([boxes[:, 0], boxes[:, 1], boxes[:, 2] + 5, boxes[:, 3] + 5], 1)
        gts = random_boxes(6, seed=3)
        scene = oracle.Scene(boxes, levels, gts, tol=1e-4, iou_tol=1e-6)
        for k in (1, 5, 9):
            got = ATSSAssigner(topk=k).assign(InstanceData(priors=boxes), levels, instances(gts))
            assert_equals_oracle(got.gt_inds, oracle.atss(scene, topk=k))

    def test_shared_points_without_a_grid(self):
        """Points in no order, each shared by two priors of equal count: they are locations."""
        points = torch.tensor([[10.0, 10.0], [50.0, 20.0], [30.0, 90.0], [70.0, 70.0]]).repeat_interleave(2, 0)
        half = torch.tensor([8.0, 16.0]).repeat(4)[:, None]
        priors = torch.cat([points - half, points + half], 1)
        c = ATSSAssigner(topk=2).candidates(priors, [8], torch.tensor([[35.0, 5.0, 55.0, 25.0]]))
        assert sorted(c.prior[0].tolist()) == [0, 1, 2, 3]

    @pytest.mark.parametrize('name', MAKERS)
    def test_empty_level(self, name):
        """A crop can remove all anchors of a level."""
        whole = make_layout(size=(96, 96), strides=(8, 16, 32))
        keep = torch.ones(len(whole.priors), dtype=torch.bool)
        keep[144:180] = False
        layout = whole._replace(
            priors=whole.priors[keep], points=whole.points[keep.numpy()], num_level_priors=[144, 0, 9]
        )
        boxes = random_boxes(12, (96, 96), 3)
        definition = define(name, layout)
        assert_equals_oracle(one_image(definition.assigner, layout, boxes), definition.loops(to_scene(layout, boxes)))

    @pytest.mark.parametrize('levels', [None, [0, 0, 0, 0, 0]], ids=['inferred', 'given'])
    @pytest.mark.parametrize('name', MAKERS)
    def test_no_priors(self, name, levels):
        batch = define(name, make_layout()).assigner.assign_batch(
            torch.zeros(0, 4), levels, [instances([[0.0, 0.0, 9.0, 9.0]])] * 2
        )
        assert batch.gt_inds.shape == batch.labels.shape == batch.max_overlaps.shape == (2, 0)


class TestMinPositives:
    """Beyond the paper: a ground truth with fewer than n positives gets its next best candidates."""

    @pytest.mark.parametrize('layout_name', LAYOUTS)
    @pytest.mark.parametrize('num', [1, 3, 1000])
    def test_random_scenes(self, layout_name, num):
        layout = make_layout(**LAYOUTS[layout_name])
        size = LAYOUTS[layout_name].get('size', (128, 160))
        for seed, grid in [(0, 0), (1, 0), (2, 2), (3, 8)]:
            boxes = random_boxes(8, size, seed, grid, layout.priors.dtype)
            answer = oracle.atss(to_scene(layout, boxes), min_positives=num)
            assert_equals_oracle(one_image(ATSSAssigner(min_positives=num), layout, boxes), answer)

    def test_ties_go_to_the_lower_prior(self):
        """A tiny box inside all its candidates has the same IoU with them: the lower ones are taken."""
        layout = make_layout(size=(64, 64), strides=(8,))
        for n, expected in [(1, [19]), (2, [19, 20]), (3, [19, 20, 26])]:
            gt_inds = one_image(ATSSAssigner(min_positives=n), layout, [[30.0, 30.0, 32.0, 32.0]])
            assert gt_inds.nonzero().flatten().tolist() == expected

    def test_off_by_default(self):
        layout = make_layout(size=(64, 64), strides=(8,))
        assert int((one_image(ATSSAssigner(), layout, [[30.0, 30.0, 32.0, 32.0]]) > 0).sum()) == 0

    def test_inside_comes_first(self):
        """The box lies between centres, but reaches over one of them, whose IoU is not the highest."""
        priors = torch.tensor([[0.0, 0.0, 20.0, 20.0], [14.0, 0.0, 34.0, 20.0], [0.0, 0.0, 100.0, 100.0]])
        box = [[9.0, 9.0, 15.0, 15.0]]  # inside: the centre (10, 10) of the first; the third has its centre far away
        gt_inds = ATSSAssigner(min_positives=1).assign(InstanceData(priors=priors), [3], instances(box)).gt_inds
        assert gt_inds.tolist() == [1, 0, 0]

    def test_does_not_help_what_nothing_overlaps(self):
        layout = make_layout()
        boxes = [
            [50.0, 50.0, 50.0, 60.0],
            [70.0, 60.0, 60.0, 80.0],
            [900.0, 900.0, 910.0, 910.0],
            [-60.0, -60.0, -50.0, -50.0],
        ]
        gt_inds = one_image(ATSSAssigner(min_positives=3), layout, torch.tensor(boxes))
        assert set(gt_inds.tolist()) <= {0, 4}  # the last is beyond the border, but large anchors reach over it

    def test_conflicts_go_to_the_highest_iou(self):
        layout = make_layout(size=(8, 8), strides=(8,), ratios=[1.0], octave_base_scale=1, scales_per_octave=1)
        small, large = [5.0, 5.0, 7.0, 7.0], [0.0, 0.0, 8.0, 7.0]
        for boxes, owner in (([small, large], 2), ([large, small], 1)):
            gt_inds = one_image(ATSSAssigner(min_positives=2), layout, torch.tensor(boxes))
            assert gt_inds.tolist() == [owner]

    def test_ignored_priors_do_not_count(self):
        """What is ignored is not a positive: the ground truth gets its next best candidates in addition."""
        layout = make_layout(size=(64, 64), strides=(8,), ratios=[1.0], octave_base_scale=2, scales_per_octave=1)
        box, region = [[10.0, 10.0, 30.0, 30.0]], [[0.0, 0.0, 24.0, 24.0]]
        answer = oracle.atss(to_scene(layout, box, region), iof_thr=0.7, min_positives=4)
        assert (answer.gt_inds == 1).sum() == 4
        gt_inds = one_image(ATSSAssigner(min_positives=4, ignore_iof_thr=0.7), layout, box, region)
        assert_equals_oracle(gt_inds, answer)


class TestCallingConventions:
    """Both of mmdet's orders, by position and by keyword, give the same."""

    @pytest.mark.parametrize('name', MAKERS)
    def test_orders(self, name):
        layout = make_layout()
        definition = define(name, layout, iof_thr=0.5)
        gts, ignore, pred = (
            instances(random_boxes(6, seed=4)),
            instances([[0.0, 0.0, 90.0, 90.0]]),
            InstanceData(priors=layout.priors),
        )
        expected = definition.loops(to_scene(layout, gts.bboxes, ignore.bboxes)).gt_inds
        assign, levels = definition.assigner.assign, layout.num_level_priors
        for result in (
            assign(pred, gts, ignore),
            assign(pred, levels, gts, ignore),
            assign(pred, gts, gt_instances_ignore=ignore),
            assign(pred, levels, gts, gt_instances_ignore=ignore),
            assign(pred, None, gts, ignore),
            assign(pred, gt_instances=gts, gt_instances_ignore=ignore),
            assign(pred_instances=pred, num_level_priors=levels, gt_instances=gts, gt_instances_ignore=ignore),
            assign(pred, tuple(levels), gts, ignore),
        ):
            assert result.gt_inds.tolist() == expected.tolist()
        without = definition.loops(to_scene(layout, gts.bboxes)).gt_inds.tolist()
        for result in (
            assign(pred, gts),
            assign(pred, levels, gts),
            assign(pred, gts, None),
            assign(pred, levels, gts, None),
            assign(pred, gt_instances=gts),
        ):
            assert result.gt_inds.tolist() == without

    @pytest.mark.parametrize('name', MAKERS)
    def test_batch_equals_one_by_one(self, name):
        layout = make_layout()
        assigner = define(name, layout, iof_thr=0.5).assigner
        images = [instances(random_boxes(n, seed=n)) for n in (3, 0, 12, 1, 0)]
        ignored = [
            instances([[0.0, 0.0, 90.0, 90.0]]),
            None,
            instances([]),
            instances([[50.0, 50.0, 90.0, 190.0]]),
            instances([[0.0, 0.0, 50.0, 50.0]]),
        ]
        batch = assigner.assign_batch(layout.priors, None, images, ignored)
        for i, (gts, ignore) in enumerate(zip(images, ignored)):
            one = assigner.assign(InstanceData(priors=layout.priors), gts, ignore)
            for field in ('gt_inds', 'labels', 'max_overlaps'):
                assert_close(getattr(batch, field)[i], getattr(one, field), rtol=0, atol=0)
            positive = batch.gt_inds[i] > 0
            assert_close(
                batch.boxes_at(slice(None)).view(len(images), -1, 4)[i][positive],
                gts.bboxes[batch.gt_inds[i][positive] - 1],
                rtol=0,
                atol=0,
            )
