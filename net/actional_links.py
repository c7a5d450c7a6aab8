"""Actional links: which joint of a body acts on which, inferred from motion (AS-GCN, Li et al., CVPR 2019).

B bodies, T frames, C coordinates, V joints, P = V (V - 1) ordered pairs of different joints, H hidden units,
L link types without the type "no link". Pair p is (sender, receiver); pairs are sorted by sender, then by receiver.

The parameters have the names of the published weights. A linear layer on a pair of joints is the sum of one layer on
the sender and one on the receiver. These two run on V joints instead of P pairs.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.loss import at_least_float32, check_temperature
from net.utils.channels import num_predictable
from net.utils.clip import seen_joints
from net.utils.dropout import Dropout

# Prior probability of "no link", which keeps links few (section 3.2). The L link types share the rest equally.
NO_LINK = 0.95
# Column sum of an actional adjacency (the published code's decay).
LINK_SCALE = 0.1


class Links(NamedTuple):
    """Links of B bodies.

    logits: (B, P, 1 + L) of each pair's type, "no link" first.
    edges: (B, P, 1 + L), one-hot at the type that was drawn, with the gradients of the softmax; or the probabilities.
    """

    logits: Tensor
    edges: Tensor

    def adjacency(self) -> Tensor:
        """(B, L, V, V): the weight from joint v to joint w, with self-loops. Columns sum to `LINK_SCALE`."""
        grid = _linked(self.edges)
        grid = grid + torch.eye(grid.shape[3], dtype=grid.dtype, device=grid.device)
        return grid / grid.sum(2, keepdim=True) * LINK_SCALE


class ActionalLinks(nn.Module):
    """Infers links. It is trained to predict each next frame from the previous frame and the links.

    in_channels: C.
    channels: names of the C, see `net.utils.channels`; None if all are coordinates. Confidence is not predicted.
    num_frame: T, frames that links are inferred from.
    hidden: H.
    num_link: L.
    dropout: probability inside the MLPs and the decoder.
    temperature: of the Gumbel softmax (Jang et al., ICLR 2017).
    likeliest: in eval mode, give each pair its most probable type, as in the published code. If False, the
        probabilities are used. They are the mean of the draws in training. The most probable type soon is "no link" for
        every pair, because of the prior, although training draws links for a sixth of the pairs. The adjacency is
        normalised after the mean; the mean of normalised draws gives no better scores on NW-UCLA.

    Raises ValueError for fewer than two frames, other sizes below 1, a temperature that is not above 0, or `channels`
    that do not match in_channels.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_frame: int = 50,
        *,
        channels: str | None = None,
        hidden: int = 128,
        num_link: int = 2,
        dropout: float = 0.5,
        temperature: float = 0.5,
        likeliest: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"num_frame": (num_frame, 2), "hidden": (hidden, 1), "num_link": (num_link, 1)}
        for name, (value, least) in sizes.items():
            if value < least:
                raise ValueError(f"{name} is {value}; give {least} or more")
        check_temperature(temperature)
        self.num_frame, self.num_link = num_frame, num_link
        self.num_coordinate = num_predictable(channels, in_channels)
        self.temperature, self.likeliest = temperature, likeliest
        self.encoder = InteractionEncoder(in_channels * num_frame, hidden, 1 + num_link, dropout)
        self.decoder = InteractionDecoder(in_channels, hidden, 1 + num_link, dropout)

    def forward(self, poses: Tensor) -> Links:
        """Links of bodies (B, T, V, C).

        Training mode draws them at random. Eval mode gives the mean of the draws, or the most probable (`likeliest`).
        """
        logits = at_least_float32(self.encoder(poses.transpose(1, 2).flatten(2)))
        if self.training:
            return Links(logits, F.gumbel_softmax(logits, self.temperature, hard=True))
        if not self.likeliest:
            return Links(logits, logits.softmax(-1))
        soft = (logits / self.temperature).softmax(-1)
        hard = F.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)
        return Links(logits, hard - soft.detach() + soft)

    def nll(self, poses: Tensor, links: Links, present: Tensor, *, variance: float = 5e-4) -> Tensor:
        """Negative log-likelihood of each next frame of bodies (B, T, V, C), (): it trains the links.

        present: (B, T) bool, in which frames the bodies are present.

        Section 3.2, eq. 7: a Gaussian of `variance` (the view's unit, squared) around each predicted coordinate,
        without its constant. The loss is summed over time and coordinates, and averaged over present bodies and joints.
        A joint counts only if it is present in both frames, because appearing or disappearing is not motion.
        """
        predicted = at_least_float32(self.decoder(poses, links.edges))
        squared = (predicted - at_least_float32(poses[:, 1:])).square()[..., : self.num_coordinate]
        seen = seen_joints(poses, present)
        scored = seen[:, 1:] & seen[:, :-1]
        of_joint = (squared.sum(3) * scored).sum(1)
        return of_joint.sum() / scored.any(1).sum().clamp(min=1) / (2 * variance)

    def kl(self, poses: Tensor, links: Links, present: Tensor) -> Tensor:
        """KL divergence of the links of bodies (B, T, V, C) from the prior `NO_LINK`, (); see eq. 7 and `nll`."""
        prior = torch.full_like(links.logits[0, 0], (1 - NO_LINK) / self.num_link)
        prior[0] = NO_LINK
        log_p = links.logits.log_softmax(-1)
        of_body = (log_p.exp() * (log_p - prior.log())).sum((1, 2)) / poses.shape[2]
        is_present = present.any(1)
        return (of_body * is_present).sum() / is_present.sum().clamp(min=1)


