"""WCT2: counts, the Haar transform, the procedure against the released code's steps, labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor
from torch.nn import functional

from enhancelib import models
from enhancelib.models import wct2
from enhancelib.models.wct2 import WCT2, pool, unpool

OPTIONS = ("cat5", "sum")


def photo(picture: Any, height: int, width: int) -> Tensor:
    cut = np.ascontiguousarray(picture[100 : 100 + height, 60 : 60 + width])
    return torch.from_numpy(cut).movedim(-1, 0)[None].float() / 255


def lively(option: Any) -> WCT2:
    """Weights that keep the size of what passes, so that no level's part in the output is lost."""
    network = WCT2(option, generator=torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)
    return network


@pytest.fixture(scope="module")
def networks() -> dict[str, WCT2]:
    return {option: lively(option) for option in OPTIONS}


@pytest.mark.parametrize(("option", "decoder"), [("cat5", 6_601_795), ("sum", 3_505_219)])
def test_parameter_counts(networks: dict[str, WCT2], option: str, decoder: int) -> None:
    network = networks[option]
    assert sum(p.numel() for p in network.encoder.parameters()) == 3_505_740
    assert sum(p.numel() for p in network.decoder.parameters()) == decoder
    assert not list(network.buffers())
    again = models.build("wct2", **network.options)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }


def haar(channels: int) -> dict[str, Tensor]:
    """The released code's filters: outer products of (1, 1) and (-1, 1), over the root of 2."""
    low, high = torch.ones(2) / 2**0.5, torch.tensor([-1.0, 1.0]) / 2**0.5
    named = {"LL": (low, low), "LH": (low, high), "HL": (high, low), "HH": (high, high)}
    return {
        name: torch.outer(down, across).expand(channels, 1, 2, 2)
        for name, (down, across) in named.items()
    }


def test_pooling_and_unpooling_are_the_released_convolutions() -> None:
    x = photo(data.coffee(), 20, 34)
    bands = pool(x)
    assert bands.shape == (4, 1, 3, 10, 17)
    parts = unpool(bands)
    for band, part, kernel in zip(bands, parts, haar(3).values(), strict=True):
        torch.testing.assert_close(band, functional.conv2d(x, kernel, stride=2, groups=3))
        expected = functional.conv_transpose2d(band, kernel, stride=2, groups=3)
        torch.testing.assert_close(part, expected)


def test_the_sum_of_the_unpooled_is_what_was_pooled() -> None:
    x = torch.cat((photo(data.coffee(), 32, 44), photo(data.rocket(), 32, 44))).double()
    torch.testing.assert_close(unpool(pool(x)).sum(0), x, atol=1e-14, rtol=0)
    assert float(pool(x).square().sum()) == pytest.approx(float(x.square().sum()))  # orthogonal
    without = pool(x)
    without[3] = 0
    assert float((unpool(without).sum(0) - x).abs().max()) > 0.01
    with pytest.raises(ValueError, match="x is 3 x 4; expected even sides"):
        pool(torch.zeros(1, 1, 3, 4))


def wct(content: Tensor, style: Tensor, alpha: float) -> Tensor:
    """By singular values, in float64, clipped to the range of the content."""

    def power(x: Tensor, exponent: float) -> Tensor:
        u, s, _ = torch.linalg.svd(x @ x.T / (x.shape[1] - 1) + torch.eye(len(x)).to(x))
        return u @ torch.diag(s**exponent) @ u.T

    c, s = content[0].flatten(1).double(), style[0].flatten(1).double()
    means = c.mean(1, keepdim=True), s.mean(1, keepdim=True)
    target = power(s - means[1], 0.5) @ power(c - means[0], -0.5) @ (c - means[0]) + means[1]
    target = target.clamp(c.min(), c.max()).view_as(content).float()
    return alpha * target + (1 - alpha) * content


