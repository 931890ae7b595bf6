"""Levels, locations and grids, and the nearest locations: bit for bit what looking at every prior gives."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules import SSDAnchorGenerator, YOLOAnchorGenerator
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from torch.testing import assert_close

from atss_plugin.assigners import ATSSAssigner
from atss_plugin.matching import Pyramid, find_pyramid, nearest
from atss_plugin.matching.pyramid import infer_num_level_priors
from tests.reference import oracle
from tests.reference.definitions import MAKERS, define
from tests.reference.scenes import (
    Layout,
    assert_equals_oracle,
    assert_same_assignment,
    instances,
    make_layout,
    random_boxes,
    to_scene,
)

A1 = dict(ratios=[1.0], octave_base_scale=8, scales_per_octave=1)
A1_FLAT = dict(ratios=[0.25], octave_base_scale=5, scales_per_octave=1)
A3 = dict(ratios=[0.5, 1.0, 2.0], octave_base_scale=8, scales_per_octave=1)
A3_SCALES = dict(ratios=[1.0], octave_base_scale=4, scales_per_octave=3)
A9 = dict(ratios=[0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3)
ANCHORS = dict(a1=A1, a1_flat=A1_FLAT, a3=A3, a3_scales=A3_SCALES, a9=A9)
QUICK = settings(max_examples=40, deadline=None, derandomize=True)


def without_grids(pyramid):
    """The same pyramid, all of whose locations are looked at."""
    groups = [group._replace(grid=None) for group in pyramid.groups]
    return Pyramid(pyramid.priors, pyramid.num_level_priors, groups, pyramid.locations_per_k)


@st.composite
def layouts(draw, **fixed):
    """Pyramids of any size, strides (square or not), offset, anchors and precision."""
    strides = draw(
        st.sampled_from(
            [
                (8, 16, 32, 64, 128),
                (8, 16, 32),
                (4, 8),
                (16,),
                (10, 20, 40),
                ((8, 12), (16, 24)),
                ((10, 6),),
                (7, 13),
                (8, 8, 16),
            ]
        )
    )
    options = dict(
        size=draw(st.tuples(st.integers(1, 200), st.integers(1, 200))),
        strides=strides,
        center_offset=draw(st.sampled_from([0.5, 0.0, 1.0, 0.25])),
        dtype=draw(st.sampled_from([torch.float32, torch.float64])),
        **draw(st.sampled_from(list(ANCHORS.values()))),
    )
    options.update(fixed)
    return make_layout(**options)


@st.composite
def boxes_near(draw, layout: Layout, most: int = 6):
    """Ground truths that provoke ties: corners at quarter strides, in the image, over its border or far."""
    unit = draw(st.sampled_from([layout.strides[0][0] / 4, 1.0, 0.37]))
    reach = int(draw(st.sampled_from([220, 220, 2000])) / unit)
    corner = st.integers(-reach // 2, reach)
    rows = draw(
        st.lists(st.tuples(corner, corner, st.integers(0, reach), st.integers(0, reach)), min_size=1, max_size=most)
    )
    rows = torch.tensor(rows, dtype=torch.float64)
    return (torch.cat([rows[:, :2], rows[:, :2] + rows[:, 2:]], 1) * unit).to(layout.priors.dtype)


def pick(pyramid, points, k):
    """The sorted candidates of every point (G, 2) and level."""
    index, level = nearest(pyramid, torch.as_tensor(points), k)
    level = np.array(level)
    return [[sorted(row[level == one].tolist()) for one in np.unique(level)] for row in index.numpy()]


def one_point(layout: Layout) -> bool:
    """Return whether levels of one cell at the same corner look like many anchors at one location."""
    points = layout.points[np.cumsum([0] + list(layout.num_level_priors[:-1]))[:2]]
    return layout.num_level_priors[0] == layout.anchors[0] and bool((points == points[0]).all())


def dense_twin(assigner, layout: Layout):
    """Make an assigner look at all priors."""
    pyramid = without_grids(find_pyramid(layout.priors, layout.num_level_priors))
    assigner.pyramids = SimpleNamespace(get=lambda *args: pyramid)
    return assigner


@QUICK
@given(st.data())
def test_nearest_equals_dense(data):
    layout = data.draw(layouts())
    boxes, k = data.draw(boxes_near(layout)), data.draw(st.integers(1, 20))
    pyramid = find_pyramid(layout.priors, layout.num_level_priors)
    dense = without_grids(pyramid)
    assert pyramid.grids is not None and dense.grids is None
    centers = (boxes[:, :2].double() + boxes[:, 2:].double()) / 2
    found = pick(pyramid, centers, k)
    assert found == pick(dense, centers, k)
    sizes = [min(k, n // a) * a for n, a in zip(layout.num_level_priors, layout.anchors)]
    assert all([len(level) for level in row] == sizes for row in found)


@QUICK
@given(st.data())
@pytest.mark.parametrize('name', ['atss', 'ssc', 'center_sampling', 'radius_sampling'])
def test_assigners_equal_dense(name, data):
    layout = data.draw(layouts())
    images = [
        instances(data.draw(boxes_near(layout)), dtype=layout.priors.dtype) for _ in range(data.draw(st.integers(1, 3)))
    ]
    on, off = define(name, layout).assigner, dense_twin(define(name, layout).assigner, layout)
    found, expected = (a.assign_batch(layout.priors, layout.num_level_priors, images) for a in (on, off))
    assert_same_assignment(found, expected)


class TestBruteForce:
    """Every point of a fine mesh in and around small grids, by sorting all distances."""

    @pytest.mark.parametrize('stride', [(8, 8), (8, 12), (12, 8), (10, 10)], ids=str)
    @pytest.mark.parametrize('size', [(56, 40), (8, 72), (72, 8), (8, 8), (30, 16)], ids=str)
    def test_nearest(self, size, stride):
        layout = make_layout(size=size, strides=(stride,), **A1)
        mesh = np.arange(-40, 112, 2.0)
        points = np.stack(np.meshgrid(mesh, mesh), -1).reshape(-1, 2)
        points = np.concatenate([points, [[1e4, 3], [-1e4, 1e4], [20, -1e4]]])
        squared = ((points[:, None] - layout.points[None]) ** 2).sum(-1)
        order = np.argsort(squared, axis=1, kind='stable')
        pyramid = find_pyramid(layout.priors, layout.num_level_priors)
        assert pyramid.grids is not None
        for k in (1, 2, 3, 5, 9, 13, 40):
            index, _ = nearest(pyramid, torch.from_numpy(points), k)
            assert (np.sort(index.numpy(), axis=1) == np.sort(order[:, : min(k, len(layout.points))], axis=1)).all()

    @pytest.mark.parametrize('k', [1, 2, 4, 9, 15, 30])
    def test_staircase(self, k):
        """The proof: a location of ranks a (column) and b (row) is among k only if (a + 1)(b + 1) <= k."""
        random = np.random.RandomState(k)
        for _ in range(40):
            columns, rows = (np.sort(random.choice(30, random.randint(1, 9), replace=False)) for _ in range(2))
            point = random.randint(-10, 40, 2) + random.choice([0, 0.5, 0.25])
            x, y = abs(columns - point[0]), abs(rows - point[1])
            squared = (x[None] ** 2 + y[:, None] ** 2).ravel()
            chosen = np.argsort(squared, kind='stable')[:k]
            rank_x, rank_y = (np.argsort(np.argsort(d, kind='stable')) for d in (x, y))
            b, a = np.divmod(chosen, len(columns))
            assert ((rank_x[a] + 1) * (rank_y[b] + 1) <= k).all()


class TestLevels:
    """Where levels end, read from the priors alone."""

    @settings(QUICK, max_examples=150)
    @given(layouts())
    def test_inferred(self, layout):
        """Only what looks like the continuation of one grid may be merged, which takes a stride
        twice, or like more anchors at one location."""
        found = infer_num_level_priors(layout.priors)
        assert sum(found) == len(layout.priors)
        if len(set(layout.strides)) == len(layout.strides) and not one_point(layout):
            assert found == layout.num_level_priors

    @pytest.mark.parametrize('size', [(800, 1333), (32, 32), (128, 160), (9, 9), (640, 8)], ids=str)
    @pytest.mark.parametrize('anchors', ANCHORS)
    def test_usual_pyramids(self, size, anchors):
        layout = make_layout(size=size, **ANCHORS[anchors])
        assert infer_num_level_priors(layout.priors) == layout.num_level_priors
        corner = make_layout(size=size, center_offset=0.0, **ANCHORS[anchors])
        assert infer_num_level_priors(corner.priors) == layout.num_level_priors

    @pytest.mark.parametrize(
        'generator, sizes',
        [
            pytest.param(
                SSDAnchorGenerator(
                    strides=[8, 16, 32, 64, 100, 300],
                    ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
                    scale_major=False,
                    input_size=300,
                    basesize_ratio_range=(0.15, 0.9),
                ),
                [38, 19, 10, 5, 3, 1],
                id='ssd300',
            ),
            pytest.param(
                SSDAnchorGenerator(
                    strides=[16, 32, 64, 107, 160, 320],
                    ratios=[[2, 3]] * 6,
                    scale_major=False,
                    min_sizes=[48, 100, 150, 202, 253, 304],
                    max_sizes=[100, 150, 202, 253, 304, 320],
                ),
                [20, 10, 5, 3, 2, 1],
                id='ssdlite',
            ),
            pytest.param(
                YOLOAnchorGenerator(
                    strides=[32, 16, 8],
                    base_sizes=[
                        [(116, 90), (156, 198), (373, 326)],
                        [(30, 61), (62, 45), (59, 119)],
                        [(10, 13), (16, 30), (33, 23)],
                    ],
                ),
                [10, 20, 40],
                id='yolo',
            ),
        ],
    )
    def test_other_generators(self, generator, sizes):
        """Another A on every level (SSD), other orders of levels (YOLO)."""
        levels = generator.grid_priors([(n, n) for n in sizes], device='cpu')
        priors, num_level_priors = torch.cat(levels), [len(level) for level in levels]
        assert infer_num_level_priors(priors) == num_level_priors
        pyramid = find_pyramid(priors)
        dense = without_grids(pyramid)
        assert pyramid.grids is not None
        boxes = random_boxes(12, (300, 300), seed=1)
        centers = (boxes[:, :2].double() + boxes[:, 2:].double()) / 2
        assert pick(pyramid, centers, 9) == pick(dense, centers, 9)
        # against the definition: all anchors of the 9 nearest cells of a level
        ends = np.cumsum(num_level_priors)
        grids = [level.double().numpy().reshape(n * n, -1, 4) for level, n in zip(levels, sizes)]
        for center, found in zip(centers.numpy(), pick(pyramid, centers, 9)):
            for grid, end, index in zip(grids, ends, found):
                anchors = grid.shape[1]
                points = (grid[:, 0, :2] + grid[:, 0, 2:]) / 2
                near = np.argsort(((points - center) ** 2).sum(1), kind='stable')[:9]
                first = end - grid.shape[0] * anchors
                assert index == sorted(first + cell * anchors + a for cell in near.tolist() for a in range(anchors))

    def test_shuffled_priors(self):
        layout = make_layout()
        shuffled = layout.priors[torch.randperm(len(layout.priors), generator=torch.manual_seed(0))]
        with pytest.raises(ValueError, match='num_level_priors'):
            infer_num_level_priors(shuffled)
        # as one level, each prior is a location
        boxes = random_boxes(5, seed=1)
        scene = oracle.Scene(shuffled, [len(shuffled)], boxes, tol=4e-6, iou_tol=1e-6)
        got = ATSSAssigner().assign_batch(shuffled, [len(shuffled)], [instances(boxes)]).gt_inds[0]
        # levels that share a point share it as often everywhere: never in this pyramid
        assert_equals_oracle(got, oracle.atss(scene))


@pytest.mark.parametrize(
    'size, strides, offset, anchors',
    [
        pytest.param((347, 132), (4, 8, 16, 32, 64), 0.7062073559160199, A9, id='a9'),
        pytest.param((32, 417), (8, 16, 32), 0.909055877600589, A3, id='a3'),
        pytest.param((8, 8), (8, 16, 32, 64, 128), 0.37, A3, id='a3_cells'),
        pytest.param((60, 60), (8, 16, 32, 64, 128), 1 / 3, A9, id='a9_third'),
        pytest.param((100, 60), (8, 16, 32), 0.1, A1, id='a1_tenth'),
    ],
)
def test_any_center_offset(size, strides, offset, anchors):
    """Points that are not binary fractions: the anchors of a location still share theirs."""
    layout = make_layout(size=size, strides=strides, center_offset=offset, **anchors)
    assert infer_num_level_priors(layout.priors) == layout.num_level_priors
    for levels in (layout.num_level_priors, None):
        pyramid = find_pyramid(layout.priors, levels)
        assert pyramid.grids is not None
        assert [g.priors.size(1) for g in pyramid.groups] == layout.anchors


class TestCropped:
    """What mmdet's valid flags and allowed_border leave of a pyramid."""

    @staticmethod
    def crop(layout: Layout, flags: np.ndarray) -> Layout:
        ends = np.cumsum([0] + list(layout.num_level_priors))
        sizes = [int(flags[a:b].sum()) for a, b in zip(ends[:-1], ends[1:])]
        return layout._replace(
            priors=layout.priors[torch.from_numpy(flags)], num_level_priors=sizes, points=layout.points[flags]
        )

    @QUICK
    @given(st.data())
    def test_valid_flags(self, data):
        """Whole columns and rows are cut off; an image inside a padded batch."""
        size = data.draw(st.tuples(st.integers(40, 130), st.integers(40, 130)))
        layout = data.draw(layouts(size=size, strides=data.draw(st.sampled_from([(8, 16, 32), (8, 16), (10, 20)]))))
        height, width = (data.draw(st.integers(1, n)) for n in size)
        step = np.concatenate([np.full((n, 2), s) for n, s in zip(layout.num_level_priors, layout.strides)])
        column_row = np.round((layout.points - layout.points[0] % step) / step - 1e-6)
        valid = (column_row < np.ceil([[width, height]] / step)).all(1)
        cropped = self.crop(layout, valid)
        pyramid = find_pyramid(cropped.priors, cropped.num_level_priors)
        assert pyramid.grids is not None
        if not one_point(cropped):
            assert infer_num_level_priors(cropped.priors) == [n for n in cropped.num_level_priors if n]
        boxes = data.draw(boxes_near(layout))
        centers = (boxes[:, :2].double() + boxes[:, 2:].double()) / 2
        dense = without_grids(find_pyramid(cropped.priors, cropped.num_level_priors))
        assert pick(pyramid, centers, 9) == pick(dense, centers, 9)
        answer = oracle.atss(to_scene(cropped, boxes))
        got = ATSSAssigner().assign_batch(
            cropped.priors, cropped.num_level_priors, [instances(boxes, dtype=cropped.priors.dtype)]
        )
        assert_equals_oracle(got.gt_inds[0], answer)

    @pytest.mark.parametrize('levels_given', [True, False], ids=['levels_given', 'levels_inferred'])
    @pytest.mark.parametrize('anchors', ANCHORS)
    @pytest.mark.parametrize('size', [(256, 256), (200, 300), (130, 250)], ids=str)
    def test_allowed_border(self, size, anchors, levels_given):
        """With A > 1 some locations keep a few anchors: the k nearest of each shape are candidates."""
        layout = make_layout(size=size, strides=(8, 16, 32), **ANCHORS[anchors])
        flags = anchor_inside_flags(layout.priors, torch.ones(len(layout.priors), dtype=torch.bool), size, 0).numpy()
        cropped, boxes = self.crop(layout, flags), random_boxes(10, size, seed=6)
        sizes = [n for n in cropped.num_level_priors if n]
        if not levels_given:
            assert infer_num_level_priors(cropped.priors) == sizes
        shape = np.concatenate([np.arange(n) % a for n, a in zip(layout.num_level_priors, layout.anchors)])[flags]
        level = np.repeat(np.arange(len(cropped.num_level_priors)), cropped.num_level_priors)
        c = ATSSAssigner(topk=9).candidates(cropped.priors, cropped.num_level_priors if levels_given else None, boxes)
        for g, box in enumerate(boxes.double().numpy()):
            squared = ((cropped.points - oracle.box_center(box)) ** 2).sum(1)
            expected = []
            for one_level in range(3):
                for one_shape in range(layout.anchors[0]):
                    index = np.flatnonzero((level == one_level) & (shape == one_shape))
                    expected += index[np.argsort(squared[index], kind='stable')[:9]].tolist()
            assert sorted(c.prior[g].tolist()) == sorted(expected)

    @QUICK
    @given(st.data())
    def test_ragged_crops_equal_dense(self, data):
        """Any crop by a rectangle, A = 9, borders that anchors may cross by some pixels."""
        size = data.draw(st.tuples(st.integers(60, 160), st.integers(60, 160)))
        layout = make_layout(size=size, strides=(8, 16), **A9)
        inner = [data.draw(st.integers(45, n)) for n in size]
        flags = anchor_inside_flags(
            layout.priors, torch.ones(len(layout.priors), dtype=torch.bool), inner, data.draw(st.integers(0, 40))
        ).numpy()
        cropped = self.crop(layout, flags)
        if not len(cropped.priors):
            return
        boxes = data.draw(boxes_near(layout))
        centers = (boxes[:, :2].double() + boxes[:, 2:].double()) / 2
        pyramid = find_pyramid(cropped.priors, cropped.num_level_priors)
        dense = without_grids(pyramid)
        assert pyramid.grids is not None
        assert pick(pyramid, centers, 9) == pick(dense, centers, 9)


