"""Multiply-adds of the published table, and receptive fields that are known."""

from __future__ import annotations

import copy
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enhancelib import models
from enhancelib.models.accounting import multiply_adds, parameters, receptive_field
from enhancelib.models.prad import SIZES

SIZES_OF_TABLE = ((100, 100), (720, 1280), (1536, 2048))
PLAIN = {"cfa": False, "refinement": "none"}
L = {"widths": SIZES["L"]}

# prad.md 3.1: parameters, and thousand millions of multiply-adds as printed, but for two cells that
# were rounded twice there: 598.9466 and 356.5494 by way of 598.95 and 356.55 (`TWICE`).
TABLE: list[tuple[str, dict[str, Any], int, tuple[str, str, str]]] = [
    ("prad", {}, 206_323, ("0.480", "44.3", "151.1")),
    ("prad", PLAIN, 155_955, ("0.288", "26.5", "90.5")),
    ("prad", {"cfa": False}, 179_091, ("0.380", "35.0", "119.5")),
    ("prad", {"refinement": "none"}, 183_187, ("0.388", "35.8", "122.1")),
    ("prad", {"widths": SIZES["M"]}, 463_083, ("1.074", "99.0", "337.9")),
    ("prad", L, 822_243, ("1.904", "175.5", "598.9")),
    ("prad", {**L, **PLAIN}, 621_155, ("1.133", "104.5", "356.5")),
    ("prad", {**L, "cfa": False}, 713_507, ("1.502", "138.4", "472.5")),
    ("prad", {**L, "refinement": "none"}, 729_891, ("1.535", "141.5", "483.0")),
    ("dped", {}, 401_475, ("3.997", "368.4", "1257.5")),
    ("dped", {"blocks": 2, "width": 32}, 71_331, ("0.708", "65.3", "222.9")),
    ("dped", {"blocks": 8}, 697_923, ("6.947", "640.2", "2185.2")),
    ("dped", {"blocks": 14}, 1_142_595, ("11.370", "1047.9", "3576.8")),
    ("gridnet", {}, 2_242_403, ("3.433", "316.4", "1079.9")),
    (
        "gridnet",
        {"rows": 5, "widths": (16, 32, 64, 128, 256)},
        13_173_043,
        ("1.912", "164.3", "560.8"),
    ),
    # not in the table: by the same rule
    ("unet", {}, 155_955, ("0.288", "26.5", "90.5")),
    ("rsgunet", {}, 1_451_268, ("0.134", "11.2", "38.2")),
    ("johnson", {}, 1_679_235, ("1.261", "116.3", "396.8")),
    ("srcnn", {}, 69_249, ("0.692", "63.7", "217.5")),
    ("ppcn", {}, 2_715, ("0.026", "2.4", "8.3")),
    ("ppcn", {"kind": "teacher"}, 21_843, ("0.215", "19.8", "67.6")),
]
TWICE = [(L, ("598.95", "599.0")), ({**L, **PLAIN}, ("356.55", "356.6"))]


@pytest.mark.parametrize(("name", "options", "counted", "printed"), TABLE, ids=str)
def test_the_table(
    name: str, options: dict[str, Any], counted: int, printed: tuple[str, str, str]
) -> None:
    network = models.build(name, **options)
    assert parameters(network) == counted
    for (height, width), value in zip(SIZES_OF_TABLE, printed, strict=True):
        digits = len(value.partition(".")[2])
        assert f"{multiply_adds(network, height, width) / 1e9:.{digits}f}" == value


@pytest.mark.parametrize(("options", "twice"), TWICE)
def test_cells_that_were_rounded_twice(options: dict[str, Any], twice: tuple[str, str]) -> None:
    count = Decimal(multiply_adds(models.build("prad", **options), 1536, 2048)) / 10**9
    once = count.quantize(Decimal("0.01"), ROUND_HALF_UP)
    assert (str(once), str(once.quantize(Decimal("0.1"), ROUND_HALF_UP))) == twice


def test_the_ratio_that_the_paper_claims() -> None:
    ratio = parameters(models.build("gridnet")) / parameters(models.build("prad"))
    assert round(ratio, 1) == 10.9


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), 9 * 3 * 8 * 10 * 20),
        (nn.Conv2d(3, 8, 3, padding=1, bias=False), 9 * 3 * 8 * 10 * 20),
        (nn.Conv2d(3, 6, 3, padding=1, groups=3), 9 * 6 * 10 * 20),
        (nn.Conv2d(3, 8, 5, stride=2, padding=2), 25 * 3 * 8 * 5 * 10),
        (nn.Conv2d(3, 8, 3, padding=2, dilation=2), 9 * 3 * 8 * 10 * 20),
        (nn.ConvTranspose2d(3, 8, 2, stride=2), 4 * 3 * 8 * 10 * 20),
        (nn.Sequential(nn.InstanceNorm2d(3), nn.LeakyReLU(), nn.Upsample(scale_factor=2)), 0),
    ],
)
def test_the_counting_rule(layer: nn.Module, expected: int) -> None:
    assert multiply_adds(layer, 10, 20) == expected


