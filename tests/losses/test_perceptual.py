"""Features are computed once per picture, with gradients where they are wanted and only there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import skimage.data
import torch
from torch import Tensor, nn

from enhancelib import features as networks
from enhancelib import images
from enhancelib.losses import Objective, Term, pixel, texture
from enhancelib.losses.perceptual import Taps

CLEAN = images.from_array(skimage.data.astronaut())[None, :, 100:164, 180:260]
DEEP = ("relu4_2", "relu5_4")


@dataclass
class Recording:
    """A small smooth network with two layers; remembers every picture and what was asked of it."""

    seen: list[tuple[Tensor, tuple[str, ...], bool]] = field(default_factory=list)
    first: nn.Conv2d = field(default_factory=lambda: _conv(3, 4))
    second: nn.Conv2d = field(default_factory=lambda: _conv(4, 5))

    def __call__(self, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        self.seen.append((image, tuple(layers), torch.is_grad_enabled()))
        one = torch.tanh(self.first(image))
        maps = {"a": one, "b": torch.tanh(self.second(one))}
        return {name: maps[name] for name in layers}


def _conv(incoming: int, outgoing: int) -> nn.Conv2d:
    conv = nn.Conv2d(incoming, outgoing, 3, padding=1)
    generator = torch.Generator().manual_seed(outgoing)
    with torch.no_grad():
        for value in conv.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) / 3)
    return conv.requires_grad_(False)


def sample() -> dict[str, Tensor]:
    noise = torch.randn(CLEAN.shape, generator=torch.Generator().manual_seed(1))
    return {"output": (CLEAN + 0.05 * noise).requires_grad_(), "clean": CLEAN.clone()}


LAYERS = {"output": ("a", "b"), "clean": ("b",), "output~": ("a",), "clean~": ("a",)}


def test_activations_come_under_key_and_layer_and_the_sample_stays() -> None:
    network, given = Recording(), sample()
    found = Taps(network, LAYERS)(given)
    names = {"output/a", "output/b", "clean/b", "output~/a", "clean~/a"}
    assert set(found) == {"output", "clean"} | names
    assert set(given) == {"output", "clean"}
    assert found["output"] is given["output"]
    # the last bits depend on how the pixels lie in memory
    torch.testing.assert_close(found["clean/b"], Recording()(CLEAN, ("b",))["b"])


def test_the_network_runs_once_per_picture() -> None:
    network = Recording()
    objective = Objective(
        {
            "content": Term(1.0, pixel.mse, of=("output/b", "clean/b")),
            "again": Term(2.0, pixel.l1, of=("output/b", "clean/b")),
            "lcn": Term(3.0, pixel.mse, of=("output~/a", "clean~/a")),
            "size": Term(4.0, lambda x: x.square().mean(), of=("output/a",)),
        },
        Taps(network, LAYERS),
    )
    objective(sample())
    assert [layers for _, layers, _ in network.seen] == list(LAYERS.values())
    given = sample()
    objective.gradients(given, given["output"])
    assert len(network.seen) == 2 * len(LAYERS)


def test_a_tilde_is_the_locally_normalised_picture() -> None:
    network, given = Recording(), sample()
    found = Taps(network, {"clean~": ("a",), "clean": ("a",)})(given)
    normalised = texture.vgg_picture(texture.local_contrast(given["clean"]))
    torch.testing.assert_close(network.seen[0][0], normalised)
    assert torch.equal(network.seen[1][0], given["clean"])
    assert float((found["clean~/a"] - found["clean/a"]).abs().mean()) > 0.1
    # brightness does not reach it
    brighter = Taps(network, {"clean~": ("a",)})({"clean": given["clean"] + 0.2})
    torch.testing.assert_close(brighter["clean~/a"], found["clean~/a"], atol=1e-5, rtol=1e-4)


def test_a_tilde_is_eq_13_of_the_texture_loss() -> None:
    network, given = Recording(), sample()
    tapped = Taps(network, {"output~": ("b",), "clean~": ("b",)})(given)
    wanted = texture.lcn(given["output"], given["clean"], phi=lambda x: network(x, ("b",))["b"])
    torch.testing.assert_close(pixel.mse(tapped["output~/b"], tapped["clean~/b"]), wanted)


def test_the_target_gets_no_graph() -> None:
    network, given = Recording(), sample()
    given["clean"].requires_grad_()  # even then
    found = Taps(network, LAYERS)(given)
    assert {name for name, value in found.items() if value.grad_fn} == {
        "output/a",
        "output/b",
        "output~/a",
    }
    assert [enabled for *_, enabled in network.seen] == [True, False, True, False]
    assert torch.is_grad_enabled()
    everything = Taps(network, LAYERS, constant=())(given)
    assert everything["clean/b"].grad_fn is not None


def test_nothing_has_a_graph_where_none_is_wanted() -> None:
    with torch.no_grad():
        found = Taps(Recording(), LAYERS)(sample())
        assert not torch.is_grad_enabled()
    assert not any(found[name].requires_grad for name in found if "/" in name)


def test_gradients_reach_the_picture_through_both_ways() -> None:
    given = sample()
    found = Taps(Recording(), LAYERS)(given)
    for name in ("output/b", "output~/a"):
        (gradient,) = torch.autograd.grad(found[name].sum(), given["output"], retain_graph=True)
        assert float(gradient.abs().min(1).values.mean()) > 0, name


def test_a_missing_picture_is_named() -> None:
    taps = Taps(Recording(), {"output~": ("a",)})
    with pytest.raises(ValueError, match=r"features of 'output' are wanted; the sample has clean"):
        taps({"clean": CLEAN})


# With the real network


@pytest.fixture(scope="module")
def vgg19(features: Path) -> networks.Features:
    return networks.load("vgg19", ceil=True)


def objective(network: networks.Features) -> Objective:
    """Content and local contrast, as PRaD weighs them."""
    layers = {"output": DEEP, "clean": DEEP, "output~": DEEP[1:], "clean~": DEEP[1:]}
    return Objective(
        {
            "content": Term(1.0, pixel.mse, of=("output/relu5_4", "clean/relu5_4")),
            "middle": Term(0.1, pixel.mse, of=("output/relu4_2", "clean/relu4_2")),
            "lcn": Term(0.4, pixel.mse, of=("output~/relu5_4", "clean~/relu5_4")),
        },
        Taps(network, layers),
    )


def test_frozen_networks_keep_their_values_and_no_gradient(vgg19: networks.Features) -> None:
    given = sample()
    before = vgg19.stages["conv1_1"].weight.clone()
    objective(vgg19)(given)[0].backward()
    assert given["output"].grad is not None
    assert all(p.grad is None for p in vgg19.parameters())
    assert torch.equal(vgg19.stages["conv1_1"].weight, before)


def test_values_and_gradients_are_those_of_the_network_asked_directly(
    vgg19: networks.Features,
) -> None:
    given, whole = sample(), objective(vgg19)
    apart = whole.gradients(given, given["output"])
    x = given["output"].detach().clone().requires_grad_()
    with torch.no_grad():
        target = vgg19(CLEAN, ("relu5_4",))["relu5_4"]
    content = (vgg19(x, ("relu5_4",))["relu5_4"] - target).square().mean()
    (gradient,) = torch.autograd.grad(content, x)
    _, values = whole(given)
    torch.testing.assert_close(values["content"], content.detach(), rtol=1e-4, atol=1e-6)
    scale = float(gradient.abs().max())
    torch.testing.assert_close(apart["content"] / scale, gradient / scale, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_close_and_comes_back_as_float32(vgg19: networks.Features) -> None:
    """8 bits of mantissa through 16 layers: some per cent, in value and in direction."""
    rough = networks.load("vgg19", ceil=True, precision="bf16")
    given = sample()
    tapped = [Taps(network, {"clean": DEEP})(given) for network in (vgg19, rough)]
    for name in ("clean/relu4_2", "clean/relu5_4"):
        one, two = (found[name] for found in tapped)
        assert one.dtype == two.dtype == torch.float32
        assert 1e-4 < float((one - two).norm() / one.norm()) < 0.05, name
    values = [objective(network)(given)[1] for network in (vgg19, rough)]
    slopes = [objective(network).gradients(given, given["output"]) for network in (vgg19, rough)]
    for name, value in values[0].items():
        assert float(values[1][name]) == pytest.approx(float(value), rel=0.05), name
        one, two = (found[name].flatten() for found in slopes)
        assert one.dtype == two.dtype == torch.float32
        assert float(torch.cosine_similarity(one, two, dim=0)) > 0.98, name
