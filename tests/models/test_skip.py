"""The encoder-decoder of Deep Image Prior against its published module graph and counts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.internal_skip import copy_weights, published
from enhancelib import models, weights
from enhancelib.models.accounting import parameters
from enhancelib.models.skip import SETTINGS, Skip, meshgrid_input, noise_input

TINY: dict[str, Any] = {"inputs": 2, "down": (4, 6), "up": (4, 6), "skip": (0, 3)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Counts: official notebooks where they print them, else counted from the graph by hand


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("denoise", 2_217_831),
        ("restore_barbara", 2_217_831),
        ("super4", 2_217_831),
        ("super8", 2_217_831),
        ("jpeg", 572_827),
        ("restore_kate", 1_027_379),
        ("inpaint_kate", 3_002_627),
        ("inpaint_vase", 2_157_955),  # no_skip, whose first layer has 30 x 128 x 9 weights more
        ("inpaint_library", 2_996_467),
        ("no_skip", 2_192_515),
        ("double_dip_image", 573_187),
        ("double_dip_airlight", 573_187),
        ("double_dip_mask", 573_169),
        ("small", 152_199),
        ("small_no_skip", 145_699),
    ],
)
def test_every_setting_has_its_published_number_of_parameters(name: str, count: int) -> None:
    network = SETTINGS[name].build()
    assert parameters(network) == count
    assert SETTINGS[name].parameters == count


def test_the_count_of_denoising_follows_from_the_layers() -> None:
    # per scale: skip conv + BN, two 3x3 + BN, BN of the concatenation, 3x3 + BN, 1x1 + BN
    total = 0
    for scale in range(5):
        inputs = 32 if scale == 0 else 128
        total += (inputs * 4 + 4) + 2 * 4
        total += (inputs * 128 * 9 + 128) + 2 * 128 + (128 * 128 * 9 + 128) + 2 * 128
        total += 2 * 132 + (132 * 128 * 9 + 128) + 2 * 128 + (128 * 128 + 128) + 2 * 128
    assert parameters(Skip()) == total + 128 * 3 + 3


def test_all_settings_were_compared() -> None:
    assert len(SETTINGS) == 15


# The official graph


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - {"super4", "super8", "restore_barbara"}))
def test_values_and_gradients_are_those_of_the_official_graph(name: str) -> None:
    setting = SETTINGS[name]
    ours = setting.build(seeded()).double()
    theirs = published(ours.options).double()
    copy_weights(ours, theirs)
    side = 192 if name == "inpaint_library" else 64  # it sees nothing below 129
    z = setting.z(side, side, seeded(1)).double()
    target = torch.rand((), dtype=torch.float64, generator=seeded(2))
    ours.eval()  # normalises by the picture at hand none the less
    mine, other = ours(z), theirs(z)
    torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)
    assert float(mine.detach().std()) > 1e-3
    for picture in (mine, other):
        (picture - target).square().mean().backward()  # type: ignore[no-untyped-call]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert a.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-8, atol=1e-12)


def test_channels_last_changes_nothing_but_rounding() -> None:
    network = SETTINGS["small"].build(seeded()).double()
    z = noise_input(32, 64, 96, seeded(1)).double()
    plain = network(z)
    plain.square().sum().backward()
    gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    last = network.to(memory_format=torch.channels_last)(
        z.contiguous(memory_format=torch.channels_last)
    )
    last.square().sum().backward()
    torch.testing.assert_close(last, plain, rtol=0, atol=1e-12)
    for p, gradient in zip(network.parameters(), gradients, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, gradient, rtol=1e-7, atol=1e-9)


def test_training_and_eval_mode_agree_and_nothing_runs_along() -> None:
    network = Skip(**TINY)
    z = torch.rand(1, 2, 20, 24, generator=seeded())
    assert network(z).equal(network.eval()(z))
    assert not list(network.buffers())


# Sizes


@pytest.mark.parametrize("size", [(9, 16), (10, 13), (31, 17), (32, 33)])
@pytest.mark.parametrize("downsampling", ["stride", "avg", "max"])
def test_every_size_comes_back(size: tuple[int, int], downsampling: str) -> None:
    for skip in ((0, 0), (3, 0), (0, 3)):
        network = models.build("dilie", **{**TINY, "skip": skip}, downsampling=downsampling)
        picture = network(torch.rand(1, 2, *size, generator=seeded()))
        assert picture.shape == (1, 3, *size)
        assert bool(((picture > 0) & (picture < 1)).all())


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({}, 33),
        ({"down": (4,), "up": (4,), "skip": (0,)}, 3),
        ({"down": (4, 4), "up": (4, 4), "skip": (0, 0), "down_kernel": 5}, 9),
        ({"down": (4, 4), "up": (4, 4), "skip": (1, 1), "skip_kernel": 7}, 7),
    ],
)
def test_the_least_side_is_the_least(options: dict[str, Any], least: int) -> None:
    network = Skip(**options)
    assert network.least == least
    assert network(torch.rand(1, 32, least, least + 3)).shape[2:] == (least, least + 3)
    with pytest.raises(ValueError, match=rf"expected \(B, 32, H, W\) with sides of at .* {least}"):
        network(torch.rand(1, 32, least + 3, least - 1))


@pytest.mark.parametrize("shape", [(1, 3, 40, 40), (32, 40, 40), (0, 32, 40, 40)])
def test_another_layout_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"z has shape .*; expected \(B, 32, H, W\)"):
        Skip()(torch.zeros(shape))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"skip": (4,) * 4}, "5, 5 and 4 widths"),
        ({"down": (), "up": (), "skip": ()}, "0, 0 and 0 widths"),
        ({"outputs": 0}, "outputs 0"),
        ({"down": (8, 8, 0, 8, 8)}, r"down \(8, 8, 0, 8, 8\)"),
        ({"skip": (4, 4, 4, 4, -1)}, r"skip\s+\(4, 4, 4, 4, -1\)"),
        ({"down_kernel": 4}, "down_kernel is 4"),
        ({"skip_kernel": -1}, "skip_kernel is -1"),
        ({"upsampling": "bicubic"}, "upsampling is 'bicubic'"),
        ({"downsampling": "lanczos2"}, "downsampling is 'lanczos2'"),
    ],
)
def test_options_outside_their_range_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Skip(**wrong)


# What a step leaves behind


def test_weights_come_from_the_generator_and_nowhere_else() -> None:
    torch.manual_seed(0)
    first = Skip(**TINY, generator=seeded(3))
    torch.manual_seed(1)
    again, other = Skip(**TINY, generator=seeded(3)), Skip(**TINY, generator=seeded(4))
    pairs = zip(first.parameters(), again.parameters(), other.parameters(), strict=True)
    same = [(a.equal(b), a.equal(c)) for a, b, c in pairs]
    assert all(pair[0] for pair in same)
    assert not all(pair[1] for pair in same)


def test_the_initial_values_are_torchs_own() -> None:
    # uniform within 1 / sqrt(fan in): standard deviation 1 / sqrt(3 fan in)
    weight = Skip(generator=seeded()).get_parameter("scales.inner.down.1.weight")
    assert weight.shape == (128, 128, 3, 3)
    assert float(weight.detach().std()) == pytest.approx(1 / math.sqrt(3 * 128 * 9), rel=0.01)


def test_options_are_what_makes_it_again(tmp_path: Path) -> None:
    network = Skip(**TINY, upsampling="nearest", need1x1=False, generator=seeded())
    path = tmp_path / "skip.safetensors"
    weights.save(network, path, name="dilie", options=network.options, card={})
    z = torch.rand(1, 2, 16, 16)
    assert weights.load("dilie", path)(z).equal(network(z))


# Inputs


def test_uniform_noise_fills_its_range() -> None:
    z = noise_input(8, 64, 64, seeded())
    assert z.shape == (1, 8, 64, 64)
    assert 0 <= float(z.min()) < 1e-4
    assert 0.0999 < float(z.max()) <= 0.1
    assert float(z.mean()) == pytest.approx(0.05, abs=1e-3)
    centred = noise_input(8, 64, 64, seeded(), centred=True)
    torch.testing.assert_close(centred, z - 0.05, rtol=0, atol=1e-7)


def test_gaussian_noise_has_its_spread_and_no_offset() -> None:
    z = noise_input(8, 64, 64, seeded(), distribution="gaussian", scale=0.5, centred=True)
    assert float(z.std()) == pytest.approx(0.5, rel=0.02)
    assert abs(float(z.mean())) < 0.01


def test_the_mesh_grid_ramps_along_x_then_y() -> None:
    z = meshgrid_input(5, 7, repeat=4)
    assert z.shape == (1, 8, 5, 7)
    for channel in range(8):
        for i in range(5):
            for j in range(7):
                expected = j / 6 if channel % 2 == 0 else i / 4
                assert float(z[0, channel, i, j]) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("wrong", [(1, 5, 1), (5, 1, 1), (5, 5, 0)])
def test_a_grid_that_has_no_ramp_is_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected sides of 2 or more, repeat 1 or more"):
        meshgrid_input(*wrong)


def test_settings_make_the_inputs_of_their_notebooks() -> None:
    for name, setting in SETTINGS.items():
        z = setting.z(192, 160, seeded())
        assert z.shape[1] == setting.network.get("inputs", 32), name
    assert SETTINGS["double_dip_image"].z(40, 40, seeded()).min() < 0
    assert SETTINGS["denoise"].z(40, 40, seeded()).min() >= 0
    airlight = SETTINGS["double_dip_airlight"].z(40, 50, seeded())
    np.testing.assert_array_equal(airlight, meshgrid_input(40, 50, repeat=4))
