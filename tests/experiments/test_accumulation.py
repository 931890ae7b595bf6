"""Micro-batches: the optimiser's steps and their learning rates stay the recipe's, and reports say what does not."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from atss_plugin.errors import UsageError
from atss_plugin.experiments import build_report, differences, load_config, load_tables, plan_jobs, select_tables
from atss_plugin.experiments.accumulation import accumulate
from atss_plugin.experiments.job import Launch
from tests.experiments.test_experiments import fake_run


def rates_of_steps(cfg) -> list:
    """The learning rate at every step of mmengine's optimiser."""
    rates, counts = [], cfg.optim_wrapper.get('accumulative_counts', 1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)

    class Recorder(OptimWrapper):
        def step(self, **kwargs):
            rates.append(self.get_lr()['lr'][0])
            super().step(**kwargs)

    wrapper = Recorder(optimizer, accumulative_counts=counts)
    schedulers = [PARAM_SCHEDULERS.build(dict(s), default_args=dict(optimizer=wrapper)) for s in cfg.param_scheduler]
    for _ in range(cfg.train_cfg.max_iters):
        wrapper.update_params(wrapper.param_groups[0]['params'][0].sum())
        for scheduler in schedulers:
            scheduler.step()
    return rates


def small_recipe() -> Config:
    """The recipe with a thousandth of its iterations, five of them to warm up."""
    cfg = load_config('table4/k3.py')
    cfg.train_cfg.max_iters = 90
    cfg.param_scheduler[0].end = 6
    cfg.param_scheduler[1].update(end=90, milestones=[60, 80])
    return cfg


@pytest.mark.parametrize('micro_batches', [2, 8])
def test_every_step_has_the_recipes_learning_rate(micro_batches):
    recipe = rates_of_steps(small_recipe())
    assert recipe == pytest.approx([0.01 / 3] * 5 + [0.01] * 55 + [0.001] * 20 + [0.0001] * 10)
    cfg = small_recipe()
    accumulate(cfg, micro_batches)
    assert cfg.train_cfg.max_iters == 90 * micro_batches
    assert rates_of_steps(cfg) == pytest.approx(recipe)


def test_counts_of_iterations_grow_and_the_batch_shrinks(tmp_path):
    tables = select_tables(load_tables(), ['t4.k3'])
    (job,) = plan_jobs(tables, tmp_path, [0], Launch(launcher='pytorch', gpus=2, accumulate=4))
    cfg = job.wanted
    assert cfg.train_dataloader.batch_size == 2 and cfg.optim_wrapper.accumulative_counts == 4
    assert cfg.train_cfg.max_iters == 360_000 and cfg.train_cfg.val_interval == 40_000
    assert cfg.default_hooks.checkpoint.interval == 20_000
    assert job.merged.param_scheduler[1].milestones == [240_000, 320_000]
    assert str(job.work_dir / 'k3.py') in job.command  # the config that is written, not the row's own


def test_epochs_stay(tmp_path):
    tables = select_tables(load_tables(), ['t4.k3'])
    plain, small = (
        plan_jobs(tables, tmp_path, [0], Launch(overlay='miniature.py', accumulate=n))[0].wanted for n in (1, 2)
    )
    assert small.train_cfg == plain.train_cfg and small.param_scheduler[1] == plain.param_scheduler[1]
    assert (plain.train_dataloader.batch_size, small.train_dataloader.batch_size) == (2, 1)
    assert small.param_scheduler[0].end == 2 * plain.param_scheduler[0].end


def test_a_batch_that_cannot_be_shared(tmp_path):
    with pytest.raises(UsageError, match='16 images cannot be shared by 1 GPUs with 3 micro-batches each'):
        plan_jobs(select_tables(load_tables(), ['t4.k3']), tmp_path, [0], Launch(accumulate=3))


def test_a_scheduler_that_counts_otherwise_is_an_error():
    cfg = small_recipe()
    cfg.param_scheduler[1] = dict(type='ExponentialLR', by_epoch=False, gamma=0.9)
    with pytest.raises(UsageError, match='does not know what ExponentialLR counts'):
        accumulate(cfg, 2)


def test_tables_declare_the_normalisers_and_nothing_else(tmp_path):
    tables = select_tables(load_tables(), ['t4.k3'])
    (job,) = plan_jobs(tables, tmp_path, [0], Launch(accumulate=8))
    assert differences(job.wanted, load_config('table4/k3.py')) == ['normalisers (of each of 8 micro-batches)']
    # a step too many is another schedule
    job.wanted.train_cfg.max_iters += 8
    assert 'schedule' in differences(job.wanted, load_config('table4/k3.py'))


def test_status_of_an_accumulated_run(tmp_path):
    tables = select_tables(load_tables(), ['t4.k3'])
    (job,) = plan_jobs(tables, tmp_path, [0], Launch(accumulate=8))
    changes = json.loads(json.dumps(job.wanted._cfg_dict.to_dict()))
    folder = fake_run(job.work_dir, 'table4/k3.py', iteration=720_000, changes=changes, gpus=1)
    assert folder.is_dir()
    (line,) = build_report(tables, tmp_path).to_dict('records')
    assert line['status'] == 'trained with changes'
    assert line['changes'] == ['normalisers (of each of 8 micro-batches)']