def test_matrices_count_when_asked() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(2 * 6, 5))
    assert multiply_adds(network, 2, 3, channels=1) == 12
    assert multiply_adds(network, 2, 3, channels=1, count="all") == 12 + 60
    with pytest.raises(ValueError, match="count is 'flops'; expected 'conv' or 'all'"):
        multiply_adds(network, 2, 3, count="flops")  # type: ignore[arg-type]


def test_discriminators_are_counted() -> None:
    judge = models.build("prad.discriminator", channels=70)
    # 25^2, 13^2, 13^2, 13^2 and 7^2 places; 6272 x 1024 + 1024 in the matrices
    convs = 625 * 121 * 70 * 48 + 169 * (25 * 48 * 128 + 9 * 128 * 192 + 9 * 192 * 192)
    convs += 49 * 9 * 192 * 128
    assert multiply_adds(judge, 100, 100, channels=70) == convs
    assert multiply_adds(judge, 100, 100, channels=70, count="all") == convs + 6273 * 1024


def test_counting_leaves_the_network_alone() -> None:
    network = models.build("prad", norm="batch", widths=(4, 6, 8))
    before = copy.deepcopy(network.state_dict())
    multiply_adds(network, 40, 40)
    receptive_field(network, 99)
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(3, 3)
    assert parameters(nn.Sequential(layer, layer)) == 12


@pytest.mark.parametrize(
    ("layers", "field"),
    [
        ([nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 5, padding=2)], 7),
        ([nn.Conv2d(3, 3, 3, padding=3, dilation=3)], 7),
        ([nn.Conv2d(3, 3, (1, 7), padding=(0, 3))], 7),
        ([nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.Upsample(scale_factor=2)], 3),
        ([nn.MaxPool2d(2), nn.Upsample(scale_factor=2)], 2),
        ([nn.MaxPool2d(4), nn.Conv2d(3, 3, 3, padding=1), nn.Upsample(scale_factor=4)], 12),
        ([nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()], 3),
    ],
)
def test_known_receptive_fields(layers: list[nn.Module], field: int) -> None:
    assert receptive_field(nn.Sequential(*layers), 48) == field


# widths are free: they do not change what is seen
@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("prad", {}, 67),
        ("prad", PLAIN, 55),
        ("prad", {"cfa": False}, 67),
        ("prad", {"refinement": "none"}, 55),
        ("prad", {"down": "maxpool"}, 64),
        ("prad", {"norm": "weight"}, 67),
        ("prad", {"norm": "batch"}, 67),
        ("unet", {}, 55),
        ("prad", {"norm": "instance"}, None),
        ("prad", {"refinement": "channel_attention"}, None),
    ],
)
def test_receptive_fields_of_the_generator(
    name: str, options: dict[str, Any], field: int | None
) -> None:
    network = models.build(name, widths=(3, 4, 5), **options)
    assert receptive_field(network, 93) == field
    if field is not None and name == "prad":
        overlap = network.eval().tiling.overlap  # type: ignore[union-attr]
        assert (field - 1) / 2 <= overlap <= (field - 1) / 2 + 6  # tiles see enough, not much more


@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("dped", {"width": 3, "norm": "none"}, 1 + 8 + 8 * 2 + 2 * 2 + 8),  # 37
        ("dped", {"width": 3}, None),
        ("rsgunet", {}, None),
        ("johnson", {}, None),
        ("gridnet", {"widths": (3, 4, 5)}, None),
        ("ppcn", {}, None),
    ],
)
def test_receptive_fields_of_others(name: str, options: dict[str, Any], field: int | None) -> None:
    assert receptive_field(models.build(name, **options), 57) == field


def test_a_field_beyond_the_picture_is_none() -> None:
    network = nn.Conv2d(3, 3, 31, padding=15)
    assert receptive_field(network, 41, pixels=1) == 31
    assert receptive_field(network, 31, pixels=1) is None


def test_networks_with_more_inputs_say_how_to_call_them() -> None:
    network = models.build("dncnn", D=5, width=4, noise_map=True)

    def call(network: nn.Module, picture: Tensor) -> Tensor:
        return network(picture, torch.zeros(1, 1, 1, 1, dtype=torch.float64))  # type: ignore[no-any-return]

    assert receptive_field(network, 21, channels=1, call=call) == 11


@pytest.mark.parametrize("pixels", [0, 11])
def test_the_pixels_asked_must_lie_inside(pixels: int) -> None:
    with pytest.raises(ValueError, match=f"side is 20, pixels is {pixels}"):
        receptive_field(nn.Conv2d(3, 3, 1), 20, pixels=pixels)
