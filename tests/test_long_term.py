"""The long-term network: each signal on a case worked by hand, and what goes into which loss."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from batches import Given, forecast, learn, names_of

from net import as_gcn, ctr_gcn, st_gcn
from net.future import unit_poses
from net.long_term import LongTerm
from net.loss import similarity, supervised_contrast
from net.method import CROSS_ENTROPY as OF_ACTIONS
from net.temporal_losses import MemoryQueue, TemporalSignals, draw_orders
from net.utils.clip import Clip
from net.utils.layouts import get_skeleton
from processor.encoder_weights import ignored_keys, load_translated
from torchlight import distributed
from torchlight.checkpoint import WeightsError

CROSS_ENTROPY = OF_ACTIONS.name

TEMPERATURE = 0.5


def unit(*angles):
    """Points on the circle at these angles in degrees: (n, 2)."""
    turned = torch.tensor(angles, dtype=torch.float32) * math.pi / 180
    return torch.stack((turned.cos(), turned.sin()), 1)


def fresh_signals(width, *, embedding=1, queue_size=2, num_segment=2):
    return TemporalSignals(
        width, embedding=embedding, queue_size=queue_size, num_segment=num_segment, temperature=TEMPERATURE
    )


def signals(*, queue_angles=(90.0, 180.0), num_segment=2):
    """Signals on frames that are their own embeddings, against a queue of two keys."""
    made = fresh_signals(2, embedding=2, queue_size=len(queue_angles), num_segment=num_segment)
    for name in made.projectors:
        made.projectors[name] = torch.nn.Identity()
    for queue in made.queues.values():
        queue.keys.copy_(unit(*queue_angles))
    return made


def by_hand(query, positive, negatives):
    """-log of the positive's share, by angles in degrees."""
    similarity = [math.cos(math.radians(query - other)) for other in (positive, *negatives)]
    return -similarity[0] / TEMPERATURE + math.log(sum(math.exp(s / TEMPERATURE) for s in similarity))


def loss(name, query, key, **more):
    """One loss of one body whose frames are at these angles, and whose frames in the other view are at those."""
    made = signals(**more)
    given = {name: unit(*key)[None]}
    return float(made(unit(*query)[None], given, (name,))[0][name])


class TestInterFrame:
    QUERY, KEY, QUEUE = (10, 0, 20, 30), (15, 100, 50, 60), (90.0, 180.0)

    def test_first_middle_and_last_against_themselves_in_the_other_view(self):
        expected = sum(by_hand(query, key, self.QUEUE) for query, key in ((10, 15), (20, 50), (30, 60))) / 3
        assert loss("inter_frame", self.QUERY, self.KEY) == pytest.approx(expected, rel=1e-5)

    def test_a_nearer_positive_lowers_it_and_a_nearer_negative_raises_it(self):
        before = loss("inter_frame", self.QUERY, self.KEY)
        assert loss("inter_frame", self.QUERY, (15, 100, 30, 60)) < before
        assert loss("inter_frame", self.QUERY, self.KEY, queue_angles=(60.0, 180.0)) > before


class TestIntraFrame:
    def test_each_frame_against_the_others_of_its_body(self):
        query, key = (0, 50, 110), (5, 60, 100)
        expected = sum(
            by_hand(q, key[t], [k for s, k in enumerate(key) if s != t]) for t, q in enumerate(query)
        )
        assert loss("intra_frame", query, key) == pytest.approx(expected / 3, rel=1e-5)

    def test_a_nearer_positive_lowers_it_and_a_nearer_negative_raises_it(self):
        before = loss("intra_frame", (0, 90), (30, 200))
        assert loss("intra_frame", (0, 90), (10, 200)) < before
        assert loss("intra_frame", (0, 90), (30, 290)) > before

    def test_bodies_do_not_see_each_other(self):
        both = torch.stack((unit(0, 50), unit(70, 20)))
        given = {"intra_frame": torch.stack((unit(10, 60), unit(80, 0)))}
        losses, embedding = signals()(both, given, ("intra_frame",))
        torch.testing.assert_close(embedding, both[:, 0])
        found = float(losses["intra_frame"])
        apart = [loss("intra_frame", (0, 50), (10, 60)), loss("intra_frame", (70, 20), (80, 0))]
        assert found == pytest.approx(sum(apart) / 2, rel=1e-5)


