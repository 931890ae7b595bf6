"""Two processes with a batch each train as one process with both batches: losses, gradients, weights.

The processes are started once and run every case; gloo on the CPU stands in for NCCL. They meet at a file, so no port is
chosen, and a collective that one of them never joins fails after ``PATIENCE`` instead of hanging.

Legend: B images, L levels.
"""
import os
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import atss_plugin  # noqa: F401

WORLD = 2
PATIENCE = timedelta(seconds=120)
CHANNELS = 8
STRIDES = (8, 16)
IMAGE = 64

SMALL = dict(
    num_classes=3, in_channels=CHANNELS, feat_channels=CHANNELS, stacked_convs=1, norm_cfg=dict(type='GN', num_groups=2),
    anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=4, scales_per_octave=1,
                          center_offset=0.5, strides=STRIDES))
ATSS = dict(assigner=dict(type='atss_plugin.ATSSAssigner', topk=9))
SSC = dict(assigner=dict(type='atss_plugin.SpatialScaleAssigner', scale_ranges=((-1, 16), (16, 64))))
CENTER = dict(assigner=dict(type='atss_plugin.CenterSamplingAssigner', scale_ranges=((-1, 16), (16, 64))))
IOU = dict(assigner=dict(type='atss_plugin.IoUAssigner', in_gt_box=True))
MMDET = dict(assigner=dict(type='mmdet.ATSSAssigner', topk=9))
SMOOTH_L1 = dict(loss_bbox=dict(type='SmoothL1Loss', beta=0.11, loss_weight=0.25), reg_decoded_bbox=False)
BOX, POINT = dict(type='atss_plugin.RetinaNetHead'), dict(type='atss_plugin.FCOSHead')

HEADS = {
    'box-atss': dict(**BOX, train_cfg=ATSS),
    'box-iou': dict(**BOX, train_cfg=IOU),
    'box-mmdet_atss': dict(**BOX, train_cfg=MMDET),
    'box-no_centerness': dict(**BOX, train_cfg=ATSS, loss_centerness=None),
    'box-no_scalar': dict(**BOX, train_cfg=ATSS, with_scale=False),
    'box-smooth_l1': dict(**BOX, train_cfg=ATSS, **SMOOTH_L1),
    'box-plain_retinanet': dict(**BOX, train_cfg=IOU, **SMOOTH_L1, count_images=True, loss_centerness=None,
                                with_scale=False),
    'point-ssc': dict(**POINT, train_cfg=SSC),
    'point-atss': dict(**POINT, train_cfg=ATSS),
    'point-center_sampling': dict(**POINT, train_cfg=CENTER),
    'point-no_centerness': dict(**POINT, train_cfg=SSC, loss_centerness=None),
    'point-smooth_l1': dict(**POINT, train_cfg=SSC, **SMOOTH_L1),
}
# boxes of every image, of process 0 and of process 1
LARGE, WIDE, TINY = [4.3, 6.1, 50.2, 58.7], [20.4, 30.3, 63.1, 49.6], [35.2, 10.4, 46.7, 21.3]
BATCHES = {
    'both': ([[LARGE, TINY], [WIDE]], [[TINY], [WIDE, LARGE]]),
    'one image without': ([[LARGE], []], [[], [WIDE, TINY]]),
    'process 1 without': ([[LARGE, TINY], [WIDE]], [[], []]),
    'process 0 without': ([[], []], [[LARGE, TINY], [WIDE]]),
    'nobody': ([[], []], [[], []]),
}


class Trained(nn.Module):
    """A head whose ``forward`` is its losses, as DistributedDataParallel wants it."""

    def __init__(self, head: dict) -> None:
        super().__init__()
        init_default_scope('mmdet')
        torch.manual_seed(0)
        self.head = MODELS.build(dict(**SMALL, **deepcopy(head)))
        self.head.init_weights()
        # the start of a training would hide errors: all centernesses are alike, and boxes are the anchors
        for parameter in self.head.parameters():
            nn.init.normal_(parameter, parameter.mean().item(), 0.05)

    def forward(self, feats, samples) -> dict:
        return self.head.loss(feats, samples)


def batch(images: list, first: int) -> tuple:
    """Feature maps (B, CHANNELS, H, W) and ground truths of some images; ``first`` is the number of the first."""
    generators = [torch.Generator().manual_seed(first + i) for i in range(len(images))]
    feats = [torch.stack([torch.randn(CHANNELS, IMAGE // s, IMAGE // s, generator=g) for g in generators])
             for s in STRIDES]
    return feats, [sample(boxes) for boxes in images]


def sample(boxes: list) -> DetDataSample:
    data_sample = DetDataSample(metainfo=dict(img_shape=(IMAGE, IMAGE)))
    data_sample.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4), labels=torch.arange(len(boxes)))
    return data_sample


def train_step(model: nn.Module, feats: list, samples: list) -> tuple:
    """Losses and gradients; a parameter without a gradient is None."""
    model.zero_grad(set_to_none=True)
    losses = model(feats, samples)
    sum(losses.values()).backward()
    named = model.named_parameters()
    return ({name: loss.detach() for name, loss in losses.items()},
            {name.replace('module.', ''): p.grad for name, p in named})


class OneConv(BaseModel):
    """The smallest model that mmengine trains: one convolution and the paper's head."""

    def __init__(self) -> None:
        super().__init__(BaseDataPreprocessor())
        self.backbone = nn.Conv2d(3, CHANNELS, 8, 8)
        self.trained = Trained(HEADS['box-atss'])

    def forward(self, inputs, data_samples, mode: str = 'loss') -> dict:
        x = self.backbone(torch.stack(inputs))
        return self.trained([x, nn.functional.avg_pool2d(x, 2)], data_samples)


def dataset() -> list:
    images = BATCHES['one image without'][0] + BATCHES['one image without'][1]
    generator = torch.Generator().manual_seed(0)
    return [dict(inputs=torch.randn(3, IMAGE, IMAGE, generator=generator), data_samples=sample(boxes))
            for boxes in images]


def run_engine(work_dir: Path, launcher: str, batch_size: int) -> dict:
    """The weights after two epochs of a step each through mmengine's Runner."""
    torch.manual_seed(0)
    model = OneConv()
    loader = dict(dataset=dataset(), batch_size=batch_size, num_workers=0,
                  sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='pseudo_collate'))
    runner = Runner(
        model=model, work_dir=str(work_dir), train_dataloader=loader, launcher=launcher, default_scope='mmdet',
        train_cfg=dict(by_epoch=True, max_epochs=2), env_cfg=dict(dist_cfg=dict(backend='gloo')), log_level='WARNING',
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)), default_hooks=dict(checkpoint=None),
        # without this mmengine hands a CUDA device to the wrapper
        cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)), experiment_name=launcher)
    runner.train()
    wrapped = isinstance(runner.model, DistributedDataParallel)
    assert wrapped == (launcher != 'none')
    return deepcopy((runner.model.module if wrapped else runner.model).state_dict())


