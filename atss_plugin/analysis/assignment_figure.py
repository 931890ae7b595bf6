"""Pictures of assignments: positives by level, the candidates' IoU, and where two assigners differ.

Legend: G ground truths, N priors, L levels.
"""

import textwrap
from pathlib import Path
from typing import List, Sequence

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from atss_plugin.errors import UsageError
from atss_plugin.matching import Candidates

from .assignment import Assignment
from .style import ALARM, GREY, LIGHT, PALETTE, figure

# Colours of ground truths, without reds: red marks a ground truth without any positive.
GT_COLORS = (
    '#0072B2',
    '#E69F00',
    '#009E73',
    '#CC79A7',
    '#56B4E9',
    '#8C5E00',
    '#6A3D9A',
    '#B2DF00',
    '#00CED1',
    '#FF8FD2',
)
MANY_BOXES = 30  # with more than this, outlines are thin
FADE = 0.6  # how far the photo is faded to white, which lets the colours stand out
PANEL = 3.7  # the longer side of a picture in inches
DOT = (1.5, 4.4)  # smallest and largest diameter of a dot in points
TITLE_CHARACTERS = 9  # per inch of the figure's width
LEGEND_WIDTH = 3.4  # of an entry, in inches
SPREAD = 6  # ground truths in the picture of thresholds, from the smallest to the largest
LEVEL_COLORS = ('#440154', '#3B528B', '#21918C', '#5EC962', '#C9B800', '#E69F00', '#D55E00')


def color_of(number: int) -> str:
    """Return the colour of ground truth ``number``."""
    return GT_COLORS[number % len(GT_COLORS)]


def save_positives(
    assignments: List[Assignment], image: np.ndarray, title: str, path: Path, outlines: bool = False
) -> None:
    """Draw the positives: a row per assigner, a column for all levels together, then a column per level.

    Levels without any positive have no column; the title names them.

    Args:
        assignments: those of one image, one per sample definition.
        image: (h, w, 3) RGB in the size of the input.
        title: the picture's title.
        path: where to save it.
        outlines: draw the positive anchors' boxes as well as their centres.
    """
    names = max((a.definition.levels for a in assignments), key=len)
    levels = _levels_with_positives(assignments)
    with _panels(len(assignments), len(levels) + 1, image) as (fig, axes):
        for row, assignment in zip(axes, assignments):
            for panel, level in zip(row, [None, *levels]):
                if level is None or level < len(assignment.definition.levels):
                    _draw_level(panel, assignment, image, level)
                    if outlines and level is not None:
                        _draw_anchors(panel, assignment, level)
                else:
                    panel.axis('off')
            _name_row(row[0], assignment)
        for panel, name in zip(axes[0], ['all levels', *(names[level] for level in levels)]):
            panel.annotate(
                name,
                (0.5, 1),
                (0, 4),
                xycoords='axes fraction',
                textcoords='offset points',
                ha='center',
                fontweight='bold',
            )
        _finish(fig, title + _without_positives(names, levels), _positives_legend(assignments), path)


def _levels_with_positives(assignments: List[Assignment]) -> List[int]:
    return sorted({level for a in assignments for level in a.counts.sum(0).nonzero().flatten().tolist()})


def _without_positives(names: List[str], levels: List[int]) -> str:
    empty = [name for level, name in enumerate(names) if level not in levels]
    return f' (no positive on {", ".join(empty)})' if empty else ''


def _panels(rows: int, columns: int, image: np.ndarray):
    height, width = image.shape[:2]
    unit = PANEL / max(height, width)
    size = (columns * width * unit + 0.35, rows * (height * unit + 0.28) + 0.8)
    return figure(rows, columns, figsize=size, squeeze=False)


