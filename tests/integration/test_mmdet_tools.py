"""mmdet's own tools on our configs and the embedded data, as their users call them."""

import json
import pickle
import re
import runpy
from collections import Counter
from pathlib import Path

import cv2
import mmdet
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.structures import InstanceData
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from atss_plugin.analysis.complexity import complexity
from atss_plugin.datasets.shapes import ShapesBackend
from atss_plugin.experiments import load_config
from tests.conftest import MAIN_CONFIG, ROOT

pytestmark = pytest.mark.slow

CONFIG = str(ROOT / 'configs' / MAIN_CONFIG)
TOOLS = Path(mmdet.__file__).parent / '.mim' / 'tools'
NUM_IMAGES = 4


@pytest.fixture
def run_tool(monkeypatch):
    """Run ``python TOOL WORDS`` in this process, which has imported what a new one would, and return its names."""

    def run(tool, *words):
        monkeypatch.setattr('sys.argv', [tool, *map(str, words)])
        return runpy.run_path(str(TOOLS / tool), run_name='__main__')

    return run


@pytest.fixture(scope='module')
def checkpoint(tiny_training):
    return tiny_training / 'epoch_1.pth'


@pytest.fixture(scope='module')
def run_mim_test(checkpoint, run_python, mmdet_package):
    def run(folder, *words):
        return run_python(
            'mim',
            'test',
            mmdet_package,
            CONFIG,
            '--checkpoint',
            checkpoint,
            '--gpus',
            0,
            '--work-dir',
            folder / 'work',
            '--out',
            folder / 'detections.pkl',
            *words,
            '--cfg-options',
            f'test_dataloader.dataset.num_images={NUM_IMAGES}',
            f'test_evaluator.outfile_prefix={folder}/coco',
        ).stdout

    return run


@pytest.fixture(scope='module')
def tested(run_mim_test, tmp_path_factory):
    """A folder after ``mim test --out --show-dir``, and what was printed."""
    folder = tmp_path_factory.mktemp('tested')
    return folder, run_mim_test(folder, '--show-dir', 'shown')


@pytest.fixture(scope='module')
def dataset():
    return DATASETS.build({**load_config(MAIN_CONFIG).test_dataloader.dataset, 'num_images': NUM_IMAGES})


def printed_ap(text):
    return float(re.search(r'coco/bbox_mAP: ([\d.]+)', text).group(1))


def ap_of_files(folder):
    """COCO's AP of what CocoMetric wrote, by pycocotools alone."""
    truth = COCO(str(folder / 'coco.gt.json'))
    evaluation = COCOeval(truth, truth.loadRes(str(folder / 'coco.bbox.json')), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0]


def test_test_writes_detections_and_pictures(tested):
    folder, printed = tested
    assert len(pickle.loads((folder / 'detections.pkl').read_bytes())) == NUM_IMAGES
    assert len(list(folder.glob('work/*/shown/*.png'))) == NUM_IMAGES
    assert printed_ap(printed) == pytest.approx(ap_of_files(folder), abs=1e-3)


def test_test_time_augmentation(tested, run_mim_test, tmp_path):
    printed = run_mim_test(tmp_path, '--tta')
    assert printed_ap(printed) == pytest.approx(ap_of_files(tmp_path), abs=1e-3)
    plain, augmented = (pickle.loads((f / 'detections.pkl').read_bytes()) for f in (tested[0], tmp_path))
    # what the flipped view finds is added: no score is lower, rank by rank, where NMS drops nothing of the other view
    best = [[entry['pred_instances']['scores'].max() for entry in run] for run in (plain, augmented)]
    assert all(a >= p - 1e-6 for p, a in zip(*best)) and best[0] != best[1]


def test_inference_gives_what_mim_test_gives(tested, checkpoint, dataset, tmp_path):
    expected = pickle.loads((tested[0] / 'detections.pkl').read_bytes())[0]['pred_instances']
    path = dataset.get_data_info(0)['img_path']
    image = cv2.imdecode(np.frombuffer(ShapesBackend().get(path), np.uint8), cv2.IMREAD_COLOR)
    found = inference_detector(init_detector(CONFIG, str(checkpoint), device='cpu'), image).pred_instances
    torch.testing.assert_close(found.bboxes, expected['bboxes'], rtol=0, atol=1e-2)
    torch.testing.assert_close(found.scores, expected['scores'], rtol=0, atol=1e-4)
    assert found.labels.equal(expected['labels'])
    for model in (
        CONFIG,
        None,
    ):  # without a config it is read from the checkpoint; atss_plugin.registry is imported by now
        inferencer = DetInferencer(model=model, weights=str(checkpoint), device='cpu')
        result = inferencer(path, out_dir=str(tmp_path / str(model is None)), no_save_pred=False)['predictions'][0]
        np.testing.assert_allclose(result['scores'], expected['scores'], atol=1e-4)
        np.testing.assert_allclose(result['bboxes'], expected['bboxes'], atol=1e-2)
        assert {p.suffix for p in (tmp_path / str(model is None)).rglob('0*')} == {'.png', '.json'}


