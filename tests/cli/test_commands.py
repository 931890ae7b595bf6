"""The commands as a user types them."""

import json

import pytest

from atss_plugin.cli import commands, main
from atss_plugin.experiments import config_root

SIZES = [(30, 40), (200, 150), (90, 300)]


@pytest.fixture
def annotations(tmp_path):
    """Three images of 480 x 640 with one box each; the second has a crowd region as well."""
    boxes = [(100, 100, *size) for size in SIZES]
    records = [dict(id=i, image_id=i, category_id=1, bbox=box, area=1, iscrowd=0) for i, box in enumerate(boxes)]
    records.append(dict(id=9, image_id=1, category_id=1, bbox=(0, 0, 50, 50), area=1, iscrowd=1))
    path = tmp_path / 'boxes.json'
    path.write_text(
        json.dumps(
            dict(
                images=[dict(id=i, file_name=f'{i}.jpg', height=480, width=640) for i in range(3)],
                annotations=records,
                categories=[dict(id=1, name='thing')],
            )
        )
    )
    return path


def test_every_command_has_help(capsys):
    assert {'assign', 'stats', 'tables', 'run', 'flops'} <= set(commands())
    for name in commands():
        with pytest.raises(SystemExit) as exit_info:
            main([name, '--help'])
        assert exit_info.value.code == 0 and 'usage: atss-plugin' in capsys.readouterr().out


def test_stats(annotations, tmp_path, capsys):
    words = [
        'stats',
        'atss_r50_fpn_1x.py',
        '--ann',
        str(annotations),
        '--assigner',
        'config',
        'SSC',
        '--out',
        str(tmp_path / 'out'),
    ]
    assert main([*words, '--json']) == 0
    content = json.loads(capsys.readouterr().out)
    assert content['data'] == 'boxes.json: 3 images, 3 ground truths'
    assert [entry['assigner'] for entry in content['assigners']] == ['ATSS', 'SSC']
    atss = content['assigners'][0]
    # 480 x 640 becomes 800 x 1067, so sides grow by 5 / 3: √area 57.7, 288.7, 273.9
    assert [line['ground truths'] for line in atss['size']] == [0, 1, 0, 0, 2, 0]
    assert atss['overall']['ground truths'] == 3 and 0 < atss['overall']['threshold median'] < 1
    assert json.loads((tmp_path / 'out/stats.json').read_text()) == content
    assert main(words) == 0
    output = capsys.readouterr().out
    assert 'boxes.json: 3 images, 3 ground truths' in output and 'SSC' in output
    assert '|' in (tmp_path / 'out/stats.md').read_text()
    assert (tmp_path / 'out/stats.png').read_bytes().startswith(b'\x89PNG')


def test_assign(annotations, tmp_path, capsys):
    words = [
        'assign',
        'mmdet::atss/atss_r50_fpn_1x_coco.py',
        '--ann',
        str(annotations),
        '--index',
        '1',
        '--out',
        str(tmp_path),
        '--assigner',
        'config',
        'IoU',
        '--json',
    ]
    assert main(words) == 0
    content = json.loads(capsys.readouterr().out)
    assert content['image'] == '1.jpg'
    for entry in content['assigners']:
        (truth,) = entry['ground_truths']
        assert sum(truth['levels'].values()) == truth['positives'] > 0
    assert {path.name for path in tmp_path.glob('1_*.png')} == {
        '1_positives.png',
        '1_thresholds.png',
        '1_difference.png',
    }


def test_configs_of_one_name_are_told_apart(annotations, tmp_path, capsys):
    files = [tmp_path / folder / 'mine.py' for folder in 'ab']
    for file in files:
        file.parent.mkdir()
        file.write_text(f"_base_ = '{config_root()}/miniature.py'")
    assert main(['stats', 'miniature.py', '--ann', str(annotations), '--json', '--assigner', *map(str, files)]) == 0
    labels = [entry['assigner'] for entry in json.loads(capsys.readouterr().out)['assigners']]
    assert labels == [f'ATSS [{file}]' for file in files]


def test_definitions_that_differ_in_the_measure_are_told_apart(annotations, capsys):
    by_distance = "ATSS:iou_calculator={'type':'atss_plugin.GaussianWasserstein'}"
    words = ['stats', 'miniature.py', '--ann', str(annotations), '--json', '--assigner', 'ATSS', by_distance, 'config']
    assert main([*words, 'ATSS']) == 0  # what is named twice is one
    labels = [entry['assigner'] for entry in json.loads(capsys.readouterr().out)['assigners']]
    assert labels == ['ATSS [ATSS]', 'ATSS (iou_calculator=GaussianWasserstein)', 'ATSS [config]']