class TestSegment:
    QUERY, KEY, QUEUE = (0, 300, 200, 50, 300, 300), (300, 300, 20, 300, 300, 60), (90.0, 180.0)

    def test_the_first_of_each_part_against_the_last_of_it(self):
        expected = (by_hand(0, 20, self.QUEUE) + by_hand(50, 60, self.QUEUE)) / 2
        assert loss("segment", self.QUERY, self.KEY) == pytest.approx(expected, rel=1e-5)

    def test_a_nearer_positive_lowers_it_and_a_nearer_negative_raises_it(self):
        before = loss("segment", self.QUERY, self.KEY)
        assert loss("segment", self.QUERY, (*self.KEY[:5], 52)) < before
        assert loss("segment", self.QUERY, self.KEY, queue_angles=(30.0, 180.0)) > before

    def test_a_short_map_has_fewer_parts(self):
        # Two frames are one part: the first against the last.
        expected = by_hand(0, 20, self.QUEUE)
        assert loss("segment", (0, 300), (300, 20), num_segment=5) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "places"), [("inter_frame", [0, 2, 3]), ("segment", [1, 3])])
def test_keys_go_into_the_queue_after_they_were_compared(name, places):
    made = signals(queue_angles=(90.0, 180.0, 270.0, 0.0))
    key, count = unit(10, 20, 30, 40), len(places)
    made(unit(0, 0, 0, 0)[None], {name: key[None]}, (name,))
    torch.testing.assert_close(made.queues[name].keys[:count], key[places])
    torch.testing.assert_close(made.queues[name].keys[count:], unit(90, 180, 270, 0)[count:])
    assert int(made.queues[name].pointer) == count


class TestOrder:
    def test_orders_drawn_are_even_and_never_the_own_one_where_shuffled(self):
        torch.manual_seed(0)
        shuffled, order = draw_orders(4000, 5, torch.device("cpu"))
        own = (order == torch.arange(5)).all(2)
        assert torch.equal(own, shuffled == 0)
        assert torch.equal(order.sort(2).values, torch.arange(5).expand(4000, 2, 5))
        share = torch.bincount(shuffled[:, 0] + 2 * shuffled[:, 1], minlength=4) / 4000
        assert (share - 0.25).abs().max() < 0.03
        # All places are taken alike often, but for the own order's share.
        assert abs(float((order[shuffled == 1] == torch.arange(5)).float().mean()) - 0.2) < 0.02

    def test_the_right_answer_costs_nothing_and_the_wrong_one_much(self):
        torch.manual_seed(0)
        made = fresh_signals(1)
        made.order_frame = torch.nn.Identity()

        class Judge(torch.nn.Module):
            """Says of ten values whether either five of them rise."""

            sign = 1.0

            def forward(self, x):
                falls = (x.unflatten(1, (2, 5)).diff(dim=2) < 0).any(2).long()
                return self.sign * 20 * F.one_hot(falls[:, 0] + 2 * falls[:, 1], 4).float()

        made.order_head = Judge()
        frames = torch.arange(10.0)[None, :, None].expand(64, -1, -1)
        assert float(made(frames, {}, ("order",))[0]["order"]) < 1e-6
        Judge.sign = -1.0
        assert float(made(frames, {}, ("order",))[0]["order"]) > 10

    @pytest.mark.parametrize(
        ("num_frame", "places"),
        [
            (20, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),
            (8, [0, 1, 2, 3, 4, 3, 4, 5, 6, 7]),  # halves of four frames reach into each other
            (4, [0, 0, 1, 2, 3, 0, 0, 1, 2, 3]),
        ],
    )
    def test_each_half_gives_its_frames(self, num_frame, places):
        made = fresh_signals(1)
        made.order_frame = torch.nn.Identity()
        seen = []
        made.order_head.register_forward_pre_hook(lambda head, args: seen.append(args[0]))
        made(torch.arange(float(num_frame))[None, :, None].expand(200, -1, -1), {}, ("order",))
        assert places in seen[0].tolist()
        for half in (slice(0, 5), slice(5, 10)):
            assert all(sorted(row[half]) == sorted(places[half]) for row in seen[0].tolist())

    @pytest.mark.parametrize("num_frame", [1, 2, 7, 8, 16])
    def test_maps_of_any_length_do(self, num_frame):
        made = fresh_signals(4, embedding=3, num_segment=5)
        frames = torch.randn(3, num_frame, 4)
        key = {name: F.normalize(torch.randn(3, num_frame, 3), dim=2) for name in made.CONTRASTS}
        losses = made(frames, key, names_of(made.LOSSES))[0]
        assert set(losses) == set(names_of(made.LOSSES))
        assert all(value.isfinite() for value in losses.values())


