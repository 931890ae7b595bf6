"""AssignmentStatsHook against the assigner itself."""

from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import HOOKS, MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from atss_plugin.engine import AssignmentStatsHook
from atss_plugin.experiments import load_config


def batch():
    """Two images of different sizes, the second without a ground truth; boxes as the pipeline packs them."""
    boxes = [[[10.0, 10, 70, 90], [100, 20, 103, 21]], []]
    samples = []
    for image_boxes in boxes:
        tensor = torch.tensor(image_boxes).reshape(-1, 4)
        sample = DetDataSample(
            gt_instances=InstanceData(bboxes=HorizontalBoxes(tensor), labels=torch.zeros(len(tensor), dtype=torch.long))
        )
        sample.ignored_instances = InstanceData(bboxes=HorizontalBoxes(torch.zeros(0, 4)))
        samples.append(sample)
    return dict(
        inputs=[torch.zeros(3, 100, 150, dtype=torch.uint8), torch.zeros(3, 130, 120, dtype=torch.uint8)],
        data_samples=samples,
    )


@pytest.fixture
def runner():
    cfg = load_config('miniature.py')
    model = MODELS.build(cfg.model)
    return SimpleNamespace(model=model, message_hub=MessageHub.get_instance(f'hook{id(model)}'), iter=0)


def test_what_is_logged(runner):
    hook = HOOKS.build(dict(type='atss_plugin.AssignmentStatsHook', interval=2))
    hook.before_train(runner)
    hook.after_train_iter(runner, 0, batch())
    assert not runner.message_hub.log_scalars  # iteration 1 of every 2
    runner.iter = 1
    hook.after_train_iter(runner, 1, batch())
    head, sample = runner.model.bbox_head, batch()['data_samples'][0]
    # both images are padded to the larger of each side, to a multiple of 32: 160 x 160
    priors = head.prior_generator.grid_priors([(-(-160 // s),) * 2 for s in (8, 16, 32, 64, 128)], device='cpu')
    counts = [len(level) for level in priors]
    gt_inds = head.assigner.assign(
        InstanceData(priors=torch.cat(priors)),
        counts,
        InstanceData(bboxes=sample.gt_instances.bboxes.tensor, labels=sample.gt_instances.labels),
    ).gt_inds
    positives = [[int((level == number).sum()) for level in gt_inds.split(counts)] for number in (1, 2)]
    assert sum(positives[0]) > 0 and sum(positives[1]) == 0
    logged = {name.rsplit('/', 1)[-1]: buffer.current() for name, buffer in runner.message_hub.log_scalars.items()}
    assert logged == {
        'positives_per_gt': sum(positives[0]) / 2,
        'unmatched': 0.5,
        **{f'positives_per_gt_P{level + 3}': positives[0][level] / 2 for level in range(5)},
    }


def test_a_batch_without_ground_truth_logs_nothing(runner):
    hook = AssignmentStatsHook(interval=1)
    hook.before_train(runner)
    empty = batch()
    hook.after_train_iter(runner, 0, dict(inputs=empty['inputs'][1:], data_samples=empty['data_samples'][1:]))
    assert not runner.message_hub.log_scalars


def test_bad_input(runner):
    with pytest.raises(ValueError, match='interval must be at least 1'):
        AssignmentStatsHook(interval=0)
    head = MODELS.build(load_config('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py').model.bbox_head)
    with pytest.raises(ValueError, match='FCOSHead has no assigner'):
        AssignmentStatsHook().before_train(SimpleNamespace(model=SimpleNamespace(bbox_head=head)))
