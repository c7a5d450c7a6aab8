"""The action links of AS-GCN (Li et al. 2019), with one-hot matrices and loops over clips, types and steps.

C coordinates, T frames, V joints, B bodies, P = V (V - 1) ordered pairs of joints, H hidden units, L types of links.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """Two linear layers with ELU, dropout between them, and a batch norm over everything but the last axis."""

    def __init__(self, in_features: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.bn = nn.BatchNorm1d(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, rows, in_features) -> (B, rows, H)."""
        y = F.elu(self.fc2(self.dropout(F.elu(self.fc1(x)))))
        return self.bn(y.view(-1, y.shape[-1])).view(y.shape)


class Encoder(nn.Module):
    """Joints, pairs, joints, pairs: two rounds of messages, then the logits of each pair's type."""

    def __init__(self, in_features: int, hidden: int, num_type: int, dropout: float) -> None:
        super().__init__()
        self.mlp1 = MLP(in_features, hidden, dropout)
        self.mlp2 = MLP(2 * hidden, hidden, dropout)
        self.mlp3 = MLP(hidden, hidden, dropout)
        self.mlp4 = MLP(3 * hidden, hidden, dropout)
        self.fc_out = nn.Linear(hidden, num_type)

    def forward(self, x: Tensor, receive: Tensor, send: Tensor) -> Tensor:
        """(B, V, T * C) and one-hot (P, V) -> (B, P, types)."""
        joint = self.mlp1(x)
        pair = self.mlp2(torch.cat((receive @ joint, send @ joint), 2))
        joint = self.mlp3(receive.T @ pair / joint.shape[1])
        return self.fc_out(self.mlp4(torch.cat((receive @ joint, send @ joint, pair), 2)))


class Decoder(nn.Module):
    """A recurrent network over frames; the input of each step are messages over the links, and the true pose."""

    def __init__(self, in_channels: int, hidden: int, num_type: int, dropout: float) -> None:
        super().__init__()
        self.hidden = hidden
        self.msg_fc1 = nn.ModuleList(nn.Linear(2 * hidden, hidden) for _ in range(num_type))
        self.msg_fc2 = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(num_type))
        self.hidden_r, self.hidden_i, self.hidden_n = (
            nn.Linear(hidden, hidden, bias=False) for _ in range(3)
        )
        self.input_r, self.input_i, self.input_n = (nn.Linear(in_channels, hidden) for _ in range(3))
        self.out_fc1 = nn.Linear(hidden, hidden)
        self.out_fc2 = nn.Linear(hidden, hidden)
        self.out_fc3 = nn.Linear(hidden, in_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, poses: Tensor, edges: Tensor, receive: Tensor, send: Tensor) -> Tensor:
        """Poses (B, T, V, C), edges (B, P, types), one-hot (P, V) -> frames 1 to T - 1, (B, T - 1, V, C)."""
        state = poses.new_zeros(len(poses), poses.shape[2], self.hidden)
        predicted = []
        for step in range(poses.shape[1] - 1):
            pose, state = self.step(poses[:, step], state, edges, receive, send)
            predicted.append(pose)
        return torch.stack(predicted, 1)

    def step(
        self, pose: Tensor, state: Tensor, edges: Tensor, receive: Tensor, send: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The next pose (B, V, C) and state (B, V, H)."""
        both = torch.cat((receive @ state, send @ state), 2)
        total = both.new_zeros(len(both), both.shape[1], self.hidden)
        for kind in range(1, len(self.msg_fc1)):
            message = self.dropout(torch.tanh(self.msg_fc1[kind](both)))
            message = torch.tanh(self.msg_fc2[kind](message)) * edges[:, :, kind : kind + 1]
            total = total + message / (len(self.msg_fc1) - 1)
        received = receive.T @ total / pose.shape[2]
        r = torch.sigmoid(self.input_r(pose) + self.hidden_r(received))
        i = torch.sigmoid(self.input_i(pose) + self.hidden_i(received))
        n = torch.tanh(self.input_n(pose) + r * self.hidden_n(received))
        state = (1 - i) * n + i * state
        y = self.dropout(F.relu(self.out_fc1(state)))
        y = self.dropout(F.relu(self.out_fc2(y)))
        return pose + self.out_fc3(y), state


class Inferred(NamedTuple):
    """Links as adjacency (B, L, V, V), probability of each type (B, P, types), predicted poses (B, T - 1, V, C)."""

    adjacency: Tensor
    probability: Tensor
    predicted: Tensor


class Links(nn.Module):
    """Encoder, a sample of each pair's type (the likeliest in eval mode), decoder, and adjacency of each body."""

    receive: Tensor
    send: Tensor
    pairs: Tensor

    def __init__(self, num_joint: int, num_link: int = 2, hidden: int = 128, dropout: float = 0.5) -> None:
        super().__init__()
        self.encoder = Encoder(3 * 50, hidden, 1 + num_link, dropout)
        self.decoder = Decoder(3, hidden, 1 + num_link, dropout)
        sender, receiver = (1 - torch.eye(num_joint)).nonzero().T
        eye = torch.eye(num_joint)
        # Not persistent, as published: the weights are those of the layers alone.
        self.register_buffer("receive", eye[receiver], persistent=False)
        self.register_buffer("send", eye[sender], persistent=False)
        self.register_buffer("pairs", torch.stack((sender, receiver)), persistent=False)

    def draw(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and one-hot types, (B, P, types) each, of poses (B, T, V, C)."""
        logits = self.encoder(poses.transpose(1, 2).flatten(2), self.receive, self.send)
        noise = torch.zeros_like(logits)
        if self.training:
            noise = -torch.log(1e-10 - torch.log(torch.rand_like(logits) + 1e-10))
        soft = F.softmax((logits + noise) / 0.5, -1)
        hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
        return logits, hard - soft.detach() + soft

    def adjacency(self, edges: Tensor) -> Tensor:
        """(B, P, types) -> (B, L, V, V)."""
        num_joint = self.send.shape[1]
        eye = torch.eye(num_joint).to(edges)
        bodies = []
        for body in edges:
            kinds = []
            for kind in range(1, edges.shape[2]):
                A = torch.sparse_coo_tensor(
                    self.pairs, body[:, kind], (num_joint,) * 2, check_invariants=False
                )
                A = A.to_dense() + eye
                kinds.append(A @ torch.diag(A.sum(0) ** -1) * 0.1)
            bodies.append(torch.stack(kinds))
        return torch.stack(bodies)

    def forward(self, poses: Tensor) -> Inferred:
        """Poses (B, T, V, C)."""
        logits, edges = self.draw(poses)
        predicted = self.decoder(poses, edges, self.receive, self.send)
        return Inferred(self.adjacency(edges), F.softmax(logits, -1), predicted)
