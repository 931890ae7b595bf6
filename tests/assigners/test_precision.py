"""Precision and devices: half precision in, at least float32 inside; compiled; no accelerator has to wait.

No accelerator is needed: what runs there instead of on the CPU is run here too, once with values and once on
the meta device, where nothing has a value to wait for.

Legend: N priors, G ground truths.
"""

from functools import partial

import pytest
import torch
from mmdet.models.task_modules import AnchorGenerator
from mmengine.config import ConfigDict
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from atss_plugin import (
    ATSSAssigner,
    CenterSamplingAssigner,
    DDODAssigner,
    IoUAssigner,
    SpatialScaleAssigner,
    TopKIoUAssigner,
)
from atss_plugin.heads import one_stage
from atss_plugin.matching import PyramidCache, pyramid_cache
from tests.assigners.test_accelerator import everything
from tests.heads.helpers import (
    HEADS,
    IMAGE,
    SMALL,
    STRIDES,
    OneConv,
    Trained,
    batch,
    dataset,
    one_thread,  # noqa: F401
    train_step,
)

pytestmark = pytest.mark.usefixtures('one_thread')

RANGES = ((-1, 32), (32, 128))
ASSIGNERS = {
    'atss': ATSSAssigner(),
    'atss-min_positives': ATSSAssigner(min_positives=3),
    'center_sampling': CenterSamplingAssigner(scale_ranges=RANGES),
    'center_sampling-radius': CenterSamplingAssigner(radius=1.5, scale_ranges=RANGES, strides=STRIDES),
    'spatial_scale': SpatialScaleAssigner(scale_ranges=RANGES),
    'iou': IoUAssigner(in_gt_box=True),
    'topk_iou': TopKIoUAssigner(),
}
OURS = [pytest.param(a, id=name) for name, a in ASSIGNERS.items()]
HALVES = [pytest.param(torch.float16, id='fp16'), pytest.param(torch.bfloat16, id='bf16')]
OUR_HEADS = [name for name in HEADS if 'mmdet' not in name]
IMAGES = [[[4.3, 6.1, 50.2, 58.7], [35.2, 10.4, 46.7, 21.3]], [], [[20.4, 30.3, 63.1, 49.6]]]


