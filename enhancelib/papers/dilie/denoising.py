"""What the noise sections measure: impedance, denoising against filters, stopping, other T."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from enhancelib import images, metrics, runtime
from enhancelib.degradations import Jpeg
from enhancelib.internal import Backtracking, Fixed, Smoothed
from enhancelib.losses import pixel
from enhancelib.models.skip import SETTINGS, Setting
from enhancelib.papers.dilie import cfe, pictures, transforms
from enhancelib.papers.dilie.classical import filled
from enhancelib.papers.dilie.pictures import score
from enhancelib.papers.dilie.plans import Plan, Prior, Sample
from enhancelib.papers.dilie.reconstructing import Restored
from enhancelib.papers.dilie.study import Study, outputs
from enhancelib.results import Run, select
from enhancelib.tables import spread

if TYPE_CHECKING:
    import pandas as pd

QUALITY = ("psnr", "ssim")
NOTE = (
    f"psnr: {metrics.METRICS['psnr'].protocol}. ssim: {metrics.METRICS['ssim'].protocol}. The same "
    "noise for all methods and seeds, added and clipped; NLM and BM3D are told its strength. The "
    "networks stop after all steps of the profile, not at their best one: mean ± standard "
    "deviation over seeds of weights, input and input noise. The average is exponential (0.99), "
    "corrected for its start."
)
"""Printed under the table."""


def impedance(s: Study) -> None:
    """Fit one network to a photo, to the noisy photo, to noise, and to the photo's shuffled pixels.

    Input noise and averaging are off: the curves are of the fit alone, a quarter as long as
    denoising, which is when the four part.

    Args:
        s: The run; receives the whole curve of the error to the target, per seed.
    """
    steps = max(min(4, s.scale.dip.steps), s.scale.dip.steps // 4)
    recipe = replace(s.scale.dip, steps=steps, watch_every=max(1, steps // 25))
    name, clean, noisy = s.noisy_picture()
    still = replace(SETTINGS[s.setting()], jitter=0.0, average=0.0)
    for seed in s.seeds:
        for method, target in _targets(clean, noisy, s.p.seed).items():
            plan = s.plan(recipe, seed, watch=partial(_error, target.to(s.device)))
            found = cfe.denoise(target, run=s.run, setting=still, plan=plan).found
            _curve(
                s, found.history, "mse", dataset=name, method=method, metric="mse",
                seed=seed, table="impedance",
            )  # fmt: skip


def _targets(clean: Tensor, noisy: Tensor, seed: int) -> Mapping[str, Tensor]:
    generator = runtime.generator(seed, "impedance")
    noise = torch.rand(clean.shape, generator=generator)
    order = torch.randperm(clean[0].numel(), generator=generator)
    shuffled = clean.flatten(1)[:, order].view_as(clean)
    return {"clean": clean, "noisy": noisy, "noise": noise, "shuffled": shuffled}


def _error(target: Tensor, step: int, sample: Sample) -> Mapping[str, float]:
    return {"mse": float(pixel.mse(sample["output"], target[None]))}


def _curve(s: Study, history: Any, name: str, **row: Any) -> None:  # noqa: ANN401
    steps, values = history.steps.get(name, []), history.values.get(name, [])
    for step, value in zip(steps, values, strict=True):
        s.run.record(**row, value=value, setting=f"step={step}")


def _judge(s: Study, picture: Tensor, clean: Tensor, **row: Any) -> None:  # noqa: ANN401
    for metric in QUALITY:
        s.run.record(**row, metric=metric, value=score(metric, picture, clean))


def measure(s: Study) -> None:
    """Denoise by filters, and by networks with and without skip connections over all seeds.

    Args:
        s: The run; receives scores and whole curves.
    """
    name, clean, noisy = s.noisy_picture()
    _judge(s, noisy, clean, dataset=name, method="noisy", table="denoising")
    for method, made in s.filtered_pictures().items():
        _judge(s, made, clean, dataset=name, method=method, table="denoising")
    curves = {"output": "psnr", "average": "psnr_average"}
    for seed in s.seeds:
        for skips in (True, False):
            found = s.denoised(s.setting(skips=skips), seed)
            for key, method in outputs(skips).items():
                row = {"dataset": name, "method": method, "seed": seed}
                _judge(s, found.layers[key], clean, **row, table="denoising")
                _curve(
                    s, found.found.history, curves[key], **row, metric="psnr",
                    table="denoising_curve",
                )  # fmt: skip


def table(run: Run) -> pd.DataFrame:
    """PSNR and SSIM of every way to denoise.

    Args:
        run: After `measure`.

    Returns:
        One row per method.
    """
    return _by_method(run, "denoising", {"psnr": ("PSNR, dB", 2), "ssim": ("SSIM", 3)})


def _by_method(
    run: Run, name: str, columns: Mapping[str, tuple[str, int]], *, first: str = "method"
) -> pd.DataFrame:
    import pandas as pd

    rows, values = [], run.values(table=name)
    for method in dict.fromkeys(values["method"]):
        cells = {
            title: spread(
                list(select(values, method=method, metric=metric)["value"]), digits=digits
            )
            for metric, (title, digits) in columns.items()
        }
        rows.append({first: method, **cells})
    return pd.DataFrame(rows)


def arms(steps: int) -> Mapping[str, Mapping[str, Any]]:
    """The variants of denoising with skip connections.

    Args:
        steps: Of the recipe; windows of the stopping rules are parts of it.

    Returns:
        Method -> what differs, as `Study.denoised` takes it.
    """
    smoothed = Smoothed(window=max(1, steps // 20), patience=2, tolerance=0.02)
    backtracking = Backtracking(drop=5.0, every=max(1, steps // 100))
    return {
        "uniform input, bilinear": {},
        "gaussian input, bilinear": {"prior": Prior(distribution="gaussian")},
        "uniform input, nearest": {"prior": Prior(upsampling="nearest")},
        "stopped: fixed": {"stopping": Fixed()},
        "stopped: smoothed": {"stopping": smoothed},
        "stopped: backtracking": {"stopping": backtracking},
    }


def variants(s: Study) -> None:
    """Denoise with another input, another up-sampling and other stopping rules, over all seeds.

    Args:
        s: The run; receives scores of the averaged output, PSNR of the last one, and the steps.
            On a CPU tables="all" runs them.
    """
    if _waits(s):
        print("input, up-sampling, stopping: not run at this profile; tables='all' takes minutes")
        return
    name, clean, _ = s.noisy_picture()
    for seed in s.seeds:
        for method, options in arms(s.scale.dip.steps).items():
            row: Any = {"dataset": name, "method": method, "seed": seed, "table": "dip_variants"}
            work = partial(_variant, s, clean, options, row)
            s.arm(f"{method}, seed {seed}", work, main=s.p.profile != "small")


def _variant(s: Study, clean: Tensor, options: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    found = s.denoised(s.setting(), row["seed"], **options)
    _judge(s, found.picture, clean, **row)
    last = score("psnr", found.layers["output"], clean)
    s.run.record(**row, metric="psnr_last", value=last)
    s.run.record(**row, metric="steps", value=found.found.steps)


def _waits(s: Study) -> bool:
    """Whether a table is left to tables="all": profile "small" has half an hour in all."""
    return s.p.profile == "small" and s.p.tables != "all"


def variants_table(run: Run) -> pd.DataFrame:
    """Scores of the variants.

    Args:
        run: After `variants`.

    Returns:
        One row per variant; PSNR and SSIM are of the averaged output.
    """
    columns = {
        "psnr": ("PSNR, dB", 2),
        "ssim": ("SSIM", 3),
        "psnr_last": ("last output, dB", 2),
        "steps": ("steps", 0),
    }
    return _by_method(run, "dip_variants", columns)


NOTEBOOKS: Mapping[str, tuple[str, str]] = {
    "denoise": ("F16_GT", "astronaut"),
    "jpeg": ("snail", "chelsea"),
    "super4": ("F16_GT", "astronaut"),
    "super8": ("F16_GT", "astronaut"),
    "restore_kate": ("kate", "chelsea"),
    "restore_barbara": ("barbara", "camera"),
    "inpaint_vase": ("vase", "coffee"),
    "inpaint_kate": ("kate", "chelsea"),
    "inpaint_library": ("library", "coffee"),
}
"""The official notebooks' settings -> (picture in data_root/dip, bundled photo without it)."""
MAIN = ("jpeg", "super4", "restore_kate", "inpaint_vase")
"""What tables="main" runs of them, but at profile small none: the cheap one, and those that a claim
is about."""
WORDS = "internal learning"  # cut out of the picture of "inpaint_kate"