class Released:
    """The released procedure, step by step, on the network's convolutions."""

    def __init__(self, network: WCT2, at: Any, alpha: float) -> None:
        self.network, self.at, self.alpha = network, at, alpha
        self.cat5 = network.option == "cat5"

    def conv(self, part: str, name: str, x: Tensor) -> Tensor:
        layer: Any = self.network.get_submodule(f"{part}.{name}")
        out = functional.conv2d(
            functional.pad(x, (1, 1, 1, 1), mode="reflect"), layer.weight, layer.bias
        )
        return out if (part, name) == ("decoder", "conv1_1") else out.relu()

    def pool(self, x: Tensor, level: int, skips: dict[str, Any]) -> Tensor:
        bands = [
            functional.conv2d(x, k, stride=2, groups=x.shape[1]) for k in haar(x.shape[1]).values()
        ]
        skips[f"pool{level}"], skips[f"before{level}"] = bands[1:], x
        return bands[0]

    def encode(self, x: Tensor, level: int, skips: dict[str, Any]) -> Tensor:
        if level == 1:
            first: Any = self.network.encoder["conv0"]
            x = functional.conv2d(x, first.weight, first.bias)
        elif self.cat5:
            x = self.conv("encoder", f"conv{level - 1}_2", x)
            for place in (3, 4) if level == 4 else ():
                x = self.conv("encoder", f"conv3_{place}", x)
            x = self.pool(x, level - 1, skips)
        x = self.conv("encoder", f"conv{level}_1", x)
        if not self.cat5 and level < 4:
            for place in (2, 3, 4) if level == 3 else (2,):
                x = self.conv("encoder", f"conv{level}_{place}", x)
            x = self.pool(x, level, skips)
        return x

    def decode(self, x: Tensor, level: int, skips: dict[str, Any]) -> Tensor:
        x = self.conv("decoder", f"conv{level}_1", x)
        if level == 1:
            return x
        bands = [x, *skips[f"pool{level - 1}"]]
        parts = [
            functional.conv_transpose2d(band, k, stride=2, groups=x.shape[1])
            for band, k in zip(bands, haar(x.shape[1]).values(), strict=True)
        ]
        before = skips[f"before{level - 1}"]
        x = torch.cat([*parts, before], 1) if self.cat5 else sum(parts[1:], parts[0])
        for place in (4, 3, 2) if level == 4 else (2,):
            x = self.conv("decoder", f"conv{level - 1}_{place}", x)
        return x

    def style(self, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Any]]:
        found, skips = dict[str, Tensor](), dict[str, Any]()
        for level in (1, 2, 3, 4):
            found[f"encoder{level}"] = x = self.encode(x, level, skips)
        if "encoder" not in self.at:
            found["decoder4"] = x
        for level in (4, 3, 2):
            found[f"decoder{level - 1}"] = x = self.decode(x, level, skips)
        return found, skips

    def __call__(self, content: Tensor, style: Tensor) -> Tensor:
        (wanted, style_skips), x, skips = self.style(style), content, dict[str, Any]()
        for level in (1, 2, 3, 4):
            x = self.encode(x, level, skips)
            if "encoder" in self.at:
                x = wct(x, wanted[f"encoder{level}"], self.alpha)
        for name in ("pool1", "pool2", "pool3") if "skip" in self.at else ():
            pairs = zip(skips[name], style_skips[name], strict=True)
            skips[name] = [wct(c, s, self.alpha) for c, s in pairs]
        for level in (4, 3, 2, 1):
            if "decoder" in self.at and f"decoder{level}" in wanted:
                x = wct(x, wanted[f"decoder{level}"], self.alpha)
            x = self.decode(x, level, skips)
        return x


@torch.no_grad()
@pytest.mark.parametrize("option", OPTIONS)
def test_equals_the_released_procedure_wherever_it_transforms(
    networks: dict[str, WCT2], option: str
) -> None:
    content, style = photo(data.coffee(), 24, 32), photo(data.chelsea(), 32, 16)
    network, seen = networks[option], []
    for at in (wct2.PLACES, ("encoder",), ("skip",), ("decoder",), ("skip", "decoder")):
        alpha = 1.0 if at == wct2.PLACES else 0.6
        expected = Released(network, at, alpha)(content, style)
        torch.testing.assert_close(
            network(content, style, at=at, alpha=alpha),
            expected,
            atol=1e-4 * float(expected.std()),
            rtol=0,
        )
        seen.append(expected)
    for number, one in enumerate(seen):  # each set of places has an effect of its own
        for other in seen[:number]:
            assert float((one - other).abs().max()) > 1e-3 * float(one.std())


@torch.no_grad()
@pytest.mark.parametrize("option", OPTIONS)
def test_a_picture_in_its_own_style_is_only_coded(networks: dict[str, WCT2], option: str) -> None:
    content, network = photo(data.coffee(), 32, 24), networks[option]
    coded = network(content, photo(data.rocket(), 32, 32), alpha=0.0)
    assert float(coded.std()) > 0
    for at in (wct2.PLACES, ("skip",)):
        own = network(content, content, at=at)
        torch.testing.assert_close(own, coded, atol=1e-4 * float(coded.std()), rtol=0)
    assert torch.equal(network.stylise(content, content), network(content, content).clamp(0, 1))


