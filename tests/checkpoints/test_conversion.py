"""The authors' eight checkpoints in mmdet: names, shapes, outputs, and what is refused."""

import json
import pickle
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from torch import nn

from atss_plugin.checkpoints import (
    AUTHORS_MODELS,
    CheckpointError,
    convert_checkpoint,
    convert_tensors,
    identify,
    read_tensors,
    rename,
)
from atss_plugin.checkpoints.conversion import fold_eps
from atss_plugin.cli import main
from tests.conftest import ROOT

CONFIGS = ROOT / 'configs'
DATA = ROOT / 'tests' / 'data' / 'checkpoint'
NAMES = (
    'atss_R_50_FPN_1x',
    'atss_dcnv2_R_50_FPN_1x',
    'atss_R_101_FPN_2x',
    'atss_dcnv2_R_101_FPN_2x',
    'atss_X_101_32x8d_FPN_2x',
    'atss_dcnv2_X_101_32x8d_FPN_2x',
    'atss_X_101_64x4d_FPN_2x',
    'atss_dcnv2_X_101_64x4d_FPN_2x',
)
R50 = NAMES[0]


def published_shapes(name):
    """Names and shapes of what the authors published."""
    return {key: tuple(shape) for key, shape in json.loads((DATA / f'keys_{name}.json').read_text()).items()}


def build(config):
    init_default_scope('mmdet')
    return MODELS.build(Config.fromfile(CONFIGS / config).model).eval()


def ones(name, **replaced):
    """Tensors of a published checkpoint, without using memory."""
    shapes = {**published_shapes(name), **replaced}
    return {key: torch.ones(()).expand(shape) for key, shape in shapes.items()}


