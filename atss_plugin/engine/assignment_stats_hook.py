"""What the assigner does during training, logged with the losses.

Legend: B images, G ground truths of all of them, L levels.
"""

from typing import Any, Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from atss_plugin.analysis.detector import dense_head, predict_batch
from atss_plugin.analysis.ground_truth import GroundTruth
from atss_plugin.analysis.images import packed_ground_truth
from atss_plugin.analysis.sample_definition import SampleDefinition, definition_of_head
from atss_plugin.analysis.statistics import count_positives
from atss_plugin.registry import HOOKS


@HOOKS.register_module()
class AssignmentStatsHook(Hook):
    """Assign a training batch once more every ``interval`` iterations and log the result.

    These are written to mmengine's visualisation backends as ``train/assignment/...``: ``positives_per_gt``, the same
    for each level (``positives_per_gt_P3`` ...), and ``unmatched``, the share of ground truths without any positive.
    The second assignment runs on the CPU and changes nothing in the training; an assigner that decides by predictions
    is given those of the model as it is after the iteration, in evaluation mode.  One line turns it on::

        custom_hooks = [dict(type='atss_plugin.AssignmentStatsHook')]

    Args:
        interval: iterations between two measurements; the logger shows those that fall on its own interval.

    Raises:
        ValueError: ``interval`` < 1; at the start of the training, a model whose head has no assigner, or one that
            decides by more than anchors, boxes and predictions.
    """

    # before the logger, which is BELOW_NORMAL
    priority = 'NORMAL'
    definition: SampleDefinition  # from the start of the training on

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1 iteration, not {interval}')
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Find the head's assigner and anchors."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = dense_head(model)
        self.definition = definition_of_head(head, type(head).__name__, with_model=True)
        self.divisor = getattr(model.data_preprocessor, 'pad_size_divisor', 1)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Measure every ``interval`` iterations."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        truths = self._ground_truths(data_batch)
        predictions = None
        if self.definition.needs_predictions:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            predictions = predict_batch(model, data_batch['inputs'])
        counts = count_positives(
            self.definition.assign(truths, predictions).cpu(),
            [len(truth.bboxes) for truth in truths],
            self.definition.grid(truths[0].pad_shape),
        ).float()
        if not len(counts):
            return
        positives = counts.sum(1)
        record = {'positives_per_gt': positives.mean(), 'unmatched': (positives == 0).float().mean()}
        record.update(
            {f'positives_per_gt_{name}': counts[:, level].mean() for level, name in enumerate(self.definition.levels)}
        )
        for name, value in record.items():
            runner.message_hub.update_scalar(f'train/assignment/{name}', value.item())

    def _ground_truths(self, data_batch: dict) -> Sequence[GroundTruth]:
        """Return the batch as the loader gave it: images (3, h, w) of any size, not yet padded to one."""
        shapes = [tuple(image.shape[-2:]) for image in data_batch['inputs']]
        padded = tuple(-(-max(sides) // self.divisor) * self.divisor for sides in zip(*shapes))
        samples = zip(data_batch['inputs'], data_batch['data_samples'])
        return [
            packed_ground_truth(dict(inputs=image, data_samples=sample), index, padded)
            for index, (image, sample) in enumerate(samples)
        ]
