"""The arguments that `assign`, `stats`, `explore` and `misses` share."""

from pathlib import Path
from typing import List, Sequence, Tuple

from mmengine.config import Config

from atss_plugin.analysis.detector import Predictor, build_detector
from atss_plugin.analysis.images import Images, ResizedImages, TrainingImages
from atss_plugin.analysis.sample_definition import (
    NAMES,
    SampleDefinition,
    build_head,
    definition_of_config,
    definition_of_name,
)
from atss_plugin.experiments import load_config
from atss_plugin.experiments.job import parse_cfg_options

OWN = 'config'


def add_definition_arguments(parser, data: bool = True) -> None:
    """Add CONFIG, --assigner, --cfg-options and, where the data can be chosen, --ann."""
    parser.add_argument(
        'config', metavar='CONFIG', help="any mmdet config whose head has an assigner; mmdet::NAME.py for mmdet's own"
    )
    parser.add_argument(
        '--assigner',
        nargs='+',
        default=[OWN],
        metavar='NAME|CONFIG',
        help=f'what to compare: {", ".join(NAMES)}, with options ATSS:topk=15; a type with its scope, '
        f"mmdet.ATSSAssigner:topk=9; another config; or {OWN} for the config's own, which is the default",
    )
    if data:
        parser.add_argument('--ann', metavar='COCO.json', help="a COCO json instead of the config's training data")
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes to the config')


def read_definitions(args) -> Tuple[Config, List[SampleDefinition]]:
    """Return the config and the sample definitions to compare."""
    cfg = load_config(args.config, parse_cfg_options(args.cfg_options))
    with_model = bool(getattr(args, 'checkpoint', None))
    words = list(dict.fromkeys(args.assigner))
    stems = [Path(word).stem for word in words]
    stem_or_word = [stem if stems.count(stem) == 1 else word for stem, word in zip(stems, words)]
    definitions = [_definition(word, label, cfg, with_model) for word, label in zip(words, stem_or_word)]
    labels = [definition.label for definition in definitions]
    for definition, word in zip(definitions, words):  # tables have a column for each label
        if labels.count(definition.label) > 1:
            definition.label = f'{definition.label} [{word}]'
    return cfg, definitions


def _definition(word: str, label: str, cfg: Config, with_model: bool) -> SampleDefinition:
    if word == OWN:
        return definition_of_config(cfg, with_model=with_model)
    if word.endswith('.py'):
        return definition_of_config(load_config(word), label, with_model)
    return definition_of_name(word, build_head(cfg)[0].prior_generator, with_model)


def add_image_arguments(parser) -> None:
    """Add --checkpoint, --pipeline and --seed."""
    parser.add_argument(
        '--checkpoint',
        metavar='FILE',
        help='a checkpoint of the config, for assigners that decide by what a model predicts',
    )
    parser.add_argument(
        '--pipeline',
        choices=('resize', 'train'),
        default='resize',
        help='resize: whole images in the size of the input (default); train: what the training pipeline makes of '
        'them, with its crops, flips and mosaics',
    )
    parser.add_argument(
        '--seed', type=int, default=0, metavar='N', help='of what --pipeline train draws at random (default: 0)'
    )


def open_images(cfg: Config, args, definitions: Sequence[SampleDefinition], folder: str = '') -> Images:
    """Return the images to look at, and connect the definitions that need predictions to the checkpoint's model."""
    images: Images = (
        TrainingImages(cfg, args.ann, folder, args.seed)
        if args.pipeline == 'train'
        else ResizedImages(cfg, args.ann, folder)
    )
    if args.checkpoint and any(definition.needs_predictions for definition in definitions):
        predictor = Predictor(build_detector(cfg, args.checkpoint), images)
        for definition in definitions:
            definition.predict = predictor
    return images
