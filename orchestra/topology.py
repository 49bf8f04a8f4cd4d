"""Racks, inferred from how long blocks took between pairs of nodes.

Owns the inference: times in, racks and a confidence out. Must not know where times come from, nor when they
are good enough to be acted on (`orchestra.controller.racks`). Pure: seeded, no clock; scikit-learn is loaded
when it is first needed, because that takes a second.

Theory of operation (Chowdhury et al. 2011, section 4.2; details that the paper leaves open are ours). Where
many blocks cross a link between racks at a time, each takes long; inside a rack it takes as long as the ports
let it. So:

1. *Distances* are logarithms of times, since a busy link makes them many times longer. A pair's two
   directions are averaged.
2. Pairs that were not seen are *completed* by a non-negative factorisation of low rank: nodes of one rack see
   the others alike.
3. *Non-metric scaling* to two dimensions puts nodes near each other that are alike: only the order of
   distances counts, which no busy link upsets.
4. *Mixtures* of spherical Gaussians of one fixed variance propose a partition for each number of racks.
5. The distances have the last word. Each is a *vote*: that two nodes stand together, if it is about what is
   usual inside racks, or apart, if it is at least twice that; what was seen counts ten times as much as what
   was completed. From each proposal nodes move, and racks join, as long as more votes agree; the partition
   with which most agree is it. A node alone is a straggler, and goes with the rack that is nearest.

The paper takes the number of racks by which the mixture has the least Bayesian information criterion
(`least_criterion`). That sees one scale: where links between racks differ much in load, as they do in a line,
it takes racks for one that are near each other beside others that are far (docs/decisions/0019).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]

LEAST_NODES = 4
"""With fewer there are no racks to tell apart: two pairs that differ say nothing (a guess)."""

NEAR_FACTOR = 1.5
"""A distance up to so many times the usual one inside racks speaks for one rack, and the more the less it is
(a guess: two streams that share a port unevenly differ by that for a while)."""

LEAST_SPREAD, MOST_SPREAD = 0.15, 0.4
"""Of logarithms of times inside racks, as far as it is believed: from a seventh to a half (guesses: medians
of noisy times, and two to four streams at a port)."""

LEAST_RANGE = 1.0
"""Of logarithms of times between racks (a guess: a factor of three)."""

MOST_VOTE = 4.0
"""One distance, however far off, counts for no more (a guess: two that disagree outweigh it)."""

COMPLETED_SHARE = 0.1
"""What a completed distance counts beside one that was seen (a guess)."""

ROUNDS = 20
"""Of moving nodes, and of finding out what is usual (a guess: two or three are usual)."""

RANK, COMPLETION_STEPS, LEAST_VALUE = 16, 200, 1e-9
"""Of the factorisation (guesses: more ranks fit noise where half the pairs are seen; 100 steps gave the
same)."""

SCALING_STEPS = 300
"""Of the scaling (scikit-learn's own default)."""

SPREAD = 0.3
"""Of a rack's nodes in the plane, as a share of all nodes' root mean square distance from their middle: the
mixture's fixed variance."""

MIXTURE_STEPS, LEAST_GAIN = 50, 1e-6
"""Most rounds of a mixture, and what each has to gain of likelihood (guesses: ten rounds are usual)."""

MOST_RACKS = 40
"""Tried at most (a guess: what a cluster of a thousand has)."""

MOST_MARGIN = 100.0
"""Of votes: what has more is as sure as can be, as is a node where there is but one rack."""

LEAST_PAIRS = 2
"""Pairs that a node must have been seen in, to be given a rack (a guess)."""

SURE = 0.6
"""Confidence from which racks are believed at once, and below which some are joined (measured: what was
inferred from 2, 3 and 10 broadcasts to 30 simulated nodes, nothing joined, had less than 0.31 where it was
wrong, and at least 0.82 where it was right from 3 or more)."""

SURE_VOTES_A_NODE, SURE_VOTES_A_RACK = 4.0, 16.0
"""Votes by which a node's place, and that two racks are two, is 63 % sure (guesses: two distances that were
seen and are far off, and eight)."""


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """What was inferred.

    Attributes:
        racks: for each node the number of its rack, from 0 in the order of their first nodes; -1 where too
            little was seen of it, or too little of it with its like to tell which.
        likeliest: the same, but that a node of the latter kind is in the rack that completion puts nearest.
        confidence: 0 to 1: that these racks, and not the next best, are right; and how well the times of the
            node that fits worst agree with them.
        between: the two racks between which what is least sure lies, if it is between two.
        positions: n x 2, of the nodes in the plane; those of no rack are there as well.
        distances: r x r, how many times as long as inside a rack blocks take between two; 1 on the diagonal.
    """

    racks: tuple[int, ...]
    likeliest: tuple[int, ...]
    confidence: float
    between: tuple[int, int] | None
    positions: Floats
    distances: Floats

    @property
    def count(self) -> int:
        """Racks."""
        return len(self.distances)


def infer(times: Floats, seed: int = 0) -> Inferred:
    """Which nodes stand in one rack.

    Args:
        times: n x n, what a block takes to each node from each other, in any unit, all for blocks of one size
            under about the same load; NaN where it was not seen. The diagonal does not count.
        seed: of the factorisation, the scaling and the mixtures.

    Raises:
        ValueError: for times that are no square, or not above 0.
    """
    times = np.array(times, dtype=float)
    if times.ndim != 2 or times.shape[0] != times.shape[1]:
        raise ValueError(f"times must be n x n, got {times.shape}")
    np.fill_diagonal(times, np.nan)
    if (times[~np.isnan(times)] <= 0).any():
        raise ValueError("times must be above 0")
    seen = symmetric_distances(times)
    known = _seen_enough(seen)
    positions = np.zeros((len(times), 2))
    racks = np.full(len(times), -1, dtype=np.intp)
    if len(known) < LEAST_NODES:
        racks[known] = 0
        alike = tuple(map(int, racks))
        return Inferred(alike, alike, 0.0, None, positions, np.ones((1, 1)))
    distances = seen[np.ix_(known, known)]
    full = complete(distances, seed)
    plane = project(full, seed)
    alone, votes = _best_partition(distances, full, plane, seed)
    alone, confidence, between = _finest_sure(votes, alone)
    labels = _without_loners(alone, distances, votes)
    if between is not None:
        between = (int(labels[alone == between[0]][0]), int(labels[alone == between[1]][0]))
    racks[known] = labels
    positions[known] = plane
    likeliest = racks.copy()
    for node in np.flatnonzero(labels < 0):
        near = [float(full[node, labels == rack].mean()) for rack in range(int(labels.max()) + 1)]
        likeliest[known[node]] = int(np.argmin(near))
    return Inferred(
        tuple(map(int, racks)),
        tuple(map(int, likeliest)),
        confidence,
        between,
        positions,
        _apart(full, labels),
    )


def _seen_enough(seen: Floats) -> Labels:
    """Nodes that were seen in `LEAST_PAIRS` pairs with others of these."""
    known = np.arange(len(seen), dtype=np.intp)
    while True:
        pairs = (~np.isnan(seen[np.ix_(known, known)])).sum(axis=1)
        if (pairs >= LEAST_PAIRS).all():
            return known
        known = known[pairs >= LEAST_PAIRS]


# -- distances ---------------------------------------------------------------------------------------


def soonest(times: Floats) -> float:
    """What a node's nearest usually takes; NaN where nothing was seen. Unlike the median inside racks it says
    the same whichever racks are believed in."""
    nearest = [float(np.nanmin(row)) for row in times if not np.isnan(row).all()]
    return float(np.median(nearest)) if nearest else math.nan


def symmetric_distances(times: Floats) -> Floats:
    """Logarithms of times, the mean of both directions where both were seen; NaN on the diagonal.

    Nothing is nearer than a node's nearest is usually: a block that came sooner was there when it was looked
    for.
    """
    if np.isnan(times).all():
        return times
    logs = np.log(np.maximum(times, soonest(times)))
    both = np.stack([logs, logs.T])
    seen = ~np.isnan(both)
    count = seen.sum(axis=0)
    total = np.where(seen, both, 0.0).sum(axis=0)
    result: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result


def complete(distances: Floats, seed: int = 0) -> Floats:
    """Fill in what was not seen: masked non-negative factorisation (Lee and Seung 2001, with weights 0 and
    1)."""
    mask = ~np.isnan(distances)
    least = float(np.nanmin(distances))
    values = np.where(mask, distances - least, 0.0)
    size = len(distances)
    rank = min(RANK, size)
    rng = np.random.default_rng(seed)
    scale = math.sqrt(max(float(values[mask].mean()), LEAST_VALUE) / rank)
    left, right = (scale * (0.5 + rng.random((size, rank))) for _ in range(2))
    for _ in range(COMPLETION_STEPS):
        left *= (values @ right) / (np.where(mask, left @ right.T, 0.0) @ right + LEAST_VALUE)
        right *= (values.T @ left) / (np.where(mask, left @ right.T, 0.0).T @ left + LEAST_VALUE)
    guess = left @ right.T
    full: Floats = least + np.where(mask, values, (guess + guess.T) / 2)
    return full


def project(distances: Floats, seed: int = 0) -> Floats:
    """Non-metric multidimensional scaling to the plane (Kruskal 1964), from where classical scaling puts
    nodes."""
    from sklearn.manifold import smacof

    size = len(distances)
    distances = distances - distances.min() + LEAST_VALUE
    np.fill_diagonal(distances, 0.0)
    centred = np.eye(size) - 1 / size
    values, vectors = np.linalg.eigh(-centred @ distances**2 @ centred / 2)
    start = vectors[:, -2:] * np.sqrt(np.maximum(values[-2:], LEAST_VALUE))
    placed, _ = smacof(
        distances,
        metric=False,
        n_components=2,
        init=start,
        n_init=1,
        max_iter=SCALING_STEPS,
        random_state=seed,
        normalized_stress=True,
    )
    plane: Floats = placed - placed.mean(axis=0)
    return plane


# -- partitions --------------------------------------------------------------------------------------


def mixture(points: Floats, count: int, seed: int = 0, spread: float = SPREAD) -> tuple[Labels, float]:
    """Fit ``count`` spherical Gaussians of one fixed variance (scikit-learn's cannot hold it fixed).

    Args:
        points: n x 2.
        count: of Gaussians, at most n.
        seed: of where they begin (k-means++).
        spread: their standard deviation, as a share of the points' root mean square distance from their
            middle.

    Returns:
        The most likely one for each point, and the Bayesian information criterion.
    """
    from sklearn.cluster import KMeans

    shares = np.eye(count)[KMeans(count, n_init=4, random_state=seed).fit(points).labels_]
    radius = math.sqrt(float((points**2).sum(axis=1).mean()))
    variance = max((spread * radius) ** 2, LEAST_VALUE)
    likelihood = -math.inf
    for _ in range(MIXTURE_STEPS):
        weight = shares.sum(axis=0) + LEAST_VALUE
        centres = shares.T @ points / weight[:, None]
        squares = ((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2)
        scores = np.log(weight / weight.sum()) - squares / (2 * variance) - math.log(2 * math.pi * variance)
        most = scores.max(axis=1, keepdims=True)
        totals = most[:, 0] + np.log(np.exp(scores - most).sum(axis=1))
        shares = np.exp(scores - totals[:, None])
        former, likelihood = likelihood, float(totals.sum())
        if likelihood - former < LEAST_GAIN:
            break
    criterion = (3 * count - 1) * math.log(len(points)) - 2 * likelihood
    return in_order(shares.argmax(axis=1)), criterion


def least_criterion(plane: Floats, seed: int = 0) -> Labels:
    """The paper's choice: the mixture with the least Bayesian information criterion."""
    fits = [mixture(plane, count, seed) for count in _counts(len(plane))]
    return min(fits, key=lambda fit: fit[1])[0]


def _counts(nodes: int) -> range:
    return range(1, min(MOST_RACKS, nodes // 2) + 1)


def in_order(labels: Labels) -> Labels:
    """The same partition, its parts numbered from 0 in the order of their first nodes."""
    _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.intp)
    order[np.argsort(first)] = np.arange(len(first))
    return order[labels]


def _best_partition(distances: Floats, full: Floats, plane: Floats, seed: int) -> tuple[Labels, Floats]:
    """The partition with which most votes agree, and the votes; stragglers are alone in it.

    What is usual inside racks shows only once there are some. It is guessed to be what each node has with its
    nearest, and looked at again.
    """
    seen = ~np.isnan(distances)
    proposals = [mixture(plane, count, seed)[0] for count in _counts(len(plane))]
    usual = float(np.median(np.sort(full + np.diag(np.full(len(full), np.inf)), axis=1)[:, 0]))
    spread = MOST_SPREAD
    labels = proposals[0]
    for turn in range(ROUNDS):
        votes = _votes(full, usual, spread)
        votes = np.where(seen, votes, COMPLETED_SHARE * np.maximum(votes, 0.0))
        np.fill_diagonal(votes, 0.0)
        former = labels
        found = [_improved(votes, proposal) for proposal in [*proposals, former, _contracted(votes)]]
        labels = min(found, key=lambda part: _disagreement(votes, part))
        inside = distances[seen & (labels[:, None] == labels[None, :])]
        if not len(inside) or (turn and (labels == former).all()):
            break
        usual = float(np.median(inside))
        spread = float(np.clip(np.abs(inside - usual).mean(), LEAST_SPREAD, MOST_SPREAD))
    return in_order(labels), votes


def _votes(full: Floats, usual: float, spread: float) -> Floats:
    """What each distance says: above 0 that two nodes stand apart, below that they stand together.

    It is by how much likelier the one is: inside racks, distances above the usual one are spread as a Laplace
    distribution; between racks all are alike likely, from `NEAR_FACTOR` on.
    """
    far = usual + math.log(NEAR_FACTOR)
    spans = max(LEAST_RANGE, float(full.max()) - far)
    votes = (np.maximum(full - usual, 0.0) - np.maximum(far - full, 0.0)) / spread
    result: Floats = np.clip(votes + math.log(2 * spread / spans), -MOST_VOTE, MOST_VOTE)
    return result


def _disagreement(votes: Floats, labels: Labels) -> float:
    """The sum of votes inside racks: the less the better."""
    return float(votes[labels[:, None] == labels[None, :]].sum())


def _contracted(votes: Floats) -> Labels:
    """Join nodes to racks, those first that most votes want together (greedy edge contraction: Keuper et al.
    2015)."""
    labels = np.arange(len(votes))
    totals = votes.copy()
    np.fill_diagonal(totals, np.inf)
    while True:
        one, other = sorted(divmod(int(totals.argmin()), len(totals)))
        if totals[one, other] >= 0:
            return in_order(labels)
        labels[labels == other] = one
        joined = totals[one] + totals[other]
        totals[one], totals[:, one] = joined, joined
        totals[one, one] = np.inf
        totals[other], totals[:, other] = np.inf, np.inf


def _improved(votes: Floats, labels: Labels) -> Labels:
    """Move nodes to where most votes want them, a rack of their own included, and join racks, while any
    wants."""
    labels = labels.copy()
    for _ in range(ROUNDS):
        changed = False
        for node in range(len(labels)):
            totals = np.bincount(labels, weights=votes[node], minlength=int(labels.max()) + 2)
            best = int(totals.argmin())
            if totals[best] < totals[labels[node]] - LEAST_GAIN:
                labels[node], changed = best, True
        labels = in_order(labels)
        members = np.eye(int(labels.max()) + 1)[labels]
        between = members.T @ votes @ members
        np.fill_diagonal(between, np.inf)
        one, other = divmod(int(between.argmin()), len(between))
        if between[one, other] < 0:
            labels[labels == other], changed = one, True
            labels = in_order(labels)
        if not changed:
            break
    return labels


def _without_loners(labels: Labels, distances: Floats, votes: Floats) -> Labels:
    """Put each node that is alone into the rack that is nearest.

    That is one in which it was seen to be near to others, on average. Else it is the one that it was not seen
    with; where there are several of those it has none, -1. One that was seen to be far from all is a
    straggler.
    """
    sizes = np.bincount(labels)
    large = np.flatnonzero(sizes > 1)
    if not len(large):
        return np.zeros_like(labels)
    result = labels.copy()
    for node in np.flatnonzero(sizes[labels] == 1):
        seen = ~np.isnan(distances[node])
        met = {int(rack): seen & (labels == rack) for rack in large}
        left = [rack for rack in met if not met[rack].any()]
        nearest = min(
            met.keys() - left, key=lambda rack: float(distances[node, met[rack]].mean()), default=-1
        )
        if left and (nearest < 0 or votes[node, met[nearest]].mean() >= 0):
            nearest = left[0] if len(left) == 1 else -1
        result[node] = nearest
    placed = result >= 0
    result[placed] = in_order(result[placed])
    return result


def _finest_sure(votes: Floats, labels: Labels) -> tuple[Labels, float, tuple[int, int] | None]:
    """A partition if it is sure; else racks between which the least sure node stands, or of which it is least
    sure that they are two, are joined, down to two. What never is sure comes back as it was. With the
    confidence, and between which two racks that lies."""
    confidence, between = _confidence(votes, labels)
    joined, sure, least = labels, confidence, between
    while sure < SURE and least is not None and (np.bincount(joined) > 1).sum() > 2:
        joined = in_order(np.where(joined == least[1], least[0], joined))
        sure, least = _confidence(votes, joined)
    return (joined, sure, least) if sure >= SURE else (labels, confidence, between)


def _confidence(votes: Floats, labels: Labels) -> tuple[float, tuple[int, int] | None]:
    """How sure the least sure part of a partition is: of each node the share of votes that agree, and by how
    many votes it stands where it does and not in the next best rack; of two racks, by how many they are two.
    Nodes that are alone do not count: those of stragglers agree with nothing.

    Returns:
        That, and between which racks it lies, if it does between two.
    """
    large = np.flatnonzero(np.bincount(labels) > 1)
    if not len(large):
        return 0.0, None
    counted = np.isin(labels, large)
    votes, own = votes[np.ix_(counted, counted)], np.searchsorted(large, labels[counted])
    nodes, members = np.arange(len(own)), np.eye(len(large))[own]
    against = np.where(own[:, None] == own[None, :], votes, -votes)
    disagreeing = np.maximum(against, 0.0) @ members  # by node and rack
    share = 1 - disagreeing.sum(axis=1) / np.maximum(np.abs(votes).sum(axis=1), LEAST_VALUE)
    totals = votes @ members
    staying = totals[nodes, own]
    totals[nodes, own] = np.inf
    margins = np.clip(totals.min(axis=1) - staying, 0.0, MOST_MARGIN)
    apart = members.T @ votes @ members
    np.fill_diagonal(apart, np.inf)
    least, worst = int(share.argmin()), int(margins.argmin())
    one, other = divmod(int(apart.argmin()), len(large))
    sure = [
        (float(share[least]), own[least], int(disagreeing[least].argmax())),
        (1 - math.exp(-margins[worst] / SURE_VOTES_A_NODE), own[worst], int(totals[worst].argmin())),
        (1 - math.exp(-max(0.0, float(apart[one, other])) / SURE_VOTES_A_RACK), one, other),
    ]
    confidence, one, other = min(sure, key=lambda each: each[0])
    return confidence, None if one == other else (int(large[one]), int(large[other]))


def _apart(full: Floats, labels: Labels) -> Floats:
    """r x r, how many times as long blocks take between two racks as inside racks."""
    racks = int(labels.max()) + 1
    medians = np.array(
        [
            [np.median(full[np.ix_(labels == one, labels == other)]) for other in range(racks)]
            for one in range(racks)
        ]
    )
    apart = np.maximum(medians - np.median(np.diag(medians)), 0.0)
    np.fill_diagonal(apart, 0.0)
    result: Floats = np.exp(apart)
    return result


def nearest_order(distances: Floats, first: int) -> list[int]:
    """Racks in the order of a walk that goes to the nearest that is left, from the first on."""
    order, left = [first], [rack for rack in range(len(distances)) if rack != first]
    while left:
        order.append(min(left, key=lambda rack: distances[order[-1], rack]))
        left.remove(order[-1])
    return order


def as_groups(racks: Mapping[str, int | None]) -> list[list[str]]:
    """Names by rack, in the order of their numbers; those of none are left out."""
    groups: dict[int, list[str]] = {}
    for name, rack in racks.items():
        if rack is not None:
            groups.setdefault(rack, []).append(name)
    return [groups[rack] for rack in sorted(groups)]
