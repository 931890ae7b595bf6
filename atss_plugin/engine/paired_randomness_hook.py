"""Runs of one seed share all that is random, whatever their heads and assigners are."""

import random
import zlib

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from atss_plugin.registry import HOOKS


@HOOKS.register_module()
class PairedRandomnessHook(Hook):
    """Initialize each part of a model, and start each epoch, from the run's seed alone.

    mmengine sets the seed once, before it builds the model: a head with one layer more then shifts the numbers that
    backbone and neck start from, and a run that is resumed flips other images than one that is not. With this hook
    the weights of backbone, neck and head follow from the seed and the name of the part, and what is random in an
    epoch from the seed and the number of the epoch. So experiments of one seed can be compared as pairs, and a
    resumed run ends as an uninterrupted one. The order of the images depends on the seed alone in mmengine as well.

    Layers of the head draw one after the other, its towers first: they are equal in all rows, an output layer is if
    all before it have the same shape, and the classification only among rows with centerness, or without.
    """

    def before_run(self, runner: Runner) -> None:
        """Initialize the parts of the model; mmengine leaves alone what is initialized."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for name, part in model.named_children():
            if hasattr(part, 'init_weights'):
                _seed(f'{runner.seed} {name}')
                part.init_weights()

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed what transforms may ask for random numbers."""
        _seed(f'{runner.seed} epoch {runner.epoch}')


def _seed(words: str) -> None:
    number = zlib.crc32(words.encode())  # the same in every process, unlike hash()
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
