"""Two processes with a batch each train as one process with both batches: losses, gradients, weights.

Where each process divides by its own positives (plain RetinaNet), they train as two that know nothing of each other.
The processes are started once and run every case; gloo on the CPU stands in for NCCL. They meet at a file, so
no port is chosen, and a collective that one of them never joins fails after ``PATIENCE`` instead of hanging.
"""

import os
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel

from tests.heads.helpers import (
    BATCHES,
    HEADS,
    OneConv,
    Trained,
    batch,
    dataset,
    one_thread,  # noqa: F401
    train_step,
)

WORLD = 2
OWN_POSITIVES = {
    name: dict(HEADS[name], average_over_processes=False) for name in ('box-plain_retinanet', 'box-atss', 'point-ssc')
}
PATIENCE = timedelta(seconds=120)
# both processes see the same boxes, in other images: equally many positives
ALIKE = (BATCHES['both'][0], BATCHES['both'][0])
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]


def run_engine(work_dir: Path, launcher: str, batch_size: int) -> dict:
    """The weights after two epochs of a step each through mmengine's Runner."""
    torch.manual_seed(0)
    model = OneConv()
    loader = dict(
        dataset=dataset(),
        batch_size=batch_size,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=loader,
        launcher=launcher,
        default_scope='mmdet',
        train_cfg=dict(by_epoch=True, max_epochs=2),
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        # without device_ids mmengine hands a CUDA device to the wrapper
        cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)),
        default_hooks=dict(checkpoint=None),
        log_level='WARNING',
        experiment_name=launcher,
    )
    runner.train()
    wrapped = isinstance(runner.model, DistributedDataParallel)
    assert wrapped == (launcher != 'none')
    return deepcopy((runner.model.module if wrapped else runner.model).state_dict())


