"""Rows of one seed start from the same weights and see the same images, flipped alike."""

from functools import lru_cache

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from atss_plugin.engine import PairedRandomnessHook
from atss_plugin.experiments import apply_overlay, load_config

pytestmark = pytest.mark.slow

FINAL = 'atss_r50_fpn_1x.py'
# no GroupNorm and no centerness, nine anchors, another coder and assigner, an FPN of another shape
ROWS = ('table1/retinanet.py', 'table7/retinanet_a9.py', 'table3/fcos_center_sampling.py', 'another P6')


class Recorder(Hook):
    """Keep the weights before the first step, and all images."""

    def __init__(self):
        self.weights, self.images, self.boxes = None, [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.weights = self.weights or {name: value.clone() for name, value in runner.model.state_dict().items()}
        self.images += list(data_batch['inputs'])
        self.boxes += [sample.gt_instances.bboxes.tensor for sample in data_batch['data_samples']]


@pytest.fixture(scope='module')
def start(tmp_path_factory):
    """Train two tiny epochs and return what was recorded."""

    @lru_cache(maxsize=None)
    def start(row, seed=0, hooks=True):
        cfg = apply_overlay(load_config(FINAL if row == 'another P6' else row), 'miniature.py')
        name = f'{row}-{seed}-{hooks}'.replace('/', '_')
        cfg.merge_from_dict(
            dict(
                work_dir=str(tmp_path_factory.mktemp('work')),
                experiment_name=name,
                visualizer=dict(name=name),
                log_level='ERROR',
                randomness=dict(seed=seed),
                train_dataloader=dict(dataset=dict(num_images=4, img_shape=(192, 192))),
                train_cfg=dict(max_epochs=2, val_begin=100),
                default_hooks=dict(checkpoint=dict(interval=100)),
                **({} if hooks else dict(custom_hooks=[])),
            )
        )
        cfg.train_dataloader.dataset.pipeline[2].scale = (96, 96)
        if row == 'another P6':
            cfg.model.neck.add_extra_convs = 'on_input'
        runner = Runner.from_cfg(cfg)
        recorder = Recorder()
        runner.register_hook(recorder)
        runner.train()
        return recorder

    return start


@pytest.mark.parametrize('row', ROWS)
def test_rows_of_a_seed_are_pairs(row, start):
    final, other = start(FINAL), start(row)
    shared = [
        name
        for name, value in final.weights.items()
        if name in other.weights and not name.startswith(('bbox_head.atss', 'neck.fpn_convs.3', 'neck.fpn_convs.4'))
    ]
    # all of the backbone, the laterals and outputs of P3 to P5, and the towers' convolutions
    assert {'backbone.conv1.weight', 'backbone.layer3.1.conv2.weight', 'neck.lateral_convs.2.conv.weight'} < set(shared)
    assert {'neck.fpn_convs.2.conv.weight', 'bbox_head.cls_convs.0.conv.weight'} < set(shared)
    assert 'bbox_head.reg_convs.0.conv.weight' in shared
    for name in shared:
        assert torch.equal(final.weights[name], other.weights[name]), name
    assert len(final.images) == len(other.images) == 8
    for ours, theirs in zip(final.images + final.boxes, other.images + other.boxes):
        assert torch.equal(ours, theirs)


def test_without_the_hook_they_are_not_and_seeds_differ(start):
    final = start(FINAL)
    for other in (start('another P6', hooks=False), start(FINAL, seed=1)):
        assert not torch.equal(
            final.weights['bbox_head.cls_convs.0.conv.weight'], other.weights['bbox_head.cls_convs.0.conv.weight']
        )


def test_an_epoch_flips_other_images_than_the_one_before(start):
    recorder = start(FINAL)
    first, second = (sorted(images, key=lambda i: i.sum()) for images in (recorder.images[:4], recorder.images[4:]))
    assert [a.sum() for a in first] == [b.sum() for b in second]  # the same images
    assert not all(torch.equal(a, b) for a, b in zip(first, second))


def test_what_an_epoch_draws_depends_on_seed_and_epoch_alone():
    class Runner:
        seed, epoch = 3, 7

    hook = PairedRandomnessHook()
    hook.before_train_epoch(Runner)
    drawn = torch.rand(3)
    torch.rand(100)
    hook.before_train_epoch(Runner)
    assert torch.equal(torch.rand(3), drawn)
    Runner.epoch = 8
    hook.before_train_epoch(Runner)
    assert not torch.equal(torch.rand(3), drawn)
