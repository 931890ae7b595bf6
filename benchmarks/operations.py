"""Count the operations that an assignment starts on a device: what a GPU launches, on any machine.

Each definition runs on the meta device, where tensors have no values: the branches of an accelerator are taken, and
whatever would make the host wait for a value fails or is counted as waiting.  Views (operations without a kernel) are
not counted.
"""

from collections import Counter
from typing import Callable, List

from mmdet.models.task_modules import ATSSAssigner as MMDetATSSAssigner
from mmengine.structures import InstanceData
from rich.console import Console
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode

from atss_plugin import matching

from .scenes import pyramid, random_boxes

VIEWS = set(
    'alias as_strided detach expand lift_fresh permute reshape select slice split split_with_sizes squeeze t transpose '
    'unbind unfold unsqueeze view _reshape_alias _unsafe_view'.split()
)
# reading a value, or a size that depends on values
WAITS = {'_local_scalar_dense', 'nonzero', 'equal', 'is_nonzero', 'masked_select', '_unique2', 'unique_dim'}


class Count(TorchDispatchMode):
    """Count the operations that run inside, except views."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split('::')[1]
        if name not in VIEWS:
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


def count(run: Callable) -> Counter:
    """Return how often each operation is started, after a first run has filled the caches."""
    run()
    with Count() as counted:
        run()
    return counted.counts


def on_meta(batch: List[InstanceData]) -> dict:
    """Return our definitions on the meta device, for the boxes of some images: name to what runs it."""
    priors, levels = pyramid()
    found = matching.find_pyramid(priors, levels).to('meta')
    boxes, labels = ([gts[name].to('meta') for gts in batch] for name in ('bboxes', 'labels'))

    def case(define: Callable) -> Callable:
        return lambda: define(matching.collect(boxes, labels, found.priors))

    return {
        'ATSS': case(lambda gts: matching.atss(found, gts)),
        'SSC': case(lambda gts: matching.spatial_scale(found, gts)),
        'center sampling, k': case(lambda gts: matching.center_sampling(found, gts)),
        'center sampling, radius': case(lambda gts: matching.center_region(found, gts)),
        'IoU': case(lambda gts: matching.max_iou(found.priors, gts)),
        'TopK': case(lambda gts: matching.topk_iou(found.priors, gts)),
    }


def peer(batch: List[InstanceData]) -> Callable:
    """Return mmdet's ATSSAssigner on the CPU: it reads values, so it does not run on the meta device."""
    priors, levels = pyramid()
    assigner = MMDetATSSAssigner(topk=9)
    return lambda: [assigner.assign(InstanceData(priors=priors), levels, gts) for gts in batch]


def report() -> None:
    """Print the table."""
    batches = {
        '1 image, 7 boxes': [random_boxes(7)],
        '16 images, 7 boxes each': [random_boxes(7, seed) for seed in range(16)],
        '1 image, 1000 boxes': [random_boxes(1000)],
    }
    table = Table('operations (of them waiting)', *batches)
    rows: dict = {}
    for batch in batches.values():
        for name, run in {**on_meta(batch), "mmdet's ATSS": peer(batch)}.items():
            counts = count(run)
            rows.setdefault(name, []).append(f'{sum(counts.values())} ({sum(counts[name] for name in WAITS)})')
    for name, cells in rows.items():
        table.add_row(name, *cells)
    Console(width=120).print(table)
