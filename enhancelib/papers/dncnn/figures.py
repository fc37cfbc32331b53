"""The figures of the DnCNN notebook; they show bundled photos whose licence allows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from enhancelib import datasets, degradations, images, models, photos, plots
from enhancelib.papers.dncnn import baselines, data, verdict
from enhancelib.papers.dncnn.settings import SCALES, Parameters
from enhancelib.results import Run, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from enhancelib.papers.dncnn.study import Arm, Study, Trained

SHOWN = "chelsea"
CORNER = (72, 100)


def shown(side: int = 192, name: str = SHOWN) -> Tensor:
    """The photo of the figures: grey, cropped.

    Args:
        side: In pixels.
        name: A bundled photo.

    Returns:
        (1, side, side).
    """
    return data.crop(datasets.grey_or_colour(photos.load(name), False), side)


def architecture(run: Run) -> Figure:
    """DnCNN-S as it is built.

    Args:
        run: Keeps the figure.

    Returns:
        The figure.
    """
    network = models.build("dncnn", **models.dncnn.VARIANTS["S"])
    made = plots.architecture(network.layers, start="y", end="R(y)")  # type: ignore[arg-type]
    run.figure("architecture", made)
    return made


def receptive_fields(run: Run) -> Figure:
    """How much each input pixel moves the middle output pixel, in the built networks.

    Args:
        run: Keeps the figure.

    Returns:
        The figure; the frames are 2D + 1 pixels wide.
    """
    from matplotlib.patches import Rectangle

    made, axes = plots.figure(1, 2, height=2.9)
    for ax, variant in zip(axes[0], ("S", "B"), strict=True):
        network = models.build(
            "dncnn", **models.dncnn.VARIANTS[variant], generator=torch.Generator().manual_seed(0)
        )
        reach, side = int(network.receptive_field), 51  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(1)
        x = torch.rand(1, 1, side, side, generator=generator, dtype=torch.float64)
        x.requires_grad_()
        residual = network.double().eval().outputs(x)["residual"]  # type: ignore[operator]
        (gradient,) = torch.autograd.grad(residual[0, 0, side // 2, side // 2], x)
        seen = gradient[0, 0].abs()
        shade = ax.imshow((seen / seen.max()).clamp_min(1e-12).log10().numpy(), vmin=-9, vmax=0)
        corner = (side - reach) / 2 - 0.5
        ax.add_patch(Rectangle((corner, corner), reach, reach, fill=False, edgecolor="#D55E00"))
        count = int((seen.sum(0) > 0).sum())
        depth = models.dncnn.VARIANTS[variant]["D"]
        ax.set(title=f"D = {depth}: {count} pixels wide", xlabel="pixel", ylabel="pixel")
        ax.grid(visible=False)
    made.colorbar(shade, ax=axes[0].tolist(), label="log10 of |gradient|, largest = 0")
    run.figure("receptive_fields", made)
    return made


def samples(run: Run, p: Parameters) -> Figure:
    """Patches of two bundled photos, cut as in training: clean above, noisy below.

    Args:
        run: Keeps the figure.
        p: The parameters.

    Returns:
        The figure.
    """
    batch = _batch(p, 8)
    made, axes = plots.figure(2, 8, height=2.0)
    for k in range(8):
        plots.picture(axes[0, k], batch["clean"][k], "x" if k == 0 else "")
        plots.picture(axes[1, k], batch["degraded"][k], "y" if k == 0 else "")
    run.figure("samples", made, photos=[SHOWN, "astronaut"])
    return made


def _batch(p: Parameters, count: int) -> dict[str, Tensor]:
    pool = datasets.PatchPool([shown(256), shown(256, "astronaut")], 40)
    generator = torch.Generator().manual_seed(p.seed)
    noise = degradations.GaussianNoise(p.sigma)
    return datasets.synthetic(pool, noise, count)(0, generator)


def histograms(run: Run, p: Parameters) -> Figure:
    """Values of 128 noisy, clean and residual patches: only the residual is Gaussian.

    Args:
        run: Keeps the figure.
        p: The parameters.

    Returns:
        The figure.
    """
    batch = _batch(p, 128)
    made, axes = plots.figure(1, 3, height=1.9)
    parts = {
        "noisy y": batch["degraded"],
        "clean x": batch["clean"],
        "residual v = y - x": batch["degraded"] - batch["clean"],
    }
    for ax, (title, values) in zip(axes[0], parts.items(), strict=True):
        ax.hist(values.flatten().numpy(), bins=80, density=True, color="#0072B2")
        ax.set(title=title, xlabel="intensity (1 = white)")
    v = torch.linspace(-0.4, 0.4, 200)
    s = p.sigma / 255
    bell = torch.exp(-(v**2) / (2 * s**2)) / (s * (2 * torch.pi) ** 0.5)
    axes[0, 2].plot(v, bell, color="#D55E00", label="Gaussian of this σ")
    axes[0, 2].legend()
    axes[0, 0].set_ylabel("density")
    run.figure("histograms", made, photos=[SHOWN, "astronaut"])
    return made


def training(run: Run, main: Mapping[int, Trained]) -> Figure:
    """Loss and validation PSNR of the training section, one curve per seed.

    Args:
        run: Keeps the figure.
        main: Seed -> network and curves.

    Returns:
        The figure.
    """
    made, axes = plots.figure(1, 2, height=2.3)
    for seed, one in main.items():
        history, label = one.history, f"seed {seed}"
        axes[0, 0].plot(history.steps["loss"], history.values["loss"], label=label)
        if "psnr" in history.values:
            axes[0, 1].plot(history.steps["psnr"], history.values["psnr"], label=label)
    axes[0, 0].set(xlabel="step", ylabel="loss, half the squared error per patch", yscale="log")
    axes[0, 1].set(xlabel="step", ylabel="PSNR in dB, validation crops")
    axes[0, 0].legend()
    run.figure("training", made)
    return made


def curves(run: Run, arms: Mapping[Arm, Trained]) -> Figure | None:
    """Validation PSNR of the four combinations under Adam and SGD, with their spread over seeds.

    Args:
        run: Keeps the figure.
        arms: The trained arms of the ablation.

    Returns:
        The figure; None without arms.
    """
    if not arms:
        return None
    made, axes = plots.figure(1, 2, height=2.6)
    for ax, optimiser in zip(axes[0], ("adam", "sgd"), strict=True):
        series: dict[str, tuple[list[float], list[list[float]]]] = {}
        for arm, one in arms.items():
            if arm.optimiser == optimiser:
                steps = [float(step) for step in one.history.steps["psnr"]]
                name = arm.method.split(",")[0]
                series.setdefault(name, (steps, []))[1].append(one.history.values["psnr"])
        title = {"adam": "Adam", "sgd": "SGD, momentum 0.9"}[optimiser]
        plots.lines(ax, series, x="step", y="PSNR in dB, validation crops", title=title)
    run.figure("ablation", made)
    return made


def against_level(run: Run) -> Figure | None:
    """PSNR against noise level: blind, specific at its own level, and mismatched networks.

    Args:
        run: After the blind section.

    Returns:
        The figure; None where the section was left out.
    """
    values = select(run.values(), table="mismatch", metric="psnr_8bit", image="mean")
    if values.empty:
        return None
    series = {}
    for method, group in values.groupby("method", sort=False):
        levels = group["setting"].str.removeprefix("sigma=").astype(float)
        seeds = group.assign(level=levels).groupby("seed")
        found = [one.sort_values("level")["value"].tolist() for _, one in seeds]
        series[str(method)] = (sorted(set(levels)), found)
    made, axes = plots.figure(1, 2, height=2.6)
    plots.lines(axes[0, 0], series, x="noise level σ of the picture", y="PSNR in dB, test photos")
    _gains(axes[0, 1], run)
    run.figure("noise_level", made)
    return made


def _gains(ax: Axes, run: Run) -> None:
    values = run.values()
    levels = [5.0, 15.0, 25.0, 50.0]
    found = [
        verdict.paired(
            values, verdict.RESIDUAL, verdict.DIRECT, table="gain", setting=f"sigma={s:g}"
        )
        or [float("nan")]
        for s in levels
    ]
    seeds = [list(one) for one in zip(*found, strict=True)]
    plots.lines(
        ax, {"residual - direct": (levels, seeds)},
        x="noise level σ", y="gain in PSNR, dB",
    )  # fmt: skip


def probe(run: Run) -> Figure:
    """What a linear map reads from each layer: the picture and the noise.

    Args:
        run: After the probe section.

    Returns:
        The figure.
    """
    values = run.values(table="probe")
    layers = values["image"].str.extract(r"(\d+)")[0].astype(int)
    series = {}
    for name, label in (("x", "picture x"), ("v", "noise v")):
        group = values.assign(layer=layers)[values["setting"] == name]
        runs = [g.sort_values("layer")["value"].tolist() for _, g in group.groupby("seed")]
        series[label] = ([float(k) for k in sorted(set(group["layer"]))], runs)
    made, axes = plots.figure(1, 1, height=2.2, width=4.2)
    plots.lines(axes[0, 0], series, x="hidden layer", y="R² of a linear probe")
    run.figure("probe", made)
    return made


def denoised(s: Study, network: nn.Module) -> Figure:
    """A photo, its noisy version, what each method makes of it, and the residual as a picture.

    Args:
        s: The run's trainings.
        network: The network of the training section.

    Returns:
        The figure.
    """
    x = shown()
    y = data.noisy(x, s.p.sigma)
    restored = _restored(network, y)
    columns = [
        ("clean x", x),
        (f"noisy y, σ = {s.p.sigma:g}", y),
        ("NLM", baselines.nlm(y, s.p.sigma)),
        ("DnCNN", restored),
        ("R(y) + 0.5", y - restored + 0.5),
    ]
    made = plots.crops(columns, corner=CORNER)
    s.run.figure("denoised", made, photos=[SHOWN])
    return made


def _restored(network: nn.Module, y: Tensor) -> Tensor:
    device = next(network.parameters()).device
    with torch.inference_mode():
        return images.clip(network(y[None].to(device)).cpu())[0]


TILES: tuple[tuple[str, degradations.Degradation], ...] = (
    ("noise σ = 15", degradations.GaussianNoise(15.0)),
    ("noise σ = 25", degradations.GaussianNoise(25.0)),
    ("half size", degradations.Bicubic(2)),
    ("third of the size", degradations.Bicubic(3)),
    ("JPEG quality 10", degradations.Jpeg(10)),
    ("JPEG quality 30", degradations.Jpeg(30)),
)


def six_tiles(s: Study, network: nn.Module | None) -> Figure | None:
    """One picture whose six tiles were degraded in six ways, restored by one network.

    Args:
        s: The run's trainings.
        network: A DnCNN-3.

    Returns:
        The figure; None without a network.
    """
    if network is None:
        return None
    x = datasets.grey_or_colour(photos.load("astronaut"), False)[:, :192, 80:368]
    y, generator = x.clone(), torch.Generator().manual_seed(0)
    places = [(row, column) for row in (0, 96) for column in (0, 96, 192)]
    for (row, column), (_, degradation) in zip(places, TILES, strict=True):
        tile = x[None, :, row : row + 96, column : column + 96]
        sample = degradation({"clean": tile}, generator)
        y[:, row : row + 96, column : column + 96] = sample["degraded"][0]
    made, axes = plots.figure(1, 2, height=2.9)
    for ax, image, title in (
        (axes[0, 0], y, "six degradations"),
        (axes[0, 1], _restored(network, y), "restored by one network"),
    ):
        plots.picture(ax, image, title)
        for (row, column), (name, _) in zip(places, TILES, strict=True):
            box = {"facecolor": "white", "alpha": 0.75, "pad": 1, "edgecolor": "none"}
            ax.text(column + 3, row + 10, name, fontsize=7, bbox=box)
    s.run.figure("six_tiles", made, photos=["astronaut"])
    return made


def side(p: Parameters) -> int:
    """How large the pictures of the explore panel are.

    Args:
        p: The parameters.

    Returns:
        Pixels.
    """
    return min(256, max(128, SCALES[p.profile].side))
