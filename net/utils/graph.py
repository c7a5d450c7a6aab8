"""Adjacency matrices of skeletons.

V joints, K adjacency subsets.
"""

import numpy as np
from scipy.sparse.csgraph import shortest_path

from net.utils.layouts import get_skeleton
from net.utils.skeleton import Skeleton


class Graph:
    """Adjacency of a skeleton, split into subsets for which a graph convolution has separate weights.

    layout: see `get_skeleton`.
    strategy: `uniform` (one subset), `distance` (one subset per hop) or `spatial` (two per hop: senders at least as far
        from the centre as the receiver, and centripetal senders, which are nearer) after ST-GCN
        (Yan et al., AAAI 2018, section 3.3); `digraph` (self, towards the root, away from it) after CTR-GCN
        (Chen et al., ICCV 2021).
        The weights into a joint sum to 1 over all subsets (for `digraph`, in each subset).
    max_hop: joints at most this many bones apart are neighbours.

    A: (K, V, V) float64; A[k, v, w] is the weight from joint v to joint w.

    Raises ValueError for an unknown strategy, a max_hop below 1, or a max_hop other than 1 with `digraph`.
    """

    def __init__(self, layout: str | Skeleton, strategy: str = "spatial", *, max_hop: int = 1) -> None:
        if strategy not in _STRATEGIES:
            raise ValueError(f"unknown graph strategy {strategy!r}; give one of {', '.join(_STRATEGIES)}")
        if max_hop < 1 or (strategy == "digraph" and max_hop != 1):
            raise ValueError(
                f"max_hop {max_hop} with strategy {strategy!r}; give 1 (or more, but not for digraph)"
            )
        self.skeleton = get_skeleton(layout)
        self.A: np.ndarray = _STRATEGIES[strategy](self.skeleton, max_hop)


def _hops(skeleton: Skeleton, max_hop: int) -> np.ndarray:
    """(V, V) number of bones between two joints; infinite above max_hop."""
    joint, parent = np.array(skeleton.bones, dtype=int).reshape(-1, 2).T
    linked = np.zeros((skeleton.num_joint, skeleton.num_joint))
    linked[joint, parent] = 1
    hops = shortest_path(linked, directed=False, unweighted=True)
    return np.where(hops <= max_hop, hops, np.inf)


def _normalise_columns(adjacency: np.ndarray) -> np.ndarray:
    """The adjacency (..., V, V) with columns that sum to 1; columns of zeros stay."""
    degree = adjacency.sum(axis=-2, keepdims=True, dtype=float)
    return adjacency * np.divide(1, degree, out=np.zeros_like(degree), where=degree > 0)


def _uniform(skeleton: Skeleton, max_hop: int) -> np.ndarray:
    return _normalise_columns(np.isfinite(_hops(skeleton, max_hop)))[None]


def _distance(skeleton: Skeleton, max_hop: int) -> np.ndarray:
    hops = _hops(skeleton, max_hop)
    return np.stack([_uniform(skeleton, max_hop)[0] * (hops == hop) for hop in range(max_hop + 1)])


def _spatial(skeleton: Skeleton, max_hop: int) -> np.ndarray:
    hops = _hops(skeleton, max_hop)
    # As published, distances to the centre above max_hop are infinite, so such joints count as equally far.
    from_centre = hops[skeleton.centre]
    nearer = from_centre[:, None] < from_centre[None, :]
    rings = _distance(skeleton, max_hop)
    return np.stack([rings[0]] + [ring * side for ring in rings[1:] for side in (~nearer, nearer)])


def _digraph(skeleton: Skeleton, max_hop: int) -> np.ndarray:
    inward = np.zeros((skeleton.num_joint, skeleton.num_joint))
    for joint, parent in skeleton.bones:
        inward[parent, joint] = 1
    return _normalise_columns(np.stack([np.eye(skeleton.num_joint), inward, inward.T]))


_STRATEGIES = {"uniform": _uniform, "distance": _distance, "spatial": _spatial, "digraph": _digraph}
