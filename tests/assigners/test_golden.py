"""The golden numbers: definitions, losses, gradients and boxes, computed independently of this project."""

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch.testing import assert_close

from atss_plugin.assigners import ATSSAssigner, IoUAssigner, SpatialScaleAssigner, TopKIoUAssigner
from tests.conftest import ROOT

DATA = ROOT / 'tests' / 'data' / 'golden'
NAMES = sorted(path.stem for path in DATA.glob('a*.npz'))
ASSIGNERS = {
    'ATSS': lambda topk: dict(type='atss_plugin.ATSSAssigner', topk=topk),
    'SSC': lambda topk: dict(type='atss_plugin.SpatialScaleAssigner'),
    'TOPK': lambda topk: dict(type='atss_plugin.TopKIoUAssigner', topk=topk),
    'IoU': lambda topk: dict(type='atss_plugin.IoUAssigner', in_gt_box=True),
}
CLASSES = dict(ATSS=ATSSAssigner, SSC=SpatialScaleAssigner, TOPK=TopKIoUAssigner, IoU=IoUAssigner)
HEADS = dict(BOX='atss_plugin.RetinaNetHead', POINT='atss_plugin.FCOSHead')


class Golden:
    """One file, as tensors."""

    def __init__(self, name: str) -> None:
        with np.load(DATA / f'{name}.npz') as file:
            self.arrays = dict(file)

    def __getitem__(self, key: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[key])

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def number(self, key: str) -> int:
        return int(self.arrays[key])

    @property
    def num_level_priors(self):
        return [int(h * w) * self.number('num_anchors') for h, w in self.arrays['featmap_sizes']]

    @property
    def images(self):
        return [
            InstanceData(bboxes=self[f'gt_bboxes_{i}'], labels=self[f'gt_labels_{i}'])
            for i in range(len(self.arrays['counts']))
        ]

    def outputs(self, start: str):
        """The network's outputs, as leaves that gather gradients: classification, regression, centerness."""
        return [
            [self[f'{kind}_{level}'].clone().requires_grad_() for level in range(5)]
            for kind in ('cls', f'reg_{start}', 'ctr')
        ]

    def head(self, start: str, definition: str):
        scale = float(self.arrays['base_scale'])
        coder = (
            dict(bbox_coder=dict(type='atss_plugin.AnchorPointCoder', anchor_scale=scale)) if start == 'POINT' else {}
        )
        generator = dict(
            type='AnchorGenerator',
            ratios=self.arrays['ratios'].tolist(),
            octave_base_scale=scale,
            scales_per_octave=self.number('scales_per_octave'),
            center_offset=0.5,
            strides=self.arrays['strides'].tolist(),
        )
        return MODELS.build(
            dict(
                type=HEADS[start],
                num_classes=self.number('num_classes'),
                in_channels=8,
                feat_channels=32,
                anchor_generator=generator,
                train_cfg=dict(assigner=ASSIGNERS[definition](self.number('topk'))),
                **coder,
            )
        )


def cases(prefix: str):
    """All entries, of all files, whose key begins with the prefix."""
    keys = [
        (name, key[len(prefix) :])
        for name in NAMES
        for key in sorted(np.load(DATA / f'{name}.npz').files)
        if key.startswith(prefix)
    ]
    return [pytest.param(name, case, id=f'{name}-{case}') for name, case in keys]


def test_all_files_are_there():
    assert NAMES == ['a1_crowd', 'a1_k3_ratio', 'a1_mixed', 'a1_scale5_k19', 'a3_ratios', 'a3_scales', 'a9_retinanet']


