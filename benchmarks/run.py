"""Measure one case in a process of its own."""

from argparse import Namespace

import torch
from mmdet.models.backbones import ResNet
from mmdet.utils import register_all_modules

from .cases import all_cases
from .measure import compare, peak_memory
from .scenes import device, use


def run(args: Namespace, index: int) -> dict:
    """Check that both agree, then measure."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    use(args.device)
    register_all_modules()
    _train_a_network()
    case = all_cases(args.coco, args.crowd)[index]()
    case.agree(case.ours(), case.peer())
    result = compare(case.ours, case.peer, args.seconds)
    row = dict(case=case.name, goal=case.goal, **result._asdict())
    if case.memory:
        row.update(ours_bytes=peak_memory(case.ours), peer_bytes=peak_memory(case.peer))
    return row


def _train_a_network() -> None:
    """Bring the memory allocator into the state that it has in training, for both.

    Once a network has freed its feature maps, the C library's allocator keeps what is freed. In a fresh process it
    returns the pages of many a temporary to the system, and asks for them anew.
    """
    maps = ResNet(18).to(device())(torch.rand(1, 3, 800, 1344, device=device()))
    sum(feature_map.mean() for feature_map in maps).backward()
