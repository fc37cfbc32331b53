"""The multi-level generator: counts, sizes, Eq. 4 by value, switches, tiles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib import models, photos, weights
from enhancelib.images import tiled
from enhancelib.models.accounting import parameters
from enhancelib.models.prad import SIZES, Generator

NARROW = (4, 6, 8)
PLAIN = {"cfa": False, "refinement": "none"}
SWITCHES: dict[str, tuple[Any, ...]] = {
    "cfa": (True, False),
    "refinement": ("residual", "none", "channel_attention"),
    "aggregated": ("deeper", "shallow"),
    "norm": ("none", "batch", "instance", "weight"),
    "down": ("conv", "maxpool"),
}


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo(height: int, width: int) -> Tensor:
    return photos.load("astronaut")[None, :, 60 : 60 + height, 150 : 150 + width]


def generator(**options: Any) -> Generator:
    return Generator(**{"widths": NARROW, "generator": draw(), **options})


# prad.md 3.1, and 3 widths x 5 variants by the same layers
@pytest.mark.parametrize(
    ("size", "options", "published"),
    [
        ("S", {}, 206_323),
        ("S", PLAIN, 155_955),
        ("S", {"cfa": False}, 179_091),
        ("S", {"refinement": "none"}, 183_187),
        ("S", {"down": "maxpool"}, 160_147),
        ("M", {}, 463_083),
        ("L", {}, 822_243),
        ("L", PLAIN, 621_155),
        ("L", {"cfa": False}, 713_507),
        ("L", {"refinement": "none"}, 729_891),
        # ours: the depth of the aggregated feature costs nothing, norms and attention little
        ("S", {"aggregated": "shallow"}, 206_323),
        # all convolutions but the output's make 9 x 16 + 10 x 32 + 3 x 64 = 656 maps
        ("S", {"norm": "instance"}, 206_323 + 2 * 656),
        ("S", {"norm": "batch"}, 206_323 + 2 * 656),
        ("S", {"norm": "weight"}, 206_323 + 656),
        # 16 -> 4 -> 16 and 32 -> 8 -> 32, with biases
        ("S", {"refinement": "channel_attention"}, 206_323 + 148 + 552),
    ],
)
def test_parameter_counts(size: str, options: dict[str, Any], published: int) -> None:
    assert parameters(Generator(SIZES[size], **options)) == published


@pytest.mark.parametrize("down", ["conv", "maxpool"])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (67, 101), (100, 100), (2, 33)])
def test_any_size_comes_back(size: tuple[int, int], down: str) -> None:
    x = photo(*size).repeat(2, 1, 1, 1)
    assert generator(down=down)(x).shape == x.shape


def test_outputs_have_the_sizes_of_the_table() -> None:
    with torch.no_grad():
        shapes = {k: tuple(v.shape[1:]) for k, v in Generator().outputs(photo(100, 100)).items()}
    assert shapes == {
        "e0": (16, 100, 100),
        "e1": (32, 50, 50),
        "e2": (64, 25, 25),
        "up_1": (32, 50, 50),
        "refined_1": (32, 50, 50),
        "gathered_1": (96, 50, 50),
        "aggregated_1": (32, 50, 50),
        "decoded_1": (32, 50, 50),
        "up_0": (16, 100, 100),
        "refined_0": (16, 100, 100),
        "gathered_0": (48, 100, 100),
        "aggregated_0": (16, 100, 100),
        "decoded_0": (16, 100, 100),
        "restored": (3, 100, 100),
    }


@torch.no_grad()
def test_forward_is_the_last_output() -> None:
    network, x = generator(), photo(31, 42)
    assert torch.equal(network(x), network.outputs(x)["restored"])


@torch.no_grad()
def test_equation_4() -> None:
    """CFA_n = C(concat(R(up y), F_n)) from the weights, with resampling written out."""
    network, x = generator(), photo(24, 32)
    out = network.outputs(x)
    fine, middle, coarse = out["e0"], out["e1"], out["e2"]
    scale = network.decoder[1]

    def c(sequence: nn.Module, x: Tensor) -> Tensor:
        conv = sequence[0]  # type: ignore[index]
        y = functional.conv2d(x, conv.weight, conv.bias, padding=conv.kernel_size[0] // 2)
        return torch.where(y < 0, 0.2 * y, y)

    projected = c(scale.project["0"], fine)  # type: ignore[index, arg-type]
    averaged = projected.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5))
    enlarged = _twice_as_large(c(scale.project["2"], coarse))  # type: ignore[index, arg-type]
    gathered = torch.cat((averaged, middle, enlarged), 1)
    torch.testing.assert_close(out["gathered_1"], gathered)
    up = _twice_as_large(c(scale.up, coarse))  # type: ignore[arg-type]
    torch.testing.assert_close(out["up_1"], up)
    inner = c(scale.refine.body[0], up)  # type: ignore[union-attr, index, arg-type]
    second = scale.refine.body[1]  # type: ignore[union-attr, index]
    refined = up + functional.conv2d(inner, second.weight, second.bias, padding=1)  # type: ignore[union-attr, arg-type]
    torch.testing.assert_close(out["refined_1"], refined)
    aggregated = c(scale.merge, torch.cat((refined, gathered), 1))  # type: ignore[arg-type]
    torch.testing.assert_close(out["aggregated_1"], aggregated)
    torch.testing.assert_close(out["decoded_1"], c(scale.decode, aggregated))  # type: ignore[arg-type]


def _twice_as_large(x: Tensor) -> Tensor:
    """Bilinear with pixel centres: 3/4 of the pixel itself, 1/4 of its neighbour, at each side."""
    for axis in (2, 3):
        n = x.shape[axis]
        before = torch.cat((x.narrow(axis, 0, 1), x.narrow(axis, 0, n - 1)), axis)
        after = torch.cat((x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)), axis)
        pair = torch.stack((0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after), axis + 1)
        x = pair.flatten(axis, axis + 1)
    return x


@torch.no_grad()
def test_plain_skips_are_the_encoders_map_of_the_same_scale() -> None:
    out = generator(**PLAIN).outputs(photo(24, 32))
    for n in (0, 1):
        assert torch.equal(out[f"gathered_{n}"], out[f"e{n}"])
        assert torch.equal(out[f"refined_{n}"], out[f"up_{n}"])


@torch.no_grad()
def test_shallow_aggregation_reads_the_first_convolution() -> None:
    network, x = generator(aggregated="shallow"), photo(24, 32)
    first = network.first[0](x)
    out = network.outputs(x)
    assert torch.equal(out["gathered_0"][:, :4], first)
    assert torch.equal(out["e0"], network.second[0](first))  # what goes down is the same
    torch.testing.assert_close(out["e2"], generator().outputs(x)["e2"])


@torch.no_grad()
def test_every_scale_of_the_encoder_reaches_every_scale_of_the_decoder() -> None:
    for cfa, met in ((True, {0, 1, 2}), (False, {1})):
        network = generator(cfa=cfa)
        encoded = [torch.zeros(1, w, 32 >> n, 32 >> n) for n, w in enumerate(NARROW)]
        scale = network.decoder[1]
        before = scale._gathered(encoded)  # type: ignore[operator]
        moved = set()
        for m in range(3):
            changed = [e + (n == m) for n, e in enumerate(encoded)]
            if not torch.equal(scale._gathered(changed), before):  # type: ignore[operator]
                moved.add(m)
        assert moved == met


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("switch", [(k, v) for k in SWITCHES for v in SWITCHES[k]], ids=str)
def test_every_switch_trains_and_is_built_again(switch: tuple[str, Any], plain: bool) -> None:
    network = generator(**{**(PLAIN if plain else {}), switch[0]: switch[1]})
    x = photo(13, 18).repeat(2, 1, 1, 1)
    network(x).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
    again = models.build("prad", **network.options)
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(x), network.eval()(x))


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        PLAIN,
        {"down": "maxpool"},
        {"norm": "weight"},
        {"norm": "batch"},
        {"widths": (3, 4)},
        {"widths": (3, 4, 5, 6)},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(150, 131), (97, 160)])
def test_tiles_give_the_whole_picture(options: dict[str, Any], size: tuple[int, int]) -> None:
    network, x = generator(**options).double().eval(), photo(*size).double()
    torch.testing.assert_close(tiled(network, x, tile=40), network(x), rtol=0, atol=1e-12)


def test_global_statistics_are_not_tiled() -> None:
    for options in ({"norm": "instance"}, {"refinement": "channel_attention"}, {"norm": "batch"}):
        with pytest.raises(ValueError, match="computes over the whole picture"):
            tiled(generator(**options), photo(64, 64), tile=32)


@torch.no_grad()
@pytest.mark.parametrize("norm", ["none", "batch", "weight"])
def test_the_arrangement_for_inference_keeps_the_values(norm: str) -> None:
    network, x = generator(norm=norm), photo(200, 331)
    network(x)  # moves the running moments away from 0 and 1
    fast = models.fast(network)
    torch.testing.assert_close(fast(x), network.eval()(x), rtol=0, atol=1e-5)
    assert fast.norm == ("none" if norm == "batch" else norm)
    if norm == "batch":
        same = models.build("prad", **fast.options)
        same.load_state_dict(fast.state_dict())


def test_the_generator_alone_decides() -> None:
    state = torch.random.get_rng_state()
    first, second = (generator(refinement="channel_attention") for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    other = generator(refinement="channel_attention", generator=draw(1))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


@torch.no_grad()
def test_initial_values_are_torchs_but_for_a_quiet_refinement() -> None:
    network = Generator(generator=draw())
    conv = network.second[2][0]  # type: ignore[index]
    bound = 1 / (9 * 64) ** 0.5
    assert float(conv.weight.abs().max()) == pytest.approx(bound, rel=0.01)
    assert float(conv.bias.abs().max()) == pytest.approx(bound, rel=0.1)
    out = network.outputs(photo(64, 64))
    for n in (0, 1):
        change = (out[f"refined_{n}"] - out[f"up_{n}"]).std() / out[f"up_{n}"].std()
        assert 0 < float(change) < 0.2
    assert float((out["restored"] - 0.5).abs().max()) < 0.3  # tanh starts far from its ends


def test_the_output_can_leave_the_range_by_a_little() -> None:
    network = generator()
    with torch.no_grad():
        network.last[0].bias.copy_(torch.tensor([-50.0, 50.0, 0.0]))  # type: ignore[union-attr, operator]
        low, high, _ = network(photo(9, 9))[0].flatten(1).mean(1)
    assert (float(low), float(high)) == pytest.approx((-0.08, 1.08))


def test_weights_come_back_from_a_file(tmp_path: Any) -> None:
    network = generator(norm="weight", aggregated="shallow").eval()
    path = tmp_path / "prad.safetensors"
    weights.save(network, path, name="prad", options=network.options, card={"a": 1})
    with torch.no_grad():
        x = photo(20, 20)
        assert torch.equal(weights.load("prad", path)(x), network(x))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"widths": (16,)}, r"widths is \(16,\); expected at least 2 positive integers"),
        ({"widths": (16, 0)}, "expected at least 2 positive integers"),
        ({"widths": (16, 8.0)}, "expected at least 2 positive integers"),
        ({"refinement": "attention"}, "refinement is 'attention'; expected one of 'residual'"),
        ({"aggregated": "deep"}, "aggregated is 'deep'; expected one of 'deeper', 'shallow'"),
        ({"norm": "layer"}, "norm is 'layer'"),
        ({"down": "pool"}, "down is 'pool'; expected one of 'conv', 'maxpool'"),
        ({"slope": 1.0}, r"slope is 1\.0; expected a number in \[0, 1\)"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Generator(**options)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (3, 8, 8), (1, 3, 0, 8), (0, 3, 8, 8)])
def test_a_wrong_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"degraded has shape .*; expected \(B, 3, H, W\)"):
        generator()(torch.zeros(shape))


def test_instance_norm_needs_more_than_one_pixel_of_the_coarsest_scale() -> None:
    network = generator(norm="instance")
    assert network(photo(5, 1)).shape == (1, 3, 5, 1)
    with pytest.raises(ValueError, match="degraded is 4 x 4; expected a side of more than 4"):
        network(photo(4, 4))
