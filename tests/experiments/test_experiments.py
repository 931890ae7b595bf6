"""The paper's tables as data, what a work directory says, and what is planned and run."""

import json
import os
import time
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config

from atss_plugin.experiments import (
    build_report,
    config_root,
    differences,
    load_config,
    load_tables,
    plan_jobs,
    read_run,
    select_tables,
)
from atss_plugin.experiments.job import Launch
from atss_plugin.experiments.report import report_json, to_markdown

METRICS = dict(mAP=0.391, mAP_50=0.571, mAP_75=0.424, mAP_s=0.23, mAP_m=0.43, mAP_l=0.51)


def fake_run(work_dir: Path, row_config: str, iteration=90000, changes=(), metrics=METRICS, gpus=8, age=10_000):
    """A work directory as mmengine leaves it after ``iteration`` iterations."""
    cfg = load_config(row_config, {'randomness': dict(seed=3), 'work_dir': str(work_dir), **dict(changes)})
    log = work_dir / '20300101_000000' / '20300101_000000.log'
    (log.parent / 'vis_data').mkdir(parents=True)
    cfg.dump(work_dir / Path(row_config).name)
    log.write_text(f'System environment:\n    seed: 3\n    GPU number: {gpus}\n')
    os.utime(log, (time.time() - age,) * 2)
    lines = [dict(loss=1.0, iter=iteration - 1, step=iteration - 1)]
    if metrics:
        lines.append({**{f'coco/bbox_{key}': value for key, value in metrics.items()}, 'step': iteration})
    # the last line is cut off, as by a kill
    text = '\n'.join(json.dumps(line) for line in lines) + '\n{"loss": 1.2, "it'
    (log.parent / 'vis_data' / 'scalars.json').write_text(text)
    if iteration >= 5000:
        write_checkpoint(work_dir / f'iter_{iteration // 5000 * 5000}.pth')
    return work_dir


def write_checkpoint(path: Path):
    """A complete file, and mmengine's note that it is the last."""
    torch.save(dict(meta=dict()), path)
    (path.parent / 'last_checkpoint').write_text(str(path))


def row(row_id):
    return next(row for table in load_tables() for row in table.rows if row.id == row_id)


def test_every_row_has_a_config_and_rows_of_one_experiment_share_it():
    rows = {row.id: row for table in load_tables() for row in table.rows}
    assert len(rows) == 49
    for entry in rows.values():
        assert (config_root() / entry.config).is_file()
        assert rows[entry.experiment].config == entry.config
        assert rows[entry.experiment].paper['AP'] == entry.paper['AP']
    assert len({entry.experiment for entry in rows.values() if entry.table < 8}) == 33


@pytest.mark.parametrize(
    'wanted, expected',
    [
        pytest.param(['2'], ['t2.iou_box', 't2.iou_point', 't2.ssc_box', 't2.ssc_point'], id='table'),
        pytest.param(['t5.scale9', 't4.k3'], ['t4.k3', 't5.scale9'], id="rows in the paper's order"),
        pytest.param(
            ['2', 't2.iou_box', 't4.k3'],
            ['t2.iou_box', 't2.iou_point', 't2.ssc_box', 't2.ssc_point', 't4.k3'],
            id='a row twice is one row',
        ),
    ],
)
def test_selection(wanted, expected):
    assert [row.id for table in select_tables(load_tables(), wanted) for row in table.rows] == expected


def test_selection_names_what_is_unknown():
    with pytest.raises(ValueError, match='t4.k4, 9: no such table or row'):
        select_tables(load_tables(), ['t4.k4', '4', '9'])


def test_a_row_without_config_is_an_error(tmp_path):
    path = tmp_path / 'tables.yml'
    path.write_text(yaml.safe_dump({'tables': {1: {'title': 'x', 'rows': [{'id': 't1.x', 'AP': 1}]}}}))
    with pytest.raises(ValueError, match='row t1.x of the paper tables names no config'):
        load_tables(path)