def test_ties_on_the_diagonal():
    """Boxes whose centre has equal coordinates: a column and a row are equally far, however distances are rounded."""
    priors = make_layout(size=(256, 256), strides=(4, 8), **A1)
    random = np.random.RandomState(0)
    points = torch.from_numpy(random.uniform(0, 250, 3000)[:, None].repeat(2, 1))
    pyramid = find_pyramid(priors.priors, priors.num_level_priors)
    dense = without_grids(pyramid)
    for k in (2, 5, 9):
        assert pick(pyramid, points, k) == pick(dense, points, k)


class TestFarAway:
    """Centres so far outside that rounding blurs the distances."""

    @pytest.mark.parametrize('far', [1e4, 1e6, 1e7])
    @pytest.mark.parametrize('name', MAKERS)
    def test_equals_dense(self, name, far):
        layout = make_layout()
        boxes = torch.tensor(
            [
                [-far, 20.0, 60.0, 70.0],
                [30.0, -far, 60.0, 100.0],
                [-far, -far, 100.0, 100.0],
                [-far, -far, far, far],
                [far, far, far + 10, far + 10],
                [40.0, 30.0, far, 90.0],
            ]
        )
        on, off = define(name, layout).assigner, dense_twin(define(name, layout).assigner, layout)
        found, expected = (
            a.assign_batch(layout.priors, layout.num_level_priors, [instances(boxes)]) for a in (on, off)
        )
        assert_close(found.gt_inds, expected.gt_inds, rtol=0, atol=0)


