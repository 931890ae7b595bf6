"""The arguments CONFIG and --assigner that `assign` and `stats` share."""

from pathlib import Path
from typing import List, Tuple

from mmengine.config import Config

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
        'config', metavar='CONFIG', help='any mmdet config whose head has an assigner; mmdet::NAME.py for one of mmdet'
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
    definitions = [_definition(word, cfg) for word in args.assigner]
    return cfg, definitions


def _definition(word: str, cfg: Config) -> SampleDefinition:
    if word == OWN:
        return definition_of_config(cfg)
    if word.endswith('.py'):
        return definition_of_config(load_config(word), label=Path(word).stem)
    return definition_of_name(word, build_head(cfg)[0].prior_generator)