def pyramid_of(size: int, **anchors) -> tuple:
    """Priors (N, 4) of a square image and how many each level has."""
    generator = AnchorGenerator(strides=STRIDES, center_offset=0.5, **anchors)
    levels = generator.grid_priors([(size // s, size // s) for s in STRIDES], device='cpu')
    return torch.cat(levels), [len(level) for level in levels]


def random_boxes(num: int, size: int, seed: int) -> torch.Tensor:
    """(G, 4) boxes from 4 pixels to the whole image."""
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(num, 2, generator=generator) * size
    half = torch.exp(torch.rand(num, 2, generator=generator) * torch.log(torch.tensor(size / 4.0))) * 2
    return torch.cat([center - half, center + half], 1)


def assign(assigner, priors, levels, boxes):
    gts = InstanceData(bboxes=boxes, labels=torch.arange(len(boxes)))
    return assigner.assign(InstanceData(priors=priors), levels, gts)


def assert_same(found, expected):
    assert (expected.gt_inds > 0).any()
    for name in ('gt_inds', 'labels', 'max_overlaps'):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)


# ---- half precision in


@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('assigner', OURS)
def test_half_precision_priors_and_boxes_are_assigned_in_float32(assigner, dtype):
    """Half precision rounds this pyramid, which loses its lattice; nothing is rounded any further."""
    priors, levels = pyramid_of(320, ratios=[1.0], octave_base_scale=4, scales_per_octave=3)
    priors, boxes = priors.to(dtype), random_boxes(20, 320, 0).to(dtype)
    found = assign(assigner, priors, levels, boxes)
    assert found.max_overlaps.dtype == torch.float32
    assert_same(found, assign(assigner, priors.float(), levels, boxes.float()))


@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('assigner', OURS)
def test_a_pyramid_that_half_precision_holds_exactly_is_assigned_as_in_float32(assigner, dtype):
    priors, levels = pyramid_of(128, ratios=[1.0], octave_base_scale=4, scales_per_octave=1)
    torch.testing.assert_close(priors.to(dtype).float(), priors, rtol=0, atol=0)
    boxes = random_boxes(12, 128, 1)
    assert_same(assign(assigner, priors.to(dtype), levels, boxes), assign(assigner, priors, levels, boxes))


@pytest.mark.parametrize('dtype', HALVES)
def test_half_precision_predictions_take_part_in_ddods_cost(dtype):
    """DDOD's cost from predictions in half precision is computed in float32."""
    priors, levels = pyramid_of(128, ratios=[1.0], octave_base_scale=4, scales_per_octave=1)
    gts = InstanceData(bboxes=random_boxes(12, 128, 1), labels=torch.arange(12) % 3)
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(len(priors), 3, generator=generator).to(dtype)
    boxes = (priors + torch.randn(priors.shape, generator=generator)).to(dtype)
    assigner = DDODAssigner(alpha=0.8)
    found, expected = (
        assigner.assign(InstanceData(priors=priors, scores=s, bboxes=b), levels, gts)
        for s, b in ((scores, boxes), (scores.float(), boxes.float()))
    )
    assert_same(found, expected)


@pytest.mark.parametrize('assigner', OURS)
def test_autocast_leaves_the_assignment_alone(assigner):
    priors, levels = pyramid_of(320, ratios=[1.0], octave_base_scale=4, scales_per_octave=3)
    boxes = random_boxes(20, 320, 0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = assign(assigner, priors, levels, boxes)
    assert_same(found, assign(assigner, priors, levels, boxes))


EXACT = [
    pytest.param(a, anchors, id=f'{name}-{count}')
    for name, a in ASSIGNERS.items()
    for count, anchors in (
        ('A1', dict(ratios=[1.0], octave_base_scale=8, scales_per_octave=1)),
        ('A6', dict(ratios=[0.25, 1.0, 4.0], scales=[4, 8])),
    )
]
# Table 7's anchors have corners that float32 rounds; float64 sees that, and breaks ties between equal IoUs.
A9 = dict(ratios=[0.5, 1.0, 2.0], octave_base_scale=4, scales_per_octave=3)
ROUNDED = [
    pytest.param(ASSIGNERS[name], A9, id=f'{name}-A9')
    for name in ('atss', 'center_sampling', 'center_sampling-radius', 'spatial_scale')
]


@pytest.mark.parametrize('assigner, anchors', EXACT + ROUNDED)
def test_float32_and_float64_agree(assigner, anchors):
    priors, levels = pyramid_of(320, **anchors)
    for seed in range(10):
        boxes = random_boxes(20, 320, seed)
        single = assign(assigner, priors, levels, boxes)
        double = assign(assigner, priors.double(), levels, boxes.double())
        assert (single.gt_inds > 0).any() and double.max_overlaps.dtype == torch.float64
        torch.testing.assert_close(double.gt_inds, single.gt_inds, rtol=0, atol=0)
        torch.testing.assert_close(double.max_overlaps.float(), single.max_overlaps, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('name', OUR_HEADS)
def test_half_precision_outputs_are_trained_on_and_decoded_in_float32(name, dtype):
    head = Trained(HEADS[name]).head
    feats, samples = batch(IMAGES, 0)
    with torch.no_grad():
        outputs = [[level.to(dtype) for level in maps] for maps in head(feats)]
    upcast = [[level.float() for level in maps] for maps in outputs]
    gts, metas = [s.gt_instances for s in samples], [s.metainfo for s in samples]
    for found, expected in zip(*(head.loss_by_feat(*o, gts, metas).values() for o in (outputs, upcast))):
        assert found > 0
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    cfg = ConfigDict(
        nms_pre=100, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.6), max_per_img=20
    )
    for found, expected in zip(*(head.predict_by_feat(*o, metas, cfg) for o in (outputs, upcast))):
        assert len(found) == 20
        for key in ('bboxes', 'scores', 'labels'):
            torch.testing.assert_close(found[key], expected[key], rtol=0, atol=0)


# ---- mixed precision and compiled training


def losses_of_training(wrapper, steps: int = 8) -> torch.Tensor:
    """(steps,) total losses on the same four images, and the dtype of the head's classification."""
    model, dtypes = OneConv(), set()
    model.trained.head.atss_cls.register_forward_hook(lambda module, args, out: dtypes.add(out.dtype))
    wrapper = wrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    data = dict(inputs=[d['inputs'] for d in dataset()], data_samples=[d['data_samples'] for d in dataset()])
    losses = torch.stack([model.train_step(data, wrapper)['loss'].detach() for _ in range(steps)])
    return losses, dtypes


@pytest.mark.skipif(not hasattr(torch, 'compile'), reason='GroupNorm of torch 1 takes no bfloat16 on a CPU')
@pytest.mark.filterwarnings('ignore:.*GradScaler')
def test_amp_trains_in_bfloat16(monkeypatch):
    """mmengine's AmpOptimWrapper, which has to be told that it may run on a CPU; its loss scaler is off there."""
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    full, dtypes = losses_of_training(OptimWrapper)
    assert dtypes == {torch.float32}
    mixed, dtypes = losses_of_training(partial(AmpOptimWrapper, dtype='bfloat16'))
    assert dtypes == {torch.bfloat16} and mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, full, rtol=0.02, atol=0)  # bfloat16 has 8 bits: 0.4 % in each operation
    assert full[-1] < 0.8 * full[0]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch, 'compile'), reason='torch.compile came with torch 2')
