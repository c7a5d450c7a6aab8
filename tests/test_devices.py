"""Methods on other devices and in bf16: their losses and gradients are those in float32 on the CPU."""

import copy
import dataclasses

import pytest
import torch
from batches import Given, names_of

from net import motion_mixer, simlpe, transformer
from net.masked_feature import MaskedFeature
from net.masked_motion import MaskedMotion
from net.method import Method, as_method
from net.skeletonclr import SkeletonCLR

DECODER = {"mask_ratio": 0.5, "decoder_width": 16, "decoder_depth": 1, "decoder_head": 2}
POSES = {"num_observe": 12, "num_predict": 4, "num_block": 2}


def encoder() -> transformer.Model:
    return transformer.Model(num_class=4, patch=4, max_frame=16, width=16, depth=2, num_head=2)


METHODS = {
    "transformer": lambda: as_method(encoder()),
    "masked motion": lambda: MaskedMotion(encoder(), **DECODER),
    "masked features": lambda: MaskedFeature(encoder(), projection_dim=8, **DECODER),
    "SkeletonCLR": lambda: SkeletonCLR(encoder(), feature_dim=8, queue_size=16),
    "siMLPe": lambda: simlpe.Model(**POSES),
    "mixer": lambda: motion_mixer.Model(width=16, **POSES),
}
HAS_CUDA = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def given(num_frame: int, device: str) -> Given:
    """Six clips of two bodies: an absent body, a late one, and a joint that was not seen."""
    torch.manual_seed(1)
    views = [torch.randn(6, 3, 16, 25, 2) for _ in range(2)]
    for x in views:
        x[0, ..., 1] = 0
        x[1, :, :5, :, 0] = 0
        x[2, :, 3, 7, 0] = 0
    seen, future = [x[:, :, :num_frame].to(device) for x in views], views[0][:, :, num_frame:].to(device)
    return Given(seen, future, torch.arange(6).remainder(4).to(device))


def losses_and_gradients(method: Method, device: str, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All losses of a method, and all gradients of their sum in one vector, on the CPU."""
    method = copy.deepcopy(method).to(device).train()
    batch = given(getattr(method, "num_observe", 16), device).batch()
    batch = dataclasses.replace(batch, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(3)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        found = method(batch, names_of(method.LOSSES))
    losses = list(found.losses.values())
    if found.scores is not None:
        losses.append(torch.nn.functional.cross_entropy(found.scores.float(), batch.label))
    total = torch.stack(losses)
    total.sum().backward()
    parameters = [each for each in method.parameters() if each.requires_grad]
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in parameters]
    return total.detach().cpu(), torch.cat([each.flatten() for each in gradients]).cpu()


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        ("cpu", "bf16"),
        pytest.param("cuda", "fp32", marks=HAS_CUDA),
        pytest.param("cuda", "bf16", marks=HAS_CUDA),
    ],
)
@pytest.mark.parametrize("name", METHODS)
def test_losses_and_gradients_are_those_of_float32_on_the_cpu(name, device, precision):
    torch.manual_seed(0)
    method = METHODS[name]()
    # Networks that begin by predicting nothing have hardly a gradient.
    for parameter in method.parameters():
        if parameter.requires_grad and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    expected, expected_gradient = losses_and_gradients(method, "cpu", "fp32")
    found, gradient = losses_and_gradients(method, device, precision)
    torch.testing.assert_close(found, expected, rtol=0.02 if precision == "bf16" else 1e-3, atol=0)
    least = 0.99 if precision == "bf16" else 0.9999
    assert torch.cosine_similarity(gradient, expected_gradient, dim=0) > least
    assert gradient.norm().item() == pytest.approx(expected_gradient.norm().item(), rel=0.05)
