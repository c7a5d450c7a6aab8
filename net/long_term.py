"""The long-term contrastive encoder-decoder (IJCNN 2022, system S1): one network that names an action and foresees it.

N clips, M bodies, B bodies that are there, C channels of a joint, T frames seen, P frames to come, V joints, D
channels of the feature, E of an embedding.

As published, the contrasts take unlike poses for alike, no label enters the contrast of predicted poses, and only
the first body is predicted. Here contrasts are InfoNCE between embeddings of length 1, predicted poses of one action
are drawn together, and all bodies that are there are predicted.
"""

import copy
from collections.abc import Collection
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from net.contrast import follow, projector
from net.encoder import Encoder, Features, place_bodies, rows_of
from net.future import FutureDecoder, body_poses, mean_distance, scored_joints, unit_poses
from net.loss import at_least_float32, similarity, supervised_contrast
from net.method import CROSS_ENTROPY, FUTURE, POSES, SAME_FRAMES, Loss, Method, Output, no_loss
from net.temporal_signals import MemoryQueue, TemporalSignals, embed
from net.utils.clip import Batch, Clip
from net.utils.tracing import is_traced


class LongTerm(Method):
    """A long-term encoder with an action head and a decoder of future skeletons.

    base_encoder: its head names the action.
    layout: of the skeleton.
    num_predict: P that the decoder gives at once.
    channels: what the C are, see `net.utils.channels`: confidence is not predicted; None if all are coordinates.
    decoder_hidden, decoder_block, num_recent: see `net.future.FutureDecoder`.
    embedding: E.
    project_poses: whether the contrast of poses compares embeddings of predicted poses, or these themselves, which then
        have to come near each other: an embedding can be alike where poses are not.
    queue_size: keys kept of each contrast.
    num_segment: see `net.temporal_signals.TemporalSignals`.
    temperature: by which similarities are divided.
    momentum: how much of itself the slow copy, which makes the keys, keeps in a step.

    Losses: those of `TemporalSignals`; `future`, the mean distance between predicted and true joints, in metres where
    the view leaves them so (`UnitBox` does not); `pose_contrast`, see there; and those of the encoder, if it has any.

    Raises ValueError for sizes, a momentum or a temperature out of range.
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
    ) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}; give 0 to 1")
        self.momentum, self.temperature, self.num_predict = momentum, temperature, num_predict
        width = base_encoder.feature_dim
        self.encoder = base_encoder
        self.signals = TemporalSignals(
            width,
            embedding=embedding,
            queue_size=queue_size,
            num_segment=num_segment,
            temperature=temperature,
        )
        self.decoder = FutureDecoder(
            width,
            base_encoder.in_channels,
            num_predict=num_predict,
            layout=layout,
            decoder_hidden=decoder_hidden,
            decoder_block=decoder_block,
            num_recent=num_recent,
            channels=channels,
        )
        self.num_coordinate = self.decoder.num_coordinate
        of_poses = num_predict * self.decoder.A.shape[1] * self.num_coordinate
        self.pose_projector = (
            projector(of_poses, hidden=width, out=embedding) if project_poses else nn.Identity()
        )
        self.pose_queue = MemoryQueue(embedding if project_poses else of_poses, queue_size)
        self.slow = nn.ModuleDict(copy.deepcopy(self._followed())).requires_grad_(False)

    def _followed(self) -> dict[str, nn.Module]:
        """What the slow copy is a copy of; the encoder whole, though keys are made of its maps alone."""
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
        """See `Method`; decoder and projectors run on the bodies that are there."""
        return True

    @property
    def leaves_out(self) -> bool:
        """See `Method`."""
        return True

    def forget_labels(self) -> None:
        """See `Method`."""
        for part in self.modules():
            if isinstance(part, MemoryQueue):
                part.forget_labels()

    def forecast(self, clip: Clip) -> Tensor:
        """See `Method`."""
        x, present = clip
        features, there = self.encoder.encode(clip), present.any(2)
        if is_traced():  # all bodies; those that are absent stay where they are, at 0
            predicted = self.decoder(features.maps(), body_poses(x, None), present.flatten(0, 1))
        else:
            rows = rows_of(there)
            predicted = self.decoder(_maps_at(features, rows), body_poses(x, rows), _at_rows(present, rows))
        return place_bodies(predicted, x.shape[0], there).permute(0, 4, 2, 3, 1)

    def forward(self, batch: Batch, wanted: Collection[str]) -> Output:
        """See `Method`; the second view must show the frames of the first."""
        wanted = set(wanted)
        # In every step: a copy that stood still while nobody compares would know nothing once somebody does.
        self._follow()
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
            self._gather_nothing(own)
            return Output(losses | dict.fromkeys(own, no_loss(self)), scores)
        of_body, slow_maps, embedding = _maps_at(features, bodies.rows), None, None
        if any(SAME_FRAMES in loss.needs for loss in self.LOSSES if loss.name in own):
            with torch.no_grad():
                slow_maps = self.slow_encoder().encode(batch.views[1]).of(bodies.rows)
        if own & {loss.name for loss in TemporalSignals.LOSSES}:
            of_signals, embedding = self._signals(of_body, slow_maps, bodies.throughout, own)
            losses |= of_signals
        if own & {"future", "pose_contrast"}:
            losses |= self._foresee(batch, own, of_body, slow_maps, bodies)
        return Output(losses, scores, embedding)

    def _follow(self) -> None:
        for name, fast in self._followed().items():
            follow(self.slow[name], fast, self.momentum)

    def _gather_nothing(self, wanted: Collection[str]) -> None:
        """For a batch without bodies: take part in what other ranks put into the queues."""
        for name, queue in (*self.signals.queues.items(), ("pose_contrast", self.pose_queue)):
            if name in wanted:
                assert isinstance(queue, MemoryQueue)
                queue.put(queue.keys[:0])

    def _signals(
        self, maps: Tensor, slow_maps: Tensor | None, throughout: Tensor, wanted: set[str]
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """See `TemporalSignals`, from maps (B, D, T', V) of the first view and the slow copy's of the other.

        throughout: which of the B bodies are there in all frames, (b,): empty frames are identical.
        """
        if not len(throughout):
            of_signals = wanted & {loss.name for loss in TemporalSignals.LOSSES}
            self._gather_nothing(of_signals)
            return dict.fromkeys(of_signals, no_loss(self)), None
        key = {}
        if slow_maps is not None:
            with torch.no_grad():
                slow_frames = frames_of(slow_maps).index_select(0, throughout)
                key = embed(self.slow["projectors"], slow_frames, wanted)  # type: ignore[arg-type]
        return self.signals(frames_of(maps).index_select(0, throughout), key, wanted)

    def _foresee(
        self,
        batch: Batch,
        wanted: Collection[str],
        maps: Tensor,
        slow_maps: Tensor | None,
        bodies: "Bodies",
    ) -> dict[str, Tensor]:
        """The losses of poses predicted from maps (B, D, T', V), and the slow copy's, of bodies."""
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
            # Bodies that are not there in the last frame seen have no pose to go on from: they are left out.
            predicted, other, rows = (each.index_select(0, bodies.stay) for each in (predicted, other, rows))
            label = batch.label[rows // batch.views[0].x.shape[4]]
            losses["pose_contrast"] = self._pose_contrast(predicted, other, label)
        return losses

    def _pose_contrast(self, predicted: Tensor, other: Tensor, label: Tensor) -> Tensor:
        """Predicted poses (B, P, V, C) are drawn to those of the same action (B,), in the batch and in the queue.

        A body without a label (-1) has one positive: the slow copy's prediction for it, in `other` (B, P, V, C).
        """
        predicted, other = (poses[..., : self.num_coordinate] for poses in (predicted, other))
        query = _embed_poses(self.pose_projector, predicted)
        with torch.no_grad():
            key = _embed_poses(self.slow["pose_projector"], other)
        queue = self.pose_queue
        # As it is now: gradients are taken after the queue has moved on.
        keys, labels = torch.cat((key, queue.keys)), torch.cat((label, queue.label))
        same = (label[:, None] == labels) & (label >= 0)[:, None]
        positive = same | torch.eye(len(key), len(keys), dtype=torch.bool, device=key.device)
        queue.put(key, label)
        return supervised_contrast(similarity(query, keys) / self.temperature, positive)


class Bodies(NamedTuple):
    """The bodies that are there in some frame of a batch.

    rows: where they are among all N * M, (B,) int64.
    poses: (B, T, V, C).
    present: in which frames they are there, (B, T) bool.
    throughout: which of the B are there in all frames but the last, (b,) int64. In streams of movements nothing
        moves on from that one, so that it is not asked of any.
    stay: which of the B are there in the last frame, (b',) int64.
    """

    rows: Tensor
    poses: Tensor
    present: Tensor
    throughout: Tensor
    stay: Tensor


def bodies_in(clip: Clip) -> Bodies:
    """The bodies that are there in some frame of clips. Synchronises with the device."""
    x, present = clip
    rows = rows_of(present.any(2))
    there = _at_rows(present, rows)
    throughout, stay = (each.nonzero()[:, 0] for each in (there[:, :-1].all(1), there[:, -1]))
    return Bodies(rows, body_poses(x, rows), there, throughout, stay)


def _at_rows(present: Tensor, rows: Tensor) -> Tensor:
    """Presence (B, T) of the bodies at `rows` (B,) among all N * M, from that of all, (N, M, T)."""
    return present.flatten(0, 1).index_select(0, rows)


def _embed_poses(projector: nn.Module, poses: Tensor) -> Tensor:
    """Embeddings (B, E) of poses (B, P, V, C), of length 1."""
    unit = unit_poses(poses)
    # With entries of size 1: beside smaller ones the projector's biases make all poses alike, and little is learnt.
    return F.normalize(at_least_float32(projector(unit * unit.shape[1] ** 0.5)), dim=1)


def _maps_at(features: Features, rows: Tensor) -> Tensor:
    """Maps (B, D, T', V) of the bodies that are there, at `rows` (B,); a network that skips the others has no more."""
    return features.of(rows) if features.bodies is None else features.maps()


def frames_of(maps: Tensor) -> Tensor:
    """One feature of each frame, the mean over the joints of maps (B, D, T', V): (B, T', D)."""
    # By way of (B, T', V, D), so that the gradient comes back in channels-last memory.
    return maps.permute(0, 2, 3, 1).mean(2)
