"""Batch K-Means by worker processes: prototypes go out by broadcast, local ones come back by shuffles.

    from orchestra.kmeans import kmeans

    result = await kmeans(points, k=64, iterations=10, workers=4)

`run` holds the head's side, `worker` is the program of a worker process, `processes` starts, watches and ends
these. `maths`, `exchange`, `plan` and `cluster` are pure: the arithmetic, what travels, who does what, and
where.
"""

from orchestra.kmeans.cluster import RunningCluster
from orchestra.kmeans.result import EmptyClusterWarning, IterationRecord, KMeansResult
from orchestra.kmeans.run import kmeans

__all__ = ["EmptyClusterWarning", "IterationRecord", "KMeansResult", "RunningCluster", "kmeans"]