@pytest.mark.parametrize(
    'kwargs, status',
    [
        pytest.param({}, 'trained', id='trained'),
        pytest.param(
            dict(
                changes={
                    'data_root': 'elsewhere',
                    'train_dataloader.dataset.data_root': 'elsewhere',
                    'val_evaluator.ann_file': 'elsewhere/annotations/instances_val2017.json',
                    'default_hooks.logger.interval': 10,
                }
            ),
            'trained',
            id='data in another place',
        ),
        pytest.param(
            dict(iteration=900, changes={'train_cfg.max_iters': 900}, gpus=8), 'smoke-trained', id='cut schedule'
        ),
        pytest.param(
            dict(changes={'train_dataloader.dataset.ann_file': 'mine.json'}), 'smoke-trained', id='other data'
        ),
        pytest.param(
            dict(changes={'val_dataloader.dataset.ann_file': 'mine.json'}), 'smoke-trained', id='other val data'
        ),
        pytest.param(dict(changes={'train_dataloader.dataset.indices': 100}), 'smoke-trained', id='part of the data'),
        pytest.param(dict(changes={'model.backbone.depth': 101}), 'smoke-trained', id='other model'),
        pytest.param(dict(changes={'model.train_cfg.assigner.topk': 11}), 'smoke-trained', id='other assigner'),
        pytest.param(dict(gpus=4), 'trained with changes', id='half the batch'),
        pytest.param(dict(gpus=4, changes={'train_dataloader.batch_size': 4}), 'trained', id='same batch on 4 GPUs'),
        pytest.param(dict(changes={'optim_wrapper.optimizer.lr': 0.02}), 'trained with changes', id='other rate'),
        pytest.param(
            dict(changes={'val_dataloader.dataset.pipeline.1.scale': (2000, 1200)}),
            'trained with changes',
            id='validated on larger images',
        ),
        pytest.param(
            dict(changes={'train_dataloader.batch_sampler': None}), 'trained with changes', id='other batches'
        ),
        pytest.param(dict(changes={'custom_hooks': [dict(type='EMAHook')]}), 'trained with changes', id='hooks'),
        pytest.param(dict(changes={'load_from': 'x.pth'}), 'trained with changes', id='other start'),
        pytest.param(dict(changes={'load_from': 'x.pth', 'resume': True}), 'trained', id='resumed by hand'),
        pytest.param(dict(iteration=45000), 'interrupted', id='interrupted'),
        pytest.param(dict(iteration=45000, age=5), 'running', id='log written 5 seconds ago'),
        pytest.param(dict(iteration=89999), 'interrupted', id='one iteration short'),
    ],
)
def test_status(tmp_path, kwargs, status):
    if kwargs.get('iteration') == 900:
        (tmp_path / 'w/t4.k3/a').mkdir(parents=True)
        (tmp_path / 'w/t4.k3/a/last_checkpoint').write_text('iter_900.pth')
    fake_run(tmp_path / 'w/t4.k3/a', 'table4/k3.py', **kwargs)
    report = build_report(select_tables(load_tables(), ['t4.k3']), tmp_path / 'w')
    assert report['status'].tolist() == [status]
    # only what was trained as the paper says is compared with it
    assert report['difference'].notna().tolist() == [status == 'trained']


def test_run_record(tmp_path):
    run = read_run(fake_run(tmp_path / 'a', 'table4/k3.py', iteration=52345))
    assert (run.progress, run.length, run.unit, run.seed, run.processes) == (52344, 90000, 'iter', 3, 8)
    assert run.measured_at == 52345
    assert run.metrics == pytest.approx(dict(AP=39.1, AP50=57.1, AP75=42.4, APs=23, APm=43, APl=51))
    (tmp_path / 'empty').mkdir()
    assert read_run(tmp_path / 'empty') is None


def test_sizes_without_ground_truth_have_no_metric(tmp_path):
    run = read_run(fake_run(tmp_path / 'a', 'table4/k3.py', metrics={**METRICS, 'mAP_s': -1.0}))
    assert 'APs' not in run.metrics and run.metrics['AP'] == pytest.approx(39.1)


def test_differences_name_their_terms():
    paper = load_config('table4/k3.py')
    other = load_config(
        'table4/k3.py',
        {'train_cfg.max_iters': 10, 'model.backbone.depth': 18, 'train_dataloader.dataset.data_root': 'x'},
    )
    assert differences(paper, paper, 8) == []
    assert differences(other, paper, 8) == ['schedule', 'model']
    assert differences(paper, paper, 1) == ['batch size 2']


def test_a_run_counts_for_every_row_of_its_experiment(tmp_path):
    fake_run(tmp_path / 't3.retinanet_atss/seed3', 'atss_r50_fpn_1x.py')
    report = build_report(load_tables(), tmp_path)
    trained = report[report['status'] == 'trained']
    assert trained['row'].tolist() == [
        't3.retinanet_atss',
        't4.k9',
        't5.scale8',
        't6.ratio_1_1',
        't7.imprs_atss_sc1_ar1',
    ]
    assert (report['status'] == 'not run').sum() == 49 - 5
    assert trained['difference'].tolist() == pytest.approx([-0.2] * 5)