@torch.no_grad()
def test_any_size_and_batch(networks: dict[str, WCT2]) -> None:
    network = networks["sum"]
    content = torch.cat((photo(data.coffee(), 21, 30), photo(data.rocket(), 21, 30)))
    style = torch.cat((photo(data.chelsea(), 19, 17), photo(data.astronaut(), 19, 17)))
    both = network(content, style)
    assert both.shape == content.shape
    close = 1e-4 * float(both.std())
    one = network(content[1:], style[1:])
    torch.testing.assert_close(both[1:], one, atol=close, rtol=0)
    torch.testing.assert_close(network(content, style[1:])[1:], one, atol=close, rtol=0)
    large = [functional.pad(x, (0, -x.shape[3] % 8, 0, -x.shape[2] % 8), mode="replicate")
             for x in (content[1:], style[1:])]  # fmt: skip
    torch.testing.assert_close(network(*large)[..., :21, :30], one, atol=close, rtol=0)


@torch.no_grad()
def test_one_label_everywhere_is_none(networks: dict[str, WCT2]) -> None:
    content, style = photo(data.coffee(), 24, 32), photo(data.chelsea(), 32, 16)
    whole = (torch.full((24, 32), 4), torch.full((32, 16), 4))
    network = networks["cat5"]
    plain = network(content, style)
    close = 1e-4 * float(plain.std())
    torch.testing.assert_close(network(content, style, labels=whole), plain, atol=close, rtol=0)
    rare = torch.full((32, 16), 7)
    rare[0, :10] = 4  # ten pixels are too few: nothing is transformed
    coded = network(content, style, alpha=0.0)
    masked = network(content, style, labels=(whole[0], rare))
    torch.testing.assert_close(masked, coded, atol=close, rtol=0)
    rare[0, :11] = 4
    assert float((network(content, style, labels=(whole[0], rare)) - coded).abs().max()) > close


def test_a_label_takes_its_statistics_from_its_like() -> None:
    content, style = photo(data.coffee(), 24, 32), photo(data.chelsea(), 32, 40)
    halves = [torch.zeros(x.shape[2:], dtype=torch.long) for x in (content, style)]
    halves[0][:, :16], halves[1][:, :24] = 1, 1
    transform = wct2._Transform(1.0, wct2._labels((halves[0], halves[1])))
    out = transform(content, style)
    left = wct(content[..., :16], style[..., :24], 1.0)
    right = wct(content[..., 16:], style[..., 24:], 1.0)
    torch.testing.assert_close(out, torch.cat((left, right), 3), atol=1e-5, rtol=0)
    assert transform(content, style).data_ptr() != content.data_ptr()


def test_labels_are_resized_as_pillow_does() -> None:
    labels = torch.from_numpy(data.coffee()[:24, :40, 0].astype(np.int64))
    for height, width in ((12, 20), (6, 10), (3, 5)):
        small = Image.fromarray(labels.numpy().astype(np.uint8)).resize(
            (width, height), Image.Resampling.NEAREST
        )
        ours = wct2._at_size(labels, torch.zeros(1, 1, height, width)).view(height, width)
        np.testing.assert_array_equal(ours, np.asarray(small))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"at": ()}, "at is (); expected some of 'encoder', 'skip', 'decoder'"),
        ({"at": "skip"}, "at is 'skip'; expected some of"),
        ({"at": ("skip", "pool")}, "at is ('skip', 'pool'); expected some of"),
        ({"alpha": 1.5}, "alpha is 1.5; expected a number in [0, 1]"),
        ({"labels": (torch.zeros(16, 24).long(), torch.zeros(16, 8).long())},
         "labels of the style are torch.int64 of (16, 8); expected integers of (16, 16)"),
        ({"labels": (torch.zeros(16, 24), torch.zeros(16, 16))},
         "labels of the content are torch.float32 of (16, 24)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(
    networks: dict[str, WCT2], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the sentence is compared below
        networks["sum"](torch.zeros(1, 3, 16, 24), torch.zeros(1, 3, 16, 16), **options)
    assert str(raised.value).startswith(sentence)
    with pytest.raises(ValueError, match="option is 'cat4'"):
        models.build("wct2", option="cat4")
