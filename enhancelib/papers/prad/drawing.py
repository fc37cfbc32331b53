"""The whole framework on one page, drawn from the generator and the critic as they are built.

A colour is a resolution, as in the paper's figure of the generator: green, blue, orange from the
finest to the coarsest. Kernels, channels, norms and the number of parameters are read off the
modules, so the page changes with their options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from enhancelib import plots
from enhancelib.models import accounting
from enhancelib.models.prad import Critic, Generator
from enhancelib.papers.prad import settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESOLUTIONS = ("#009E73", "#0072B2", "#E69F00")
TITLES: Mapping[str, tuple[str, str]] = {
    "content": ("content", "Eq. 16"),
    "gan": ("adversarial", "Eq. 8"),
    "lcn": ("local contrast", "Eq. 13"),
    "gradient": ("gradient", "Eq. 14"),
    "color": ("colour", "Eq. 9"),
    "contextual": ("contextual", "Eq. 17"),
    "tv": ("total variation", "Eq. 18"),
}
"""Term of the objective -> (name in figures, equation)."""

_SIZES = ("full size", "half", "quarter")
_GREY, _INK = "#888888", "#222222"
# in inches: distance of columns, width and height of a box, height of a slice, distance of scales
_PITCH, _BOX, _LOW, _SLICE, _ROW = 0.546, 0.49, 0.38, 0.155, 1.14
_CRITIC, _LOSSES, _BELOW = 1.42, 0.3, 2.18  # middles of two rows, and where the generator begins
_PICTURE = 0.46
_NORMS = {nn.BatchNorm2d: "batch norm", nn.InstanceNorm2d: "instance norm"}


@dataclass(frozen=True)
class _Sheet:
    """A page measured in inches from its lower left corner; the generator takes its upper part."""

    axes: Axes
    height: float

    def top(self, n: int) -> float:
        """Where the decoder's boxes of scale n begin."""
        return self.height - 0.46 - _ROW * n

    def level(self, n: int) -> float:
        """The middle of the encoder's boxes of scale n."""
        return self.top(n) - 0.24

    def box(
        self, x: float, y: float, text: str, shade: str, *, wide: float = _BOX, high: float = _LOW
    ) -> None:
        """A box with its middle at (x, y)."""
        from matplotlib.patches import FancyBboxPatch

        corner = (x - wide / 2 + 0.02, y - high / 2 + 0.02)
        look: dict[str, Any] = {"fc": _pale(shade), "ec": shade, "lw": 0.8}
        patch = FancyBboxPatch(corner, wide - 0.04, high - 0.04, boxstyle="round,pad=0.02", **look)
        self.axes.add_patch(patch)
        self.note(x, y, text)

    def note(self, x: float, y: float, text: str, **how: Any) -> None:  # noqa: ANN401
        """Words around (x, y)."""
        look = {"ha": "center", "va": "center", "fontsize": 7, "color": _INK, "linespacing": 1.05}
        self.axes.text(x, y, text, **{**look, **how})

    def path(self, *points: tuple[float, float], shade: str = _INK, head: bool = True) -> None:
        """Straight pieces from point to point, with an arrow's head at the last."""
        x, y = zip(*points, strict=True)
        self.axes.plot(x, y, color=shade, lw=1.0, solid_capstyle="butt", zorder=0.5)
        if head:
            arrow = {"arrowstyle": "-|>", "color": shade, "lw": 1.0, "mutation_scale": 6}
            arrow |= {"shrinkA": 0, "shrinkB": 0}
            self.axes.annotate("", points[-1], points[-2], arrowprops=arrow, zorder=0.5)

    def picture(
        self, x: float, y: float, image: Tensor | None, title: str, side: float = _PICTURE
    ) -> None:
        """A square picture with its middle at (x, y) and its symbol above; None is a blank."""
        self.note(x, y + side / 2 + 0.02, title, va="bottom")
        if image is None:
            self.box(x, y, "not\ntrained", _GREY, wide=side, high=side)
            return
        shown = image.detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
        half = side / 2
        self.axes.imshow(
            shown, extent=(x - half, x + half, y - half, y + half), interpolation="antialiased"
        )


