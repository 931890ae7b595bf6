"""AnchorPointCoder: distances in strides from the anchor's centre, and decode(encode) == identity."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules import DistancePointBBoxCoder
from torch.testing import assert_close

from atss_plugin.coders import AnchorPointCoder
from tests.reference.scenes import make_layout

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


def around(points, seed):
    """A box around every point (N, 2)."""
    random = torch.Generator().manual_seed(seed)
    sides = torch.rand((len(points), 4), generator=random, dtype=points.dtype) * 200
    return torch.cat([points - sides[:, :2], points + sides[:, 2:]], 1)


@SETTINGS
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([4, 5, 8, 9.5]), ratio=st.sampled_from([0.25, 0.5, 1.0, 4.0]))
def test_decode_is_the_inverse_of_encode(seed, scale, ratio):
    layout = make_layout(ratios=[ratio], scales=[scale])
    coder, boxes = AnchorPointCoder(scale), around(torch.from_numpy(layout.points).float(), seed)
    assert_close(coder.decode(layout.priors, coder.encode(layout.priors, boxes)), boxes, rtol=1e-5, atol=1e-3)


def test_encode_by_hand():
    """Stride 16: the anchor of 8 x 16 pixels is centred at (100, 60)."""
    anchor = torch.tensor([[36.0, -4.0, 164.0, 124.0]])
    box = torch.tensor([[84.0, 52.0, 132.0, 64.0]])
    encoded = AnchorPointCoder().encode(anchor, box)
    assert_close(encoded, torch.tensor([[1.0, 0.5, 2.0, 0.25]]))
    assert_close(AnchorPointCoder().decode(anchor, encoded), box)


@pytest.mark.parametrize('scale', [5, 8])
@pytest.mark.parametrize('ratio', [0.25, 1.0, 2.0])
def test_stride_of_every_level(scale, ratio):
    """One stride on every side is 2 S wide, whatever the anchor's ratio."""
    layout = make_layout(ratios=[ratio], scales=[scale])
    boxes = AnchorPointCoder(scale).decode(layout.priors, torch.ones(len(layout.priors), 4))
    strides = torch.cat([torch.full((n, 2), 2.0 * s[0]) for n, s in zip(layout.num_level_priors, layout.strides)])
    assert_close(boxes[:, 2:] - boxes[:, :2], strides, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize('scale', [5, 8])
def test_the_first_boxes_are_the_anchors(scale):
    layout, coder = make_layout(ratios=[1.0], scales=[scale]), AnchorPointCoder(scale)
    outputs = torch.full((len(layout.priors), 4), coder.initial_bias)
    assert_close(coder.decode(layout.priors, outputs), layout.priors, rtol=1e-5, atol=1e-3)


def test_initial_bias_of_the_recipe():
    assert AnchorPointCoder().initial_bias == 4


def test_relu():
    """Negative outputs count as 0 and have no gradient."""
    anchor, output = torch.tensor([[0.0, 0.0, 64.0, 64.0]]), torch.tensor([[-3.0, 2.0, -0.5, 1.0]], requires_grad=True)
    boxes = AnchorPointCoder().decode(anchor, output)
    assert_close(boxes.detach(), torch.tensor([[32.0, 16.0, 32.0, 40.0]]))
    (boxes[:, 2:] - boxes[:, :2]).sum().backward()
    assert_close(output.grad, torch.tensor([[0.0, 8.0, 0.0, 8.0]]))


@SETTINGS
@given(seed=st.integers(0, 10**6))
def test_equals_mmdets_distance_coder(seed):
    """DistancePointBBoxCoder on the same points, with strides divided out and ReLU applied by hand."""
    layout = make_layout()
    outputs = torch.randn((len(layout.priors), 4), generator=torch.Generator().manual_seed(seed)) * 4
    points = torch.from_numpy(layout.points).float()
    strides = torch.cat([torch.full((n, 1), float(s[0])) for n, s in zip(layout.num_level_priors, layout.strides)])
    theirs = DistancePointBBoxCoder().decode(points, outputs.relu() * strides, max_shape=(128, 160))
    assert_close(AnchorPointCoder().decode(layout.priors, outputs, max_shape=(128, 160)), theirs, rtol=1e-5, atol=1e-3)


class TestMaxShape:
    """Clipping to (height, width)."""

    ANCHOR = torch.tensor([[0.0, 0.0, 64.0, 64.0]])
    FAR = torch.full((1, 4), 100.0)

    @pytest.mark.parametrize(
        'shape',
        [(50, 70), (50, 70, 3), [50, 70], torch.tensor([50, 70]), torch.tensor([50, 70, 3])],
        ids=['tuple', 'with_channels', 'list', 'tensor', 'tensor_with_channels'],
    )
    def test_one_shape(self, shape):
        assert_close(
            AnchorPointCoder().decode(self.ANCHOR, self.FAR, max_shape=shape), torch.tensor([[0.0, 0.0, 70.0, 50.0]])
        )

    @pytest.mark.parametrize('as_tensor', [False, True])
    def test_one_for_each_image(self, as_tensor):
        shapes = [(50, 70), (40, 90)]
        boxes = AnchorPointCoder().decode(
            self.ANCHOR.expand(2, 3, 4),
            self.FAR.expand(2, 3, 4),
            max_shape=torch.tensor(shapes) if as_tensor else shapes,
        )
        expected = torch.tensor([[[0.0, 0.0, 70.0, 50.0]], [[0.0, 0.0, 90.0, 40.0]]]).expand(2, 3, 4)
        assert_close(boxes, expected)

    def test_one_for_a_batch(self):
        boxes = AnchorPointCoder().decode(self.ANCHOR.expand(2, 3, 4), self.FAR.expand(2, 3, 4), max_shape=(50, 70))
        assert_close(boxes, torch.tensor([0.0, 0.0, 70.0, 50.0]).expand(2, 3, 4))

    def test_off(self):
        far = torch.tensor([[-768.0, -768.0, 832.0, 832.0]])
        assert_close(AnchorPointCoder(clip_border=False).decode(self.ANCHOR, self.FAR, max_shape=(50, 70)), far)
        assert_close(AnchorPointCoder().decode(self.ANCHOR, self.FAR), far)


def test_batches_and_no_boxes():
    layout, coder = make_layout(), AnchorPointCoder()
    outputs = torch.rand(2, len(layout.priors), 4)
    both = coder.decode(layout.priors.expand(2, -1, -1), outputs)
    for i in range(2):
        assert_close(both[i], coder.decode(layout.priors, outputs[i]), rtol=0, atol=0)
    assert coder.encode(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)
    assert coder.decode(torch.zeros(0, 4), torch.zeros(0, 4), max_shape=(5, 5)).shape == (0, 4)


def test_bad_scale():
    with pytest.raises(ValueError, match='anchor_scale must be positive, not 0'):
        AnchorPointCoder(anchor_scale=0)