class InteractionEncoder(nn.Module):
    """From trajectories of joints to logits of link types (section 3.2, eq. 3 and 4)."""

    def __init__(self, in_features: int, hidden: int, num_type: int, dropout: float) -> None:
        super().__init__()
        self.mlp1 = MLP(in_features, hidden, dropout)
        self.mlp2 = MLP(2 * hidden, hidden, dropout)
        self.mlp3 = MLP(hidden, hidden, dropout)
        self.mlp4 = MLP(3 * hidden, hidden, dropout)
        self.fc_out = nn.Linear(hidden, num_type)
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, V, T * C) to logits (B, P, types)."""
        joint = self.mlp1(x)
        pair = self.mlp2.of_pairs(joint)  # (B, P, H)
        num_joint = joint.shape[1]
        # As published, the sum over senders is divided by the number of all joints, V, and not by V - 1.
        joint = self.mlp3(_received(pair, num_joint) / num_joint)
        return self.fc_out(self.mlp4.of_pairs(joint, pair))


class InteractionDecoder(nn.Module):
    """Predicts each next frame from the frame before it and the messages over links (section 3.2, eq. 5 and 6).

    Pairs without a link send no message. The layers of this type are unused, and exist for the published weights.
    """

    def __init__(self, in_channels: int, hidden: int, num_type: int, dropout: float) -> None:
        super().__init__()
        self.msg_fc1 = nn.ModuleList(nn.Linear(2 * hidden, hidden) for _ in range(num_type))
        self.msg_fc2 = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(num_type))
        self.hidden_r = nn.Linear(hidden, hidden, bias=False)
        self.hidden_i = nn.Linear(hidden, hidden, bias=False)
        self.hidden_n = nn.Linear(hidden, hidden, bias=False)
        self.input_r = nn.Linear(in_channels, hidden)
        self.input_i = nn.Linear(in_channels, hidden)
        self.input_n = nn.Linear(in_channels, hidden)
        self.out_fc1 = nn.Linear(hidden, hidden)
        self.out_fc2 = nn.Linear(hidden, hidden)
        self.out_fc3 = nn.Linear(hidden, in_channels)
        self.dropout = Dropout(dropout)

    def forward(self, poses: Tensor, edges: Tensor) -> Tensor:
        """Frames 1 to T - 1, each predicted from the true frame before it.

        From poses (B, T, V, C) and edges (B, P, types) to (B, T - 1, V, C).
        """
        seen = poses[:, :-1]
        inputs = [layer(seen) for layer in (self.input_r, self.input_i, self.input_n)]
        gates = torch.cat([layer.weight for layer in (self.hidden_r, self.hidden_i, self.hidden_n)])
        messages = Messages(self.msg_fc1[1:], self.msg_fc2[1:], self.dropout)
        # Averaged over the types of links, and over the coordinates as in the published code.
        share = _linked(edges).permute(1, 0, 3, 2) / (len(messages.first_bias) * poses.shape[3])
        state = inputs[0].new_zeros(len(seen), seen.shape[2], self.out_fc1.in_features)
        states = []
        for r_in, i_in, n_in in zip(*(each.unbind(1) for each in inputs), strict=True):
            r_of, i_of, n_of = F.linear(messages(state, share), gates).chunk(3, -1)
            r = torch.sigmoid(r_in + r_of)
            i = torch.sigmoid(i_in + i_of)
            n = torch.tanh(n_in + r * n_of)
            state = torch.lerp(n, state, i)
            states.append(state)
        y = self.dropout(F.relu(self.out_fc1(torch.stack(states, 1))))
        y = self.dropout(F.relu(self.out_fc2(y)))
        return seen + self.out_fc3(y)


class Messages:
    """Messages between joints over links of L types. Each type has two linear layers.

    first: L linear layers on (receiver, sender), from 2 H to H.
    second: L linear layers from H to H.

    One batched product computes all types on all V x V pairs. Leaving out the V pairs of a joint with itself would
    cost more than computing them.
    """

    def __init__(self, first: nn.ModuleList, second: nn.ModuleList, dropout: nn.Module) -> None:
        self.dropout = dropout
        weight, self.first_bias = _stacked(first)
        # (L * 2, H, H): of the receiver, of the sender, of the next type's receiver, ...
        self.first = weight.unflatten(1, (2, -1)).flatten(0, 1)
        self.second, self.second_bias = _stacked(second)

    def __call__(self, state: Tensor, share: Tensor) -> Tensor:
        """The sum of each joint's messages, weighted by `share`: (B, V, H).

        state: (B, V, H). share: (L, B, V, V), at [l, b, receiver, sender].
        """
        of_joint = torch.matmul(state.flatten(0, 1), self.first).unflatten(0, (-1, 2))  # (L, 2, B * V, H)
        receiver = (of_joint[:, 0] + self.first_bias.to(of_joint.dtype)).unflatten(1, state.shape[:2])
        sender = of_joint[:, 1].unflatten(1, state.shape[:2])
        pair = self.dropout(torch.tanh(receiver[:, :, :, None] + sender[:, :, None]))  # (L, B, V, V, H)
        message = torch.tanh(torch.baddbmm(self.second_bias, pair.flatten(1, 3), self.second))
        share = share[..., None, :].to(message.dtype)
        return torch.matmul(share, message.view(pair.shape))[..., 0, :].sum(0)


def _stacked(layers: nn.ModuleList) -> tuple[Tensor, Tensor]:
    """Weights (L, in, out) and biases (L, 1, out) of L linear layers."""
    weight, bias = (
        torch.stack([layer.get_parameter(name) for layer in layers]) for name in ("weight", "bias")
    )
    return weight.transpose(1, 2), bias[:, None]


class MLP(nn.Module):
    """Two linear layers with ELU, dropout between them, and a batch norm."""

    def __init__(self, in_features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.bn = nn.BatchNorm1d(hidden)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, V, in_features) -> (B, V, H)."""
        return self._rest(self.fc1(x))

    def of_pairs(self, joint: Tensor, pair: Tensor | None = None) -> Tensor:
        """The MLP on (receiver, sender, pair): joints (B, V, H) and pairs (B, P, H) -> (B, P, H)."""
        return self._rest(_linear_of_pairs(self.fc1, joint, pair))

    def _rest(self, x: Tensor) -> Tensor:
        y = F.elu(self.fc2(self.dropout(F.elu(x))))
        return self.bn(y.flatten(0, 1)).view(y.shape)