def process(rank: int, folder: str) -> None:
    """What one of the processes does: every case twice, as an unused parameter is noticed in the next step."""
    torch.set_num_threads(1)
    os.environ.update(GLOO_SOCKET_IFNAME='lo', LOCAL_RANK=str(rank))
    dist.init_process_group('gloo', f'file://{folder}/meeting', timeout=PATIENCE, rank=rank, world_size=WORLD)
    results = {}
    heads = {**HEADS, **{f'{name}-own': head for name, head in OWN_POSITIVES.items()}}
    for name, head in heads.items():
        model = DistributedDataParallel(Trained(head), find_unused_parameters=False)
        for case, batches in {**BATCHES, 'alike': ALIKE}.items():
            for _ in range(2):
                results[name, case] = train_step(model, *batch(batches[rank], 2 * rank))
    # a longer batch on one process, as at the end of an epoch grouped by aspect ratio
    model = DistributedDataParallel(Trained(HEADS['box-plain_retinanet']))
    results['unequal'] = train_step(model, *batch(BATCHES['both'][rank][: rank + 1], rank))
    # mmengine's launchers set the CUDA device, whatever the backend; it does not launch where a group exists
    results['engine'] = run_engine(Path(folder), 'pytorch', batch_size=len(dataset()) // WORLD)
    torch.save(results, f'{folder}/rank{rank}.pt')
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def distributed(tmp_path_factory) -> list:
    """The results of both processes."""
    folder = tmp_path_factory.mktemp('distributed')
    mp.start_processes(process, (str(folder),), nprocs=WORLD, start_method='spawn')
    return [torch.load(folder / f'rank{rank}.pt') for rank in range(WORLD)]


def mean(values) -> torch.Tensor:
    return torch.stack(list(values)).mean(0)


def assert_alike(distributed: list, key, alone: tuple) -> None:
    """Losses are equal in the mean over the processes; gradients on each, as they were averaged already."""
    losses, gradients = alone
    assert set(losses) == set(distributed[0][key][0])
    for name, loss in losses.items():
        torch.testing.assert_close(mean(d[key][0][name] for d in distributed), loss, rtol=1e-5, atol=1e-6)
    for rank in range(WORLD):
        torch.testing.assert_close(distributed[rank][key][1], gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('case', [pytest.param(c, id=c.replace(' ', '_')) for c in BATCHES if c != 'no objects'])
@pytest.mark.parametrize('name', HEADS)
def test_two_processes_equal_one_with_both_batches(distributed, name, case):
    feats, samples = batch([boxes for images in BATCHES[case] for boxes in images], 0)
    alone = train_step(Trained(HEADS[name]), feats, samples)
    assert all(grad is not None for grad in alone[1].values())
    assert alone[0]['loss_bbox'] > 0
    assert_alike(distributed, (name, case), alone)


@pytest.mark.parametrize('case', [pytest.param(c, id=c.replace(' ', '_')) for c in BATCHES])
@pytest.mark.parametrize('name', OWN_POSITIVES)
def test_own_positives_equal_two_separate_processes(distributed, name, case):
    """Each loss is that of a process alone, and the gradient the mean of theirs: not that of one with both batches."""
    alone = [train_step(Trained(OWN_POSITIVES[name]), *batch(BATCHES[case][rank], 2 * rank)) for rank in range(WORLD)]
    for rank, (losses, _) in enumerate(alone):
        torch.testing.assert_close(distributed[rank][f'{name}-own', case][0], losses, rtol=1e-5, atol=1e-6)
        gradients = {key: mean(a[1][key] for a in alone) for key in alone[0][1]}
        torch.testing.assert_close(distributed[rank][f'{name}-own', case][1], gradients, rtol=1e-4, atol=1e-6)
    if case == 'process 1 without':  # divided by 1 (and its images) there, by a mean of both otherwise
        other = mean(d[name, case][0]['loss_cls'] for d in distributed)
        assert not torch.isclose(mean(losses['loss_cls'] for losses, _ in alone), other, rtol=1e-3)


@pytest.mark.parametrize('name', HEADS)
def test_without_any_ground_truth_every_parameter_has_a_gradient(distributed, name):
    """Each process divides by one positive at least, as the authors do; so two of them divide by two."""
    feats, samples = batch([[]] * 4, 0)
    losses, gradients = train_step(Trained(HEADS[name]), feats, samples)
    processes = 1 if HEADS[name].get('count_images') else WORLD
    alone = tuple({name: v / processes for name, v in values.items()} for values in (losses, gradients))
    assert losses['loss_bbox'] == 0 and losses['loss_cls'] > 0
    assert_alike(distributed, (name, 'no objects'), alone)


def accumulated(name: str, batches: tuple) -> dict:
    """Return the gradients with which mmengine's optimizer steps after several batches in turn."""
    model, at_step = Trained(HEADS[name]), []

    class Recorder(OptimWrapper):
        def step(self, **kwargs):
            at_step.append({key: p.grad.clone() for key, p in model.named_parameters()})

    optimizer = Recorder(torch.optim.SGD(model.parameters(), lr=1.0), accumulative_counts=len(batches))
    for rank, images in enumerate(batches):
        optimizer.update_params(sum(model(*batch(images, 2 * rank)).values()))
    (gradients,) = at_step
    return gradients


@pytest.mark.parametrize('name', HEADS)
def test_micro_batches_have_the_gradients_of_as_many_processes(distributed, name):
    """``run --accumulate``: where batches have equally many positives, it makes no difference at all."""
    for rank in range(WORLD):
        torch.testing.assert_close(accumulated(name, ALIKE), distributed[rank][name, 'alike'][1], rtol=1e-4, atol=1e-6)


def test_what_micro_batches_declare_to_differ_does_differ(distributed):
    """Each is divided by its own positives, where processes average theirs."""
    key = 'head.atss_cls.weight'
    case = 'process 1 without'
    ours, theirs = accumulated('box-atss', BATCHES[case])[key], distributed[0]['box-atss', case][1][key]
    assert (ours - theirs).abs().max() > 0.1 * theirs.abs().max()


def test_batches_of_different_size(distributed):
    """Positives and images are averaged over the processes, also where one has fewer images."""
    images = BATCHES['both'][0][:1] + BATCHES['both'][1]
    alone = train_step(Trained(HEADS['box-plain_retinanet']), *batch(images, 0))
    assert_alike(distributed, 'unequal', alone)


def test_mmengine_trains_the_same_weights(distributed, tmp_path):
    """Runner with its sampler, wrapper and optimizer: process 0 sees images 0 and 2, process 1 the rest."""
    alone = run_engine(tmp_path, 'none', batch_size=len(dataset()))
    before = OneConv().state_dict()
    assert any(not torch.equal(alone[k], before[k]) for k in alone if 'backbone' in k)
    for results in distributed:
        torch.testing.assert_close(results['engine'], alone, rtol=1e-4, atol=1e-6)