def golden_fill(name, shape):
    """One tensor of the network that the golden outputs were computed with, as their description says."""
    value = np.random.RandomState(crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if name.endswith('running_var'):
        value = np.abs(value) * 0.1 + 0.9
    elif name.endswith('running_mean'):
        value = value * 0.1
    elif len(shape) >= 2:
        value = value * np.float32(0.5 * np.sqrt(2 / np.prod(shape[1:])))
    elif name.endswith(('.weight', '.scale')):
        value = 1 + value * 0.05
    else:
        value = value * 0.05
    if name.endswith('cls_logits.bias'):
        value = value - 2.0
    return torch.from_numpy(np.asarray(value, np.float32))


@pytest.fixture(scope='module')
def golden_file(tmp_path_factory):
    """The network of the golden outputs as the authors would save it, from a distributed run."""
    path = tmp_path_factory.mktemp('authors') / 'ATSS_R_50_FPN_1x.pth'
    tensors = {f'module.{name}': golden_fill(name, shape) for name, shape in published_shapes(R50).items()}
    torch.save(dict(model=tensors), path)
    return path


@pytest.fixture(scope='module')
def converted_file(golden_file):
    path = golden_file.with_name('converted.pth')
    assert convert_checkpoint(golden_file, path, CONFIGS / f'official/{R50}.py').name == R50
    return path


@pytest.fixture(scope='module')
def golden_model(converted_file):
    model = build(f'official/{R50}.py')
    load_checkpoint(model, str(converted_file), strict=True)
    return model


def test_the_eight_are_the_authors():
    assert sorted(model.name for model in AUTHORS_MODELS) == sorted(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_every_tensor_has_one_place_in_our_model(name, tmp_path):
    source = tmp_path / 'source.pth'
    torch.save(dict(model=ones(name)), source)
    tensors = read_tensors(source)
    assert set(published_shapes(name)) - set(tensors) == {
        f'rpn.anchor_generator.cell_anchors.{level}' for level in range(5)
    }
    assert identify(tensors).name == name
    assert len({rename(key) for key in tensors}) == len(tensors)
    converted = {key: tuple(tensor.shape) for key, tensor in convert_tensors(tensors).items()}
    ours = {
        key: tuple(tensor.shape)
        for key, tensor in build(f'official/{name}.py').state_dict().items()
        if not key.endswith('num_batches_tracked')
    }
    assert converted == ours


def test_golden_outputs(golden_model):
    golden = np.load(DATA / 'full_atss_R_50_FPN_1x.npz')
    image = np.random.RandomState(int(golden['input_seed'])).standard_normal((1, 3, 128, 160)) * 50
    with torch.no_grad():
        features = golden_model.extract_feat(torch.from_numpy(image.astype(np.float32)))
        outputs = golden_model.bbox_head(features)
    for level in range(5):
        actual = dict(
            feat=features[level][:, ::32], cls=outputs[0][level][:, ::8], reg=outputs[1][level], ctr=outputs[2][level]
        )
        for key, value in actual.items():
            expected = torch.from_numpy(golden[f'{key}_{level}'])
            # Relative to the map's largest value: those near 0 are sums of larger ones that cancel. 1e-4
            # would not see whether epsilon is folded (4e-5); the golden values are rounded to about 1e-6.
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_the_folded_batch_norm_is_the_one_without_epsilon():
    torch.manual_seed(0)
    variance = 10.0 ** torch.linspace(-9, 4, 40)
    weight, bias, mean = torch.randn(3, 40).unbind()
    batch_norm = nn.BatchNorm2d(40).eval()
    batch_norm.load_state_dict(
        dict(
            weight=fold_eps(weight, variance),
            bias=bias,
            running_mean=mean,
            running_var=variance,
            num_batches_tracked=torch.tensor(0),
        )
    )
    value = torch.randn(2, 40, 3, 3)
    per_channel = (weight.double() / variance.double().sqrt(), mean.double(), bias.double())
    scale, mean, bias = (parameter[None, :, None, None] for parameter in per_channel)
    expected = (scale * (value - mean) + bias).float()
    torch.testing.assert_close(batch_norm(value), expected, rtol=1e-5, atol=1e-5)


def deformable_conv_by_loops(value, offset_mask, weight):
    """Channels 2k and 2k + 1 of 27 are the y and x offset of kernel cell k, channel 18 + k its modulation."""
    channels, height, width = value.shape
    result = np.zeros((len(weight), height, width))
    for y in range(height):
        for x in range(width):
            for cell in range(9):
                at_y = y + cell // 3 - 1 + offset_mask[2 * cell, y, x]
                at_x = x + cell % 3 - 1 + offset_mask[2 * cell + 1, y, x]
                modulation = 1 / (1 + np.exp(-offset_mask[18 + cell, y, x]))
                for near_y in (int(np.floor(at_y)), int(np.floor(at_y)) + 1):
                    for near_x in (int(np.floor(at_x)), int(np.floor(at_x)) + 1):
                        if 0 <= near_y < height and 0 <= near_x < width:
                            share = (1 - abs(at_y - near_y)) * (1 - abs(at_x - near_x))
                            kernel = weight[:, :, cell // 3, cell % 3]
                            result[:, y, x] += modulation * share * (kernel @ value[:, near_y, near_x])
    return result


def test_mmcv_reads_the_27_channels_in_the_order_we_state():
    torch.manual_seed(0)
    conv = ModulatedDeformConv2dPack(2, 3, 3, padding=1, bias=False)
    nn.init.normal_(conv.conv_offset.weight)
    nn.init.normal_(conv.conv_offset.bias)
    value = torch.randn(1, 2, 5, 6)
    with torch.no_grad():
        expected = deformable_conv_by_loops(value[0].numpy(), conv.conv_offset(value)[0].numpy(), conv.weight.numpy())
        torch.testing.assert_close(conv(value)[0], torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-5)


def test_deformable_weights_keep_their_values():
    tensors = ones('atss_dcnv2_R_50_FPN_1x')
    tensors = {key: value for key, value in tensors.items() if 'anchor_generator' not in key}
    moved = {
        'backbone.body.layer2.0.conv2.offset.weight': 'backbone.layer2.0.conv2.conv_offset.weight',
        'backbone.body.layer2.0.conv2.conv.weight': 'backbone.layer2.0.conv2.weight',
        'rpn.head.bbox_tower.9.offset.bias': 'bbox_head.reg_convs.3.conv.conv_offset.bias',
        'rpn.head.cls_tower.9.conv.bias': 'bbox_head.cls_convs.3.conv.bias',
    }
    for name in moved:
        tensors[name] = torch.randn(tensors[name].shape)
    converted = convert_tensors(tensors)
    for theirs, ours in moved.items():
        assert torch.equal(converted[ours], tensors[theirs])


def test_command(golden_file, tmp_path, capsys):
    target = tmp_path / 'out.pth'
    assert main(['convert-checkpoint', str(golden_file), str(target)]) == 0
    assert R50 in capsys.readouterr().out
    checkpoint = torch.load(target, weights_only=True)
    assert len(checkpoint['meta']['dataset_meta']['classes']) == 80
    assert [path.name for path in tmp_path.iterdir()] == ['out.pth']


class Intruder:
    """An object that creates a file if it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def without(name):
    tensors = ones(R50)
    del tensors[name]
    return dict(model=tensors)


BAD_CHECKPOINTS = [
    pytest.param(without('rpn.head.bbox_pred.bias'), r'1 missing: bbox_head\.atss_reg\.bias', id='missing'),
    pytest.param(dict(model=ones(R50, mask=(3,))), '1 unexpected: mask', id='unexpected'),
    pytest.param(
        dict(model=ones(R50, **{'rpn.head.cls_logits.bias': (20,)})),
        r'another shape: bbox_head\.atss_cls\.bias \(20,\) instead of \(80,\)',
        id='shape',
    ),
    pytest.param(
        dict(model=dict(ones(R50), **{'backbone.body.stem.bn1.running_var': torch.zeros(64)})),
        r'not positive, in backbone\.body\.stem\.bn1\.running_var',
        id='no variance',
    ),
    pytest.param(
        dict(model=dict(ones(R50), **{'rpn.head.scales.3.scale': torch.tensor([float('nan')])})),
        r'not finite.* in rpn\.head\.scales\.3\.scale',
        id='nan',
    ),
    pytest.param(dict(state_dict=ones(R50)), "under 'model'", id='not the authors'),
    pytest.param(dict(model={}), "under 'model'", id='no tensors'),
    pytest.param(dict(model=dict(ones(R50), step=3)), "under 'model'", id='not only tensors'),
    pytest.param([1, 2], "under 'model'", id='a list'),
    pytest.param(dict(model=dict(weight=torch.ones(2, 2))), "none of the authors'", id='another network'),
]


@pytest.mark.parametrize('checkpoint, message', BAD_CHECKPOINTS)
def test_refuses_and_writes_nothing(checkpoint, message, tmp_path):
    source, target = tmp_path / 'in.pth', tmp_path / 'out.pth'
    torch.save(checkpoint, source)
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(source, target)
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


def test_refuses_a_truncated_file_and_keeps_the_old_target(golden_file, tmp_path, capsys):
    source, target = tmp_path / 'in.pth', tmp_path / 'out.pth'
    source.write_bytes(golden_file.read_bytes()[: 10**6])
    target.write_text('before')
    assert main(['convert-checkpoint', str(source), str(target)]) != 0
    assert 'truncated' in capsys.readouterr().err
    assert target.read_text() == 'before' and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    'save',
    [
        pytest.param(torch.save, id='torch file'),
        pytest.param(lambda content, path: path.write_bytes(pickle.dumps(content)), id='plain pickle'),
    ],
)
def test_executes_nothing(save, tmp_path):
    source, trace = tmp_path / 'in.pth', tmp_path / 'trace'
    save(dict(model=dict(weight=Intruder(trace))), source)
    with pytest.raises(CheckpointError, match='more than tensors'):
        convert_checkpoint(source, tmp_path / 'out.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['in.pth']


def test_refuses_a_config_that_does_not_fit(golden_file, tmp_path):
    with pytest.raises(CheckpointError, match=r'atss_dcnv2_R_50_FPN_1x\.py: .* missing: .*conv_offset'):
        convert_checkpoint(golden_file, tmp_path / 'out.pth', CONFIGS / 'official/atss_dcnv2_R_50_FPN_1x.py')
    with pytest.raises(CheckpointError, match='has no model'):
        convert_checkpoint(golden_file, tmp_path / 'out.pth', CONFIGS / '_base_/schedule_90k.py')
    other_eps = tmp_path / 'other_eps.py'
    other_eps.write_text(
        f'_base_ = {str(CONFIGS / f"official/{R50}.py")!r}\nmodel = dict(backbone=dict(norm_cfg=dict(eps=1e-3)))\n'
    )
    with pytest.raises(CheckpointError, match=r'backbone\.bn1 has eps=0\.001'):
        convert_checkpoint(golden_file, tmp_path / 'out.pth', other_eps)
    assert [path.name for path in tmp_path.iterdir()] == ['other_eps.py']


def test_paths(golden_file, tmp_path):
    with pytest.raises(FileNotFoundError):
        convert_checkpoint(tmp_path / 'absent.pth', tmp_path / 'out.pth')
    with pytest.raises(FileNotFoundError):
        convert_checkpoint(golden_file, tmp_path / 'absent' / 'out.pth')
    with pytest.raises(CheckpointError, match='itself'):
        convert_checkpoint(golden_file, golden_file)
    assert not list(tmp_path.iterdir())
