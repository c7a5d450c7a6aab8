"""AS-GCN: actional-structural graph convolutional networks (Li et al., CVPR 2019).

N clips, C channels, T frames, V joints, M bodies of a clip, B bodies of all clips, K structural and L actional
adjacency subsets, P future frames, D channels of the feature. Feature maps (B, C, T, V) are in channels-last memory.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.actional_conv import ActionalGraphConv, PoseBlock
from net.actional_links import ActionalLinks, Links
from net.encoder import (
    Encoder,
    Features,
    at_bodies,
    check_graph,
    place_bodies,
    rows_of,
    split_bodies,
)
from net.future import add_displacement, body_poses, mean_squared_error, scored_joints
from net.method import CROSS_ENTROPY, FUTURE, POSES, Loss, Method, Output, no_loss
from net.st_gcn import PointwiseHead
from net.utils.channels import num_predictable
from net.utils.clip import Batch, Clip
from net.utils.gcn import Neighbours, PaddingMode, SpatialTemporalBlock, initialise, normalise_rows
from net.utils.graph import Graph
from net.utils.tracing import is_empty

# Channels (in units of hidden_channels) and stride of the nine blocks of the encoder.
BLOCKS = ((1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (2, 1), (4, 2), (4, 1), (4, 1))
# Temporal kernel and stride of the six blocks that reduce the feature to one frame. Each has 2 * hidden_channels.
FUTURE_BLOCKS = ((9, 1), (9, 2), (9, 2), (9, 2), (3, 2), (5, 1))


class Model(Encoder):
    """Nine blocks over structural and actional links, the mean, a linear head, and a head that predicts poses.

    The parameters have the names and shapes of the published weights; those of the links have the prefix `links.`. In
    the published code, predicted coordinates and those of the last pose are in different orders when they are added
    (x y z x y z ... and x x x ... y y y ...). Here each is added to its own coordinate.

    in_channels: C.
    channels: names of the C, see `net.utils.channels`; None if all are coordinates. Confidence is not predicted.
    num_class: scores to give.
    layout, strategy, max_hop: of the structural links, see `net.utils.graph.Graph`.
    hidden_channels: channels of the first blocks, doubled at the fourth and seventh.
    num_predict: P; 0 for a network without the head that predicts poses.
    padding_mode: of the encoder's blocks, see `net.st_gcn.Model`.
    dropout: probability in all blocks.
    num_link_frame, link_hidden, num_link, link_dropout, likeliest_links: see `net.actional_links.ActionalLinks`.
    link_weight: factor of the actional adjacency; that of the structural adjacency is 1.
    link_gradient: train the links by class scores and future poses, too. As published, only `nll` and `kl` train them.
    skip_empty_bodies: see `net.st_gcn.Model`.

    Losses: `nll` and `kl`, see `ActionalLinks`. If a config names no method, `ActionalStructural` trains this network.
    It has further losses.

    Raises ValueError for a negative num_predict, and for what `Graph` and `ActionalLinks` refuse.
    """

    HEAD = "fcn"
    LOSSES = (Loss("nll"), Loss("kl"))
    A: Tensor

    def __init__(
        self,
        in_channels: int = 3,
        num_class: int = 60,
        *,
        channels: str | None = None,
        layout: str = "ntu-rgb+d",
        strategy: str = "spatial",
        max_hop: int = 4,
        hidden_channels: int = 64,
        num_predict: int = 10,
        padding_mode: PaddingMode = "zeros",
        dropout: float = 0.5,
        num_link_frame: int = 50,
        link_hidden: int = 128,
        num_link: int = 2,
        link_dropout: float = 0.5,
        likeliest_links: bool = False,
        link_weight: float = 0.5,
        link_gradient: bool = False,
        skip_empty_bodies: bool = False,
    ) -> None:
        super().__init__()
        if num_predict < 0:
            raise ValueError(f"num_predict is {num_predict}; give 1 frame or more, or 0 to predict none")
        A = torch.tensor(Graph(layout, strategy, max_hop=max_hop).A, dtype=torch.float32)
        self.register_buffer("A", A)
        self.in_channels, self.skip_empty_bodies = in_channels, skip_empty_bodies
        self.num_coordinate = num_predictable(channels, in_channels)
        self.num_predict, self.link_weight, self.link_gradient = num_predict, link_weight, link_gradient
        self.num_link = num_link
        self.data_bn = nn.BatchNorm1d(in_channels * A.shape[1])
        neighbours = Neighbours(A != 0)

        def conv(in_dim: int, out_dim: int) -> ActionalGraphConv:
            return ActionalGraphConv(in_dim, out_dim, neighbours=neighbours, num_link=num_link)

        in_dim = in_channels
        for index, (factor, stride) in enumerate(BLOCKS):
            out_dim = factor * hidden_channels
            block = SpatialTemporalBlock(
                conv(in_dim, out_dim),
                stride=stride,
                padding_mode=padding_mode,
                dropout=dropout,
                residual=index > 0,
            )
            self.add_module(f"class_layer_{index}", block)
            in_dim = out_dim
        self.feature_dim = in_dim
        if num_predict:
            self._add_future(conv, neighbours, hidden_channels, dropout)
        # Nine of each, as in the published weights, although the future head uses only seven.
        self.edge_importance = nn.ParameterList(nn.Parameter(torch.ones_like(A)) for _ in range(9))
        self.edge_importance_recon = nn.ParameterList(
            nn.Parameter(torch.ones_like(A)) for _ in range(9 if num_predict else 0)
        )
        self.fcn = PointwiseHead(self.feature_dim, num_class, 1)
        self.apply(initialise)
        self.links = ActionalLinks(
            in_channels,
            num_link_frame,
            channels=channels,
            hidden=link_hidden,
            num_link=num_link,
            dropout=link_dropout,
            likeliest=likeliest_links,
        )

    def _add_future(
        self,
        conv: Callable[[int, int], ActionalGraphConv],
        neighbours: Neighbours,
        hidden_channels: int,
        dropout: float,
    ) -> None:
        """Add the blocks of the head that predicts poses."""
        in_dim, out_dim = self.feature_dim, 2 * hidden_channels
        for index, (kernel, stride) in enumerate(FUTURE_BLOCKS):
            last = index + 1 == len(FUTURE_BLOCKS)
            block = SpatialTemporalBlock(
                conv(in_dim, out_dim),
                kernel_size=kernel,
                stride=stride,
                padding=0 if last else None,
                dropout=dropout,
                residual=not last,
            )
            self.add_module(f"recon_layer_{index}", block)
            in_dim = out_dim
        self.recon_layer_6 = PoseBlock(
            out_dim + self.in_channels,
            self.num_predict * self.num_coordinate,
            neighbours=neighbours,
            num_link=self.num_link,
            dropout=dropout,
        )

    @property
    def needs_own_losses(self) -> bool:
        """See `Encoder`; the parts are the links."""
        return not self.link_gradient

    @property
    def varies_batch(self) -> bool:
        """See `Encoder`."""
        return self.skip_empty_bodies

    def layers(self) -> list[list[nn.Parameter]]:
        """See `Encoder`: the batch norm of the input, then the blocks. The links are in no layer."""
        blocks = [
            [*self.get_submodule(f"class_layer_{index}").parameters(), self.edge_importance[index]]
            for index in range(len(BLOCKS))
        ]
        return [list(self.data_bn.parameters()), *blocks]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """See `Encoder`; the only group is `links`."""
        return {"links": list(self.links.parameters())}

    def encode(self, clip: Clip) -> Features:
        """Maps (B, D, ceil(T / 4), V) of the bodies; see `Encoder`."""
        bodies, mask = self.split(clip)
        return Features.of_maps(self.maps(bodies, self.infer(bodies)), clip.x.shape[0], mask)

    def own_losses(self, clip: Clip, wanted: Collection[str]) -> dict[str, Tensor]:
        """See `Encoder`."""
        bodies, mask = self.split(clip)
        return self.learn_links(bodies, at_bodies(clip.present, mask), wanted)[1]

    def learn(self, clip: Clip, wanted: Collection[str]) -> tuple[Features, dict[str, Tensor]]:
        """See `Encoder`."""
        bodies, mask = self.split(clip)
        links, losses = self.learn_links(bodies, at_bodies(clip.present, mask), wanted)
        return Features.of_maps(self.maps(bodies, links), clip.x.shape[0], mask), losses

    def split(self, clip: Clip) -> tuple[Tensor, Tensor | None]:
        """See `net.encoder.split_bodies`."""
        return split_bodies(clip, self.A.shape[1], self.in_channels, skip_empty=self.skip_empty_bodies)

    def learn_links(
        self, bodies: Tensor, present: Tensor, wanted: Collection[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Actional links (B, L, V, V) of bodies (B, T, V, C), `present` (B, T), and the wanted losses of the links."""
        names = [loss.name for loss in self.LOSSES if loss.name in wanted]
        if is_empty(bodies):
            return self.infer(bodies), dict.fromkeys(names, no_loss(self.links))
        seen, present = self.link_frames(bodies), self.link_frames(present)
        links = self.links(seen)
        return self._adjacency(links), {
            name: getattr(self.links, name)(seen, links, present) for name in names
        }

    def _adjacency(self, links: Links) -> Tensor:
        """The actional adjacency (B, L, V, V) for the blocks, with a gradient only if `link_gradient`."""
        adjacency = links.adjacency()
        return adjacency if self.link_gradient else adjacency.detach()

    def link_frames(self, bodies: Tensor) -> Tensor:
        """The frames that links are inferred from: bodies (B, T, ...) -> (B, T', ...).

        They are the middle frames of T' equal parts of the clip. The published feeder starts at a random frame; here
        the views draw random crops.
        """
        count, num_frame = self.links.num_frame, bodies.shape[1]
        middle = (torch.arange(count, device=bodies.device) + 0.5) * num_frame / count
        return bodies.index_select(1, middle.long())

    def infer(self, bodies: Tensor) -> Tensor:
        """Actional links of bodies (B, T, V, C): (B, L, V, V)."""
        if is_empty(bodies):
            num_joint = bodies.shape[2]
            return bodies.new_zeros(0, self.links.num_link, num_joint, num_joint)
        return self._adjacency(self.links(self.link_frames(bodies)))

    def maps(self, bodies: Tensor, links: Tensor) -> Tensor:
        """Feature maps of bodies (B, T, V, C) with actional links (B, L, V, V): (B, D, ceil(T / 4), V)."""
        frames, num_joint = bodies.shape[1:3]
        if is_empty(bodies):
            return bodies.new_zeros(0, self.feature_dim, -(-frames // 4), num_joint)
        y = normalise_rows(self.data_bn, bodies).permute(0, 3, 1, 2)
        for index in range(len(BLOCKS)):
            block = self.get_submodule(f"class_layer_{index}")
            y = block(y, self.A * self.edge_importance[index], self.link_weight * links)
        return y

    def predict(self, maps: Tensor, links: Tensor, last: Tensor, last_present: Tensor) -> Tensor:
        """The next P poses (B, P, V, C), from maps (B, D, T', V), links (B, L, V, V), and the last pose (B, V, C).

        last_present: (B,) bool, whether the body is present in the last pose.

        The blocks reduce 290 frames of a clip to one. Maps of shorter clips are padded with zeros. Longer clips leave
        several frames, which are averaged.
        """
        if is_empty(maps):
            return maps.new_zeros(0, self.num_predict, *last.shape[1:])
        weighted = self.link_weight * links
        y = maps
        for index, (kernel, _) in enumerate(FUTURE_BLOCKS):
            if index + 1 == len(FUTURE_BLOCKS):
                y = F.pad(y, (0, 0, max(0, kernel - y.shape[2]), 0))
            block = self.get_submodule(f"recon_layer_{index}")
            y = block(y, self.A * self.edge_importance_recon[index], weighted)
        y = torch.cat((y.mean(2, keepdim=True), last.transpose(1, 2)[:, :, None]), 1)
        displacement = self.recon_layer_6(y, self.A * self.edge_importance_recon[6], weighted)[:, :, 0]
        # Channels are all frames of x, then of y, then of z.
        displacement = displacement.unflatten(1, (self.num_coordinate, -1)).permute(0, 2, 3, 1)
        return add_displacement(last, displacement, last_present)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        check_graph(state_dict.get(f"{prefix}A"), self.A)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published weights under this network's names. Weights of the links, a file of their own, get a prefix."""
        of_links = re.compile(r"(encoder\.(mlp\d|fc_out)|decoder\.(msg_fc\d|hidden_\w|input_\w|out_fc\d))\.")
        return {f"links.{key}" if of_links.match(key) else key: value for key, value in state.items()}

    def ignored_keys(self) -> tuple[str, ...]:
        """See `Encoder`; the head that predicts poses."""
        return () if self.num_predict else ("recon_layer_*", "edge_importance_recon.*")


class ActionalStructural(Method):
    """AS-GCN's own training, by class labels, future poses and links.

    base_encoder: the network. Its weights keep their names.

    Losses: `future`, the mean squared error of the P future frames of all present bodies; and those of the network.
    """

    LOSSES = (CROSS_ENTROPY, Loss("future", needs=(FUTURE, POSES)))
    ENCODER = Model
    ENCODER_LOSSES = True
    encoder: Model

    def __init__(self, base_encoder: Model) -> None:
        super().__init__()
        self.encoder = base_encoder
        self.num_predict = base_encoder.num_predict

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`."""
        clip, model = batch.views[0], self.encoder
        bodies, mask = model.split(clip)
        present = at_bodies(clip.present, mask)
        links, losses = model.learn_links(bodies, present, wanted)
        if not {CROSS_ENTROPY.name, "future"} & set(wanted):
            return Output(losses)
        maps = model.maps(bodies, links)
        if "future" in wanted:
            assert batch.future is not None
            target, last = (
                body_poses(batch.future.x, None if mask is None else rows_of(mask)),
                bodies[:, -1],
            )
            predicted = model.predict(maps, links, last, present[:, -1])
            scored = scored_joints(target, last, at_bodies(batch.future.present, mask), present[:, -1])
            predicted, target = (poses[..., : model.num_coordinate] for poses in (predicted, target))
            losses["future"] = (
                mean_squared_error(predicted, target, scored) if len(bodies) else no_loss(model)
            )
        pooled = Features.of_maps(maps, clip.x.shape[0], mask).pool()
        return Output(losses, model.apply_head(pooled) if CROSS_ENTROPY.name in wanted else None)

    def forecast(self, clip: Clip) -> Tensor:
        """See `Method`."""
        model = self.encoder
        bodies, mask = model.split(clip)
        links, last_present = model.infer(bodies), at_bodies(clip.present, mask)[:, -1]
        predicted = model.predict(model.maps(bodies, links), links, bodies[:, -1], last_present)
        return place_bodies(predicted, clip.x.shape[0], mask).permute(0, 4, 2, 3, 1)


Model.METHOD = ActionalStructural