class TestPoseContrast:
    def test_supervised_contrast_by_hand(self):
        logits = torch.tensor([[1.0, 0.0, 2.0], [3.0, 1.0, 0.0], [5.0, 5.0, 5.0]])
        positive = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
        first = math.log(math.e + 1 + math.e**2) - 1.5
        second = math.log(math.e**3 + math.e + 1) - 1
        assert float(supervised_contrast(logits, positive)) == pytest.approx((first + second) / 2)
        assert float(supervised_contrast(logits[2:], positive[2:])) == 0

    def network(self, queue_angles=(0.0, 0.0), queue_label=(-1, -1)):
        made = small(queue_size=len(queue_angles), temperature=TEMPERATURE)
        made.pose_projector = made.slow["pose_projector"] = torch.nn.Identity()
        made.pose_queue = MemoryQueue(3, len(queue_angles))
        made.pose_queue.keys.copy_(self.rows(*queue_angles))
        made.pose_queue.label.copy_(torch.tensor(queue_label))
        return made

    @staticmethod
    def rows(*angles):
        """Points of a circle that are centred: what `unit_poses` leaves as they are."""
        circle = unit(*angles)
        axes = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
        return circle @ F.normalize(axes, dim=1)

    def loss(self, angles, others, label, **queue):
        poses, other = (self.rows(*each)[:, None, :, None] for each in (angles, others))
        label = torch.tensor([-1] * len(angles) if label is None else label)
        return float(self.network(**queue)._pose_contrast(poses, other, label))

    def test_unit_poses_forget_place_and_size(self):
        poses = torch.randn(2, 4, 5, 3)
        torch.testing.assert_close(unit_poses(poses), unit_poses(3 * poses + torch.tensor([1.0, -2.0, 5.0])))
        torch.testing.assert_close(unit_poses(self.rows(20, 70)[:, None, :, None]), self.rows(20, 70))

    def test_with_labels_the_same_action_counts_in_batch_and_queue(self):
        found = self.loss((0, 40), (10, 60), (3, 5), queue_angles=(90.0, 200.0), queue_label=(3, 9))
        keys = {10: 3, 60: 5, 90: 3, 200: 9}
        expected = 0.0
        for query, label in ((0, 3), (40, 5)):
            own = [key for key, of in keys.items() if of == label]
            each = [by_hand(query, key, [k for k in keys if k != key]) for key in own]
            expected += sum(each) / len(each) / 2
        assert found == pytest.approx(expected, rel=1e-5)

    def test_without_labels_the_own_key_alone(self):
        found = self.loss((0, 40), (10, 60), None, queue_angles=(90.0, 200.0), queue_label=(3, 9))
        expected = (by_hand(0, 10, (60, 90, 200)) + by_hand(40, 60, (10, 90, 200))) / 2
        assert found == pytest.approx(expected, rel=1e-5)

    def test_a_nearer_positive_lowers_it_and_a_nearer_negative_raises_it(self):
        queue = {"queue_angles": (50.0, 200.0), "queue_label": (3, 9)}
        before = self.loss((0,), (30,), (3,), **queue)
        assert self.loss((0,), (30,), (3,), **{**queue, "queue_angles": (20.0, 200.0)}) < before
        assert self.loss((0,), (30,), (3,), **{**queue, "queue_angles": (50.0, 340.0)}) > before


# -- the network -------------------------------------------------------------------------------------------


def small(backbone=None, **more):
    torch.manual_seed(0)
    backbone = backbone or st_gcn.Model(3, 5, hidden_channels=4, hidden_dim=8)
    arguments = {"num_predict": 4, "decoder_hidden": 8, "decoder_block": 1, "num_recent": 3, "embedding": 6}
    return LongTerm(backbone, **{**arguments, "queue_size": 16, "momentum": 0.75, **more})


