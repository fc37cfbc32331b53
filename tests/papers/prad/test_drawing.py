"""The framework's page says what the modules are, whatever they are, and nothing is cut off."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from enhancelib import photos, plots
from enhancelib.models.prad import SIZES, Critic, Generator
from enhancelib.papers.prad import drawing, settings
from enhancelib.results import SMALLEST_TEXT

WEIGHTS = settings.Parameters().weights_of_terms()
FACE = photos.load("astronaut")[:, 24:184, 144:304]
PICTURES = (0.6 * FACE, FACE, 0.9 * FACE)


def phi(picture: Tensor) -> Tensor:
    return picture.repeat(1, 22, 1, 1)[:, :64]


def page(critic: Critic | None = None, weights: Any = None, **options: Any) -> Any:
    generator = Generator(**options, generator=torch.Generator().manual_seed(0))
    return drawing.framework(
        generator, critic or Critic(phi), PICTURES, weights=WEIGHTS if weights is None else weights
    )


def texts(made: Any) -> list[str]:
    return [text.get_text() for text in made.axes[0].texts if text.get_text()]


def boxes(made: Any) -> list[Any]:
    return [p for p in made.axes[0].patches if isinstance(p, FancyBboxPatch)]


def of_colour(made: Any, shade: str) -> int:
    return sum(to_hex(box.get_edgecolor()).upper() == shade for box in boxes(made))


def ways(made: Any, shade: str) -> int:
    return sum(to_hex(line.get_color()).upper() == shade for line in made.axes[0].lines)


def test_the_default_is_the_table_of_the_specification() -> None:
    found = texts(page())
    for text in (
        "3×3\n3→16", "3×3 /2\n16→32", "3×3 /2\n32→64", "1×1 ↑2\n64→32", "3×3\n64→64",
        "CFA$_1$\n\nconcat\n128\n\n3×3\n128→32", "CFA$_0$\n\nconcat\n64\n\n3×3\n64→16",
        "$e_0$: 1×1 16→32 ↓2", "$e_2$: 1×1 64→16 ↑4", "$e_1$: 32", "3×3\n16→3\ntanh",
    ):  # fmt: skip
        assert text in found, text
    assert found.count("R\n2 × 3×3") == 2
    assert found.count("3×3\n16→16") == 2  # second convolution of the encoder, y_dec^0
    assert "206,323 parameters" in found
    # Discriminator of the specification, 3.2
    for text in (
        "11×11 /4\n70→48", "5×5 /2\n48→128\nbatch", "3×3\n128→192\nbatch", "3×3\n192→192\nbatch",
        "3×3 /2\n192→128\nbatch", "matrix\n6272\n→1024", "matrix\n1024\n→1", "concat 70",
    ):  # fmt: skip
        assert text in found, text
    assert any("7,760,849 parameters" in text for text in found)


def test_green_blue_and_orange_are_the_resolutions() -> None:
    made = page()
    green, blue, orange = drawing.RESOLUTIONS
    # encoder (2, 3, 3 boxes), up-sampling from below, R, CFA, C, output, slices of F, legend
    assert of_colour(made, green) == 2 + 3 + 1 + 2 + 1
    assert of_colour(made, blue) == 3 + 1 + 3 + 2 + 1
    assert of_colour(made, orange) == 3 + 1 + 2 + 1
    two = page(widths=(8, 16))
    assert of_colour(two, orange) == 0
    assert two.get_figheight() < made.get_figheight()


def test_a_plain_u_net_has_skips_of_its_own_scale_and_no_r() -> None:
    full, plain = page(), page(cfa=False, refinement="none")
    found = texts(plain)
    assert not any("CFA" in text or text.startswith("R") for text in found)
    assert "skip\n\nconcat\n64\n\n3×3\n64→32" in found
    assert "$e_0$: 16" in found
    assert not any("1×1 16→32" in text for text in found)
    assert "155,955 parameters" in found
    for shade in drawing.RESOLUTIONS:  # a way for F_0, and one for F_1, from every scale
        assert ways(plain, shade) < ways(full, shade)


def test_the_page_follows_the_switches_of_the_generator() -> None:
    found = texts(page(norm="batch", down="maxpool", refinement="channel_attention", slope=0.1))
    assert "convolutions, batch norm, LeakyReLU 0.1" in found
    assert found.count("max\n/2") == 2
    assert found.count("R, att.\n2 × 3×3") == 2
    assert "R(x) = x + a(x) conv(C(x))" in found
    assert "convolutions, LeakyReLU 0.2" in texts(page())
    assert "R(x) = x + conv(C(x))" in texts(page(norm="weight"))
    assert "CFA$_1$\n\nconcat\n256\n\n3×3\n256→64" in texts(page(widths=SIZES["L"]))


def test_shallow_features_leave_from_the_first_convolution() -> None:
    starts = {}
    for aggregated in ("deeper", "shallow"):
        made = page(aggregated=aggregated)
        shade = drawing.RESOLUTIONS[0]
        # those with more than two points that go to F_n; the way down has an arrow at its end
        found = [
            line.get_xdata()[0]
            for line in made.axes[0].lines
            if to_hex(line.get_color()).upper() == shade and len(line.get_xdata()) > 3
        ]
        starts[aggregated] = sorted(found)
    first = min(box.get_x() for box in boxes(page())[:2])  # the first convolution's left edge
    assert min(starts["shallow"]) < min(starts["deeper"])
    assert min(starts["shallow"]) > first


@pytest.mark.parametrize(
    ("judges", "shown", "absent"),
    [
        ("pair_without_phi", ("$I_s$: 3", "$I$: 3", "concat 6", "11×11 /4\n6→48"), "varphi"),
        ("image", ("$I$: 3", "11×11 /4\n3→48"), "concat 70"),
    ],
)
def test_the_page_follows_what_the_critic_sees(judges: Any, shown: Any, absent: str) -> None:
    found = texts(page(Critic(None, judges=judges, norm="instance")))
    for text in shown:
        assert text in found, text
    assert not any(absent in text for text in found)
    assert "5×5 /2\n48→128\ninstance" in found
    pictures = {"pair_without_phi": 6, "image": 4}[judges]  # I_s and I_e of the generator too
    made = page(Critic(None, judges=judges))
    assert len(made.axes[0].images) == pictures


def test_the_losses_show_their_weights_and_what_is_left_out() -> None:
    found = texts(page(weights={**WEIGHTS, "tv": 0.0, "color": 2.5}))
    assert "total variation\nleft out" in found
    assert "colour\n2.5 × Eq. 9" in found
    assert f"content\n1 × Eq. 16\nVGG19 {settings.CONTENT}" in found
    assert set(drawing.TITLES) == set(settings.TERMS)
    made = page(weights={})
    assert sum("left out" in text for text in texts(made)) == len(settings.TERMS)


@pytest.mark.parametrize(
    "options",
    [
        {}, {"widths": SIZES["L"], "refinement": "channel_attention", "norm": "instance"},
        {"cfa": False, "refinement": "none", "down": "maxpool", "aggregated": "shallow"},
        {"widths": (8, 16)},
    ],
)  # fmt: skip
def test_nothing_is_cut_off_too_small_or_over_something_else(options: Any) -> None:
    made = page(**options)
    made.draw_without_rendering()
    assert made.get_figwidth() == plots.WIDTH
    shown = [text for text in made.axes[0].texts if text.get_text()]
    assert min(text.get_fontsize() for text in shown) >= SMALLEST_TEXT
    extents = [text.get_window_extent() for text in shown]
    for text, extent in zip(shown, extents, strict=True):
        inside = extent.x0 >= 0 and extent.y0 >= 0
        inside &= extent.x1 <= made.bbox.x1 and extent.y1 <= made.bbox.y1
        assert inside, text.get_text()
    for k, one in enumerate(extents):
        for other, text in zip(extents[:k], shown[:k], strict=True):
            wide = min(one.x1, other.x1) - max(one.x0, other.x0)
            high = min(one.y1, other.y1) - max(one.y0, other.y0)
            # extents hold the room for letters that reach above and below the line
            assert wide <= 1 or high <= 4, (shown[k].get_text(), text.get_text())