class TestKnownPriors:
    """A pyramid seen before is recognised, a changed one is not mistaken for it."""

    def fresh(self, layout, gts):
        return ATSSAssigner().assign_batch(layout.priors, None, [gts]).gt_inds

    def test_changes_are_noticed(self):
        assigner, gts = ATSSAssigner(), instances(random_boxes(9, seed=1))
        layout = make_layout()
        before = assigner.assign_batch(layout.priors, None, [gts]).gt_inds
        assert_close(before, self.fresh(layout, gts), rtol=0, atol=0)
        layout.priors.add_(24)  # in place: the same tensor object
        after = assigner.assign_batch(layout.priors, None, [gts]).gt_inds
        assert_close(after, self.fresh(layout, gts), rtol=0, atol=0)
        assert not torch.equal(before, after)

    def test_other_sizes_and_back(self):
        assigner, gts = ATSSAssigner(), instances(random_boxes(9, seed=1))
        for size in [(128, 160), (160, 128), (128, 160), (64, 64), (160, 128)]:
            layout = make_layout(size=size)
            found = assigner.assign_batch(layout.priors, layout.num_level_priors, [gts]).gt_inds
            assert_close(found, self.fresh(layout, gts), rtol=0, atol=0)

    def test_other_levels_of_the_same_priors(self):
        assigner, gts = ATSSAssigner(topk=3), instances(random_boxes(9, seed=1))
        layout = make_layout(size=(64, 64), strides=(8, 8))
        half, whole = layout.num_level_priors, [sum(layout.num_level_priors)]
        for levels in (half, whole, half):
            fresh = ATSSAssigner(topk=3).assign_batch(layout.priors, levels, [gts]).gt_inds
            assert_close(assigner.assign_batch(layout.priors, levels, [gts]).gt_inds, fresh, rtol=0, atol=0)

    def test_inference_mode(self):
        layout, gts = make_layout(), instances(random_boxes(9, seed=1))
        assigner, expected = ATSSAssigner(), self.fresh(layout, gts)
        with torch.inference_mode():
            for _ in range(2):
                assert_close(
                    assigner.assign_batch(layout.priors.clone(), None, [gts]).gt_inds, expected, rtol=0, atol=0
                )

    def test_copies(self):
        layout, gts = make_layout(), instances(random_boxes(9, seed=1))
        assigner = ATSSAssigner()
        expected = assigner.assign_batch(layout.priors, None, [gts]).gt_inds
        for twin in (copy.deepcopy(assigner), pickle.loads(pickle.dumps(assigner))):
            assert_close(twin.assign_batch(layout.priors, None, [gts]).gt_inds, expected, rtol=0, atol=0)