def clips(count=4, *, frames=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 2, frames, 25, 3, generator=generator).permute(0, 4, 2, 3, 1)


def sample(count=4, *, label=True):
    labels = torch.arange(count) % 2 if label else None
    return Given([clips(count), clips(count, seed=1)], clips(count, frames=4, seed=2), labels)


@pytest.mark.parametrize("backbone", [st_gcn.Model, as_gcn.Model])
def test_without_zeros_around_it_a_clip_that_stands_still_tells_nothing(backbone):
    """Zeros before and after tell where a frame is: which one it is, and in what order, is then known unseen."""
    for mode in ("zeros", "replicate"):
        torch.manual_seed(0)
        encoder = backbone(3, 5, hidden_channels=4, dropout=0.0, padding_mode=mode)
        network = small(encoder).eval()
        still = clips(4)[:, :, :1].expand(-1, -1, 32, -1, -1)
        maps = encoder.encode(Clip.of(still)).maps()
        difference = (maps - maps[:, :, :1]).abs().max() / maps.abs().max()
        assert bool(difference > 1e-3) == (mode == "zeros")
    loss = learn(network, Given([still, still]), ("intra_frame",)).losses["intra_frame"]
    assert float(loss.detach()) == pytest.approx(math.log(8), abs=1e-4)


def test_a_fresh_projector_tells_poses_apart():
    """Where all begin alike, no gradient parts them: a contrast then stays at chance for hundreds of steps."""
    torch.manual_seed(0)
    network = LongTerm(st_gcn.Model(3, 5, hidden_channels=16))
    poses = torch.randn(16, 1, 25, 3) + 0.1 * torch.randn(16, 10, 25, 3)
    network.decoder.forward = lambda maps, bodies, present: poses
    network.slow["decoder"].forward = network.decoder.forward
    x = torch.randn(16, 3, 12, 25, 1)
    # Without labels each pose is drawn to itself, away from 15 others; those at random in the queue are far from all.
    network.pose_queue = MemoryQueue(128, 1)
    loss = learn(network, Given([x, x]), ("pose_contrast",)).losses["pose_contrast"]
    assert float(loss) < 0.3 * math.log(17)


SIGNALS = names_of(TemporalSignals.LOSSES)
EVERY = names_of(LongTerm.LOSSES)


@pytest.mark.parametrize("name", EVERY)
def test_a_loss_does_not_depend_on_the_other_wanted_losses(name):
    def output_of(wanted):
        network = small().train()
        torch.manual_seed(1)
        return learn(network, sample(), wanted)

    among, alone = output_of(EVERY), output_of((name,))
    if name == CROSS_ENTROPY:
        assert alone.losses == {}
        torch.testing.assert_close(alone.scores, among.scores)
    else:
        assert list(alone.losses) == [name]
        assert alone.scores is None
        torch.testing.assert_close(alone.losses[name], among.losses[name])


def test_what_is_not_wanted_is_not_computed(monkeypatch):
    network = small()
    for name in ("encoder", "decoder"):
        monkeypatch.setattr(network.slow[name], "forward", None)
    monkeypatch.setattr(network.slow["encoder"], "encode", None)
    monkeypatch.setattr(network.decoder, "forward", None)
    learn(network, sample(), (CROSS_ENTROPY, "order"))
    with pytest.raises(TypeError):
        learn(network, sample(), ("segment",))


def test_future_is_the_mean_distance_in_metres_and_begins_with_bodies_that_stand_still():
    network = small().eval()
    given = sample()
    found = learn(network, given, ("future",)).losses["future"]
    still = given.views[0][:, :, -1:].expand_as(given.future)
    torch.testing.assert_close(found, (still - given.future).norm(dim=1).mean())
    torch.testing.assert_close(forecast(network, given.views[0]), still)


def judging(**more):
    """A network that treats each body for itself, and whose decoder predicts something."""
    network = small(**more).eval()
    torch.nn.init.normal_(network.decoder.out.weight, std=0.1)
    return network


def taught_of(views, future, label, wanted=None):
    network = judging()
    torch.manual_seed(1)  # of the orders
    return learn(network, Given(views, future, label), wanted).losses


def each_alone(x, places):
    """The bodies at these places (clip, body), each a clip of its own."""
    return torch.cat([x[clip : clip + 1, ..., body : body + 1] for clip, body in places])