@pytest.mark.parametrize(
    'levels_given', [pytest.param(True, id='levels_given'), pytest.param(False, id='levels_inferred')]
)
@pytest.mark.parametrize('name, definition', cases('gt_inds_'))
def test_gt_inds(name, definition, levels_given):
    golden = Golden(name)
    arguments = {'topk': golden.number('topk')} if definition in ('ATSS', 'TOPK') else {}
    assigner = CLASSES[definition](in_gt_box=True) if definition == 'IoU' else CLASSES[definition](**arguments)
    levels = golden.num_level_priors if levels_given else None
    batch = assigner.assign_batch(golden['anchors'], levels, golden.images)
    assert_close(batch.gt_inds, golden[f'gt_inds_{definition}'].long(), rtol=0, atol=0)
    for i, image in enumerate(golden.images):
        result = assigner.assign(InstanceData(priors=golden['anchors']), image)
        assert_close(result.gt_inds, batch.gt_inds[i], rtol=0, atol=0)


@pytest.mark.parametrize('name, case', cases('loss_'))
def test_losses_and_gradients(name, case):
    check_losses_and_gradients(name, case, 'cpu', rtol=1e-5)


def check_losses_and_gradients(name: str, case: str, device: str, rtol: float) -> None:
    golden, (definition, start) = Golden(name), case.split('_')
    outputs = [[m.detach().to(device).requires_grad_() for m in maps] for maps in golden.outputs(start)]
    images = [image.to(device) for image in golden.images]
    losses = golden.head(start, definition).to(device).loss_by_feat(*outputs, images, [{}] * len(images))
    found = torch.stack([losses[key] for key in ('loss_cls', 'loss_bbox', 'loss_centerness')])
    assert_close(found.detach().cpu(), golden[f'loss_{case}'].float(), rtol=rtol, atol=0)
    found.sum().backward()
    for kind, maps in zip(('gcls', 'greg', 'gctr'), outputs):
        largest = max(float(golden[f'{kind}_{case}_{level}'].abs().max()) for level in range(5))
        for level, output in enumerate(maps):
            assert_close(output.grad.cpu(), golden[f'{kind}_{case}_{level}'], rtol=rtol, atol=rtol * largest)


@pytest.mark.parametrize('name', NAMES)
def test_anchors(name):
    golden = Golden(name)
    priors, num_level_priors = golden.head('BOX', 'ATSS').get_priors(golden.arrays['featmap_sizes'].tolist(), 'cpu')
    assert num_level_priors == golden.num_level_priors
    assert_close(priors, golden['anchors'], rtol=0, atol=2**-14)  # one rounding of float32 at 512 pixels


@pytest.mark.parametrize('name, start', cases('decoded_'))
def test_detections(name, start):
    """Without threshold and NMS the detections are all boxes and scores, level by level, best first."""
    golden, (height, width) = Golden(name), Golden(name).arrays['pad_shape'].tolist()
    outputs = [[m.detach() for m in maps] for maps in golden.outputs(start)]
    results = golden.head(start, 'ATSS').predict_by_feat(
        *outputs,
        batch_img_metas=[dict(img_shape=(height, width))] * len(golden.images),
        cfg=ConfigDict(score_thr=0, nms_pre=-1, min_bbox_size=-1),
        with_nms=False,
    )
    clipped = golden[f'decoded_{start}'].clone()
    clipped[..., 0::2].clamp_(0, width)
    clipped[..., 1::2].clamp_(0, height)
    for i, result in enumerate(results):
        first = 0
        for num in golden.num_level_priors:
            found = result[first * 4 : (first + num) * 4]  # 4 classes
            scores, order = golden['scores'][i, first : first + num].flatten().sort(descending=True, stable=True)
            assert_close(found.scores, scores, rtol=1e-5, atol=0)
            # where two scores are as good as equal, either may come first
            apart = -torch.diff(scores) > 1e-5 * scores[1:]
            sure = torch.cat([torch.tensor([True]), apart]) & torch.cat([apart, torch.tensor([True])])
            assert sure.float().mean() > 0.7
            assert_close(found.labels[sure], (order % 4)[sure], rtol=0, atol=0)
            assert_close(found.bboxes[sure], clipped[i, first : first + num][order // 4][sure], rtol=1e-5, atol=1e-3)
            first += num
