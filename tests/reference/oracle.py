"""What the sample definitions say, as plain loops: Algorithm 1 of the paper and its neighbours.

Written from the paper (arXiv:1912.02424v4) and its recipe, not from the assigners. Everything is computed in
float64 on the numbers given, ground truth by ground truth and level by level; numpy only sorts a level by
distance. Every function returns an ``Answer``.

Legend: N priors, G ground truths, A anchors per location.
"""

import math
from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

INSIDE = 0.01  # a centre is inside a box if all four distances to its sides exceed this many pixels
BACKGROUND, IGNORED = 0, -1


@dataclass
class Scene:
    """One image: boxes as float64 arrays, priors in order of their levels.

    Attributes:
        priors (ndarray): (N, 4) boxes [x1, y1, x2, y2].
        num_level_priors (Sequence[int]): Priors of each level, in order; sums to N.
        gts (ndarray): (G, 4) ground truths.
        points (ndarray, optional): (N, 2) anchor point of each prior, shared by the anchors of a
            location; default: its centre.
        anchors_per_location (Sequence[int]): A of each level; the anchors of a location are neighbours.
        ignored (ndarray): (I, 4) regions to ignore.
        tol (float): Coordinates that differ relatively by less, without being equal, depend on rounding; what
            hangs on one of them is not ``clear``.
        iou_tol (float): The same for IoU.
    """

    priors: np.ndarray
    num_level_priors: Sequence[int]
    gts: np.ndarray
    points: Optional[np.ndarray] = None
    anchors_per_location: Optional[Sequence[int]] = None
    ignored: Sequence = ()
    tol: float = 1e-12
    iou_tol: float = 1e-12

    def __post_init__(self):
        self.priors = np.asarray(self.priors, dtype=np.float64).reshape(-1, 4)
        self.gts = np.asarray(self.gts, dtype=np.float64).reshape(-1, 4)
        self.ignored = np.asarray(self.ignored, dtype=np.float64).reshape(-1, 4)
        if self.points is None:
            self.points = (self.priors[:, :2] + self.priors[:, 2:]) / 2
        self.points = np.asarray(self.points, dtype=np.float64)
        if self.anchors_per_location is None:
            self.anchors_per_location = [1] * len(self.num_level_priors)
        assert sum(self.num_level_priors) == len(self.priors) == len(self.points)

    def levels(self) -> List[range]:
        """The indices of every level's priors."""
        ends = np.cumsum(self.num_level_priors).tolist()
        return [range(end - n, end) for end, n in zip(ends, self.num_level_priors)]


class Answer(NamedTuple):
    """gt_inds (N,): 0, -1 or i + 1; clear (N,): False where rounding, not the definition, decides."""

    gt_inds: np.ndarray
    clear: np.ndarray


class Claim(NamedTuple):
    """A ground truth wants a prior; of several the smallest (cost, gt) gets it."""

    prior: int
    gt: int
    cost: float