def test_absent_bodies_have_no_loss_and_stay_absent():
    views, future = [clips(2), clips(2, seed=1)], clips(2, frames=4, seed=2)
    for view in views:
        view[1, ..., 1] = 0
    places = [(0, 0), (0, 1), (1, 0)]
    found = taught_of(views, future, torch.tensor([0, 1]))
    alone = [each_alone(view, places) for view in (*views, future)]
    torch.testing.assert_close(found, taught_of(alone[:2], alone[2], torch.tensor([0, 0, 1])))
    predicted = forecast(judging(), views[0])
    assert [bool(predicted[clip, ..., body].any()) for clip, body in (*places, (1, 1))] == [True] * 3 + [
        False
    ]


def test_bodies_that_come_or_go_give_no_signals_of_themselves():
    views, future = [clips(2), clips(2, seed=1)], clips(2, frames=4, seed=2)
    for view in views:
        view[1, :, :5, :, 0] = 0
    found = taught_of(views, future, None)
    expected = taught_of([each_alone(view, [(0, 0), (0, 1), (1, 1)]) for view in views], None, None, SIGNALS)
    torch.testing.assert_close({name: found[name] for name in SIGNALS}, expected)
    for view in views:
        view[..., 3, :, :] = 0  # nobody is there throughout
    found = taught_of(views, future, None)
    assert {name: float(found[name].detach()) for name in SIGNALS} == dict.fromkeys(SIGNALS, 0)
    assert found["future"] > 0


@pytest.mark.parametrize("label", [False, True])
def test_processes_hand_keys_around_whoever_is_there(monkeypatch, label):
    """All ranks must ask for the same, in the same order, or wait for ever."""

    def asked(given):
        calls = []

        def gather(each):
            calls.append((each.dtype, each.shape[1:]))
            return each

        monkeypatch.setattr(distributed, "all_gather_ragged", gather)
        learn(small(), given, EVERY)
        return calls

    full, nobody, partly = (sample(label=label) for _ in range(3))
    for of_nobody, of_some in zip(nobody.views, partly.views, strict=True):
        of_nobody[:] = 0
        of_some[:, :, 3] = 0
    assert len(asked(full)) == 3
    assert asked(nobody) == asked(partly) == asked(full)


def test_bodies_may_have_two_coordinates():
    network = small(st_gcn.Model(2, 5, hidden_channels=4, hidden_dim=8))
    flat = [view[:, :2] for view in sample().views]
    learn(network, Given(flat, clips(frames=4)[:, :2], torch.arange(4)), EVERY)
    assert forecast(network, flat[0]).shape == (4, 2, 4, 25, 2)


def test_predictions_for_mirrored_poses_are_averaged():
    networks = small().eval(), small(mirror=True).eval()
    for network in networks:
        torch.manual_seed(1)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    alone, both = networks
    swap = list(get_skeleton("ntu-rgb+d").swap)

    def mirrored(poses):
        return torch.cat((-poses[:, :1], poses[:, 1:]), 1)[:, :, :, swap]

    x = clips()
    found = forecast(both, x)
    torch.testing.assert_close(
        found, (forecast(alone, x) + mirrored(forecast(alone, mirrored(x)))) / 2, rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(found, forecast(alone, x), atol=1e-2)


def test_a_batch_without_bodies_has_loss_0():
    network = small(st_gcn.Model(3, 5, hidden_channels=4, hidden_dim=8, skip_empty_bodies=True))
    empty = torch.zeros(2, 3, 12, 25, 2)
    output = learn(network, Given([empty, empty], empty[:, :, :4], torch.zeros(2, dtype=torch.long)), EVERY)
    assert all(float(loss) == 0 for loss in output.losses.values())
    # Nor do the queues move on; others may put keys in meanwhile.
    assert not any(int(queue.pointer) for queue in (*network.signals.queues.values(), network.pose_queue))
    (sum(output.losses.values()) + output.scores.sum()).backward()
    # Without scores, too.
    output = learn(network, Given([empty, empty], empty[:, :, :4]), set(EVERY) - {CROSS_ENTROPY})
    sum(output.losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in network.encoder.encoder_parameters())


@pytest.mark.parametrize("label", [False, True])
def test_a_body_that_has_left_is_no_query_of_the_pose_contrast(label):
    """A fresh decoder predicts the last pose. If that is 0, the gradient of its direction has no bound."""

    def output_of(gone):
        network = small()
        given = sample(label=label)
        if gone:
            for view in given.views:
                view[1, :, 8:, :, 1] = 0
            given.views[1][1, :, 8:, :, 1] = 0
        loss = learn(network, given, ("pose_contrast",)).losses["pose_contrast"]
        loss.backward()
        return network, float(torch.nn.utils.get_total_norm([p.grad for p in network.decoder.parameters()]))

    stayed, left = output_of(False), output_of(True)
    assert left[1] < 3 * stayed[1]
    # Its key is not in the queue either.
    queue = left[0].pose_queue
    assert int(queue.pointer) == 7
    assert queue.label[:7].tolist() == ([0, 0, 1, 0, 0, 1, 1] if label else [-1] * 7)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(16))