def process(rank: int, folder: str) -> None:
    """What one of the processes does: every case twice, for an unused parameter is only noticed in the next step."""
    torch.set_num_threads(1)
    os.environ.update(GLOO_SOCKET_IFNAME='lo', LOCAL_RANK=str(rank))
    dist.init_process_group('gloo', f'file://{folder}/meeting', timeout=PATIENCE, rank=rank, world_size=WORLD)
    results = {}
    for name, head in HEADS.items():
        model = DistributedDataParallel(Trained(head), find_unused_parameters=False)
        for case, batches in BATCHES.items():
            for _ in range(2):
                results[name, case] = train_step(model, *batch(batches[rank], 2 * rank))
    # a longer batch on one process, as at the end of an epoch grouped by aspect ratio
    model = DistributedDataParallel(Trained(HEADS['box-plain_retinanet']))
    results['unequal'] = train_step(model, *batch(BATCHES['both'][rank][:rank + 1], rank))
    # mmengine's launchers set the CUDA device, whatever the backend; it does not launch where a group exists
    results['engine'] = run_engine(Path(folder), 'pytorch', batch_size=len(dataset()) // WORLD)
    torch.save(results, f'{folder}/rank{rank}.pt')
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Tensors this small cost more in threads than in arithmetic."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def distributed(tmp_path_factory) -> list:
    """The results of both processes."""
    folder = tmp_path_factory.mktemp('distributed')
    mp.start_processes(process, (str(folder), ), nprocs=WORLD, start_method='spawn')
    return [torch.load(folder / f'rank{rank}.pt') for rank in range(WORLD)]


def mean(values) -> torch.Tensor:
    return torch.stack(list(values)).mean(0)


def assert_alike(distributed: list, key, alone: tuple) -> None:
    """Losses are equal in the mean over the processes; gradients on each, for DistributedDataParallel averages them."""
    losses, gradients = alone
    assert set(losses) == set(distributed[0][key][0])
    for name, loss in losses.items():
        torch.testing.assert_close(mean(d[key][0][name] for d in distributed), loss, rtol=1e-5, atol=1e-6)
    for rank in range(WORLD):
        torch.testing.assert_close(distributed[rank][key][1], gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize('case', [pytest.param(c, id=c.replace(' ', '_')) for c in BATCHES if c != 'nobody'])
@pytest.mark.parametrize('name', HEADS)
def test_two_processes_equal_one_with_both_batches(distributed, name, case):
    feats, samples = batch([boxes for images in BATCHES[case] for boxes in images], 0)
    alone = train_step(Trained(HEADS[name]), feats, samples)
    assert all(grad is not None for grad in alone[1].values())
    assert alone[0]['loss_bbox'] > 0
    assert_alike(distributed, (name, case), alone)


@pytest.mark.slow
@pytest.mark.parametrize('name', HEADS)
def test_without_any_ground_truth_every_parameter_has_a_gradient(distributed, name):
    """Each process divides by one positive at least, as the authors do; so two of them divide by two."""
    feats, samples = batch([[]] * 4, 0)
    losses, gradients = train_step(Trained(HEADS[name]), feats, samples)
    processes = 1 if HEADS[name].get('count_images') else WORLD
    alone = ({k: loss / processes for k, loss in losses.items()}, {k: g / processes for k, g in gradients.items()})
    assert losses['loss_bbox'] == 0 and losses['loss_cls'] > 0
    assert_alike(distributed, (name, 'nobody'), alone)


@pytest.mark.slow
def test_batches_of_different_size(distributed):
    """Positives and images are averaged over the processes, also where one has fewer images."""
    images = BATCHES['both'][0][:1] + BATCHES['both'][1]
    alone = train_step(Trained(HEADS['box-plain_retinanet']), *batch(images, 0))
    assert_alike(distributed, 'unequal', alone)


@pytest.mark.slow
def test_mmengine_trains_the_same_weights(distributed, tmp_path):
    """By Runner with its sampler, wrapper and optimizer: process 0 sees images 0 and 2, process 1 sees 1 and 3."""
    alone = run_engine(tmp_path, 'none', batch_size=len(dataset()))
    before = OneConv().state_dict()
    assert any(not torch.equal(alone[k], before[k]) for k in alone if 'backbone' in k)
    for results in distributed:
        torch.testing.assert_close(results['engine'], alone, rtol=1e-4, atol=1e-6)