@pytest.mark.filterwarnings('ignore')
def test_mmengine_compiles_the_training(tmp_path):
    """``compile=...`` in mmengine's config: the same weights. Without inductor, which takes minutes."""
    weights = []
    for name, config in (('plain', dict()), ('compiled', dict(compile=dict(backend='eager')))):
        loader = dict(
            dataset=dataset(),
            batch_size=2,
            num_workers=0,
            collate_fn=dict(type='pseudo_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
        torch.manual_seed(0)
        runner = Runner(
            model=OneConv(),
            work_dir=str(tmp_path),
            train_dataloader=loader,
            default_scope='mmdet',
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(checkpoint=None),
            log_level='WARNING',
            experiment_name=name,
            cfg=config,
        )
        runner.train()
        weights.append(runner.model.state_dict())
    assert 'train_step' in vars(runner.model)  # the compiled one
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


# ---- what runs on an accelerator


class Elsewhere(torch.Tensor):
    """A tensor on the CPU that claims not to be; what is computed from it is an ordinary tensor again."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def device(self):
        return torch.device('cuda')


@pytest.fixture
def elsewhere(monkeypatch):
    """Report another device where the code asks for that of a tensor to save work on the CPU."""
    monkeypatch.setattr(
        one_stage,
        'box_loss_rows',
        lambda positive, rows=one_stage.box_loss_rows: rows(positive.as_subclass(Elsewhere)),
    )
    for assigner in ASSIGNERS.values():
        monkeypatch.setattr(assigner, 'pyramids', PyramidCache())
    with everything(on_host=False):
        yield


@pytest.mark.parametrize('assigner', OURS)
def test_an_accelerator_assigns_the_same(assigner, request):
    priors, levels = pyramid_of(320, ratios=[0.5, 1.0], octave_base_scale=4, scales_per_octave=1)
    boxes = random_boxes(20, 320, 0)
    expected = assign(assigner, priors, levels, boxes)
    request.getfixturevalue('elsewhere')
    assert_same(assign(assigner, priors, levels, boxes), expected)


@pytest.mark.parametrize('name', OUR_HEADS)
def test_an_accelerator_has_the_same_losses_and_gradients(name, request):
    expected = train_step(Trained(HEADS[name]), *batch(IMAGES, 0))
    request.getfixturevalue('elsewhere')
    found = train_step(Trained(HEADS[name]), *batch(IMAGES, 0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


class Waits(TorchDispatchMode):
    """Note what makes the host wait for the device: reading values or sizes, blocking copies.

    Tensors made of Python numbers (``new_tensor``) are not seen; mmdet's DeltaXYWHBBoxCoder makes two per call.
    """

    READING = {
        'aten::' + name
        for name in (
            '_local_scalar_dense',
            'is_nonzero',
            'equal',
            'nonzero',
            'masked_select',
            '_unique2',
            'unique_dim',
            'unique_consecutive',
        )
    }

    def __init__(self) -> None:
        super().__init__()
        self.noted = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = function._schema.name, kwargs or {}
        source = next((a for a in args[::-1] if isinstance(a, torch.Tensor)), None)
        if name in self.READING and source.device.type == 'meta':
            self.noted.append(name)
        out = function(*args, **kwargs)
        if name in ('aten::_to_copy', 'aten::copy_') and out.device != source.device:
            if not (kwargs.get('non_blocking') or name == 'aten::copy_' and args[2:] == (True,)):
                self.noted.append(f'{name} from {source.device} to {out.device}')
        return out


def on_meta(thing):
    """Move the tensors in an object of the assigners to the meta device, in place unless it is a tuple."""
    if isinstance(thing, torch.Tensor):
        return thing.to('meta')
    if isinstance(thing, tuple) and hasattr(thing, '_fields'):
        return type(thing)(*(on_meta(item) for item in thing))
    if isinstance(thing, (list, tuple)):
        return type(thing)(on_meta(item) for item in thing)
    if type(thing).__module__.startswith('atss_plugin'):
        for name, value in vars(thing).items():
            setattr(thing, name, on_meta(value))
    return thing


@pytest.mark.parametrize(
    'wait',
    [
        pytest.param(lambda meta: torch.ones(2).to(meta.device), id='copy_to'),
        pytest.param(lambda meta: meta.copy_(torch.ones(2)), id='copy_into'),
        pytest.param(lambda meta: meta.sum().item(), id='item'),
        pytest.param(lambda meta: bool(meta.any()), id='bool'),
        pytest.param(lambda meta: meta[meta > 0], id='mask'),
    ],
)
def test_waiting_is_noted_or_refused(wait):
    with Waits() as waits:
        try:
            wait(torch.ones(2, device='meta'))
        except (RuntimeError, NotImplementedError):  # on the meta device there is no value to read
            return
    assert waits.noted


@pytest.mark.skipif(not hasattr(torch, 'compile'), reason='the meta device of torch 1 lacks operations')
@pytest.mark.parametrize('name', OUR_HEADS)
def test_nothing_in_a_training_step_waits_for_the_device(name, monkeypatch):
    """From the second step on: the first looks at the priors, which are the same tensor from then on."""
    head = Trained(HEADS[name]).head.to('meta')
    feats, samples = batch(IMAGES, 0)
    feats = [level.to('meta') for level in feats]
    gts, metas = [s.gt_instances.to('meta') for s in samples], [s.metainfo for s in samples]
    priors, _ = pyramid_of(
        IMAGE,
        **{
            k: v
            for k, v in SMALL['anchor_generator'].items()
            if k in ('ratios', 'octave_base_scale', 'scales_per_octave')
        },
    )
    find = pyramid_cache.find_pyramid

    def find_elsewhere(on_device, *args):
        found = on_meta(find(priors, *args))
        found.priors = on_device
        return found

    monkeypatch.setattr(pyramid_cache, 'find_pyramid', find_elsewhere)
    head.loss_by_feat(*head(feats), gts, metas)
    outputs = head(feats)
    with Waits() as waits:
        sum(head.loss_by_feat(*outputs, gts, metas).values()).backward()
    assert waits.noted == []
    assert all(p.grad is not None for p in head.parameters())


def test_a_calculator_that_computes_in_half_precision():
    """Its numbers take part in those of the boxes; torch does not scatter one dtype into another."""
    priors, levels = pyramid_of(128, ratios=[1.0], octave_base_scale=4, scales_per_octave=1)
    calculator = dict(type='mmdet.BboxOverlaps2D', scale=512.0, dtype='fp16')
    for assigner in (IoUAssigner(iou_calculator=calculator), ATSSAssigner(iou_calculator=calculator)):
        found = assign(assigner, priors.double(), levels, random_boxes(4, 128, 1).double())
        assert found.max_overlaps.dtype == torch.float64 and (found.gt_inds > 0).any()