@pytest.mark.parametrize("label", [False, True])
def test_a_body_that_has_left_does_not_change_the_pose_contrast(label):
    network = small().eval()
    given = sample(label=label)
    for view in given.views:
        view[1, :, 8:, :, 1] = 0

    def loss(changed=None):
        fresh, views = copy.deepcopy(network), [view.clone() for view in given.views]
        if changed is not None:
            views[0][1, ..., changed] = -views[0][1, ..., changed]
        return learn(fresh, given._replace(views=views), ("pose_contrast",)).losses["pose_contrast"]

    torch.testing.assert_close(loss(changed=1), loss())
    assert not torch.allclose(loss(changed=0), loss(), rtol=1e-3)


def test_without_bodies_in_the_last_frame_the_pose_contrast_is_0():
    network, given = small(), sample()
    for view in given.views:
        view[:, :, 8:] = 0
    loss = learn(network, given, ("pose_contrast",)).losses["pose_contrast"]
    loss.backward()
    assert float(loss) == 0
    assert not any(p.grad.any() for p in network.parameters() if p.grad is not None)
    assert int(network.pose_queue.pointer) == 0


@pytest.mark.parametrize(("skip", "project"), [(False, True), (True, True), (True, False)])
def test_each_loss_is_made_of_the_right_parts(skip, project):
    """Bodies differ in number, both views and all parts of the slow copy are other ones: any mix-up shows."""
    backbone = st_gcn.Model(3, 5, hidden_channels=4, hidden_dim=8, skip_empty_bodies=skip)
    network = small(backbone, momentum=1.0, project_poses=project)
    with torch.no_grad():
        for number, parameter in enumerate(network.slow.parameters()):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        network.decoder.out.weight.normal_(std=0.1)
    network.eval()
    x, y, future = clips(3), clips(3, seed=1), clips(3, frames=4, seed=2)
    x[0, ..., 1] = x[2, ..., 0] = 0
    there = [(0, 0), (1, 0), (1, 1), (2, 1)]
    label = torch.tensor([3, 1, 3])
    queues = {name: queue.keys.clone() for name, queue in network.signals.queues.items()}
    pose_queue = network.pose_queue.keys.clone()
    wanted = ("inter_frame", "intra_frame", "segment", "future", "pose_contrast")
    found = learn(network, Given([x, y], future, label), wanted).losses

    def of_bodies(values):  # (N, M, ...)
        return torch.stack([values[place] for place in there])

    slow = network.slow
    fast_maps = of_bodies(network.encoder.extract_feature(x))
    if skip:  # what is not there in the first view is not looked at in the second, which has it
        assert y[0, ..., 1].any()
    slow_maps = of_bodies(slow["encoder"].extract_feature(y))
    expected = {}
    for name in ("inter_frame", "intra_frame", "segment"):
        query = F.normalize(network.signals.projectors[name](fast_maps.mean(3).transpose(1, 2)), dim=2)
        key = F.normalize(slow["projectors"][name](slow_maps.mean(3).transpose(1, 2)), dim=2)
        if name == "intra_frame":
            logits, right = query @ key.transpose(1, 2), torch.arange(3).expand(4, 3)
            expected[name] = F.cross_entropy((logits / 0.1).flatten(0, 1), right.flatten())
            continue
        # Three frames of a map: the first, middle and last; and one part.
        pairs = [(0, 0), (1, 1), (2, 2)] if name == "inter_frame" else [(0, 2)]
        logits = torch.cat(
            [
                torch.cat(((query[:, q] * key[:, k]).sum(1, keepdim=True), query[:, q] @ queues[name].T), 1)
                for q, k in pairs
            ]
        )
        expected[name] = F.cross_entropy(logits / 0.1, torch.zeros(len(logits), dtype=torch.long))
    bodies, others, ahead = (of_bodies(each.permute(0, 4, 2, 3, 1)) for each in (x, y, future))
    everywhere = torch.ones(bodies.shape[:2], dtype=torch.bool)
    predicted = network.decoder(fast_maps, bodies, everywhere)
    expected["future"] = (predicted - ahead).norm(dim=-1).mean()
    scale = math.sqrt(4 * 25 * 3)  # entries of size 1
    query = F.normalize(network.pose_projector(unit_poses(predicted) * scale), dim=1)
    others = unit_poses(slow["decoder"](slow_maps, others, everywhere))
    key = F.normalize(slow["pose_projector"](others * scale), dim=1)
    log_p = (query @ torch.cat((key, pose_queue)).T / 0.1).log_softmax(1)
    same = [[0, 3], [1, 2], [1, 2], [0, 3]]  # clips 0 and 2 show one action, both bodies of clip 1 another
    expected["pose_contrast"] = -torch.stack([log_p[i, each].mean() for i, each in enumerate(same)]).mean()
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")
    assert network.pose_queue.label[:4].tolist() == [3, 1, 1, 3]


