"""Where the states and edges of one machine go on a drawing: layers from top to bottom.

Longest-path layering, as in the textbooks (Sugiyama): an edge that closes a loop is left out and drawn at the
side, every other one leads to a lower layer. Between two layers of states lies one for labels, so that a label
takes room like a state and covers nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from asl_tools.states import Edge

COLUMN_GAP = 24
LAYER_GAP = 18
LANE_GAP = 14
CORNER = 8

Point = tuple[float, float]


@dataclass(frozen=True)
class Size:
    width: float
    height: float


@dataclass(eq=False)
class Box:
    """A state, a label, or the place where a long edge passes a layer. `x` is its middle, `y` its top."""

    size: Size
    layer: int
    x: float = 0
    y: float = 0
    above: list["Box"] = field(default_factory=list)
    below: list["Box"] = field(default_factory=list)

    @property
    def left(self) -> float:
        return self.x - self.size.width / 2

    @property
    def right(self) -> float:
        return self.x + self.size.width / 2

    @property
    def bottom(self) -> float:
        return self.y + self.size.height


@dataclass(frozen=True)
class Band:
    """The height that a layer takes."""

    top: float
    bottom: float


@dataclass(frozen=True)
class Route:
    """A drawn edge: an SVG path, the tip of its arrow, which points down, and the top middle of its label."""

    edge: Edge
    path: str
    tip: Point
    label: Point


@dataclass(frozen=True)
class Layout:
    """The places of all states by name, the routes of all edges, and the rectangle that they fill."""

    states: Mapping[str, Box]
    routes: Sequence[Route]
    left: float
    top: float
    size: Size


def layout(start: str, states: Mapping[str, Size], edges: Sequence[Edge], labels: Mapping[Edge, Size]) -> Layout:
    """Places one machine.

    Args:
        start: the state where it starts.
        states: the size of each state.
        edges: those between these states.
        labels: the size of each edge's label; an edge that is missing here has none.
    """
    order, loops = _walk(start, states, edges)
    forward = [edge for edge in edges if edge not in loops]
    boxes = {name: Box(states[name], layer) for name, layer in _layer_numbers(order, forward).items()}
    chains = {edge: _chain(boxes[edge.source], boxes[edge.target], labels.get(edge)) for edge in forward}

    layers: dict[int, list[Box]] = defaultdict(list)
    for box in [*boxes.values(), *(box for chain in chains.values() for box in chain[1:-1])]:
        layers[box.layer].append(box)
    _order(layers)
    _set_x(layers)
    bands = _set_y(layers, [(boxes[edge.source].layer, boxes[edge.target].layer) for edge in loops])
    lanes = _lanes(loops, boxes, layers, labels)

    starts = _ports(
        [(edge, chain[0], chain[1].x) for edge, chain in chains.items()]
        + [(edge, boxes[edge.source], x) for edge, x in lanes.items()]
    )
    ends = _ports(
        [(edge, chain[-1], chain[-2].x) for edge, chain in chains.items()]
        + [(edge, boxes[edge.target], x) for edge, x in lanes.items()]
    )
    routes = [_forward_route(edge, chain, bands, starts[edge], ends[edge]) for edge, chain in chains.items()]
    # Loops that leave or enter the same layer keep apart there.
    leaving: Counter[int] = Counter()
    entering: Counter[int] = Counter()
    for edge, lane in lanes.items():
        source, target = boxes[edge.source], boxes[edge.target]
        below = bands[source.layer].bottom + LANE_GAP * (leaving[source.layer] + 0.8)
        above = bands[target.layer].top - LANE_GAP * (entering[target.layer] + 1.2)
        leaving[source.layer] += 1
        entering[target.layer] += 1
        routes.append(_loop_route(edge, starts[edge], source.bottom, below, lane, above, ends[edge], target.y))

    sides = [x for row in layers.values() for box in row for x in (box.left, box.right)]
    for edge, lane in lanes.items():
        half = _half(labels.get(edge))
        sides += [lane - half, lane + half]
    # The room for loops above the first and below the last layer.
    top = -LANE_GAP * sum(boxes[edge.target].layer == 0 for edge in loops) + bands[0].top
    last = max(bands)
    bottom = bands[last].bottom + LANE_GAP * sum(boxes[edge.source].layer == last for edge in loops)
    return Layout(boxes, routes, min(sides), top, Size(max(sides) - min(sides), bottom - top))


def _walk(start: str, names: Iterable[str], edges: Sequence[Edge]) -> tuple[list[str], list[Edge]]:
    """The states so that every edge leads forward, but for those that close a loop: these are given back too."""
    leaving: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        leaving[edge.source].append(edge)
    loops: list[Edge] = []
    on_the_way: set[str] = set()
    finished: dict[str, None] = {}

    def visit(name: str) -> None:
        on_the_way.add(name)
        # The last one visited stands first in the order, and so on the left: begin with the least important.
        for edge in reversed(leaving[name]):
            if edge.target in on_the_way:
                loops.append(edge)
            elif edge.target not in finished:
                visit(edge.target)
        on_the_way.remove(name)
        finished[name] = None

    for name in (start, *names):
        if name not in finished:
            visit(name)
    return list(reversed(finished)), loops


def _layer_numbers(order: Sequence[str], forward: Sequence[Edge]) -> dict[str, int]:
    """States stand on even layers, as far down as the longest way to them wants it; labels on odd ones."""
    layers = dict.fromkeys(order, 0)
    for name in order:
        for edge in forward:
            if edge.source == name:
                layers[edge.target] = max(layers[edge.target], layers[name] + 2)
    return layers


def _chain(source: Box, target: Box, label: Size | None) -> list[Box]:
    """The boxes that a forward edge goes through, both ends included; its label is the first between them."""
    between = [Box(Size(8, 0), layer) for layer in range(source.layer + 1, target.layer)]
    if label:
        between[0].size = label
    chain = [source, *between, target]
    for upper, lower in pairwise(chain):
        upper.below.append(lower)
        lower.above.append(upper)
    return chain


def _order(layers: Mapping[int, list[Box]]) -> None:
    """Sorts each layer by where its neighbours are, down and up in turn, so that few edges cross."""
    numbers = sorted(layers)
    for sweep in range(12):
        for number in numbers if sweep % 2 == 0 else reversed(numbers):
            row = layers[number]
            row.sort(key=lambda box: _mean([other.x for other in (box.below if sweep % 2 else box.above)], box.x))
            for index, box in enumerate(row):
                box.x = index


def _set_x(layers: Mapping[int, list[Box]]) -> None:
    """Draws each box towards the mean of its neighbours, as far as the order and the gaps allow."""
    numbers = sorted(layers)
    for box in (box for row in layers.values() for box in row):
        box.x = 0
    for sweep in range(30):
        for number in numbers if sweep % 2 == 0 else reversed(numbers):
            row = layers[number]
            wishes = []
            for box in row:
                near = box.above if sweep % 2 == 0 else box.below
                # The last sweeps look both ways, which straightens what is left.
                wishes.append(_mean([other.x for other in (box.above + box.below if sweep > 20 else near)], box.x))
            for box, x in zip(row, _apart(row, wishes), strict=True):
                box.x = x
    # What follows alone on something that leads nowhere else goes straight below it.
    for number in numbers[1:]:
        row = layers[number]
        wishes = [box.above[0].x if len(box.above) == 1 and len(box.above[0].below) == 1 else box.x for box in row]
        for box, x in zip(row, _apart(row, wishes), strict=True):
            box.x = x


def _apart(row: Sequence[Box], wishes: Sequence[float]) -> list[float]:
    """The places nearest to the wishes (least squares) that keep the order and the gaps of the row."""
    offsets = [0.0]
    for one, other in pairwise(row):
        offsets.append(offsets[-1] + (one.size.width + other.size.width) / 2 + COLUMN_GAP)
    # Pool adjacent violators: neighbours that would overlap move as one block, to their mean wish.
    blocks: list[tuple[float, int]] = []
    for wish, offset in zip(wishes, offsets, strict=True):
        mean, count = wish - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, size = blocks.pop()
            mean, count = (before * size + mean * count) / (size + count), size + count
        blocks.append((mean, count))
    starts = [mean for mean, count in blocks for _ in range(count)]
    return [start + offset for start, offset in zip(starts, offsets, strict=True)]


def _set_y(layers: Mapping[int, list[Box]], loops: Sequence[tuple[int, int]]) -> dict[int, Band]:
    """Stacks the layers; a loop needs room below the layer that it leaves and above the one that it enters."""
    bands: dict[int, Band] = {}
    y = 0.0
    for number in sorted(layers):
        y += LANE_GAP * sum(target == number for _, target in loops)
        height = max(box.size.height for box in layers[number])
        bands[number] = Band(y, y + height)
        for box in layers[number]:
            box.y = y + (height - box.size.height) / 2
        y += height + LAYER_GAP + LANE_GAP * sum(source == number for source, _ in loops)
    return bands


def _lanes(
    loops: Sequence[Edge],
    boxes: Mapping[str, Box],
    layers: Mapping[int, list[Box]],
    labels: Mapping[Edge, Size],
) -> dict[Edge, float]:
    """For each loop the x of its way back, beside all that it passes, on the nearer side; short loops inside."""
    lanes: dict[Edge, float] = {}
    taken: list[tuple[float, float]] = []
    for edge in sorted(loops, key=lambda edge: boxes[edge.source].layer - boxes[edge.target].layer):
        source, target = boxes[edge.source], boxes[edge.target]
        passed = [box for number in layers if target.layer <= number <= source.layer for box in layers[number]]
        left = min([box.left for box in passed] + [left for left, _ in taken])
        right = max([box.right for box in passed] + [right for _, right in taken])
        half = _half(labels.get(edge))
        nearer_left = source.x + target.x - 2 * left < 2 * right - source.x - target.x
        lanes[edge] = left - LANE_GAP - half if nearer_left else right + LANE_GAP + half
        taken.append((lanes[edge] - half, lanes[edge] + half))
    return lanes


def _ports(joints: Sequence[tuple[Edge, Box, float]]) -> dict[Edge, float]:
    """Where along a box its edges begin (or end): side by side, in the order of where they go to."""
    by_box: dict[Box, list[tuple[float, Edge]]] = defaultdict(list)
    for edge, box, towards in joints:
        by_box[box].append((towards, edge))
    ports = {}
    for box, joined in by_box.items():
        step = min(20, box.size.width * 0.6 / len(joined))
        for index, (_, edge) in enumerate(sorted(joined, key=lambda pair: pair[0])):
            ports[edge] = box.x + (index - (len(joined) - 1) / 2) * step
    return ports


def _forward_route(edge: Edge, chain: Sequence[Box], bands: Mapping[int, Band], start: float, end: float) -> Route:
    """Straight through the layers, curved between them."""
    label = chain[1]
    chain = [chain[0], *(b for a, b, c in zip(chain, chain[1:], chain[2:], strict=False) if _turns(a, b, c)), chain[-1]]
    x, path = start, f"M{start:.1f},{chain[0].bottom:.1f}"
    for upper, lower in pairwise(chain):
        y1, y2 = bands[upper.layer].bottom, bands[lower.layer].top
        next_x = end if lower is chain[-1] else lower.x
        path += f" V{y1:.1f} C{x:.1f},{(y1 + y2) / 2:.1f} {next_x:.1f},{(y1 + y2) / 2:.1f} {next_x:.1f},{y2:.1f}"
        x = next_x
    return Route(edge, f"{path} V{chain[-1].y:.1f}", (end, chain[-1].y), (label.x, label.y))


def _turns(before: Box, box: Box, after: Box) -> bool:
    """Whether a curve from before to after would miss this place between them by much, or it is a label."""
    return box.size.height > 0 or abs(box.x - (before.x + after.x) / 2) > CORNER


def _loop_route(
    edge: Edge, start: float, bottom: float, below: float, lane: float, above: float, end: float, top: float
) -> Route:
    """Out below the source, along the lane, in above the target, with rounded corners."""
    points = [(start, bottom), (start, below), (lane, below), (lane, above), (end, above), (end, top)]
    path = f"M{start:.1f},{bottom:.1f}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        one, other = _towards(corner, before), _towards(corner, after)
        path += f" L{one[0]:.1f},{one[1]:.1f} Q{corner[0]:.1f},{corner[1]:.1f} {other[0]:.1f},{other[1]:.1f}"
    return Route(edge, f"{path} L{end:.1f},{top:.1f}", (end, top), (lane, (above + below) / 2))


def _towards(corner: Point, other: Point) -> Point:
    """The point where a rounded corner begins."""
    (x, y), (to_x, to_y) = corner, other
    length = abs(to_x - x) + abs(to_y - y)
    share = min(CORNER / length, 0.5) if length else 0
    return x + (to_x - x) * share, y + (to_y - y) * share


def _half(label: Size | None) -> float:
    return label.width / 2 if label else 0


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