def test_browse_dataset(run_tool, tmp_path):
    options = f'train_dataloader.dataset.num_images={NUM_IMAGES}'
    run_tool(
        'analysis_tools/browse_dataset.py', CONFIG, '--not-show', '--output-dir', tmp_path, '--cfg-options', options
    )
    pictures = sorted(tmp_path.glob('*.png'))
    assert len(pictures) == NUM_IMAGES
    for index, picture in enumerate(pictures):
        raw = ShapesBackend().get(f'shapes://288x384/0/{index:06d}.png')
        raw = cv2.resize(cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR), (640, 480)).astype(int)
        change = [abs(cv2.imread(str(picture)).astype(int) - image) for image in (raw, raw[:, ::-1])]
        # one of the two, as it was flipped or not, with boxes and names drawn on it
        assert 0 < min((difference > 0).mean() for difference in change) < 0.9


def test_analyze_logs(run_tool, tiny_training, tmp_path, capsys):
    pytest.importorskip('seaborn')
    (log,) = tiny_training.glob('*/vis_data/scalars.json')
    times = [entry['time'] for entry in map(json.loads, log.read_text().splitlines()) if 'loss' in entry]
    run_tool('analysis_tools/analyze_logs.py', 'cal_train_time', log, '--include-outliers')
    assert f'average iter time: {np.mean(times):.4f} s/iter' in capsys.readouterr().out
    for key in ('loss_cls', 'bbox_mAP'):
        run_tool('analysis_tools/analyze_logs.py', 'plot_curve', log, '--keys', key, '--out', tmp_path / f'{key}.png')
        assert cv2.imread(str(tmp_path / f'{key}.png')).std() > 0


def test_confusion_matrix(run_tool, tested, dataset, tmp_path):
    words = ('--cfg-options', f'test_dataloader.dataset.num_images={NUM_IMAGES}')
    tool = run_tool('analysis_tools/confusion_matrix.py', CONFIG, tested[0] / 'detections.pkl', tmp_path, *words)
    assert (tmp_path / 'confusion_matrix.png').is_file()
    # whoever finds just the ground truth confuses nothing
    truths = [dataset.get_data_info(index)['instances'] for index in range(NUM_IMAGES)]
    perfect = [
        dict(
            pred_instances=InstanceData(
                bboxes=torch.tensor([t['bbox'] for t in truth]),
                labels=torch.tensor([t['bbox_label'] for t in truth]),
                scores=torch.ones(len(truth)),
            )
        )
        for truth in truths
    ]
    matrix = tool['calculate_confusion_matrix'](dataset, perfect, tp_iou_thr=0.99)
    count = Counter(t['bbox_label'] for truth in truths for t in truth)
    np.testing.assert_array_equal(matrix, np.diag([count[label] for label in range(4)] + [0]))


def test_get_flops(run_tool, capsys):
    run_tool('analysis_tools/get_flops.py', CONFIG, '--num-images', 1)
    printed = capsys.readouterr().out
    parameters, flops = complexity(load_config(MAIN_CONFIG), 480, 640)['model']
    assert f'Flops: {flops / 1e9:.3f}G' in printed
    assert f'Params: {parameters / 1e6:.3f}M' in printed


def test_print_config(run_tool, tmp_path, capsys):
    (tmp_path / 'full').mkdir()
    run_tool('misc/print_config.py', CONFIG, '--save-path', tmp_path / 'full' / 'config.py')
    assert Config.fromfile(tmp_path / 'full' / 'config.py')._cfg_dict == Config.fromfile(CONFIG)._cfg_dict
    assert "type='atss_plugin.ATSSAssigner'" in capsys.readouterr().out


def test_publish_model(checkpoint, run_python, tmp_path):
    """In a process of its own, where nothing was imported before."""
    run_python('tools.publish_model', checkpoint, tmp_path / 'published.pth')
    (path,) = tmp_path.iterdir()
    assert re.fullmatch(r'published-[0-9a-f]{8}\.pth', path.name)
    published, original = (torch.load(file, weights_only=False) for file in (path, checkpoint))
    assert set(published) == {'meta', 'state_dict'}
    torch.testing.assert_close(published['state_dict'], original['state_dict'], rtol=0, atol=0)


def test_coco_error_analysis(run_tool, tested, dataset, tmp_path):
    """With the field that docs/mmdet_tools.md tells to add."""
    truth = json.loads((tested[0] / 'coco.gt.json').read_text())
    for category in truth['categories']:
        category['supercategory'] = 'shape'
    (tmp_path / 'truth.json').write_text(json.dumps(truth))
    words = (tested[0] / 'coco.bbox.json', tmp_path / 'errors', '--ann', tmp_path / 'truth.json')
    run_tool('analysis_tools/coco_error_analysis.py', *words)
    names = {path.name for path in (tmp_path / 'errors' / 'bbox').iterdir()}
    assert names >= {f'bbox-{name}-allarea.png' for name in (*dataset.metainfo['classes'], 'allclass')}