def test_similarities_are_not_rounded_in_bfloat16():
    left, right = F.normalize(torch.randn(5, 64), dim=1), F.normalize(torch.randn(7, 64), dim=1)
    plain = similarity(left, right)
    torch.testing.assert_close(plain, torch.einsum("nd,md->nm", left, right))
    losses = []
    for enabled in (False, True):
        made = signals(queue_angles=(90.0, 180.0, 33.0))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            assert torch.equal(similarity(left, right), plain)
            frames, key = unit(10, 20, 30, 40)[None], unit(12, 25, 31, 47)[None]
            given = dict.fromkeys(made.CONTRASTS, key)
            losses.append(made(frames, given, made.CONTRASTS)[0])
    assert losses[0] == losses[1]


def test_slow_copy_follows_in_steps_that_compare_nothing():
    network = small()
    with torch.no_grad():
        for parameter in (*network.encoder.parameters(), *network.decoder.parameters()):
            parameter += 1
    before = [parameter.clone() for parameter in network.slow.parameters()]
    learn(network, sample(), ("future",))
    fast = [parameter for part in network._fast_modules().values() for parameter in part.parameters()]
    assert len(fast) == len(before)
    for old, own, new in zip(before, fast, network.slow.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * own)


def test_slow_copy_follows_and_takes_no_gradient():
    network = small()
    with torch.no_grad():
        for parameter in network.encoder.parameters():
            parameter += 1
    before = [parameter.clone() for parameter in network.slow["encoder"].parameters()]
    losses = learn(network, sample()).losses
    sum(losses.values()).backward()
    pairs = zip(before, network.encoder.parameters(), network.slow["encoder"].parameters(), strict=True)
    for old, fast, new in pairs:
        torch.testing.assert_close(new, 0.75 * old + 0.25 * fast)
        assert new.grad is None
    assert network.signals.projectors["segment"][0].weight.grad.any()
    assert network.pose_projector[0].weight.grad.any()


def test_poses_themselves_are_compared_where_they_are_not_projected():
    network = small(project_poses=False)
    assert not list(network.pose_projector.parameters())
    assert network.pose_queue.keys.shape == (16, 4 * 25 * 3)
    learn(network, sample(), ("pose_contrast",)).losses["pose_contrast"].backward()
    assert network.decoder.out.weight.grad.any()


def test_queues_are_in_the_checkpoint_and_the_encoder_under_its_name():
    keys = set(small().state_dict())
    assert {"pose_queue.keys", "pose_queue.label", "signals.queues.segment.pointer"} <= keys
    assert {"encoder.data_bn.weight", "slow.encoder.data_bn.weight", "decoder.out.weight"} <= keys