def test_a_comparison_leaves_json_alone(annotations, tmp_path, capsys):
    words = ['stats', 'miniature.py', '--ann', str(annotations), '--json']
    assert main([*words, '--out', str(tmp_path)]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert main([*words, '--against', str(tmp_path / 'stats.json')]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out) == alone and 'positives per object' in output.err


def test_statistics_of_no_boxes_and_against_something_else(annotations, tmp_path, capsys):
    words = ['stats', 'miniature.py', '--ann', str(annotations), '--against', str(annotations)]
    assert main(words) == 2 and 'not what atss-plugin stats --json gave' in capsys.readouterr().err
    (tmp_path / 'text.json').write_text('text')
    assert main([*words[:-1], str(tmp_path / 'text.json')]) == 2 and 'not a JSON file' in capsys.readouterr().err
    assert main([*words[:4], '--ambiguity-images', '-1']) == 2 and 'cannot be negative' in capsys.readouterr().err
    annotations.write_text(json.dumps(dict(json.loads(annotations.read_text()), annotations=[])))
    assert main(words[:4]) == 2 and 'has no box that is not a crowd' in capsys.readouterr().err


def test_assign_on_the_embedded_data_set(tmp_path, capsys):
    assert main(['assign', 'miniature.py', '--index', '2', '--out', str(tmp_path)]) == 0
    assert len(list(tmp_path.glob('*_positives.png'))) == 1


def test_tables(tmp_path, capsys):
    words = ['tables', '4', '--work-dirs', str(tmp_path), '--figures', str(tmp_path / 'figures')]
    assert main(words) == 0
    output = capsys.readouterr().out
    assert 'Table 4. Hyperparameter k' in output and output.count('not run') == 9 and '– / 39.3' in output
    assert (tmp_path / 'figures/table4.png').is_file()
    assert main(['tables', 't4.k3', '--work-dirs', str(tmp_path), '--json']) == 0
    assert json.loads(capsys.readouterr().out)[0]['status'] == 'not run'


def test_flops(capsys):
    assert main(['flops', 'miniature.py', '--shape', '60', '64', '--json']) == 0
    content = json.loads(capsys.readouterr().out)
    # by hand, of the head: 2 towers of a conv 64 -> 64 with bias and GroupNorm, 3 predictors, 5 scales
    towers = 2 * (9 * 64 * 64 + 64 + 2 * 64)
    assert content['bbox_head']['parameters'] == towers + (9 * 64 + 1) * (4 + 4 + 1) + 5
    # FLOPs of the convs on 8 x 8, 4 x 4, 2 x 2, 1 and 1 locations, of an input padded to 64 x 64
    convs = (64 + 16 + 4 + 1 + 1) * 9 * 64 * (2 * 64 + 9)
    assert content['bbox_head']['flops'] == pytest.approx(convs, rel=0.03)
    assert content['model']['parameters'] == sum(
        content[part]['parameters'] for part in ('backbone', 'neck', 'bbox_head')
    )


@pytest.mark.parametrize(
    'words, message',
    [
        pytest.param(['stats', 'nowhere.py'], "config 'nowhere.py' is neither a file", id='config'),
        pytest.param(
            ['stats', 'atss_r50_fpn_1x.py', '--ann', 'no.json'], 'no annotation file no.json', id='annotations'
        ),
        pytest.param(['stats', 'atss_r50_fpn_1x.py', '--assigner', 'ATTS'], "no assigner 'ATTS'", id='assigner'),
        pytest.param(['tables', '9'], '9: no such table or row', id='table'),
        pytest.param(['run', '4', '--gpus', '2'], '--gpus 2 needs --launcher pytorch', id='launcher'),
        pytest.param(['run', '4', '--launcher', 'slurm'], 'needs --gpus-per-node and --partition', id='slurm'),
        pytest.param(['flops', 'atss_r50_fpn_1x.py', '--shape', '0', '5'], 'must be positive', id='shape'),
        pytest.param(['run', '4', '--dry-run', '--cfg-options', 'a.b'], 'a.b: write KEY=VALUE', id='option'),
    ],
)
def test_errors_say_what_to_do(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_assign_names_what_is_missing(annotations, tmp_path, capsys):
    words = ['assign', 'atss_r50_fpn_1x.py', '--ann', str(annotations), '--out', str(tmp_path / 'out')]
    assert main([*words, '--index', '3']) == 2
    assert 'the data set has the images 0 to 2' in capsys.readouterr().err
    assert main([*words, '--image', str(tmp_path / 'x.jpg')]) == 2
    assert 'no image' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_a_row_smoke_trains_and_is_shown_as_that(tmp_path, capfd):
    overlay = tmp_path / 'tiny.py'
    overlay.write_text(
        '_base_ = {!r}\n'
        'train_dataloader = dict(dataset=dict(num_images=4))\n'
        'val_dataloader = dict(dataset=dict(num_images=2))\n'
        'train_cfg = dict(max_epochs=1, val_interval=1)\n'
        'default_hooks = dict(logger=dict(interval=1))\n'
        "custom_hooks = [dict(type='atss_plugin.AssignmentStatsHook', interval=1)]\n".format(
            str(config_root() / 'miniature.py')
        )
    )
    words = ['run', 't2.iou_point', '--overlay', str(overlay), '--work-dirs', str(tmp_path / 'w')]
    assert main(words) == 0 and 'finished' in capfd.readouterr().out
    scalars = next((tmp_path / 'w').rglob('scalars.json')).read_text().splitlines()
    assert json.loads(scalars[0])['assignment/positives_per_gt'] > 0
    assert main([*words, '--dry-run']) == 0
    assert 'skip t2.iou_point seed 0 (finished)' in capfd.readouterr().out
    assert main(['tables', '2', '--work-dirs', str(tmp_path / 'w'), '--markdown']) == 0
    table = capfd.readouterr().out
    (line,) = (line for line in table.splitlines() if line.startswith('| t2.iou_point'))
    assert 'smoke-trained (1 epochs; other data set, schedule, model)' in line
    assert table.count('not run') == 3