def framework(
    generator: Generator,
    critic: Critic,
    pictures: tuple[Tensor, Tensor, Tensor | None],
    *,
    weights: Mapping[str, float],
) -> Figure:
    """Generator above, critic below it, the seven losses at the bottom.

    Args:
        generator: Of two or three resolutions.
        critic: Pair-wise or not.
        pictures: I_s, I_t and I_e, each (3, H, W), square; None for the I_e of an untrained
            generator, which is grey.
        weights: Term -> weight in Eq. 19; a term that weighs 0 is drawn grey.

    Returns:
        The figure, 7 inches wide.

    Raises:
        ValueError: If the generator has more resolutions than the page holds.

    Example:
        >>> import torch
        >>> blank = (torch.zeros(3, 8, 8),) * 3
        >>> critic = Critic(None, judges="image")
        >>> type(framework(Generator((2, 4)), critic, blank, weights={"tv": 400.0})).__name__
        'Figure'
        >>> framework(Generator((2, 4, 8, 8)), critic, blank, weights={})
        Traceback (most recent call last):
        ValueError: the generator has 4 resolutions; the page holds 2 or 3
    """
    if len(generator.widths) > len(RESOLUTIONS):
        raise ValueError(
            f"the generator has {len(generator.widths)} resolutions; the page holds 2 or 3"
        )
    height = _BELOW + _ROW * len(generator.widths)
    made, axes = plots.figure(1, 1, height=height)
    made.set_layout_engine("none")
    axes[0, 0].set_position((0, 0, 1, 1))
    sheet = _Sheet(axes[0, 0], height)
    source, _, enhanced = pictures
    _generator(sheet, generator, source, enhanced)
    _critic(sheet, critic, pictures)
    _losses(sheet, weights)
    axes[0, 0].set(xlim=(0, plots.WIDTH), ylim=(0, height), aspect="equal")
    axes[0, 0].set_axis_off()
    return made


def _encoder_x(column: int) -> float:
    return 0.33 + _PITCH * column


def _decoder_x(column: int) -> float:
    return _encoder_x(2) + 0.93 + _PITCH * column


def _generator(sheet: _Sheet, net: Generator, source: Tensor, enhanced: Tensor | None) -> None:
    scales = len(net.widths)
    sheet.note(0.1, sheet.height - 0.1, "Generator", ha="left", weight="bold")
    sheet.note(0.72, sheet.height - 0.1, "$I_e = F_W(I_s)$ (Eqs. 1 to 4)", ha="left")
    sheet.picture(_encoder_x(0), sheet.level(0), source, "$I_s$")
    for n in range(scales):
        _encoder(sheet, net, n)
    for n in range(scales - 1):
        _decoder(sheet, net, n)
        _cross(sheet, net, n)
    end = 3 * (scales - 1) + 1
    middle = sheet.top(0) - 0.49
    sheet.path((_decoder_x(end - 1), middle), (_decoder_x(end) - _BOX / 2, middle))
    sheet.box(_decoder_x(end), middle, f"{_words(net.last)}\ntanh", RESOLUTIONS[0], high=0.5)
    sheet.path((_decoder_x(end) + _BOX / 2, middle), (_decoder_x(end + 1) - _PICTURE / 2, middle))
    sheet.picture(_decoder_x(end + 1), middle, enhanced, "$I_e$")
    _legend(sheet, net)