def area(box) -> float:
    """Continuous area; 0 for a box that is turned inside out."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def intersection(a, b) -> float:
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def iou(a, b) -> float:
    shared = intersection(a, b)
    return shared / (area(a) + area(b) - shared) if shared > 0 else 0.0


def sides(point, box) -> Tuple[float, float, float, float]:
    """Distances of a point to the left, top, right and bottom side."""
    return point[0] - box[0], point[1] - box[1], box[2] - point[0], box[3] - point[1]


def box_center(box) -> Tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def undecided(values: np.ndarray, order: np.ndarray, num: int, tol: float) -> np.ndarray:
    """Which values compete so closely for the first num places that rounding decides; exact ties do not."""
    if len(order) <= num:
        return order[:0]
    rivals = order[np.abs(values[order] - values[order[num - 1]]) <= tol]
    alike = (values[rivals] == values[rivals[0]]).all()
    return order[:0] if alike or not set(rivals) - set(order[:num]) else rivals


def nearest(scene: Scene, level: range, anchors: int, gt, topk: int) -> Tuple[List[int], List[int]]:
    """Lines 3-6: all anchors of the topk locations nearest to the ground truth, ties to the lower prior.

    Returns:
        tuple: The candidates; and those priors of which rounding decides whether they are candidates.
    """
    locations = [level[i] for i in range(0, len(level), anchors)]
    if not locations:
        return [], []
    center = box_center(gt)
    d2 = ((scene.points[locations] - np.asarray(center)) ** 2).sum(axis=1)
    order = np.argsort(d2, kind='stable')
    distance = math.sqrt(d2[order[min(topk, len(order)) - 1]])
    doubtful = undecided(d2, order, topk, scene.tol * (1 + distance) * (1 + distance + max(np.abs(center))))

    def members(picks):
        return [locations[i] + a for i in sorted(picks) for a in range(anchors)]

    return members(order[:topk]), members(doubtful)


def all_nearest(scene: Scene, gt, topk: int) -> Tuple[List[int], List[int]]:
    """The candidates of all levels together."""
    found = [nearest(scene, level, a, gt, topk) for level, a in zip(scene.levels(), scene.anchors_per_location)]
    return [p for chosen, _ in found for p in chosen], [p for _, doubtful in found for p in doubtful]


def is_inside(scene: Scene, prior: int, gt, clear: np.ndarray, margin: float = INSIDE) -> bool:
    depth = min(sides(scene.points[prior], gt))
    if 0 < abs(depth - margin) <= scene.tol * max(1.0, np.abs(gt).max()):
        clear[prior] = False
    return depth > margin


def settle(scene: Scene, claims: List[Claim], gt_inds: np.ndarray, clear: np.ndarray) -> Answer:
    """Line 20: an anchor wanted by several ground truths goes to the best of them; then ignored regions."""
    wanted = {}
    for claim in claims:
        wanted.setdefault(claim.prior, []).append(claim)
    for prior, rivals in wanted.items():
        rivals.sort(key=lambda claim: (claim.cost, claim.gt))
        gt_inds[prior] = rivals[0].gt + 1
        if len(rivals) > 1:
            gap = rivals[1].cost - rivals[0].cost
            if 0 < gap <= max(scene.tol, scene.iou_tol) * max(1.0, abs(rivals[0].cost)):
                clear[prior] = False
    return Answer(gt_inds, clear)


def start(scene: Scene) -> Tuple[np.ndarray, np.ndarray]:
    n = len(scene.priors)
    return np.full(n, BACKGROUND, dtype=np.int64), np.ones(n, dtype=bool)


def ignore(scene: Scene, answer: Answer, iof_thr: float) -> Answer:
    """A prior of which more than iof_thr lies in one ignored region is ignored, whatever it was."""
    if iof_thr < 0:
        return answer
    for prior, box in enumerate(scene.priors):
        for region in scene.ignored:
            iof = intersection(box, region) / area(box) if area(box) > 0 else 0.0
            if 0 < abs(iof - iof_thr) <= scene.iou_tol:
                answer.clear[prior] = False
            if iof > iof_thr:
                answer.gt_inds[prior] = IGNORED
    return answer


def ignored_priors(scene: Scene, iof_thr: float) -> np.ndarray:
    return ignore(scene, Answer(*start(scene)), iof_thr).gt_inds == IGNORED


def threshold(ious: Sequence[float]) -> float:
    """Lines 7-10: mean + sample standard deviation; a single candidate, or equal ones, are their own."""
    if min(ious) == max(ious):
        return ious[0]  # whatever the rounding of a sum says
    mean = math.fsum(ious) / len(ious)
    return mean + math.sqrt(math.fsum((v - mean) ** 2 for v in ious) / (len(ious) - 1))


def top_up(scene: Scene, gt, missing: int, clear: np.ndarray, spare: dict) -> List[int]:
    """The next best of {prior: (outside, -IoU)}: those inside first, by IoU, ties to the lower prior."""
    if missing <= 0 or area(gt) <= 0:
        return []
    priors = np.array(sorted(p for p, rank in spare.items() if rank[1] < 0), dtype=int)
    ranks = np.array([10.0 * spare[p][0] + spare[p][1] for p in priors])
    order = np.argsort(ranks, kind='stable')
    clear[priors[undecided(ranks, order, missing, 2 * scene.iou_tol)]] = False
    return priors[order[:missing]].tolist()


def atss(scene: Scene, topk: int = 9, iof_thr: float = -1, min_positives: int = 0) -> Answer:
    """Algorithm 1."""
    gt_inds, clear = start(scene)
    hidden = ignored_priors(scene, iof_thr)
    claims = []
    for g, gt in enumerate(scene.gts):
        candidates, doubtful = all_nearest(scene, gt, topk)
        if doubtful:
            clear[candidates + doubtful] = False
        if not candidates:
            continue
        overlaps = {p: iou(scene.priors[p], gt) for p in candidates}
        limit = threshold(list(overlaps.values()))
        inside = {p: is_inside(scene, p, gt, clear) for p in candidates}
        for p in candidates:
            if len(set(overlaps.values())) > 1 and inside[p] and abs(overlaps[p] - limit) <= scene.iou_tol:
                clear[p] = False
        positives = [p for p in candidates if inside[p] and overlaps[p] >= limit and not hidden[p]]
        positives += top_up(
            scene,
            gt,
            min_positives - len(positives),
            clear,
            {p: (not inside[p], -overlaps[p]) for p in candidates if p not in positives and not hidden[p]},
        )
        claims += [Claim(p, g, -overlaps[p]) for p in positives]
    return ignore(scene, settle(scene, claims, gt_inds, clear), iof_thr)


def in_range(scene: Scene, prior: int, gt, bounds: Tuple[float, float], clear: np.ndarray) -> bool:
    """The scale constraint: the longest of the four distances lies in the level's range, ends included."""
    longest = max(sides(scene.points[prior], gt))
    for bound in bounds:
        if 0 < abs(longest - bound) <= scene.tol * max(1.0, np.abs(gt).max()):
            clear[prior] = False
    return bounds[0] <= longest <= bounds[1]


