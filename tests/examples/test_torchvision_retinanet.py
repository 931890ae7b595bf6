"""ATSS in torchvision's RetinaNet: its own targets come from the anchors of Algorithm 1, and the loss falls."""

import pytest
import torch

from tests.reference import oracle

try:
    from examples import torchvision_retinanet as example
except Exception as error:  # missing, or made for another torch: "operator torchvision::nms does not exist"
    pytest.skip(f'torchvision cannot be imported: {error}', allow_module_level=True)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return example.build(num_classes=2, size=128).train()


@pytest.fixture
def data():
    toy = example.toy()
    return [toy['image']], [{key: toy[key] for key in ('boxes', 'labels')}]


def test_the_positives_are_those_of_algorithm_1(model, data, monkeypatch):
    """What torchvision's head computes its losses from, against plain loops over the same anchors."""
    calls, compute_loss = [], model.head.compute_loss
    monkeypatch.setattr(model.head, 'compute_loss', lambda *args: calls.append(args) or compute_loss(*args))
    images, targets = data
    nothing = dict(boxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    model(images * 2, [*targets, nothing])
    ((_, _, anchors, matched),) = calls
    sizes = [16**2, 8**2, 4**2, 2**2, 1]
    scene = oracle.Scene(anchors[0].numpy(), sizes, targets[0]['boxes'].numpy(), tol=1e-6, iou_tol=1e-6)
    answer = oracle.atss(scene)
    assert answer.clear.all()
    assert (matched[0].numpy() == answer.gt_inds - 1).all()
    assert set(matched[0].tolist()) == {-1, 0, 1}
    assert set(matched[1].tolist()) == {-1}


@pytest.mark.slow
def test_the_loss_falls(model, data):
    history = example.train(model, *data, steps=30)
    assert max(history[-3:]) < history[0] / 2
