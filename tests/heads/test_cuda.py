"""On a GPU the heads give the CPU's losses and gradients and the golden numbers; a training step waits for nothing."""

from importlib import import_module

import pytest
import torch
from torch.testing import assert_close

from tests.assigners.test_golden import cases, check_losses_and_gradients
from tests.conftest import waiting
from tests.heads.helpers import BATCHES, HEADS, Trained, batch, train_step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
OURS = [name for name in HEADS if name != 'box-mmdet_atss']


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Convolutions in float32, not in TF32, which is torch's default on a GPU."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


def on_gpu(model, feats, samples):
    """The arguments of a training step, on the GPU."""
    return model.cuda(), [level.cuda() for level in feats], [sample.cuda() for sample in samples]


@pytest.mark.parametrize('images', BATCHES)
@pytest.mark.parametrize('name', HEADS)
def test_losses_and_gradients_are_those_of_the_cpu(name, images):
    feats, samples = batch(BATCHES[images][0], 0)
    expected = train_step(Trained(HEADS[name]), feats, samples)
    found = train_step(*on_gpu(Trained(HEADS[name]), feats, samples))
    for mine, theirs in zip(found, expected):
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            assert (mine[key] is None) == (value is None), key
            if value is not None:
                assert_close(mine[key].cpu(), value, rtol=1e-4, atol=1e-5 * float(value.abs().max()), msg=key)


@pytest.mark.parametrize('name, case', cases('loss_'))
def test_golden_losses_and_gradients(name, case):
    check_losses_and_gradients(name, case, 'cuda', rtol=1e-4)


@pytest.fixture
def others_may_wait(monkeypatch):
    """Let what is known to wait in mmdet and mmcv do so without an error (docs/environments.md, "Devices")."""

    def patiently(call):
        def called(*args, **kwargs):
            with waiting('default'):
                return call(*args, **kwargs)

        return called

    known = {
        # tensors of Python numbers: means and deviations, and the IoU's eps
        'mmdet.models.task_modules.coders.delta_xywh_bbox_coder': ['bbox2delta', 'delta2bbox'],
        'mmdet.models.losses.iou_loss': ['bbox_overlaps'],
        # the operator asks for the largest label
        'mmcv._ext': ['sigmoid_focal_loss_forward', 'sigmoid_focal_loss_backward'],
    }
    for module, names in known.items():
        for name in names:
            monkeypatch.setattr(import_module(module), name, patiently(getattr(import_module(module), name)))


@pytest.mark.parametrize('name', OURS)
def test_a_training_step_waits_for_nothing_of_ours(name, others_may_wait):
    """From the second step on: the first looks at the priors.  torch raises an error at whatever waits."""
    model, feats, samples = on_gpu(Trained(HEADS[name]), *batch(BATCHES['one image without'][0], 0))
    train_step(model, feats, samples)
    torch.cuda.synchronize()
    with waiting('error'):
        train_step(model, feats, samples)
