"""Your own photo through the whole framework: no network to load, but time to spend."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from enhancelib import folders, images, runtime
from enhancelib.papers.dilie import framework
from enhancelib.papers.dilie.framework import Options
from enhancelib.papers.dilie.plans import Plan
from enhancelib.papers.dilie.settings import Parameters
from enhancelib.papers.parameters import ParameterError

TASKS = {"dehaze": "haze", "denoise": "noise"}
"""--task -> corruption."""
OPTIONS = ("task", "reference", "steps")
"""What the command takes for this paper beside --weights, which it has no use for."""


@dataclass
class _Work:
    """A folder in the cache and the machine: what optimisations need of a run."""

    folder: Path
    runtime: runtime.Runtime


def enhance(
    image: Tensor,
    file: Path | None = None,
    *,
    task: str = "dehaze",
    reference: Path | None = None,
    steps: int = 0,
) -> Tensor:
    """Dehaze or denoise a photo by networks fitted to it alone, then restyle it where asked.

    What is done is kept in the cache, in a folder named by a digest of the photo and all options:
    the same call goes on where an earlier one was cut short. At the end the folder is removed. The
    time that it will take is printed first, then where it is. What `framework.dilie` refuses is
    refused here too, before anything has been computed; where an optimisation diverges, its last
    good state is kept in that folder.

    Args:
        image: (3, H, W) or (1, H, W) in [0, 1], sides of 33 or more.
        file: None; there is no network to load.
        task: "dehaze" or "denoise".
        reference: A photo whose style the result takes; None leaves that step out.
        steps: Iterations of every optimisation; 0 means those of profile "large" on a GPU and of
            "small" elsewhere, where full length takes days.

    Returns:
        (3, H, W), or (1, H, W) for a grey photo without reference, in [0, 1], on the CPU.

    Raises:
        ParameterError: If a file is given, the task is unknown, or steps is below 0.
        ImageError: If the photo has another shape or is too small, or the reference cannot be read.

    Example:
        >>> import torch
        >>> photo = torch.rand(3, 33, 40)
        >>> enhance(photo, task="denoise", steps=1).shape
        about ...
        torch.Size([3, 33, 40])
        >>> enhance(photo, task="derain")
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: task is 'derain'; expected dehaze or denoise
        >>> enhance(photo, reference=Path("/nowhere.jpg"))
        Traceback (most recent call last):
        enhancelib.images.ImageError: /nowhere.jpg...
    """
    style = _checked(image, file, task, reference, steps)
    machine = runtime.setup()
    photo = image if _stays_grey(image, task, style) else image.expand(3, -1, -1)
    found = _made(photo, style, machine, task, steps)
    return found.mean(0, keepdim=True) if image.shape[0] == 1 and style is None else found


def _checked(
    image: Tensor, file: Path | None, task: str, reference: Path | None, steps: int
) -> Tensor | None:
    """Refuse what cannot be done; the style photo."""
    if file is not None:
        raise ParameterError(f"dilie has no network to load; leave out --weights {file}")
    if task not in TASKS:
        raise ParameterError(f"task is {task!r}; expected {' or '.join(TASKS)}")
    if steps < 0:
        raise ParameterError(f"steps is {steps}; expected 0 (as long as is good) or more")
    if image.dim() != 3 or image.shape[0] not in (1, 3) or not image.numel():
        shape = tuple(image.shape)
        raise images.ImageError(f"picture has shape {shape}; expected (3, H, W) or (1, H, W)")
    return None if reference is None else images.read(reference).expand(3, -1, -1)


def _stays_grey(image: Tensor, task: str, style: Tensor | None) -> bool:
    return image.shape[0] == 1 and task == "denoise" and style is None


def _options(machine: runtime.Runtime, task: str, steps: int) -> Options:
    profile = "large" if machine.device.type == "cuda" else "small"
    p = Parameters(profile=profile, corruption=TASKS[task], steps=steps)
    found = framework.options(p)
    plan = Plan(found.plan.steps, found.plan.learning_rate, prior=found.plan.prior)
    return replace(found, plan=plan)


def _made(
    photo: Tensor, style: Tensor | None, machine: runtime.Runtime, task: str, steps: int
) -> Tensor:
    """Tell how long it takes, do it, and leave nothing behind."""
    options, kind = _options(machine, task, steps), TASKS[task]
    work = _Work(Path(), machine)
    seconds = framework.estimate(photo, style, run=work, corruption=kind, options=options)
    work = _Work(_folder(photo, style, (task, steps)), machine)
    lock = folders.hold(work.folder)
    try:
        folders.set_aside(work.folder, runtime.code())
        begun = any(work.folder.glob("checkpoints/*"))
        print(_sentence(seconds, work, begun=begun), flush=True)
        made = framework.dilie(photo, style, run=work, corruption=kind, options=options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on from there") from None
    finally:
        lock.close()
    shutil.rmtree(work.folder, ignore_errors=True)
    return made.E


def _folder(photo: Tensor, style: Tensor | None, about: object) -> Path:
    total = hashlib.sha256(repr(about).encode())
    for picture in (photo, style):
        if picture is not None:
            total.update(repr(tuple(picture.shape)).encode())
            total.update(picture.contiguous().numpy().tobytes())
    return runtime.cache() / "enhance" / "dilie" / total.hexdigest()[:16]


def _sentence(seconds: float, work: _Work, *, begun: bool) -> str:
    first = "going on with what was begun; from its beginning it takes about" if begun else "about"
    again = "stop it when you like, the same command goes on"
    return f"{first} {_duration(seconds)} on {work.runtime.device}; {again}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
