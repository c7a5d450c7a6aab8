"""Outputs of networks, graphs and preprocessing on made-up input, kept in `tests/reference` to compare with.

`python tests/recorded.py` makes the files anew. They were recorded on 2026-11-30 from the code of this repository,
while its outputs agreed with those of the published implementations: graphs exactly, networks within 1e-4 of the
largest value (AS-GCN 5e-4, of input rounded to float16), preprocessing within 1e-5 m. So they guard that agreement
where the published outputs themselves are not at hand. Make them anew only where the tests that take the fixture
`reference` pass, and say why in the message of the change.

Inputs, and weights by `weights_by_formula`, are draws of `numpy.random.RandomState`, whose numbers NumPy keeps as they
are in every version. Networks compute in float64, where rounding hardly moves a value across a threshold.
Of a large array `some` keeps a few hundred numbers.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from batches import Given, learn
from ragged_clips import generator, to_batch
from raw_skeleton import Frames, to_text
from torch import Tensor, nn

from conftest import weights_by_formula
from feeder.recordings.bodies import CHOICES
from feeder.recordings.ntu import parse_skeleton
from feeder.views import View
from net import as_gcn, ctr_gcn, st_gcn
from net.aimclr import AimCLR, attention_drop
from net.utils.graph import Graph
from net.utils.layouts import get_skeleton

FOLDER = Path(__file__).with_name("reference")

Outputs = dict[str, np.ndarray]


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal values, float64."""
    return torch.from_numpy(np.random.RandomState(1000 + seed).standard_normal(shape))


def with_weights(model: nn.Module, gain: float = 1.0) -> nn.Module:
    """The model in float64, with the weights by formula."""
    keys = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    model.load_state_dict(weights_by_formula(keys, seed_offset=0, gain=gain), strict=False)
    return model.double()


def names(model: nn.Module) -> np.ndarray:
    """Names and shapes of the weights, which are those of published files."""
    return np.array([f"{name} {tuple(value.shape)}" for name, value in model.state_dict().items()])


def some(values: Tensor | np.ndarray, count: int = 211) -> np.ndarray:
    """Values at equal distances in the flattened array, and the root mean square of all."""
    flat = np.asarray(values, np.float64).ravel()
    positions = np.linspace(0, flat.size - 1, min(count, flat.size)).astype(int)
    return np.append(flat[positions], np.sqrt(np.mean(flat**2)))


def norms_of_gradients(model: nn.Module) -> np.ndarray:
    """One for each parameter that has a gradient."""
    return np.array([float(p.grad.norm()) for p in model.parameters() if p.grad is not None])


def graphs() -> Outputs:
    """Adjacency of ST-GCN's and AS-GCN's graphs by layout, strategy and hops, and of CTR-GCN's."""
    keys = [*product(("ntu-rgb+d", "openpose", "ntu_edge"), ("uniform", "distance", "spatial"), (1, 2, 3))]
    keys += [("ntu-rgb+d", "spatial", 4), ("ntu-rgb+d", "digraph", 1), ("kinect-v1", "digraph", 1)]
    return {
        f"{layout} {strategy} {hops}": Graph(layout, strategy, max_hop=hops).A
        for layout, strategy, hops in keys
    }


def st_gcn_of(layout: str) -> Outputs:
    """ST-GCN of 64 channels: scores, feature, loss and gradients."""
    model = with_weights(st_gcn.Model(3, 10, layout=layout, strategy="spatial"))
    x = draw(2, 3, 16, get_skeleton(layout).num_joint, 2)
    with torch.no_grad():
        outputs = {"eval": model.eval()(x), "feature": some(model.extract_feature(x).mean((1, 3, 4)))}
    scores = model.train()(x)
    loss = F.cross_entropy(scores, torch.tensor([3, 7]))
    loss.backward()
    outputs |= {"train": scores.detach(), "loss": loss.detach(), "gradients": norms_of_gradients(model)}
    return outputs | {"names": names(model)}


@torch.no_grad()
def as_gcn_and_links() -> Outputs:
    """AS-GCN of 16 channels in eval mode, its likeliest links, and the poses it predicts."""
    model = with_weights(as_gcn.Model(3, 10, hidden_channels=16, link_hidden=16, likeliest_links=True)).eval()
    bodies = draw(2, 290, 25, 3)
    seen = bodies[:, :250:5]
    links = model.links(seen)
    adjacency, last = links.adjacency(), bodies[:, -1]
    maps = model.maps(bodies, adjacency)
    return {
        "link_logits": some(links.logits),
        "link_adjacency": some(adjacency),
        "link_poses": some(model.links.decoder(seen, links.edges)),
        "scores": model.fcn(maps.mean((2, 3))),
        "future": some(model.predict(maps, adjacency, last, torch.ones(2, dtype=torch.bool))),
        "names": names(model),
    }


