"""Write a page for exploring what assigners do on some images: one HTML file, for any browser, without a server.

The page shows two definitions side by side, with menus of definitions, images and levels and a slider over k.
A click on an object shows its candidates, their IoU with mean and mean + std, which of them are positive, and
why the others are not. An image whose file is missing is drawn white: boxes alone decide.

examples:
  atss-plugin explore miniature.py --index 2 5 --assigner ATSS IoU --out page.html
  atss-plugin explore atss_r50_fpn_1x.py --ann boxes.json --images photos --assigner ATSS SSC --out page.html
"""

from pathlib import Path

from atss_plugin.analysis.exploration import PAPER_K
from atss_plugin.analysis.explorer_page import describe_image, explore, write_page
from atss_plugin.errors import UsageError

from .console import tell
from .definitions import add_definition_arguments, add_image_arguments, open_images, read_definitions

NAME = 'explore'
HELP = 'write a page for exploring what assigners do'


def add_arguments(parser) -> None:
    add_definition_arguments(parser)
    add_image_arguments(parser)
    parser.add_argument(
        '--index', type=int, nargs='+', default=[0], metavar='I', help='numbers of the images in the data set'
    )
    parser.add_argument('--images', default='', metavar='DIR', help='folder of the images of --ann')
    parser.add_argument(
        '--k',
        type=int,
        nargs='+',
        default=list(PAPER_K),
        metavar='K',
        help='the stops of the slider over k, in addition to the k of the assigner itself (default: those of Table 4)',
    )
    parser.add_argument('--out', required=True, metavar='FILE.html', help='the page')


def run(args) -> int:
    cfg, definitions = read_definitions(args)
    if min(args.k) < 1:
        raise UsageError(f'--k {min(args.k)}: k is at least 1')
    images = open_images(cfg, args, definitions, args.images)
    truths = [images.truth(index) for index in args.index]
    shown = [describe_image(truth, images.pixels(truth), images.classes) for truth in truths]
    path = Path(args.out)
    write_page(f'Assignments of {Path(args.config).stem}', shown, explore(definitions, truths, args.k), path)
    tell(f'saved {path} ({path.stat().st_size / 1e6:.1f} MB)')
    return 0
