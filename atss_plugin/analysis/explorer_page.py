"""A page for exploring assignments: one HTML file that needs neither a server nor a network.

Legend: G ground truths.
"""

import base64
import html
import json
from pathlib import Path
from typing import List, Sequence

import cv2
import numpy as np

from .assignment_figure import GT_COLORS, LEVEL_COLORS
from .exploration import PAPER_K, explore_image
from .ground_truth import GroundTruth
from .sample_definition import SampleDefinition
from .style import ALARM, GREY

PARTS = Path(__file__).parent / 'explorer'
JPEG_QUALITY = 82


def describe_image(truth: GroundTruth, image: np.ndarray, classes: Sequence[str]) -> dict:
    """Return an image and its objects in the form that the page reads.

    Args:
        truth: the image's ground truth, G boxes.
        image: (h, w, 3) uint8 RGB in the size of the input.
        classes: names of the classes.
    """
    encoded = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    height, width = truth.img_shape
    return dict(
        name=truth.name,
        width=width,
        height=height,
        source='data:image/jpeg;base64,' + base64.b64encode(encoded.tobytes()).decode(),
        boxes=np.round(truth.bboxes.astype(float), 1).tolist(),
        classes=[str(classes[label]) if label < len(classes) else str(label) for label in truth.labels],
        crowds=np.round(truth.ignored.astype(float), 1).tolist(),
    )


def explore(
    definitions: Sequence[SampleDefinition], truths: Sequence[GroundTruth], ks: Sequence[int] = PAPER_K
) -> List[dict]:
    """Return every definition with its levels and what it does on every image, in the form that the page reads."""
    return [
        dict(
            label=definition.label,
            note=definition.note,
            topk=definition.topk,
            levels=definition.levels,
            images=[explore_image(definition, truth, ks) for truth in truths],
        )
        for definition in definitions
    ]


def write_page(title: str, images: List[dict], definitions: List[dict], path: Path) -> None:
    """Write the page.

    Args:
        title: its title.
        images: what :func:`describe_image` returned.
        definitions: what :func:`explore` returned.
        path: the file.
    """
    content = dict(
        title=title,
        images=images,
        definitions=definitions,
        colors=dict(objects=GT_COLORS, levels=LEVEL_COLORS, alarm=ALARM, grey=GREY),
    )
    # "<" must not end the script element that holds the text
    data = json.dumps(content, separators=(',', ':'), ensure_ascii=False).replace('<', '\\u003c')
    parts = dict(
        title=html.escape(title), style=_part('page.css'), plotly=_plotly(), data=data, script=_part('page.js')
    )
    pieces = _part('page.html').split('%%')  # text, name, text, name ...
    pieces[1::2] = [parts[name] for name in pieces[1::2]]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(pieces), encoding='utf-8')


def _part(name: str) -> str:
    return (PARTS / name).read_text(encoding='utf-8')


def _plotly() -> str:
    """Return Plotly's bundle for browsers, which comes with its Python package."""
    from plotly.offline import get_plotlyjs  # takes half a second, which other commands are spared

    return get_plotlyjs()
