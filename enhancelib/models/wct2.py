r"""WCT2: photo-realistic style transfer by wavelet pooling and whitening and colouring transforms.

| official code | variable | what it is |
|---|---|---|
| `WaveEncoder` | `encoder` | normalised VGG19 up to conv4_1; Haar transforms instead of max-pools |
| `WaveDecoder` | `decoder` | its mirror; the last convolution has no ReLU |
| `conv0` | `encoder["conv0"]` | 1x1: RGB in [0, 1] to what VGG19 was trained on |
| `skips` | `Skips` | the bands LH, HL, HH of each pool, and the feature before it |

Source: Yoo, Uh, Chun, Kang, Ha, "Photorealistic Style Transfer via Wavelet Transforms", ICCV 2019
(arXiv 1903.09760); released code clovaai/WCT2 (05d17c0, MIT).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib.models._layers import Layers, check_choice
from enhancelib.models._whitening import check_pair, coloured, padded

Option = Literal["cat5", "sum"]
Skips = dict[str, tuple[Tensor, Tensor]]  # pool -> (bands (3, B, C, h, w), feature before it)

PLACES = ("encoder", "skip", "decoder")

# LL, LH, HL, HH: LH is the difference of left and right, HL that of above and below
HAAR = (
    ((0.5, 0.5), (0.5, 0.5)),
    ((-0.5, 0.5), (-0.5, 0.5)),
    ((-0.5, -0.5), (0.5, 0.5)),
    ((0.5, -0.5), (-0.5, 0.5)),
)
_ENCODER = {
    "conv1_1": (3, 64),
    "conv1_2": (64, 64),
    "conv2_1": (64, 128),
    "conv2_2": (128, 128),
    "conv3_1": (128, 256),
    "conv3_2": (256, 256),
    "conv3_3": (256, 256),
    "conv3_4": (256, 256),
    "conv4_1": (256, 512),
}
_AFTER_UNPOOL = ("conv3_4", "conv2_2", "conv1_2")  # five times as many inputs for cat5
# where a level ends is where features are transformed, and the two options differ in it
_LEVELS = {
    "cat5": "conv0 conv1_1 | conv1_2 pool1 conv2_1 | conv2_2 pool2 conv3_1 | "
    "conv3_2 conv3_3 conv3_4 pool3 conv4_1",
    "sum": "conv0 conv1_1 conv1_2 pool1 | conv2_1 conv2_2 pool2 | "
    "conv3_1 conv3_2 conv3_3 conv3_4 pool3 | conv4_1",
}
_BACK = "conv4_1 pool3 conv3_4 conv3_3 conv3_2 | conv3_1 pool2 conv2_2 | conv2_1 pool1 conv1_2 | \
conv1_1"
_LEAST, _MULTIPLE = 16, 8  # pixels; three halvings, and two rows left to reflect
_RARE, _UNEVEN = 10, 100  # a label needs more pixels than the first, and areas not so different


class WCT2(nn.Module):
    r"""Move the colours of a style photo into a content photo without distorting it.

    The content goes once through encoder and decoder. On the way its features take mean and
    covariance of the style's at the same place: after each of the four encoder levels, in the three
    high-frequency bands of the three pools, and before the last three decoder levels.

    Args:
        option: What an unpooling hands on: "cat5" the four inverse-transformed bands and the
            feature before the pool, side by side (the code's default); "sum" their plain sum,
            which inverts the pooling exactly.
        generator: Where the initial weights are drawn; None is torch's global generator.

    Raises:
        ValueError: If the option is another word.

    Source: clovaai/WCT2, model.py, transfer.py. Its weights, wave_encoder_cat5_l4.pth and
    wave_decoder_cat5_l4.pth, are brought by the user:
    `weights.load("wct2", {"encoder": ..., "decoder": ...})`.

    Departs: sides that are no multiples of 8 are continued by their last row or column, and those
    of the content cut again; the released script cuts both pictures to multiples of 16.

    Example:
        >>> sum(p.numel() for p in WCT2().parameters())
        10107535
        >>> WCT2("cat4")
        Traceback (most recent call last):
        ValueError: option is 'cat4'; expected one of 'cat5', 'sum'
    """

    def __init__(
        self, option: Option = "cat5", *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        check_choice("option", option, tuple(_LEVELS))
        self.option: Option = option
        layers = Layers(generator=generator)
        self.encoder = nn.ModuleDict({"conv0": layers.drawn(nn.Conv2d, 3, 3, 1)})
        self.decoder = nn.ModuleDict()
        for name, (incoming, outgoing) in _ENCODER.items():
            self.encoder[name] = _conv(layers, incoming, outgoing)
        for name, (outgoing, incoming) in reversed(_ENCODER.items()):
            wider = 5 if option == "cat5" and name in _AFTER_UNPOOL else 1
            self.decoder[name] = _conv(layers, incoming * wider, outgoing)

    @property
    def options(self) -> dict[str, int | str]:
        """What `models.build("wct2", **options)` needs to make a network of these shapes.

        Returns:
            option, a plain JSON value.
        """
        return {"option": self.option}

    @torch.no_grad()
    def forward(
        self,
        content: Tensor,
        style: Tensor,
        *,
        at: Collection[str] = PLACES,
        alpha: float = 1.0,
        labels: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        r"""Restyle, without clipping and without gradients.

        A transform is \(\alpha \, \mathrm{clip}(\hat F_c) + (1 - \alpha) F_c\) with the whitened
        and coloured feature clipped to the range of the content's, covariances divided by n - 1.
        Where a covariance has an eigenvalue twice, its eigenvectors have no derivative.

        Args:
            content: (B, 3, H, W), RGB in [0, 1], sides of 16 or more.
            style: (B, 3, h, w) or (1, 3, h, w), likewise.
            at: Where to transform, some of "encoder", "skip" and "decoder"; all by default.
            alpha: Share of the transformed feature, in [0, 1].
            labels: Segmentations of content and style, integers (H, W) and (h, w): each label then
                takes its statistics from where the style has the same. A label of 10 pixels or
                fewer in either, or of areas 100 times apart, keeps its features.

        Returns:
            (B, 3, H, W), mostly in [0, 1].

        Raises:
            ValueError: If a shape, a place, alpha or the labels' sizes are others.

        Example:
            >>> WCT2("sum")(torch.rand(2, 3, 17, 30), torch.rand(1, 3, 40, 16)).shape
            torch.Size([2, 3, 17, 30])
            >>> WCT2("sum")(torch.rand(2, 3, 17, 30), torch.rand(1, 3, 40, 16), at=("pool",))
            Traceback (most recent call last):
            ValueError: at is ('pool',); expected some of 'encoder', 'skip', 'decoder'
        """
        _check(content, style, at, alpha, labels)
        transform = _Transform(alpha, _labels(labels))
        wanted, wanted_skips = self._styles(padded(style, _MULTIPLE), at)
        x, skips = padded(content, _MULTIPLE), Skips()
        for level in range(4):
            x = self._encode(x, level, skips)
            if "encoder" in at:
                x = transform(x, wanted[f"encoder{level}"])
        if "skip" in at:
            for pool, (bands, before) in skips.items():
                pairs = zip(bands, wanted_skips[pool][0], strict=True)
                skips[pool] = (torch.stack([transform(c, s) for c, s in pairs]), before)
        for level in range(4):
            if (place := f"decoder{level}") in wanted:
                x = transform(x, wanted[place])
            x = self._decode(x, level, skips)
        return x[..., : content.shape[-2], : content.shape[-1]]

    def stylise(
        self,
        content: Tensor,
        style: Tensor,
        *,
        at: Collection[str] = PLACES,
        alpha: float = 1.0,
        labels: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Restyle for looking at: clipped as in the released script.

        Args:
            content: As for `forward`.
            style: As for `forward`.
            at: As for `forward`.
            alpha: As for `forward`.
            labels: As for `forward`.

        Returns:
            (B, 3, H, W) in [0, 1].

        Raises:
            ValueError: As for `forward`.

        Example:
            >>> WCT2("sum").stylise(torch.rand(1, 3, 16, 24), torch.rand(1, 3, 40, 16)).shape
            torch.Size([1, 3, 16, 24])
            >>> WCT2("sum").stylise(torch.rand(1, 3, 16, 24), torch.rand(1, 3, 8, 8))
            Traceback (most recent call last):
            ValueError: style has shape (1, 3, 8, 8); expected (B, 3, H, W) with sides of at ...
        """
        restyled: Tensor = self(content, style, at=at, alpha=alpha, labels=labels)
        return restyled.clamp(0, 1)

    def _styles(self, style: Tensor, at: Collection[str]) -> tuple[dict[str, Tensor], Skips]:
        """The style's own features at every place of transformation."""
        wanted, skips, x = dict[str, Tensor](), Skips(), style
        for level in range(4):
            x = self._encode(x, level, skips)
            wanted[f"encoder{level}"] = x
        for level in range(4 if "decoder" in at else 0):
            if level or "encoder" not in at:  # the encoder has transformed the deepest already
                wanted[f"decoder{level}"] = x
            if level < 3:
                x = self._decode(x, level, skips)
        return wanted, skips

    def _encode(self, x: Tensor, level: int, skips: Skips) -> Tensor:
        for name in _LEVELS[self.option].split("|")[level].split():
            if name.startswith("pool"):
                bands = pool(x)
                x, skips[name] = bands[0], (bands[1:], x)
            else:
                x = self.encoder[name](x)
                x = x if name == "conv0" else functional.relu(x)
        return x

    def _decode(self, x: Tensor, level: int, skips: Skips) -> Tensor:
        for name in _BACK.split("|")[level].split():
            if name.startswith("pool"):
                bands, before = skips[name]
                parts = unpool(torch.cat((x[None], bands)))
                x = parts.sum(0) if self.option == "sum" else torch.cat((*parts, before), 1)
            else:
                x = self.decoder[name](x)
                x = x if name == "conv1_1" else functional.relu(x)
        return x


def pool(x: Tensor) -> Tensor:
    """One step of the Haar transform, halving both sides.

    Args:
        x: (B, C, H, W), even sides.

    Returns:
        (4, B, C, H/2, W/2): LL (twice the mean), LH (right minus left), HL (below minus above), HH.

    Raises:
        ValueError: If a side is odd.

    Example:
        >>> pool(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])).flatten().tolist()
        [6.0, 2.0, 3.0, 1.0]
        >>> pool(torch.zeros(1, 1, 3, 4))
        Traceback (most recent call last):
        ValueError: x is 3 x 4; expected even sides
    """
    B, C, H, W = x.shape
    if H % 2 or W % 2:
        raise ValueError(f"x is {H} x {W}; expected even sides")
    blocks = x.reshape(B, C, H // 2, 2, W // 2, 2)
    return torch.einsum("bchiwj,kij->kbchw", blocks, x.new_tensor(HAAR))


def unpool(bands: Tensor) -> Tensor:
    """Each band's share of the inverse transform; their sum undoes `pool`.

    Args:
        bands: (4, B, C, h, w), as from `pool`.

    Returns:
        (4, B, C, 2h, 2w).

    Example:
        >>> x = torch.rand(1, 2, 6, 4)
        >>> torch.allclose(unpool(pool(x)).sum(0), x)
        True
    """
    K, B, C, h, w = bands.shape
    blocks = torch.einsum("kbchw,kij->kbchiwj", bands, bands.new_tensor(HAAR))
    return blocks.reshape(K, B, C, 2 * h, 2 * w)


class _Transform:
    """WCT of one feature map, within labels where there are any."""

    def __init__(self, alpha: float, labels: tuple[Tensor, Tensor, Sequence[int]] | None) -> None:
        self.alpha = alpha
        self.labels = labels

    def __call__(self, content: Tensor, style: Tensor) -> Tensor:
        if self.labels is None:
            return self._mixed(content, _wct(content, style))
        c_labels = _at_size(self.labels[0], content)
        s_labels = _at_size(self.labels[1], style)
        target, c, s = content.flatten(2).clone(), content.flatten(2), style.flatten(2)
        for label in self.labels[2]:
            inside, wanted = c_labels == label, s_labels == label
            if inside.any() and wanted.any():
                target[..., inside] = _wct(c[..., inside], s[..., wanted])
        return self._mixed(content, target.view_as(content))

    def _mixed(self, content: Tensor, target: Tensor) -> Tensor:
        return self.alpha * target + (1 - self.alpha) * content


def _wct(content: Tensor, style: Tensor) -> Tensor:
    c = content.flatten(1)
    low, high = (edge.view(-1, *[1] * (content.ndim - 1)) for edge in (c.amin(1), c.amax(1)))
    return coloured(content, style, divisor="n-1").clamp(low, high)


def _at_size(labels: Tensor, feature: Tensor) -> Tensor:
    """Nearest to each pixel's centre, as Pillow resizes; flattened, on the feature's device."""
    four = labels[None, None].to(feature.device, torch.float64)
    return functional.interpolate(four, feature.shape[-2:], mode="nearest-exact").flatten()


def _labels(
    labels: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor, Sequence[int]] | None:
    """Padded as the pictures are, and the labels of which both hold enough."""
    if labels is None:
        return None
    content, style = labels
    found = []
    for label in torch.unique(content).tolist():
        areas = int((content == label).sum()), int((style == label).sum())
        if min(areas) > _RARE and max(areas) < _UNEVEN * min(areas):
            found.append(int(label))
    return padded(content, _MULTIPLE), padded(style, _MULTIPLE), found


def _conv(layers: Layers, incoming: int, outgoing: int) -> nn.Module:
    return layers.drawn(nn.Conv2d, incoming, outgoing, 3, padding=1, padding_mode="reflect")


def _check(
    content: Tensor,
    style: Tensor,
    at: Collection[str],
    alpha: float,
    labels: tuple[Tensor, Tensor] | None,
) -> None:
    check_pair(content, style, least=_LEAST)
    if isinstance(at, str) or not at or not set(at) <= set(PLACES):
        raise ValueError(f"at is {at!r}; expected some of {', '.join(map(repr, PLACES))}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha!r}; expected a number in [0, 1]")
    for name, picture, given in zip(
        ("content", "style"), (content, style), labels or (), strict=False
    ):
        if given.shape != picture.shape[-2:] or given.is_floating_point():
            raise ValueError(
                f"labels of the {name} are {given.dtype} of {tuple(given.shape)}; expected "
                f"integers of {tuple(picture.shape[-2:])}"
            )