def _encoder(sheet: _Sheet, net: Generator, n: int) -> None:
    x, y, shade = [_encoder_x(k) for k in range(3)], sheet.level(n), RESOLUTIONS[n]
    if n:
        above = sheet.level(n - 1) - _LOW / 2
        turn = above - 0.2
        start = (x[2], above)
        down = (start, (x[2], turn), (x[0], turn), (x[0], y + _LOW / 2))
        sheet.path(*down, shade=RESOLUTIONS[n - 1])
        halving: Any = net.halvings[n]
        sheet.box(x[0], y, _halving(halving), shade)
    gap = _BOX / 2 if n else _PICTURE / 2
    sheet.path((x[0] + gap, y), (x[1] - _BOX / 2, y))
    sheet.path((x[1] + _BOX / 2, y), (x[2] - _BOX / 2, y))
    sheet.box(x[1], y, _words(net.first[n]), shade)
    sheet.box(x[2], y, _words(net.second[n]), shade)


def _decoder(sheet: _Sheet, net: Generator, n: int) -> None:
    scales, shade = len(net.widths), RESOLUTIONS[n]
    scale: Any = net.decoder[n]
    x = [_decoder_x(3 * (scales - 2 - n) + k) for k in range(4)]
    top, low = sheet.top(n), sheet.top(n) - 0.75
    _from_below(sheet, n, scales, x[0], low)
    sheet.box(x[0], low, _words(scale.up, "↑2"), RESOLUTIONS[n + 1])
    if convs := _convolutions(scale.refine):
        sheet.path((x[0] + _BOX / 2, low), (x[1] - _BOX / 2, low))
        large = [conv for conv in convs if conv.kernel_size != (1, 1)]
        text = f"R\n{len(large)} × {_kernel(large[0])}"
        if len(large) < len(convs):
            text = text.replace("R", "R, att.")
        sheet.box(x[1], low, text, shade)
    sheet.path((x[1] + _BOX / 2 if convs else x[0] + _BOX / 2, low), (x[2] - _BOX / 2, low))
    merge = _convolutions(scale.merge)[0]
    title = f"CFA$_{n}$" if len(scale.project) else "skip"
    text = f"{title}\n\nconcat\n{merge.in_channels}\n\n{_words(scale.merge)}"
    sheet.box(x[2], top - 0.47, text, shade, high=0.98)
    sheet.path((x[2] + _BOX / 2, top - 0.49), (x[3] - _BOX / 2, top - 0.49))
    sheet.box(x[3], top - 0.49, _words(scale.decode), shade)
    sheet.note(x[3] + 0.04, top - 0.25, f"$y_{{dec}}^{n}$", ha="left", va="bottom")


def _from_below(sheet: _Sheet, n: int, scales: int, x: float, low: float) -> None:
    """y_dec of the next coarser scale, which for the coarsest is the encoder's map."""
    shade = RESOLUTIONS[n + 1]
    if n == scales - 2:
        y = sheet.level(scales - 1)
        sheet.path((_encoder_x(2) + _BOX / 2, y), (x, y), (x, low - _LOW / 2), shade=shade)
    else:
        sheet.path((x, sheet.top(n + 1) - 0.49 + _LOW / 2), (x, low - _LOW / 2), shade=shade)


def _cross(sheet: _Sheet, net: Generator, n: int) -> None:
    """F_n: the maps of every encoder scale (of its own alone in a plain U-Net), and their ways."""
    scales = len(net.widths)
    scale: Any = net.decoder[n]
    first = 3 * (scales - 2 - n)
    left, right = _decoder_x(first) - _BOX / 2, _decoder_x(first + 1) + _BOX / 2
    listed = [m for m in range(scales) if m == n or str(m) in scale.project]
    shallow = net.aggregated == "shallow"
    for k, m in enumerate(listed):
        y, shade = sheet.top(n) - _SLICE * (k + 0.5), RESOLUTIONS[m]
        bus = _encoder_x(2) + 0.36 + 0.11 * m
        sheet.path(
            *_out(sheet.level(m), shallow=shallow),
            (bus, sheet.level(m)),
            (bus, y),
            (left, y),
            shade=shade,
            head=False,
        )
        text = f"$e_{m}$: {net.widths[m]}"
        if m != n:
            factor = 2 ** abs(m - n)
            kernel = _conv(_convolutions(scale.project[str(m)])[0], " ")
            text = f"$e_{m}$: {kernel} {'↑' if m > n else '↓'}{factor}"
        sheet.box((left + right) / 2, y, text, shade, wide=right - left, high=_SLICE)
    y = sheet.top(n) - _SLICE * len(listed) / 2
    sheet.path((right, y), (_decoder_x(first + 2) - _BOX / 2, y))
    sheet.note(left, sheet.top(n) + 0.02, f"$F_{n}$", ha="left", va="bottom")


