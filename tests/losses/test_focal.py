"""One-pass focal loss: mmdet's in value and gradient, and what the formula says at its edges."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.losses import FocalLoss as MMDetFocalLoss
from torch.testing import assert_close

from atss_plugin.losses import FocalLoss

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
GAMMAS = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0]


def scene(num, classes, seed, spread=3.0):
    """Logits (N, C), targets (N,) with C for background, weights (N,) of 0, 1 and in between."""
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn((num, classes), generator=random) * spread
    targets = torch.randint(0, classes + 1, (num,), generator=random)
    weights = torch.rand(num, generator=random) * torch.randint(0, 2, (num,), generator=random)
    return logits, targets, weights


def by_the_formula(logits, targets, gamma, alpha):
    """The loss -alpha_t (1 - p_t)^gamma log(p_t), (N, C) float64."""
    logits = logits.double()
    positive = F.one_hot(targets, logits.size(1) + 1)[:, :-1].bool()
    p_t = torch.where(positive, logits, -logits).sigmoid()
    log_p_t = F.logsigmoid(torch.where(positive, logits, -logits))
    alpha_t = torch.where(positive, alpha, 1 - alpha)
    return -alpha_t * (1 - p_t) ** gamma * log_p_t


def value_and_gradient(loss, logits, *args, **kwargs):
    logits = logits.clone().requires_grad_()
    value = loss(logits, *args, **kwargs)
    value.backward()
    return value.detach(), logits.grad


@QUICK
@given(st.data())
def test_equals_mmdet(data):
    num, classes = data.draw(st.sampled_from([(1, 1), (7, 1), (50, 3), (300, 80), (1000, 80), (40000, 1)]))
    logits, targets, weights = scene(num, classes, data.draw(st.integers(0, 10**6)))
    options = dict(
        gamma=data.draw(st.sampled_from(GAMMAS)),
        alpha=data.draw(st.sampled_from([0.25, 0.5, 0.9])),
        loss_weight=data.draw(st.sampled_from([1.0, 0.3])),
    )
    weights = weights if data.draw(st.booleans()) else None
    avg_factor = data.draw(st.sampled_from([None, 1.0, 17.5, torch.tensor(3.0)]))
    ours, theirs = (
        value_and_gradient(kind(**options), logits, targets, weights, avg_factor=avg_factor)
        for kind in (FocalLoss, MMDetFocalLoss)
    )
    assert_close(ours[0], theirs[0], rtol=2e-5, atol=1e-7)
    # mmdet's takes 1 - p from p, which leaves 1e-7 of small values; ours is held to the formula below
    assert_close(ours[1], theirs[1], rtol=1e-4, atol=2e-7)


@pytest.mark.parametrize('gamma', GAMMAS)
def test_the_formula(gamma):
    """Value and gradient in float64 by autograd of the definition."""
    logits, targets, weights = scene(500, 20, seed=3)
    exact = logits.double().requires_grad_()
    expected = (by_the_formula(exact, targets, gamma, 0.25) * weights[:, None]).sum() / 11
    expected.backward()
    value, grad = value_and_gradient(FocalLoss(gamma=gamma), logits, targets, weights, avg_factor=11)
    assert_close(value.double(), expected.detach(), rtol=1e-5, atol=0)
    assert_close(grad.double(), exact.grad, rtol=1e-5, atol=1e-7 * float(exact.grad.abs().max()))


def test_gamma_0_is_half_the_cross_entropy():
    logits, targets, _ = scene(300, 10, seed=1)
    ours = value_and_gradient(FocalLoss(gamma=0.0, alpha=0.5), logits, targets, avg_factor=1.0)
    one_hot = F.one_hot(targets, 11)[:, :-1].float()
    exact = logits.clone().requires_grad_()
    entropy = F.binary_cross_entropy_with_logits(exact, one_hot, reduction='sum') / 2
    entropy.backward()
    assert_close(ours[0], entropy.detach(), rtol=1e-5, atol=0)
    assert_close(ours[1], exact.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('gamma', GAMMAS)
@pytest.mark.parametrize('logit', [-1e4, -200.0, -90.0, -30.0, 0.0, 30.0, 90.0, 200.0, 1e4])
def test_extreme_logits(logit, gamma):
    """No overflow, no NaN, for a positive and for background."""
    logits = torch.full((2, 1), logit)
    value, grad = value_and_gradient(FocalLoss(gamma=gamma), logits, torch.tensor([0, 1]), avg_factor=1.0)
    exact = logits.double().requires_grad_()
    expected = by_the_formula(exact, torch.tensor([0, 1]), gamma, 0.25).sum()
    assert_close(value.double(), expected.detach(), rtol=1e-5, atol=1e-12)
    assert bool(grad.isfinite().all())
    difference = 1e-3
    slope = (
        by_the_formula(logits.double() + difference, torch.tensor([0, 1]), gamma, 0.25)
        - by_the_formula(logits.double() - difference, torch.tensor([0, 1]), gamma, 0.25)
    ) / (2 * difference)
    assert_close(grad.double(), slope, rtol=1e-3, atol=1e-6)


def test_weight_zero_is_not_there():
    logits, targets, _ = scene(60, 5, seed=2)
    keep = torch.arange(60) % 3 > 0
    masked = value_and_gradient(FocalLoss(), logits, targets, keep.float(), avg_factor=4.0)
    rest = value_and_gradient(FocalLoss(), logits[keep], targets[keep], avg_factor=4.0)
    assert_close(masked[0], rest[0], rtol=1e-5, atol=0)
    assert_close(masked[1][keep], rest[1], rtol=1e-5, atol=1e-8)
    assert not masked[1][~keep].any()


@pytest.mark.parametrize('reduction', ['none', 'sum', 'mean'])
def test_reductions(reduction):
    logits, targets, weights = scene(40, 5, seed=2)
    for override in (None, reduction):
        ours, theirs = (
            kind(reduction=reduction)(logits, targets, weights, reduction_override=override)
            for kind in (FocalLoss, MMDetFocalLoss)
        )
        assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_what_only_mmdet_covers():
    """Weights of each class, one-hot targets and probabilities go to mmdet's."""
    logits, targets, weights = scene(40, 5, seed=2)
    by_class = weights[:, None] * torch.rand(40, 5, generator=torch.Generator().manual_seed(0))
    assert_close(FocalLoss()(logits, targets, by_class), MMDetFocalLoss()(logits, targets, by_class))
    one_hot = F.one_hot(targets, 6)[:, :-1]
    assert_close(FocalLoss()(logits, one_hot, weights), MMDetFocalLoss()(logits, one_hot, weights))
    activated = dict(activated=True)
    assert_close(
        FocalLoss(**activated)(logits.sigmoid(), targets), MMDetFocalLoss(**activated)(logits.sigmoid(), targets)
    )