@dataclass(frozen=True)
class Task:
    """What one setting of Deep Image Prior restores.

    Args:
        name: Of the picture.
        clean: The truth, (C, s, s).
        restore: Plan -> what the network restores.
        fillings: "yardstick", and "nearest" for masks -> picture that needs no network.
    """

    name: str
    clean: Tensor
    restore: Callable[[Plan], Restored]
    fillings: Mapping[str, Tensor]


def task(s: Study, name: str) -> Task:
    """The picture of a setting, what is wrong with it, and what it is compared with.

    Args:
        s: The run; its profile sets the size.
        name: One of `NOTEBOOKS`.

    Returns:
        The task.
    """
    setting = SETTINGS[name]
    side = -8 * (-max(s.scale.crop, setting.build().least) // 8)  # whole pixels at factor 8
    picture, photo = pictures.official(s.p, *NOTEBOOKS[name])
    clean = pictures.cropped(photo, side, side)
    if setting.transform == "lanczos2":
        return _enlarging(s, picture, clean, setting)
    if setting.transform == "mask":
        return _filling(s, picture, clean, name)
    if name == "jpeg":
        degraded = Jpeg(10)({"clean": clean[None]}, torch.Generator())["degraded"][0]
    else:
        picture, clean, degraded = s.noisy_picture()
    restore = partial(_denoise, degraded, s, setting)
    return Task(picture, clean, restore, {"yardstick": degraded})


def _denoise(degraded: Tensor, s: Study, setting: Setting, plan: Plan) -> Restored:
    return cfe.denoise(degraded, run=s.run, setting=setting, plan=plan)


def _enlarging(s: Study, picture: str, clean: Tensor, setting: Setting) -> Task:
    low = images.clip(images.resize(clean, scale=1 / setting.scale))
    bicubic = images.clip(images.resize(low, size=(clean.shape[1], clean.shape[2])))

    def restore(plan: Plan) -> Restored:
        return cfe.super_resolve(low, setting.scale, run=s.run, setting=setting, plan=plan)

    return Task(picture, clean, restore, {"yardstick": bicubic})


def _filling(s: Study, picture: str, clean: Tensor, name: str) -> Task:
    mask = _mask(name, clean, runtime.generator(s.p.seed, "mask", name))

    def restore(plan: Plan) -> Restored:
        return cfe.inpaint(clean * mask, mask, run=s.run, setting=SETTINGS[name], plan=plan)

    known = mask.expand_as(clean)
    mean = (clean * known).sum((1, 2)) / known.sum((1, 2)).clamp_min(1)
    yardstick = torch.where(known > 0, clean, mean[:, None, None])
    return Task(picture, clean, restore, {"yardstick": yardstick, "nearest": filled(clean, known)})


def _mask(name: str, clean: Tensor, generator: torch.Generator) -> Tensor:
    channels, side, _ = clean.shape
    if name.startswith("restore"):
        removed = 0.98 if name == "restore_kate" else 0.5
        return transforms.kept_at_random(side, side, removed, generator, channels=channels)
    if name == "inpaint_kate":
        return transforms.without_text(side, side, WORDS, size=max(8.0, side / 12))
    low, high = 5 * side // 16, 11 * side // 16
    return transforms.without_box(side, side, box=(low, low, high, high))


def settings_run(s: Study) -> None:
    """Run the official notebooks' settings: noise, JPEG, enlarging, few pixels, holes and text.

    Args:
        s: The run. tables="main" takes those of `MAIN`; steps are the notebook's, or the profile's
            where these are fewer.
    """
    main = () if _waits(s) else MAIN
    left = [] if s.p.tables == "all" else [name for name in NOTEBOOKS if name not in main]
    if left:
        print(f"{', '.join(left)}: not run at this profile; tables='all' has them too")
    for name in NOTEBOOKS:
        if name in left:
            continue
        s.arm(name, partial(_restored, s, name), main=name in main)


def _restored(s: Study, name: str) -> None:
    given, setting, p = task(s, name), SETTINGS[name], s.p
    full = p.profile == "paper" and not p.steps
    steps = setting.steps if full else min(setting.steps, s.scale.dip.steps)
    recipe = replace(s.scale.dip, steps=steps, learning_rate=setting.learning_rate)
    made = given.restore(s.plan(recipe, p.seed))
    row: Any = {
        "dataset": "official picture" if given.name not in _bundled() else "bundled photo",
        "method": name, "image": given.name, "seed": p.seed, "table": "seven_settings",
    }  # fmt: skip
    found = {"psnr": made.picture, **given.fillings}
    for metric, picture in found.items():
        s.run.record(**row, metric=metric, value=score("psnr", picture, given.clean))
    s.run.record(**row, metric="steps", value=made.found.steps)


def _bundled() -> Sequence[str]:
    return [photo for _, photo in NOTEBOOKS.values()]


def settings_table(run: Run) -> pd.DataFrame:
    """What every setting restored, in dB, against what needs no network.

    Args:
        run: After `settings_run`.

    Returns:
        One row per setting. The yardstick is the input for noise and JPEG, bicubic enlargement, and
        the mean of the known pixels in the others; "nearest" repeats the nearest known pixel.
    """
    columns = {
        "psnr": ("PSNR, dB", 2),
        "yardstick": ("yardstick, dB", 2),
        "nearest": ("nearest, dB", 2),
        "steps": ("steps", 0),
    }
    frame = _by_method(run, "seven_settings", columns, first="setting")
    if len(frame):
        values = run.values(table="seven_settings", metric="psnr")
        frame.insert(1, "picture", list(values["image"]))
    return frame