def test_markdown_of_several_seeds(tmp_path):
    for seed, ap in (('seed1', 0.38), ('seed2', 0.384)):
        fake_run(tmp_path / 't4.k3' / seed, 'table4/k3.py', metrics={**METRICS, 'mAP': ap})
    fake_run(tmp_path / 't4.k5/seed0', 'table4/k5.py', iteration=10000)
    tables = select_tables(load_tables(), ['t4.k3', 't4.k5', 't4.k7'])
    text = to_markdown(tables[0], build_report(tables, tmp_path))
    cells = [
        [cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line.startswith('| ')
    ]
    assert [line[:7] for line in cells] == [
        ['row', 'k', 'config', 'status', 'seed', 'AP', 'Δ AP'],
        ['t4.k3', '3', 'table4/k3.py', 'trained (90000 iters)', '3', '38.0 / 38.0', '+0.0'],
        ['t4.k3', '3', 'table4/k3.py', 'trained (90000 iters)', '3', '38.4 / 38.0', '+0.4'],
        ['t4.k3', '', '', 'mean of 2 seeds', '', '38.2 ± 0.3 / 38.0', '+0.2'],
        ['t4.k5', '5', 'table4/k5.py', 'interrupted (10000 of 90000 iters)', '3', '39.1 / 38.8', ''],
        ['t4.k7', '7', 'table4/k7.py', 'not run', '', '– / 39.1', ''],
    ]


def test_json_of_a_report(tmp_path):
    fake_run(tmp_path / 't4.k3/a', 'table4/k3.py')
    lines = json.loads(report_json(build_report(select_tables(load_tables(), ['t4.k3', 't4.k5']), tmp_path)))
    assert [line['status'] for line in lines] == ['trained', 'not run']
    assert lines[0]['difference'] == pytest.approx(1.1) and lines[0]['seed'] == 3
    assert lines[1]['AP'] is None and lines[1]['seed'] is None and lines[1]['paper AP'] == 38.8


def plan(tmp_path, words, seeds=(0,), **launch):
    return plan_jobs(select_tables(load_tables(), words), tmp_path, seeds, Launch(**launch))


def test_an_experiment_is_planned_once_however_many_tables_show_it(tmp_path):
    assert len(plan(tmp_path, ['1', '2', '3', '4', '5', '6', '7'])) == 33
    assert [job.name for job in plan(tmp_path, ['2'], seeds=(0, 1))] == [
        f'{name} seed {seed}'
        for name in ('t1.retinanet_scalar', 't2.iou_point', 't2.ssc_box', 't1.fcos')
        for seed in (0, 1)
    ]


def test_rows_that_only_test_differently_are_trained_once(tmp_path):
    jobs = {job.row.id: job for job in plan(tmp_path, ['8'])}
    assert [name for name, job in jobs.items() if job.action == 'skip'] == [
        't8.x101_32x8d_dcn_ms',
        't8.x101_64x4d_dcn_ms',
    ]
    assert 't8.x101_64x4d_dcn' in jobs['t8.x101_64x4d_dcn_ms'].reason


@pytest.mark.parametrize('gpus, batch', [(1, 16), (2, 8), (8, 2)])
def test_the_global_batch_stays_the_recipes(tmp_path, gpus, batch):
    (job,) = plan(tmp_path, ['t4.k3'], gpus=gpus, launcher='pytorch')
    assert f'train_dataloader.batch_size={batch}' in job.command
    assert job.wanted.train_dataloader.batch_size == batch


def test_gpus_share_the_batch_of_an_overlay_or_the_recipes_where_it_has_none(tmp_path):
    (tmp_path / 'shorter.py').write_text('train_cfg = dict(max_iters=10, val_interval=10)')
    for overlay, total in ((str(tmp_path / 'shorter.py'), 16), ('miniature.py', 2)):
        for gpus in (1, 2):
            (job,) = plan(tmp_path, ['t4.k3'], gpus=gpus, launcher='pytorch', overlay=overlay)
            assert job.wanted.train_dataloader.batch_size * gpus == total


def test_mixed_precision_is_resumed_and_is_another_configuration(tmp_path):
    options = {'train_dataloader.batch_size': 16, 'randomness': dict(seed=0)}
    options.update({'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.loss_scale': 'dynamic'})
    fake_run(tmp_path / 't4.k3/seed0', 'table4/k3.py', iteration=52345, changes=options)
    (job,) = plan(tmp_path, ['t4.k3'], amp=True)
    assert job.action == 'resume' and job.wanted.optim_wrapper.type == 'AmpOptimWrapper'
    assert 'optim_wrapper.type=AmpOptimWrapper' in job.words()
    with pytest.raises(ValueError, match='holds a run of another configuration'):
        plan(tmp_path, ['t4.k3'])


def test_a_seed_twice_is_one_run(tmp_path):
    assert [job.seed for job in plan(tmp_path, ['t4.k3'], seeds=(1, 0, 1))] == [1, 0]


def test_a_batch_that_cannot_be_shared_is_an_error(tmp_path):
    with pytest.raises(ValueError, match='a batch of 16 images cannot be shared by 3 GPUs'):
        plan(tmp_path, ['t4.k3'], gpus=3, launcher='pytorch')
    (job,) = plan(tmp_path, ['t4.k3'], gpus=3, launcher='pytorch', cfg_options=['train_dataloader.batch_size=5'])
    assert job.wanted.train_dataloader.batch_size == 5


def test_finished_runs_are_skipped_and_interrupted_ones_resumed(tmp_path):
    options = {'train_dataloader.batch_size': 16, 'randomness': dict(seed=0)}
    fake_run(tmp_path / 't4.k3/seed0', 'table4/k3.py', changes=options)
    fake_run(tmp_path / 't4.k5/seed0', 'table4/k5.py', iteration=52345, changes=options)
    fake_run(tmp_path / 't4.k7/seed0', 'table4/k7.py', iteration=300, changes=options)
    jobs = plan(tmp_path, ['t4.k3', 't4.k5', 't4.k7', 't4.k11'])
    assert [job.action for job in jobs] == ['skip', 'resume', 'train', 'train']
    assert [('--resume' in job.words()) for job in jobs] == [False, True, False, False]


def test_another_configuration_in_the_folder_is_an_error(tmp_path):
    fake_run(
        tmp_path / 't4.k3/seed0',
        'table4/k3.py',
        changes={'train_dataloader.batch_size': 16, 'randomness': dict(seed=0)},
    )
    with pytest.raises(ValueError, match='holds a run of another configuration'):
        plan(tmp_path, ['t4.k3'], cfg_options=['train_cfg.max_iters=100'])


def test_an_overlay_is_merged_over_the_row_and_cfg_options_over_both(tmp_path):
    (job,) = plan(tmp_path, ['t4.k3'], overlay='miniature.py', cfg_options=['train_cfg.max_epochs=1'])
    overlay = Config.fromfile(config_root() / 'miniature.py')
    assert job.work_dir == tmp_path / 't4.k3/miniature-seed0'
    assert job.wanted.train_dataloader.dataset.type == overlay.train_dataloader.dataset.type
    assert job.wanted.train_dataloader.batch_size == overlay.train_dataloader.batch_size
    assert job.wanted.model.train_cfg.assigner == load_config('table4/k3.py').model.train_cfg.assigner
    assert job.wanted.train_cfg == dict(
        type='EpochBasedTrainLoop', max_epochs=1, val_interval=overlay.train_cfg.val_interval
    )
    assert job.merged.train_cfg.max_epochs == overlay.train_cfg.max_epochs
    assert not job.work_dir.exists()  # planning writes nothing


def test_metafile_holds_the_paper_apart_from_results():
    root = config_root()
    content = yaml.safe_load((root / 'metafile.yml').read_text())
    models = {model['Name']: model for model in content['Models']}
    rows = {row.id: row for table in load_tables() for row in table.rows if not row.same_as}
    assert list(models) == list(rows)
    for name, model in models.items():
        assert model['Config'] == f'configs/{rows[name].config}'
        assert 'Results' not in model and 'Weights' not in model
        metrics = {key.replace('box ', ''): value for key, value in model['Paper Results'][0]['Metrics'].items()}
        assert metrics == rows[name].paper
        assert model['Metadata']['Iterations'] == load_config(rows[name].config).train_cfg.max_iters
    imports = yaml.safe_load((root.parent / 'model-index.yml').read_text())['Import']
    assert imports == ['configs/metafile.yml']