@pytest.mark.parametrize('shape', [(0, 5), (3, 0)], ids=['no_priors', 'no_classes'])
def test_nothing(shape):
    logits = torch.zeros(shape, requires_grad=True)
    value = FocalLoss()(logits, torch.zeros(shape[0], dtype=torch.long) + shape[1], avg_factor=1.0)
    value.backward()
    assert float(value.detach()) == 0 and logits.grad.shape == shape


def test_no_gradient_asked_for():
    logits, targets, weights = scene(40, 5, seed=2)
    with torch.no_grad():
        assert_close(
            FocalLoss()(logits, targets, weights), MMDetFocalLoss()(logits, targets, weights), rtol=1e-5, atol=1e-7
        )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    """Computed in float32, the gradient comes back in the precision of the logits."""
    logits, targets, weights = scene(40, 5, seed=2)
    half = logits.to(dtype).requires_grad_()
    value = FocalLoss()(half, targets, weights, avg_factor=2.0)
    value.backward()
    expected = value_and_gradient(FocalLoss(), half.detach().float(), targets, weights, avg_factor=2.0)
    assert value.dtype == torch.float32 and half.grad.dtype == dtype
    assert_close(value.detach(), expected[0])
    assert_close(half.grad, expected[1].to(dtype))


def test_gradient_of_a_scaled_loss():
    """The gradient found in the forward pass is scaled by what comes from above."""
    logits, targets, _ = scene(40, 5, seed=2)
    once = value_and_gradient(FocalLoss(), logits, targets, avg_factor=1.0)[1]
    scaled = value_and_gradient(lambda *args: 2.5 * FocalLoss()(*args, avg_factor=1.0), logits, targets)[1]
    assert_close(scaled, 2.5 * once)


def test_inputs_are_left_alone():
    logits, targets, weights = scene(40, 5, seed=2)
    copies = [t.clone() for t in (logits, targets, weights)]
    value_and_gradient(FocalLoss(), logits, targets, weights)
    for after, before in zip((logits, targets, weights), copies):
        assert_close(after, before, rtol=0, atol=0)


def test_float64_stays_float64():
    """Also by finite differences, which only float64 is exact enough for."""
    logits, targets, weights = scene(12, 4, seed=5)
    exact = logits.double().requires_grad_()
    value = FocalLoss()(exact, targets, weights.double(), avg_factor=3.0)
    assert value.dtype == torch.float64
    expected = (by_the_formula(logits, targets, 2.0, 0.25) * weights.double()[:, None]).sum() / 3
    assert_close(value.detach(), expected, rtol=1e-7, atol=0)  # the divisor has the smallest float32 added
    assert torch.autograd.gradcheck(lambda x: FocalLoss()(x, targets, weights.double(), avg_factor=3.0), exact)


@pytest.mark.parametrize(
    'targets',
    [
        pytest.param([0, 5, 6, 2], id='above background'),
        pytest.param([0, -1, 3, 2], id='negative'),
        pytest.param([0, 1, 2], id='fewer than rows'),
        pytest.param([0, 1, 2, 3, 4], id='more than rows'),
        pytest.param([0.0, 1.0, 2.0, 3.0], id='not whole numbers'),
        pytest.param([True, False, True, True], id='a mask'),
    ],
)
@pytest.mark.parametrize('options', [dict(avg_factor=2.0), dict(reduction_override='none')], ids=['ours', 'mmdets'])
def test_bad_labels_are_refused_as_by_mmdet(targets, options):
    logits, targets = torch.zeros((4, 5)), torch.tensor(targets)
    with pytest.raises((RuntimeError, ValueError, AssertionError)) as theirs:
        MMDetFocalLoss()(logits, targets, **options)
    with pytest.raises(theirs.type, match='label'):
        FocalLoss()(logits, targets, **options)


def test_a_head_of_too_few_classes_is_told_so():
    with pytest.raises(RuntimeError, match='go from 0 to 7, but 5 classes have the labels 0 to 4.*num_classes'):
        FocalLoss()(torch.zeros((2, 5)), torch.tensor([0, 7]), avg_factor=1.0)


def test_flat_weights_of_every_logit_and_weights_that_do_not_fit():
    """As mmdet's: (N * C,) weights every logit, anything else is an error."""
    logits, targets, _ = scene(6, 5, seed=2)
    by_logit = torch.rand(30, generator=torch.Generator().manual_seed(0))
    assert_close(FocalLoss()(logits, targets, by_logit), MMDetFocalLoss()(logits, targets, by_logit))
    for kind in (FocalLoss, MMDetFocalLoss):
        with pytest.raises(AssertionError):
            kind()(logits, targets, torch.ones(4))
