"""Who is there in a clip, beside its poses: networks are told, and where nobody says it, it is read off the zeros.

N clips, C channels, T frames, V joints, M bodies.
"""

from torch import Tensor, nn

from net.utils.channels import joints_there


def presence(x: Tensor, present: Tensor | None = None) -> Tensor:
    """Which bodies of clips x (N, C, T, V, M) are there in which frames, (N, M, T) bool: what is said of it.

    Where nothing is said, as of a clip from outside, a body is there in the frames in which it is not 0.
    """
    if present is not None:
        return present
    return (x != 0).permute(0, 4, 2, 3, 1).flatten(3).any(3)


def seen_joints(poses: Tensor, present: Tensor) -> Tensor:
    """Which joints of poses (..., V, C) are there, (..., V) bool: of bodies `present` (...), those not at 0."""
    return joints_there(poses) & present[..., None]


class Informed(nn.Module):
    """A network that is told who is there: it is called with clips (N, C, T, V, M) and their presence (N, M, T)."""


class Uninformed(Informed):
    """Calls a network that takes clips alone as those are called that are told who is there."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """What the network makes of x."""
        return self.network(x)


def informed(network: nn.Module) -> Informed:
    """A network as it can be told who is there, whether it asks or not."""
    return network if isinstance(network, Informed) else Uninformed(network)