@pytest.mark.parametrize("skip", [False, True])
def test_any_backbone_serves_and_adds_losses_of_its_own(skip):
    backbone = as_gcn.Model(
        3, 5, hidden_channels=4, link_hidden=4, num_link_frame=6, dropout=0.0, skip_empty_bodies=skip
    )
    network = small(backbone)
    output = learn(network, sample(), (*EVERY, "nll", "kl"))
    assert set(output.losses) == {*EVERY, "nll", "kl"} - {CROSS_ENTROPY}
    assert output.scores.shape == (4, 5)


def test_weights_with_a_head_that_is_no_longer_built_give_what_they_gave(tmp_path):
    def network(num_predict):
        arguments = {"hidden_channels": 4, "link_hidden": 4, "num_link_frame": 6, "dropout": 0.0}
        return small(as_gcn.Model(3, 5, num_predict=num_predict, **arguments)).eval()

    before, now = network(10), network(0)
    torch.save(before.state_dict(), tmp_path / "best.pt")
    load_translated(now, str(tmp_path / "best.pt"))
    unused = ignored_keys(now, before.state_dict())
    assert {key.rsplit("encoder.", 1)[0] for key in unused} == {"", "slow."}
    assert now.state_dict().keys() == before.state_dict().keys() - set(unused)
    named = sorted({*EVERY, "kl"} - {"order"})  # which is of orders drawn anew
    first, second = (learn(each, sample(), named) for each in (before, now))
    assert torch.equal(first.scores, second.scores)
    assert first.losses == second.losses
    # Nothing else may be more than there should be.
    torch.save(before.state_dict() | {"encoder.recon": torch.zeros(1)}, tmp_path / "more.pt")
    with pytest.raises(WeightsError, match=r"encoder\.recon \(1,\)"):
        load_translated(now, str(tmp_path / "more.pt"))


def test_gradients_in_bfloat16():
    network = small().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = learn(network, sample(), EVERY)
        scores = network.scores(Clip.of(sample().views[0]))
    assert (output.scores.dtype, scores.dtype) == (torch.float32, torch.float32)
    (sum(output.losses.values()) + F.cross_entropy(output.scores.float(), sample().label)).backward()
    trained = [p for name, p in network.named_parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_queue_wraps_and_keeps_labels():
    queue = MemoryQueue(2, 3)
    queue.put(unit(0, 10), torch.tensor([4, 5]))
    queue.put(unit(20, 30), torch.tensor([6, 7]))
    torch.testing.assert_close(queue.keys, unit(30, 10, 20))
    assert queue.label.tolist() == [7, 5, 6]
    queue.put(unit(1, 2, 3, 4, 5))
    assert queue.label.tolist() == [-1] * 3


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("momentum", 1.5),
        ("temperature", 0.0),
        ("queue_size", 0),
        ("num_segment", 0),
        ("num_predict", 0),
        ("decoder_hidden", 0),
        ("decoder_block", 0),
        ("num_recent", 0),
    ],
)
def test_numbers_out_of_range_are_named(argument, value):
    with pytest.raises(ValueError, match=f"{argument} is {value}"):
        small(**{argument: value})


def test_losses_of_the_backbone_alone_need_no_feature_maps(monkeypatch):
    backbone = as_gcn.Model(3, 5, hidden_channels=4, link_hidden=4, num_link_frame=6, dropout=0.0)
    network = small(backbone).eval()
    among = learn(network, sample(), (CROSS_ENTROPY, "nll", "kl")).losses
    monkeypatch.setattr(backbone, "maps", None)
    alone = learn(network, sample(), ("nll", "kl")).losses
    assert set(alone) == {"nll", "kl"}
    torch.testing.assert_close(alone, among)
    monkeypatch.setattr(backbone.links.decoder, "forward", None)
    torch.testing.assert_close(learn(network, sample(), ("kl",)).losses, {"kl": among["kl"]})
    with pytest.raises(TypeError):
        learn(network, sample(), ("nll",))


def test_what_stands_before_the_head_acts_within_the_network_too():
    network = small(ctr_gcn.Model(3, 5, base_channels=8, dropout=0.9)).train()

    def scores():
        return learn(network, sample(), (CROSS_ENTROPY,)).scores

    assert not torch.equal(scores(), scores())
    network.encoder.drop_out.eval()
    assert torch.equal(scores(), scores())
