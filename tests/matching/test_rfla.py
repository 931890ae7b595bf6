"""RFLA: torch's own divergence of Gaussians, and loops over the locations."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Independent, Normal, kl_divergence
from torch.testing import assert_close

from atss_plugin.assigners import ATSSAssigner, RFLAAssigner
from atss_plugin.matching.rfla import receptive_field_distance
from tests.matching.test_pyramid import A1, QUICK, boxes_near, layouts
from tests.reference.scenes import instances, make_layout, random_boxes


def likeness(box, points, side):
    """RFD of locations (N, 2) whose theoretical receptive fields have these sides (N,), in torch's distributions."""
    deviation = (side / 4)[:, None].expand(-1, 2)
    field = Independent(Normal(points, deviation), 1)
    box = box.double()
    thing = Independent(
        Normal(((box[:2] + box[2:]) / 2).expand_as(points), ((box[2:] - box[:2]) / 2).expand_as(points)), 1
    )
    return 1 / (1 + kl_divergence(field, thing))


def by_loops(layout, gts, fields, topk, decay, in_gt_box):
    """The two stages, one object after the other, by sorting all locations."""
    points = torch.from_numpy(layout.points)
    side = torch.tensor(fields, dtype=torch.float64).repeat_interleave(torch.tensor(layout.num_level_priors))
    found = [0] * len(points)
    for shrink, k in ((1.0, topk[0]), (decay, topk[1])):
        claims = {}
        for i, box in enumerate(gts.bboxes):
            rfd = likeness(box, points, side * shrink).tolist()
            for p in sorted(range(len(points)), key=lambda p: (-rfd[p], p))[:k]:
                x, y = points[p].tolist()
                if not in_gt_box or min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01:
                    claims.setdefault(p, []).append((-rfd[p], i + 1))
        for p, claimants in claims.items():
            found[p] = found[p] or min(claimants)[1]
    return torch.tensor(found)


def test_locations_are_ranked_however_many_anchors_they_have():
    boxes = [instances([[30.0, 40.0, 110.0, 125.0], [8.0, 9.0, 30.0, 33.0]], torch.arange(2))]
    one, three = make_layout(), make_layout(ratios=[0.5, 1.0, 2.0], octave_base_scale=8, scales_per_octave=1)
    found, tripled = (
        RFLAAssigner().assign_batch(layout.priors, layout.num_level_priors, boxes).gt_inds[0] for layout in (one, three)
    )
    assert (found > 0).sum() > 4
    assert_close(tripled.view(-1, 3)[:, 0], found, rtol=0, atol=0)
    assert not tripled.view(-1, 3)[:, 1:].any()


@QUICK
@given(st.data())
def test_equals_loops(data):
    """Boxes at odd places, where no two locations are equally like them except for rounding."""
    layout = data.draw(layouts(**A1, dtype=torch.float64, size=data.draw(st.sampled_from([(40, 56), (64, 64)]))))
    boxes = random_boxes(
        data.draw(st.integers(1, 5)), layout_size(layout), data.draw(st.integers(0, 10**6)), dtype=torch.float64
    )
    gts, fields = instances(boxes, dtype=torch.float64), [40.0 * (i + 1) for i in range(len(layout.num_level_priors))]
    topk, decay = data.draw(st.sampled_from([(3, 1), (1, 2), (5, 5)])), data.draw(st.sampled_from([0.9, 0.5]))
    inside = data.draw(st.booleans())
    assigner = RFLAAssigner(topk, decay, fields, in_gt_box=inside)
    found = assigner.assign_batch(layout.priors, layout.num_level_priors, [gts]).gt_inds[0]
    assert_close(found, by_loops(layout, gts, fields, topk, decay, inside), rtol=0, atol=0)


def layout_size(layout):
    x, y = layout.points.max(0)
    return int(y) + 1, int(x) + 1


@QUICK
@given(st.data())
def test_distance_is_torchs(data):
    layout = data.draw(layouts(dtype=torch.float64))
    boxes = data.draw(boxes_near(layout))
    boxes[:, 2:] += 1
    points = torch.from_numpy(layout.points)
    side = torch.full((len(points),), 91.0, dtype=torch.float64)
    found = receptive_field_distance(boxes[:, None], points, side / 4)
    for row, box in zip(found, boxes):
        assert_close(row, likeness(box, points, side), rtol=1e-9, atol=1e-12)


def test_every_tiny_object_has_positives():
    """What it is for: an object of 4 pixels between anchor centres, which ATSS's centre rule leaves without one."""
    layout = make_layout()
    gts = instances([[9.0, 9.0, 11.0, 11.0], [33.0, 41.0, 35.0, 43.0]])
    found = RFLAAssigner().assign_batch(layout.priors, None, [gts])
    assert [int((found.gt_inds == i).sum()) for i in (0, 1, 2)] == [found.gt_inds.numel() - 6, 3, 3]
    assert not (ATSSAssigner().assign_batch(layout.priors, None, [gts]).gt_inds > 0).any()


def test_bad_input():
    layout, gts = make_layout(), [instances([[8.0, 8.0, 56.0, 56.0]])]
    with pytest.raises(
        ValueError, match='receptive_fields has 2 entries.* give receptive_fields one entry for each level'
    ):
        RFLAAssigner(receptive_fields=(91, 267)).assign_batch(layout.priors, None, gts)
    with pytest.raises(ValueError, match='topk'):
        RFLAAssigner(topk=(3, 0))
    with pytest.raises(ValueError, match='topk must be two numbers'):
        RFLAAssigner(topk=(3,))
    with pytest.raises(ValueError, match='decay'):
        RFLAAssigner(decay=0)