def _linear_of_pairs(layer: nn.Linear, joint: Tensor, pair: Tensor | None = None) -> Tensor:
    """A linear layer on (receiver, sender, pair): from joints (B, V, H) and pairs (B, P, H) to (B, P, H')."""
    width = joint.shape[2]
    receiver = F.linear(joint, layer.weight[:, :width], layer.bias)
    sender = F.linear(joint, layer.weight[:, width : 2 * width])
    grid = sender[:, :, None] + receiver[:, None]  # (B, V, V, H')
    batch, num_joint = joint.shape[:2]
    # Remove the diagonal, which is every (V + 1)-th entry of the flattened V x V grid.
    rows = grid.flatten(1, 2)[:, 1:].unflatten(1, (num_joint - 1, num_joint + 1))[:, :, :-1]
    y = rows.reshape(batch, -1, grid.shape[3])
    return y if pair is None else y + F.linear(pair, layer.weight[:, 2 * width :])


def _received(pair: Tensor, num_joint: int) -> Tensor:
    """Sum of what each joint receives, from pairs (B, P, H): (B, V, H)."""
    rows = F.pad(pair.unflatten(1, (num_joint - 1, num_joint)), (0, 0, 0, 1))
    grid = F.pad(rows.flatten(1, 2), (0, 0, 1, 0)).unflatten(1, (num_joint, num_joint))
    return grid.sum(1)


def _linked(edges: Tensor) -> Tensor:
    """Edges (B, P, 1 + L) without "no link" as matrices (B, L, V, V), from sender v to receiver w; 0 from v to v."""
    batch, num_pair, num_type = edges.shape
    num_joint = round((1 + math.sqrt(1 + 4 * num_pair)) / 2)
    linked = edges[..., 1:].transpose(1, 2)  # (B, L, P)
    # Insert zeros for the diagonal: in the flat grid, its entries are V + 1 places apart.
    grid = F.pad(linked.reshape(batch, num_type - 1, num_joint - 1, num_joint), (0, 1))
    return F.pad(grid.flatten(2), (1, 0)).unflatten(2, (num_joint, num_joint))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_normal_(module.weight)
        nn.init.constant_(module.bias, 0.1)
