"""The long-term contrastive encoder-decoder (IJCNN 2022, system S1): one network for recognition and prediction.

N clips, M bodies of a clip, B present bodies, C channels of a joint, T frames seen, P future frames, V joints,
D channels of the feature, E channels of an embedding.

Differences from the published method: its contrasts treat different poses as alike, its contrast of predicted poses
uses no labels, and it predicts only the first body. Here all contrasts are InfoNCE between embeddings of length 1, the
predicted poses of one action are positives of each other, and all present bodies are predicted.
"""

import copy
from collections.abc import Collection
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.contrast import check_momentum, projector, update_momentum
from net.encoder import Encoder, Features, place_bodies, rows_of
from net.future import FutureDecoder, body_poses, mean_distance, scored_joints, unit_poses
from net.loss import at_least_float32, similarity, supervised_contrast
from net.method import CROSS_ENTROPY, FUTURE, POSES, SAME_FRAMES, Loss, Method, Output, no_loss
from net.mirror import Mirror
from net.temporal_losses import MemoryQueue, TemporalSignals, embed
from net.utils.clip import Batch, Clip
from net.utils.tracing import is_traced


class LongTerm(Method):
    """A long-term encoder with an action head and a decoder of future skeletons.

    base_encoder: its head gives the class scores.
    layout: of the skeleton.
    num_predict: P that the decoder gives at once.
    channels: names of the C, see `net.utils.channels`; None if all are coordinates. Confidence is not predicted.
    decoder_hidden, decoder_block, num_recent: see `net.future.FutureDecoder`.
    embedding: E.
    project_poses: compare embeddings of predicted poses in the contrast of poses. If False, compare the poses, which
        must then become alike themselves: embeddings can be alike although the poses differ.
    queue_size: number of keys kept for each contrast.
    mirror: `forecast` gives the mean for a clip and its mirror image, see `net.mirror.Mirror`.
    num_segment: see `net.temporal_losses.TemporalSignals`.
    temperature: divides similarities.
    momentum: of the slow copy, which makes the keys; see `net.contrast.update_momentum`.

    Losses: those of `TemporalSignals`; `future`, the mean distance between predicted and true joints, in the view's
    unit (metres, unless a step such as `UnitBox` scales the poses); `pose_contrast`, see `_pose_contrast`; and those of
    the encoder, if it has any.

    Raises ValueError for sizes, a momentum or a temperature out of range, or `channels` that do not match in_channels.
    """

    LOSSES = (
        CROSS_ENTROPY,
        *TemporalSignals.LOSSES,
        Loss("future", needs=(FUTURE, POSES)),
        Loss("pose_contrast", num_view=2, needs=(POSES, SAME_FRAMES), label=True),
    )
    ENCODER_LOSSES = True

    def __init__(
        self,
        base_encoder: Encoder,
        *,
        layout: str = "ntu-rgb+d",
        num_predict: int = 10,
        channels: str | None = None,
        decoder_hidden: int = 64,
        decoder_block: int = 3,
        num_recent: int = 10,
        embedding: int = 128,
        project_poses: bool = True,
        queue_size: int = 32768,
        num_segment: int = 5,
        temperature: float = 0.1,
        momentum: float = 0.999,
        mirror: bool = False,
    ) -> None:
        super().__init__()
        check_momentum(momentum)
        self.momentum, self.temperature, self.num_predict = momentum, temperature, num_predict
        feature_dim = base_encoder.feature_dim
        self.encoder = base_encoder
        self.signals = TemporalSignals(
            feature_dim,
            embedding=embedding,
            queue_size=queue_size,
            num_segment=num_segment,
            temperature=temperature,
        )
        self.decoder = FutureDecoder(
            feature_dim,
            base_encoder.in_channels,
            num_predict=num_predict,
            layout=layout,
            decoder_hidden=decoder_hidden,
            decoder_block=decoder_block,
            num_recent=num_recent,
            channels=channels,
        )
        self.num_coordinate = self.decoder.num_coordinate
        self.mirror = Mirror(layout, base_encoder.in_channels) if mirror else None
        pose_dim = num_predict * self.decoder.A.shape[1] * self.num_coordinate
        self.pose_projector = (
            projector(pose_dim, hidden=feature_dim, out=embedding) if project_poses else nn.Identity()
        )
        self.pose_queue = MemoryQueue(embedding if project_poses else pose_dim, queue_size)
        self.slow = nn.ModuleDict(copy.deepcopy(self._fast_modules())).requires_grad_(False)

    def _fast_modules(self) -> dict[str, nn.Module]:
        """The modules that have a slow copy. The encoder is copied with its head, although keys use only its maps."""
        return {
            "encoder": self.encoder,
            "projectors": self.signals.projectors,
            "decoder": self.decoder,
            "pose_projector": self.pose_projector,
        }

    def slow_encoder(self) -> Encoder:
        """The slow copy of the encoder."""
        encoder = self.slow["encoder"]
        assert isinstance(encoder, Encoder)
        return encoder

    @property
    def varies_batch(self) -> bool:
        """See `Method`; decoder and projectors run on the present bodies only."""
        return True

    @property
    def has_unused_parameters(self) -> bool:
        """See `Method`."""
        return True

    def forget_labels(self) -> None:
        """See `Method`."""
        for part in self.modules():
            if isinstance(part, MemoryQueue):
                part.forget_labels()

    def forecast(self, clip: Clip) -> Tensor:
        """See `Method`."""
        return self._forecast(clip) if self.mirror is None else self.mirror.mean(self._forecast, clip)

    def _forecast(self, clip: Clip) -> Tensor:
        x, present = clip
        features, mask = self.encoder.encode(clip), present.any(2)
        if is_traced():  # all bodies; absent ones stay 0
            predicted = self.decoder(features.maps(), body_poses(x, None), present.flatten(0, 1))
        else:
            rows = rows_of(mask)
            predicted = self.decoder(_maps_at(features, rows), body_poses(x, rows), _at_rows(present, rows))
        return place_bodies(predicted, x.shape[0], mask).permute(0, 4, 2, 3, 1)

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`; the second view must show the frames of the first."""
        wanted = set(wanted)
        # In every step, even without a contrast: otherwise the copy would be untrained when a phase adds one.
        self._update_slow()
        clip = batch.views[0]
        if wanted <= {loss.name for loss in self.encoder.LOSSES}:
            return Output(self.encoder.own_losses(clip, wanted))
        own = wanted & {loss.name for loss in self.LOSSES} - {CROSS_ENTROPY.name}
        # Find the present bodies first: it synchronises with the device.
        bodies = bodies_in(clip) if own else None
        features, losses = self.encoder.learn(clip, wanted)
        scores = self.encoder.apply_head(features.pool()) if CROSS_ENTROPY.name in wanted else None
        if bodies is None:
            return Output(losses, scores)
        if not len(bodies.rows):
            self._enqueue_nothing(own)
            return Output(losses | dict.fromkeys(own, no_loss(self)), scores)
        of_body, slow_maps, embedding = _maps_at(features, bodies.rows), None, None
        if any(SAME_FRAMES in loss.needs for loss in self.LOSSES if loss.name in own):
            with torch.no_grad():
                slow_maps = self.slow_encoder().encode(batch.views[1]).of(bodies.rows)
        if own & {loss.name for loss in TemporalSignals.LOSSES}:
            of_signals, embedding = self._signals(of_body, slow_maps, bodies.in_all_frames, own)
            losses |= of_signals
        if own & {"future", "pose_contrast"}:
            losses |= self._pose_losses(batch, own, of_body, slow_maps, bodies)
        return Output(losses, scores, embedding)

    def _update_slow(self) -> None:
        for name, fast in self._fast_modules().items():
            update_momentum(self.slow[name], fast, self.momentum)

    def _enqueue_nothing(self, wanted: Collection[str]) -> None:
        """Put no keys into the queues of the wanted losses, but take part in the collective call of all ranks."""
        for name, queue in (*self.signals.queues.items(), ("pose_contrast", self.pose_queue)):
            if name in wanted:
                assert isinstance(queue, MemoryQueue)
                queue.put(queue.keys[:0])

    def _signals(
        self, maps: Tensor, slow_maps: Tensor | None, in_all_frames: Tensor, wanted: set[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """The losses and embeddings of `TemporalSignals`.

        maps: (B, D, T', V), of the first view.
        slow_maps: (B, D, T', V), of the second view by the slow copy; None if no loss needs them.
        in_all_frames: see `Bodies`. Other bodies are left out, because empty frames are identical.
        """
        if not len(in_all_frames):
            of_signals = wanted & {loss.name for loss in TemporalSignals.LOSSES}
            self._enqueue_nothing(of_signals)
            return dict.fromkeys(of_signals, no_loss(self)), None
        key = {}
        if slow_maps is not None:
            with torch.no_grad():
                slow_frames = frames_of(slow_maps).index_select(0, in_all_frames)
                key = embed(self.slow["projectors"], slow_frames, wanted)  # type: ignore[arg-type]
        return self.signals(frames_of(maps).index_select(0, in_all_frames), key, wanted)

    def _pose_losses(
        self,
        batch: Batch,
        wanted: Collection[str],
        maps: Tensor,
        slow_maps: Tensor | None,
        bodies: "Bodies",
    ) -> dict[str, Tensor]:
        """The losses `future` and `pose_contrast`, as far as they are wanted.

        maps: (B, D, T', V), of the first view.
        slow_maps: (B, D, T', V), of the second view by the slow copy; None if no loss needs them.
        bodies: of the first view.
        """
        losses, rows, last = {}, bodies.rows, bodies.poses[:, -1]
        predicted = self.decoder(maps, bodies.poses, bodies.present)
        if "future" in wanted:
            assert batch.future is not None
            target = body_poses(batch.future.x, rows)
            present = _at_rows(batch.future.present, rows)
            scored = scored_joints(target, last, present, bodies.present[:, -1])
            count = self.num_coordinate
            losses["future"] = mean_distance(predicted[..., :count], target[..., :count], scored)
        if "pose_contrast" in wanted:
            assert slow_maps is not None
            with torch.no_grad():
                present = _at_rows(batch.views[1].present, rows)
                other = self.slow["decoder"](slow_maps, body_poses(batch.views[1].x, rows), present)
            # Leave out bodies that are absent in the last frame seen: a prediction starts from that pose.
            predicted, other, rows = (
                each.index_select(0, bodies.in_last_frame) for each in (predicted, other, rows)
            )
            label = batch.label[rows // batch.views[0].x.shape[4]]
            losses["pose_contrast"] = self._pose_contrast(predicted, other, label)
        return losses

    def _pose_contrast(self, predicted: Tensor, other: Tensor, label: Tensor) -> Tensor:
        """Supervised contrast of predicted poses, (): positives are the poses of the same action in batch and queue.

        A body without a label has one positive: the slow copy's prediction for the same body.

        predicted, other: (B, P, V, C), by the decoder and by its slow copy.
        label: (B,) int64, -1 for none.
        """
        predicted, other = (poses[..., : self.num_coordinate] for poses in (predicted, other))
        query = _embed_poses(self.pose_projector, predicted)
        with torch.no_grad():
            key = _embed_poses(self.slow["pose_projector"], other)
        queue = self.pose_queue
        # A copy, because the backward pass runs after the queue has changed.
        keys, labels = torch.cat((key, queue.keys)), torch.cat((label, queue.label))
        same = (label[:, None] == labels) & (label >= 0)[:, None]
        positive = same | torch.eye(len(key), len(keys), dtype=torch.bool, device=key.device)
        queue.put(key, label)
        return supervised_contrast(similarity(query, keys) / self.temperature, positive)


class Bodies(NamedTuple):
    """The bodies of a batch that are present in some frame.

    rows: (B,) int64, their indices among all N * M bodies.
    poses: (B, T, V, C).
    present: (B, T) bool, in which frames they are present.
    in_all_frames: (b,) int64, which of the B are present in all frames. The last frame does not count, because it is
        empty in motion streams.
    in_last_frame: (b',) int64, which of the B are present in the last frame.
    """

    rows: Tensor
    poses: Tensor
    present: Tensor
    in_all_frames: Tensor
    in_last_frame: Tensor


def bodies_in(clip: Clip) -> Bodies:
    """The bodies of clips that are present in some frame. Synchronises with the device."""
    x, present = clip
    rows = rows_of(present.any(2))
    of_bodies = _at_rows(present, rows)
    in_all_frames, in_last_frame = (
        each.nonzero()[:, 0] for each in (of_bodies[:, :-1].all(1), of_bodies[:, -1])
    )
    return Bodies(rows, body_poses(x, rows), of_bodies, in_all_frames, in_last_frame)


def _at_rows(present: Tensor, rows: Tensor) -> Tensor:
    """Presence (B, T) of the bodies at `rows` (B,) among all N * M, from `present` (N, M, T) of all bodies."""
    return present.flatten(0, 1).index_select(0, rows)


def _embed_poses(projector: nn.Module, poses: Tensor) -> Tensor:
    """Embeddings (B, E) of poses (B, P, V, C), of length 1."""
    unit = unit_poses(poses)
    # Scaled to entries of about 1. With smaller entries, the projector's biases would make all embeddings alike.
    return F.normalize(at_least_float32(projector(unit * unit.shape[1] ** 0.5)), dim=1)


def _maps_at(features: Features, rows: Tensor) -> Tensor:
    """Maps (B, D, T', V) of the present bodies, which are at `rows` (B,) among all N * M.

    If the network skipped absent bodies, its features already are those of the present ones.
    """
    return features.of(rows) if features.bodies is None else features.maps()


def frames_of(maps: Tensor) -> Tensor:
    """One feature of each frame, the mean over the joints of maps (B, D, T', V): (B, T', D)."""
    # By way of (B, T', V, D), so that the gradient is in channels-last memory.
    return maps.permute(0, 2, 3, 1).mean(2)