def spatial_scale(scene: Scene, ranges, iof_thr: float = -1) -> Answer:
    """FCOS's spatial and scale constraint; of several boxes the smallest."""
    gt_inds, clear = start(scene)
    claims = [
        Claim(p, g, area(gt))
        for level, bounds in zip(scene.levels(), ranges)
        for p in level
        for g, gt in enumerate(scene.gts)
        if is_inside(scene, p, gt, clear) and in_range(scene, p, gt, bounds, clear)
    ]
    return ignore(scene, settle(scene, claims, gt_inds, clear), iof_thr)


def center_sampling(scene: Scene, ranges, topk: int = 9, iof_thr: float = -1) -> Answer:
    """The lite version: the constraint above for the topk nearest points of a level only."""
    gt_inds, clear = start(scene)
    claims = []
    for level, anchors, bounds in zip(scene.levels(), scene.anchors_per_location, ranges):
        for g, gt in enumerate(scene.gts):
            candidates, doubtful = nearest(scene, level, anchors, gt, topk)
            clear[doubtful] = False
            claims += [
                Claim(p, g, area(gt))
                for p in candidates
                if is_inside(scene, p, gt, clear) and in_range(scene, p, gt, bounds, clear)
            ]
    return ignore(scene, settle(scene, claims, gt_inds, clear), iof_thr)


def radius_sampling(scene: Scene, ranges, radius: float, strides, iof_thr: float = -1) -> Answer:
    """FCOS's later variant: points strictly inside a square of radius strides, clipped to the box."""
    gt_inds, clear = start(scene)
    claims = []
    for level, (sx, sy), bounds in zip(scene.levels(), strides, ranges):
        for g, gt in enumerate(scene.gts):
            cx, cy = box_center(gt)
            square = np.array(
                [
                    max(cx - radius * sx, gt[0]),
                    max(cy - radius * sy, gt[1]),
                    min(cx + radius * sx, gt[2]),
                    min(cy + radius * sy, gt[3]),
                ]
            )
            claims += [
                Claim(p, g, area(gt))
                for p in level
                if is_inside(scene, p, square, clear, margin=0.0) and in_range(scene, p, gt, bounds, clear)
            ]
    return ignore(scene, settle(scene, claims, gt_inds, clear), iof_thr)


def iou_rule(scene: Scene, pos: float = 0.5, neg: float = 0.4, in_gt_box: bool = False, iof_thr: float = -1) -> Answer:
    """RetinaNet: two thresholds, and every ground truth's best priors rescued for their own best."""
    gt_inds, clear = start(scene)
    table = [[iou(prior, gt) for gt in scene.gts] for prior in scene.priors]
    own = [max(range(len(row)), key=lambda g: (row[g], -g)) if row else None for row in table]
    rescued = set()
    for g in range(len(scene.gts)):
        highest = max((row[g] for row in table), default=0.0)
        for p, row in enumerate(table):
            if highest > 0 and row[g] == highest:
                rescued.add(p)
            elif highest > 0 and highest - row[g] <= scene.iou_tol:
                clear[p] = False
            if 0 < row[own[p]] - row[g] <= scene.iou_tol:
                clear[p] = False
    for p, row in enumerate(table):
        best = row[own[p]] if row else 0.0
        if min(abs(best - pos), abs(best - neg)) <= scene.iou_tol and best not in (pos, neg):
            clear[p] = False
        if best >= pos or p in rescued:
            gt_inds[p] = own[p] + 1
            if in_gt_box and not is_inside(scene, p, scene.gts[own[p]], clear):
                gt_inds[p] = IGNORED
        elif best >= neg:
            gt_inds[p] = IGNORED
    return ignore(scene, Answer(gt_inds, clear), iof_thr)


def topk_iou(scene: Scene, topk: int = 9, iof_thr: float = -1) -> Answer:
    """The authors' fourth: k anchors of highest IoU - d / (1000 d_max) over all levels, centre inside."""
    gt_inds, clear = start(scene)
    claims = []
    distances = [[math.dist(center, box_center(gt)) for center in scene.points] for gt in scene.gts]
    farthest = max((d for row in distances for d in row), default=0.0)
    for g, gt in enumerate(scene.gts):
        overlaps = np.array([iou(prior, gt) for prior in scene.priors])
        quality = overlaps - np.array(distances[g]) / (1000 * farthest)
        order = np.argsort(-quality, kind='stable')
        clear[undecided(quality, order, topk, 2 * scene.iou_tol)] = False
        claims += [Claim(p, g, -overlaps[p]) for p in order[:topk] if is_inside(scene, p, gt, clear)]
    return ignore(scene, settle(scene, claims, gt_inds, clear), iof_thr)