def ctr_gcn_of(layout: str, num_body: int) -> Outputs:
    """CTR-GCN of 64 channels: scores in eval and train mode."""
    model = with_weights(ctr_gcn.Model(3, 10, layout=layout, num_body=num_body), gain=0.3)
    x = draw(2, 3, 16, model.num_joint, num_body)
    with torch.no_grad():
        return {"eval": model.eval()(x), "train": model.train()(x), "names": names(model)}


def aimclr_steps() -> Outputs:
    """Two steps of AimCLR, of 16 channels, the second with mined neighbours."""
    encoder = st_gcn.Model(3, hidden_channels=16)
    method = AimCLR(encoder, feature_dim=32, queue_size=64, mining_topk=2, mining_epoch=1)
    with_weights(method).train()
    method.queue.copy_(F.normalize(draw(*method.queue.shape), dim=0))
    views = [draw(4, 3, 16, 25, 2, seed=view) for view in (1, 2, 3)]
    outputs = {"names": names(method)}
    for epoch in (0, 1):
        method.start_epoch(epoch)
        method.zero_grad()
        losses = learn(method, Given(views)).losses
        sum(losses.values()).backward()
        outputs |= {f"{name} {epoch}": loss.detach() for name, loss in losses.items()}
        outputs[f"gradients {epoch}"] = norms_of_gradients(method)
    return outputs | {"queue": some(method.queue), "key": some(method.encoder_k.fcn[0].weight.detach())}


def dropped_maps() -> Outputs:
    """Feature maps after AimCLR's attention-guided drop."""
    return {"maps": some(attention_drop(draw(2, 8, 6, 25), 0.7))}


def raw_recording() -> bytes:
    """A `.skeleton` file: two actors, one who is seen for 5 frames, a thing wider than high, an empty frame."""
    joint = np.arange(25)
    frames: Frames = []
    rest = np.stack([0.3 * np.sin(2.4 * joint), 0.9 * np.cos(1.1 * joint), 3 + 0.2 * np.sin(joint)], 1)
    thing = rest * [4, 0.2, 1]
    spans = {"1": (0, 40), "2": (3, 8), "3": (10, 33), "4": (12, 40)}
    for frame in range(40):
        frames.append([])
        for number, (name, (begin, end)) in enumerate(spans.items()):
            if begin <= frame < end and frame != 20:
                swing = 0.1 * (number + 1) * np.sin(0.3 * frame + 0.7 * joint)[:, None] * [1, 0.5, 0.2]
                place = (thing if name == "3" else rest) + [0.5 * number, 0.01 * frame, 0]
                frames[-1].append((name, (place + swing).astype(np.float32)))
    return to_text(frames)


def bodies_of_recording() -> Outputs:
    """Tracks chosen as ST-GCN, AS-GCN and CTR-GCN choose them."""
    recording = parse_skeleton(raw_recording())
    tracks = {name: choice(recording) for name, choice in CHOICES.items()}
    return {name: some(track) for name, track in tracks.items()} | {
        f"{name} shape": np.array(track.shape) for name, track in tracks.items()
    }


def normalised_recording() -> Outputs:
    """AS-GCN's normalisation of all frames, and the 50 frames and motion of AimCLR."""
    skeleton, recording = get_skeleton("ntu-rgb+d"), parse_skeleton(raw_recording())
    clips = {name: to_batch([CHOICES[name](recording)]) for name in ("energy", "first")}
    resize = [{"Resize": {"num_frame": 50}}]
    pad = [{"Pad": {"num_frame": recording.num_frame}}]

    def view(sampling: list, normalise: str = "none") -> View:
        return View(skeleton, num_body=2, sampling=sampling, normalise=normalise)

    made = {
        "as_gcn": view(pad, "align_torso")(clips["energy"], generator()),
        "aimclr_position": view(resize, "align_shoulders")(clips["first"], generator()),
        "aimclr_motion": view(resize)(clips["first"].displacement(), generator()),
    }
    return {name: some(values) for name, values in made.items()}


RECORDED: Mapping[str, Callable[[], Outputs]] = {
    "graphs": graphs,
    "st_gcn_ntu": partial(st_gcn_of, "ntu-rgb+d"),
    "st_gcn_openpose": partial(st_gcn_of, "openpose"),
    "as_gcn": as_gcn_and_links,
    "ctr_gcn_ntu": partial(ctr_gcn_of, "ntu-rgb+d", 2),
    "ctr_gcn_ucla": partial(ctr_gcn_of, "kinect-v1", 1),
    "aimclr": aimclr_steps,
    "attention_drop": dropped_maps,
    "ntu_bodies": bodies_of_recording,
    "ntu_normalised": normalised_recording,
}


def record() -> None:
    """Write all files."""
    FOLDER.mkdir(exist_ok=True)
    for name, made in RECORDED.items():
        outputs = {key: np.asarray(value) for key, value in made().items()}
        small = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in outputs.items()}
        np.savez_compressed(FOLDER / f"{name}.npz", **small)


if __name__ == "__main__":
    record()