def _finish(fig, title: str, handles: Sequence, path: Path) -> None:
    """Put the title above and the legend below the panels, in as many lines as the width of the figure requires."""
    inch, width = 1 / fig.get_figheight(), fig.get_figwidth()
    columns = max(1, min(len(handles), int(width / LEGEND_WIDTH)))
    legend_rows = -(-len(handles) // columns)
    lines = textwrap.wrap(title, int(width * TITLE_CHARACTERS))
    fig.suptitle('\n'.join(lines), x=0.01, y=1 - 0.05 * inch, ha='left', va='top', fontsize=10.5, fontweight='bold')
    fig.legend(
        handles=handles, loc='lower left', bbox_to_anchor=(0.005, 0), ncols=columns, handletextpad=0.4, borderpad=0.1
    )
    fig.subplots_adjust(
        left=0.35 / width,
        right=0.997,
        bottom=(0.08 + 0.18 * legend_rows) * inch,
        top=1 - (0.29 + 0.18 * len(lines)) * inch,
        wspace=0.02,
        hspace=0.09,
    )
    fig.savefig(path)


def _show(panel, image: np.ndarray, fade: float = FADE) -> None:
    faded = 255 - (255 - image.astype(float)) * (1 - fade)
    panel.imshow(faded.astype(np.uint8), interpolation='bilinear')
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(False)
    for spine in panel.spines.values():
        spine.set_visible(True)
        spine.set_color(LIGHT)
    panel.set_xlim(0, image.shape[1])
    panel.set_ylim(image.shape[0], 0)


def _draw_level(panel, assignment: Assignment, image: np.ndarray, level) -> None:
    """Draw one panel; ``level`` None draws all levels."""
    _show(panel, image)
    level_of = assignment.grid.level.numpy()
    on_level = np.ones(len(level_of), bool) if level is None else level_of == level
    gt_inds = assignment.gt_inds.numpy()
    centers = assignment.grid.centers().numpy()
    positive = on_level & (gt_inds > 0)
    size = _dot_sizes(assignment)
    if level is not None:
        owner = assignment.candidate_owner().numpy()
        light = on_level & (owner >= 0) & (gt_inds == 0)
        panel.scatter(
            *centers[light].T,
            s=size[light],
            facecolors='none',
            linewidths=0.5,
            alpha=0.55,
            edgecolors=[color_of(number) for number in owner[light]],
        )
        ignored = on_level & (gt_inds < 0)
        panel.scatter(*centers[ignored].T, s=size[ignored], marker='x', color=GREY, linewidths=0.6, alpha=0.8)
    _draw_boxes(panel, assignment, level)
    colors = [color_of(number) for number in gt_inds[positive] - 1]
    panel.scatter(*centers[positive].T, s=size[positive], c=colors, linewidths=0.25, edgecolors='white', zorder=3)
    words = f'{positive.sum()} positives' if positive.any() else 'no positive'
    panel.set_title(words, fontsize=8.5, fontweight='normal', color='#202020' if positive.any() else GREY, pad=4)


def _draw_anchors(panel, assignment: Assignment, level: int) -> None:
    positive = (assignment.grid.level == level) & (assignment.gt_inds > 0)
    for box, number in zip(assignment.grid.priors[positive].numpy(), assignment.gt_inds[positive].tolist()):
        panel.add_patch(_rectangle(box, color_of(number - 1), linewidth=0.5, alpha=0.5))


def _dot_sizes(assignment: Assignment) -> np.ndarray:
    """Return the areas (N,) of the dots in points²: as wide as their neighbours on the level allow, within limits."""
    points_per_pixel = 72 * PANEL / max(assignment.truth.img_shape)
    strides = np.array([stride[0] for stride in assignment.definition.prior_generator.strides])
    diameter = np.clip(0.8 * strides * points_per_pixel, *DOT)
    return diameter[assignment.grid.level.numpy()] ** 2


def _draw_boxes(panel, assignment: Assignment, level) -> None:
    counts = assignment.counts.numpy()
    width = 1.1 if len(counts) <= MANY_BOXES else 0.7
    here = counts.sum(1) if level is None else counts[:, level]
    unmatched = assignment.unmatched().numpy()
    for number, box in enumerate(assignment.truth.bboxes):
        if unmatched[number]:
            panel.add_patch(_rectangle(box, ALARM, linewidth=1.5, zorder=4))
        elif here[number]:
            panel.add_patch(_rectangle(box, color_of(number), linewidth=width))
        else:
            panel.add_patch(_rectangle(box, GREY, linewidth=0.4, alpha=0.5))
    for box in assignment.truth.ignored:
        panel.add_patch(_rectangle(box, GREY, linewidth=0.8, linestyle=':', hatch='///', alpha=0.5))


def _rectangle(box: np.ndarray, color: str, **style) -> Rectangle:
    x1, y1, x2, y2 = box.tolist()
    return Rectangle((x1, y1), x2 - x1, y2 - y1, facecolor='none', edgecolor=color, **style)


def _name_row(panel, assignment: Assignment) -> None:
    unmatched = int(assignment.unmatched().sum())
    panel.annotate(
        assignment.definition.label,
        (0, 0.5),
        (-9, 0),
        xycoords='axes fraction',
        textcoords='offset points',
        rotation=90,
        ha='right',
        va='center',
        fontweight='bold',
    )
    if unmatched:
        text = f'{unmatched} of {len(assignment.counts)} boxes unmatched'
        panel.annotate(
            text,
            (1, 1),
            (-4, 4),
            xycoords='axes fraction',
            textcoords='offset points',
            ha='right',
            color=ALARM,
            fontsize=8.5,
        )


def _positives_legend(assignments: List[Assignment]) -> list:
    handles = [_dot('positive, in the colour of its ground truth', color=GT_COLORS[0])]
    if any(a.candidates is not None for a in assignments):
        handles.append(
            _dot('candidate that is not positive', markerfacecolor='none', markeredgecolor=GT_COLORS[0], alpha=0.7)
        )
    if any((a.gt_inds < 0).any() for a in assignments):
        handles.append(_dot('ignored anchor', marker='x', color=GREY))
    handles.append(Line2D([], [], color=GREY, linewidth=0.8, alpha=0.7, label='ground truth with positives elsewhere'))
    if any(a.unmatched().any() for a in assignments):
        handles.append(Line2D([], [], color=ALARM, linewidth=1.8, label='ground truth without any positive'))
    if len(assignments[0].truth.ignored):
        handles.append(Line2D([], [], color=GREY, linestyle=':', label='crowd region'))
    return handles


def _dot(label: str, **style) -> Line2D:
    return Line2D([], [], **{'marker': 'o', 'linestyle': 'none', 'markersize': 5, 'label': label, **style})


def save_difference(first: Assignment, second: Assignment, image: np.ndarray, title: str, path: Path) -> None:
    """Draw the anchors on which two assigners of the same priors disagree, on all levels together and on each level.

    Args:
        first, second: assignments of one image.
        image: (h, w, 3) RGB in the size of the input.
        title: the picture's title.
        path: where to save it.

    Raises:
        UsageError: the two have different priors.
    """
    if first.grid.priors.shape != second.grid.priors.shape or not first.grid.priors.equal(second.grid.priors):
        raise UsageError(f'{first.definition.label} and {second.definition.label} choose from different anchors')
    one, two = first.gt_inds.numpy(), second.gt_inds.numpy()
    groups = [
        ('positive under both', GREY, (one > 0) & (one == two)),
        ('positive under both, for another ground truth', PALETTE[3], (one > 0) & (two > 0) & (one != two)),
        (f'only under {first.definition.label}', PALETTE[0], (one > 0) & (two <= 0)),
        (f'only under {second.definition.label}', PALETTE[5], (one <= 0) & (two > 0)),
    ]
    names, levels = first.definition.levels, _levels_with_positives([first, second])
    centers, level_of, size = first.grid.centers().numpy(), first.grid.level.numpy(), _dot_sizes(first)
    with _panels(1, len(levels) + 1, image) as (fig, axes):
        for panel, level in zip(axes[0], [None, *levels]):
            _show(panel, image)
            for box in first.truth.bboxes:
                panel.add_patch(_rectangle(box, '#303030', linewidth=0.6, alpha=0.7))
            numbers = []
            for _, color, chosen in groups:
                chosen = chosen if level is None else chosen & (level_of == level)
                panel.scatter(
                    *centers[chosen].T, s=size[chosen], c=color, linewidths=0.25, edgecolors='white', zorder=3
                )
                numbers.append(int(chosen.sum()))
            name = 'all levels' if level is None else names[level]
            panel.set_title(f'{name}: {numbers[0] + numbers[1]} both, {numbers[2]} / {numbers[3]} only', fontsize=8.5)
        _finish(
            fig, title + _without_positives(names, levels), [_dot(name, color=color) for name, color, _ in groups], path
        )


def choose_spread(assignment: Assignment, count: int = SPREAD) -> List[int]:
    """Return ground truths from the smallest to the largest, evenly spread by rank."""
    sides = assignment.truth.bboxes[:, 2:] - assignment.truth.bboxes[:, :2]
    order = np.argsort(sides.prod(axis=1))
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [int(order[place]) for place in places]


def save_thresholds(assignment: Assignment, image: np.ndarray, title: str, path: Path) -> None:
    """Draw the candidates' IoU of some ground truths with mean and mean + std, after the paper's Figure 3.

    Args:
        assignment: one by ATSS.
        image: (h, w, 3) RGB in the size of the input.
        title: the picture's title.
        path: where to save it.

    Raises:
        UsageError: the definition has no candidates.
    """
    candidates = assignment.candidates
    if candidates is None:
        raise UsageError(f'{assignment.definition.label} has no candidates to draw: take ATSS')
    numbers = choose_spread(assignment)
    with figure(2, len(numbers), figsize=(0.5 + 2.5 * len(numbers), 5.0), squeeze=False, height_ratios=[1, 1.25]) as (
        fig,
        axes,
    ):
        for column, number in enumerate(numbers):
            _draw_crop(axes[0, column], assignment, image, number)
            _draw_ious(axes[1, column], assignment, candidates, number, first=column == 0)
            axes[1, column].sharey(axes[1, 0])
        fig.suptitle(title, x=0.012, y=0.985, ha='left', fontsize=10.5, fontweight='bold')
        handles = [
            _dot('positive', color='#303030'),
            _dot('candidate that is not', markerfacecolor='none', markeredgecolor='#303030'),
            Line2D([], [], color=GREY, linestyle=':', label='mean'),
            Line2D([], [], color=ALARM, label='mean + standard deviation = threshold'),
        ]
        fig.legend(handles=handles, loc='lower left', bbox_to_anchor=(0.005, 0), ncols=4)
        fig.tight_layout(rect=(0, 0.05, 1, 0.97))
        fig.savefig(path)


def _draw_crop(panel, assignment: Assignment, image: np.ndarray, number: int) -> None:
    """Draw the ground truth with its surroundings, and its positives."""
    box = assignment.truth.bboxes[number]
    _show(panel, image, fade=0.35)
    mine = (assignment.gt_inds == number + 1).numpy()
    levels = assignment.grid.level.numpy()[mine]
    panel.add_patch(_rectangle(box, color_of(number), linewidth=1.8))
    panel.scatter(
        *assignment.grid.centers().numpy()[mine].T,
        s=26,
        c=[_level_color(level) for level in levels],
        linewidths=0.7,
        edgecolors='white',
        zorder=3,
    )
    reach = max(*(box[2:] - box[:2])) * 0.75 + 8
    x, y = (box[:2] + box[2:]) / 2
    panel.set_xlim(x - reach, x + reach)
    panel.set_ylim(y + reach, y - reach)
    width, height = box[2:] - box[:2]
    panel.set_title(f'{width:.0f} × {height:.0f} px', fontsize=8.5, loc='center')


def _draw_ious(panel, assignment: Assignment, candidates: Candidates, number: int, first: bool) -> None:
    """Draw the IoU of the candidates over the levels, positives filled."""
    levels = assignment.definition.levels
    level = np.asarray(candidates.level)
    iou = candidates.iou[number].numpy()
    positive = (assignment.gt_inds[candidates.prior[number]] == number + 1).numpy()
    # candidates of a level side by side, by IoU
    place = level + _spread_within(level, iou)
    colors = np.array([_level_color(item) for item in level])
    panel.scatter(
        place[~positive], iou[~positive], s=15, facecolors='none', edgecolors=colors[~positive], linewidths=0.8
    )
    panel.scatter(place[positive], iou[positive], s=20, c=colors[positive], zorder=3)
    threshold, mean = float(candidates.threshold[number]), float(candidates.mean[number])
    panel.axhline(mean, color=GREY, linestyle=':', linewidth=1.2)
    panel.axhline(threshold, color=ALARM, linewidth=1.2)
    panel.annotate(
        f'{threshold:.2f}',
        (1, threshold),
        (0, 2),
        xycoords=('axes fraction', 'data'),
        textcoords='offset points',
        ha='right',
        va='bottom',
        color=ALARM,
        fontsize=8,
    )
    panel.set_xticks(range(len(levels)), levels)
    panel.set_ylim(-0.03, 1)
    chosen = [levels[item] for item in sorted(set(level[positive]))]
    words = f'{positive.sum()} positives on {", ".join(chosen)}' if chosen else 'no positive'
    panel.set_title(words, fontsize=8, fontweight='normal', loc='center', color='#202020' if chosen else ALARM)
    if first:
        panel.set_ylabel('IoU of the candidates')


def _spread_within(level: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """Return offsets in [-0.35, 0.35] that set the candidates of a level side by side in the order of their IoU."""
    offsets = np.zeros(len(level))
    for item in np.unique(level):
        members = np.flatnonzero(level == item)
        offsets[members[np.argsort(-iou[members])]] = np.linspace(-0.35, 0.35, len(members))
    return offsets


def _level_color(level: int) -> str:
    return LEVEL_COLORS[int(level) % len(LEVEL_COLORS)]