def _out(y: float, *, shallow: bool) -> tuple[tuple[float, float], ...]:
    """The way out of the encoder: behind the second convolution, or around it from the first."""
    if not shallow:
        return ((_encoder_x(2) + _BOX / 2, y),)
    x = _encoder_x(1)
    around = y + _LOW / 2 + 0.07
    beside = _encoder_x(2) + _BOX / 2 + 0.05
    return ((x, y + _LOW / 2), (x, around), (beside, around), (beside, y))


def _legend(sheet: _Sheet, net: Generator) -> None:
    x, y = _decoder_x(3), sheet.top(len(net.widths) - 1) + 0.02
    for n in range(len(net.widths)):
        sheet.box(x + 0.86 * n, y, "", RESOLUTIONS[n], wide=0.14, high=0.14)
        sheet.note(x + 0.12 + 0.86 * n, y, _SIZES[n], ha="left")
    norm = "" if net.norm == "none" else f"{net.norm} norm, "
    lines = [
        f"convolutions, {norm}LeakyReLU {net.slope:g}",
        "↑ bilinear, ↓ average" if net.cfa else "↑ bilinear; skips within a scale alone",
    ]
    if net.refinement != "none":
        attention = net.refinement == "channel_attention"
        lines.append(f"R(x) = x + {'a(x) ' if attention else ''}conv(C(x))")
    lines.append(f"{accounting.parameters(net):,} parameters")
    for k, line in enumerate(lines):
        sheet.note(x - 0.07, y - 0.19 - 0.14 * k, line, ha="left")


def _critic(sheet: _Sheet, critic: Critic, pictures: tuple[Tensor, Tensor, Tensor | None]) -> None:
    source, target, enhanced = pictures
    y = _CRITIC
    single = critic.judges == "image"
    for k, (image, symbol) in enumerate(((target, "$I_t$"), (enhanced, "$I_e$"))):
        if not single:
            sheet.picture(0.27, y + 0.25 - 0.62 * k, source, "$I_s$", 0.4)
        sheet.picture(0.27 if single else 0.72, y + 0.25 - 0.62 * k, image, symbol, 0.4)
        sheet.path((0.5 if single else 0.95, y + 0.25 - 0.62 * k), (1.12, y + 0.07 - 0.14 * k))
    slices = [("$I$: 3", _GREY)]
    if not single:
        slices.insert(0, ("$I_s$: 3", _GREY))
    if critic.judges == "pair":
        slices.append((f"$\\varphi(I)$: {critic.phi_channels}", _GREY))
        slices.append((f"VGG19 {settings.PHI}", ""))
    for k, (text, shade) in enumerate(slices):
        height = y + _SLICE * (len(slices) / 2 - k - 0.5)
        if shade:
            sheet.box(1.54, height, text, shade, wide=0.8, high=_SLICE)
        else:
            sheet.note(1.54, height, text)
    above = y + _SLICE * len(slices) / 2
    if not single:
        sheet.note(1.54, above + 0.02, f"concat {critic.discriminator.channels}", va="bottom")
    _judge(sheet, critic, 1.94)


