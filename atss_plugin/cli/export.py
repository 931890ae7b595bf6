"""Write a trained model as an ONNX file: pixels in, detections out.

The file needs neither torch nor mmdet. It takes images (B, 3, H, W), uint8, BGR as OpenCV reads them, resized as the
test pipeline does; normalisation, padding, decoding and NMS are in the graph. It gives boxes (B, D, 4) in pixels of
the input, scores (B, D) and labels (B, D) by falling score; rows without a detection have the label -1.
docs/export.md has a program that uses it.

examples:
  atss-plugin export miniature.py work_dirs/miniature/epoch_3.pth miniature.onnx
  atss-plugin export atss_r50_fpn_1x.py iter_90000.pth atss.onnx --shape 800 1216 --batch dynamic
"""

from atss_plugin.experiments import load_config
from atss_plugin.experiments.job import parse_cfg_options
from atss_plugin.export import export_onnx

NAME = 'export'
HELP = 'write a trained model as an ONNX file'


def _batch(word: str):
    return word if word == 'dynamic' else int(word)


def add_arguments(parser) -> None:
    parser.add_argument('config', metavar='CONFIG', help='the config that the model was trained with')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='its checkpoint')
    parser.add_argument('out', metavar='OUT.onnx', help='the file to write')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help="height and width of the input images (default: the scale of the test pipeline's Resize)",
    )
    parser.add_argument(
        '--batch',
        type=_batch,
        default=1,
        metavar='N',
        help='images per call, or "dynamic" for any number (default: 1)',
    )
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes to the config')


def run(args) -> int:
    cfg = load_config(args.config, parse_cfg_options(args.cfg_options))
    path = export_onnx(cfg, args.checkpoint, args.out, args.shape, args.batch)
    print(f'wrote {path} ({path.stat().st_size / 1e6:.1f} MB)')
    return 0
