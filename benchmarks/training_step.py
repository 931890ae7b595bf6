"""Where the time of a training step goes, ours and mmdet's own ATSS config, and prediction from feature maps.

Both models have an R-50 with random weights and see one image of 800 x 1333 pixels with seven boxes.  Parts are timed
where they are called, on a GPU until it has finished them; what is left of the step is the rest (stacking, reducing and
adding up losses).
"""

import time
from contextlib import contextmanager
from typing import Dict, List

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from rich.console import Console
from rich.table import Table

from atss_plugin.experiments.config_files import read_config

from .measure import wait
from .scenes import IMAGE, device, feature_sizes, random_boxes

CONFIGS = dict(ours='atss_r50_fpn_1x.py', mmdet='mmdet::atss/atss_r50_fpn_1x_coco.py')


def now() -> float:
    """Return the time in seconds, once a GPU has finished what it was given."""
    wait()
    return time.perf_counter()


def model_of(config: str) -> torch.nn.Module:
    """Return the detector of a config, with random weights."""
    cfg = read_config(config)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    return MODELS.build(cfg.model).train().to(device())


@contextmanager
def timed(owner: object, name: str, times: Dict[str, float], label: str):
    """Add the seconds of every call of ``owner.name`` to ``times[label]``."""
    call = getattr(owner, name)

    def measured(*args, **kwargs):
        start = now()
        try:
            return call(*args, **kwargs)
        finally:
            times[label] = times.get(label, 0.0) + now() - start

    setattr(owner, name, measured)
    try:
        yield
    finally:
        setattr(owner, name, call)


def training_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Dict[str, float]:
    """Return the seconds of the parts of one step."""
    times: Dict[str, float] = {}
    height, width = IMAGE
    inputs = torch.zeros(1, 3, -(-height // 32) * 32, -(-width // 32) * 32).normal_().to(device())
    gts = random_boxes(7)
    meta = dict(img_shape=IMAGE, pad_shape=tuple(inputs.shape[-2:]), batch_input_shape=tuple(inputs.shape[-2:]))
    head = model.bbox_head
    assign = 'assign_batch' if hasattr(head.assigner, 'assign_batch') else 'assign'
    begin = now()
    with timed(model.backbone, 'forward', times, 'backbone'), timed(model.neck, 'forward', times, 'FPN'), timed(
        head, 'forward', times, 'head'
    ), timed(head.assigner, assign, times, 'assignment'), timed(head, 'loss_by_feat', times, 'losses'):
        losses = head.loss_by_feat(*head.forward(model.extract_feat(inputs)), [gts], [meta])
    times['losses'] -= times['assignment']
    start = now()
    sum(sum(value) if isinstance(value, list) else value for value in losses.values()).backward()
    times['backward'] = now() - start
    start = now()
    optimizer.step()
    optimizer.zero_grad()
    times['optimizer'] = now() - start
    times['whole step'] = now() - begin
    return times


def prediction(model: torch.nn.Module, maps: List[List[torch.Tensor]]) -> float:
    """Return the seconds of ``predict_by_feat``: 80 classes, NMS included."""
    metas = [dict(img_shape=IMAGE, scale_factor=(1.0, 1.0))]
    start = now()
    with torch.no_grad():
        model.bbox_head.predict_by_feat(*maps, batch_img_metas=metas, rescale=True)
    return now() - start


def report() -> None:
    """Print the shortest and the longest of the runs of both, which take turns."""
    warm_up, repeat = (1, 3) if device().type == 'cpu' else (5, 30)
    register_all_modules()
    models = {name: model_of(config) for name, config in CONFIGS.items()}
    optimizers = {name: torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9) for name, model in models.items()}
    generator = torch.Generator().manual_seed(0)
    maps = [
        [(torch.randn(1, c, h, w, generator=generator) + bias).to(device()) for h, w in feature_sizes(*IMAGE)]
        for c, bias in ((80, -4.0), (4, 0.0), (1, 0.0))
    ]
    found: Dict[str, Dict[str, List[float]]] = {}
    for number in range(warm_up + repeat):
        for name, model in models.items():
            times = {**training_step(model, optimizers[name]), 'predict_by_feat': prediction(model, maps)}
            for part, seconds in times.items() if number >= warm_up else ():
                found.setdefault(part, {}).setdefault(name, []).append(seconds * 1e3)
    table = Table('milliseconds, lowest - highest', *CONFIGS, title=f'{repeat} runs of each in turn')
    for part, columns in found.items():
        table.add_row(part, *(f'{min(times):.1f} - {max(times):.1f}' for times in columns.values()))
    Console(width=100).print(table)