def _judge(sheet: _Sheet, critic: Critic, left: float) -> None:
    """The five convolutions, the two matrices and the score."""
    blocks: list[str] = []
    for layer in critic.discriminator.features.modules():
        if isinstance(layer, nn.Conv2d):
            blocks.append(_conv(layer))
        for kind, name in _NORMS.items():
            if isinstance(layer, kind):
                blocks[-1] += f"\n{name.removesuffix(' norm')}"
    matrices = [m for m in critic.discriminator.score.modules() if isinstance(m, nn.Linear)]
    blocks += [f"matrix\n{m.in_features}\n→{m.out_features}" for m in matrices]
    wide, pitch, y = 0.54, 0.65, _CRITIC
    for k, text in enumerate(blocks):
        x = left + 0.45 + pitch * k
        sheet.path((x - pitch + wide / 2 if k else left, y), (x - wide / 2, y))
        sheet.box(x, y, text, "#8C6BB1", wide=wide, high=0.52)
    end = left + 0.45 + pitch * (len(blocks) - 1)
    sheet.path((end + wide / 2, y), (end + 0.45, y))
    sheet.note(end + 0.47, y, "$C$", ha="left", fontsize=9)
    seen = {
        "pair": "$I_r = [I_s, I_t, \\varphi(I_t)]$,  $I_f = [I_s, I_e, \\varphi(I_e)]$",
        "pair_without_phi": "$I_r = [I_s, I_t]$,  $I_f = [I_s, I_e]$",
        "image": "$I_r = I_t$,  $I_f = I_e$",
    }[critic.judges]
    count = accounting.parameters(critic)
    x = left + 0.18
    sheet.note(x, y + 0.42, "Critic", ha="left", weight="bold")
    sheet.note(x + 0.4, y + 0.42, f"{seen} (Eq. 5);  {count:,} parameters", ha="left")
    sheet.note(
        x, y - 0.4, "LeakyReLU after each convolution;  "
        "$D = \\sigma(C(I_r) - E[C(I_f)])$ (Eq. 6);  its own loss: Eq. 7", ha="left",
    )  # fmt: skip


def _losses(sheet: _Sheet, weights: Mapping[str, float]) -> None:
    y, pitch = _LOSSES, 0.985
    sheet.note(0.1, y + 0.38, "Loss", ha="left", weight="bold")
    sheet.note(
        0.44, y + 0.38, "of the generator (Eq. 19), between $I_e$ and $I_t$;  texture (Eq. 15) is "
        "local contrast + gradient", ha="left",
    )  # fmt: skip
    for k, term in enumerate(settings.TERMS):
        weight, (name, equation) = weights.get(term, 0.0), TITLES[term]
        layers = [place.partition("/")[2] for place in settings.OF[term]]
        text = f"{name}\n{weight:g} × {equation}" if weight else f"{name}\nleft out"
        text += f"\nVGG19 {layers[0]}" if layers[0] else ""
        x = 0.545 + pitch * k
        sheet.box(x, y, text, "#D55E00" if weight else _GREY, wide=0.88, high=0.48)
        if k:
            sheet.note(x - pitch / 2, y, "+")


def _convolutions(module: nn.Module) -> Sequence[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def _kernel(conv: nn.Conv2d) -> str:
    return f"{conv.kernel_size[0]}×{conv.kernel_size[1]}"


def _conv(conv: nn.Conv2d, between: str = "\n", more: str = "") -> str:
    stride = f" /{conv.stride[0]}" if conv.stride[0] > 1 else ""
    channels = f"{conv.in_channels}→{conv.out_channels}"
    return f"{_kernel(conv)}{stride}{more}{between}{channels}"


def _words(module: nn.Module, more: str = "") -> str:
    """The first convolution inside, on two lines."""
    return _conv(_convolutions(module)[0], more=f" {more}" if more else "")


def _halving(module: nn.Module) -> str:
    convs = _convolutions(module)
    if convs:
        return _conv(convs[0])
    pool = next(m for m in module.modules() if isinstance(m, nn.MaxPool2d))
    return f"max\n/{pool.kernel_size}"


def _pale(shade: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(0.78 + 0.22 * c for c in to_rgb(shade))
