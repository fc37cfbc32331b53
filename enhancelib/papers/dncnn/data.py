"""Pictures of the DnCNN notebook: real sets under data_root, else the bundled photo bank."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from enhancelib import datasets, degradations, images, photos, runtime, weights
from enhancelib.datasets import Layout
from enhancelib.papers.dncnn.settings import BLIND, SCALES, Parameters
from enhancelib.papers.parameters import ParameterError
from enhancelib.recipes import Recipe

_PAGE = "github.com: cszn/DnCNN (folders testsets and TrainingCodes)"
LAYOUTS: Mapping[str, Layout] = {
    "Train400": Layout("Train400", ("Train400", "train400"), 400, False, _PAGE),
    "Set12": Layout("Set12", ("Set12",), 12, False, _PAGE),
    "BSD68": Layout("BSD68", ("BSD68",), 68, False, _PAGE),
    "Set5": Layout("Set5", ("Set5",), 5, True, _PAGE),
    "Set14": Layout("Set14", ("Set14",), 14, True, _PAGE),
    "classic5": Layout("classic5", ("classic5",), 5, False, _PAGE),
    "LIVE1": Layout("LIVE1", ("LIVE1",), 29, True, _PAGE),
    "CBSD68": Layout("CBSD68", ("CBSD68",), 68, True, "Berkeley segmentation data set, 68 images"),
    "CBSD432": Layout(
        "CBSD432", ("CBSD432", "BSD432", "Train432"), 432, True, "BSD500 without CBSD68"
    ),
    "T91": Layout("T91", ("T91", "91-image"), 91, True, "91 images of Yang et al."),
    "BSD200": Layout("BSD200", ("BSD200",), 200, True, "training images of BSD"),
}
TRAINING: Mapping[str, tuple[str, ...]] = {
    "S": ("Train400",),
    "B": ("Train400",),
    "C": ("CBSD432",),
    "3": ("T91", "BSD200"),
}
"""What the paper trained each variant on."""

PHOTOS = "photos"
THREE = (
    degradations.GaussianNoise(BLIND),
    degradations.Bicubic((2, 3, 4)),
    degradations.Jpeg((5, 99)),
)


def check(p: Parameters) -> None:
    """See that everything the parameters point to is there, before any work starts.

    Args:
        p: Checked parameters.

    Raises:
        ParameterError: If the photo bank or the weights are missing.
        DataError: If data_root lacks the training set or every test set.

    Example:
        >>> check(Parameters(profile="paper"))
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: profile 'paper' trains on the paper's own ...
        >>> check(Parameters(data_root="/nowhere"))
        Traceback (most recent call last):
        enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
    """
    if p.weights:
        official(p.weights)
    if p.data_root:
        datasets.check(p.data_root, [LAYOUTS[name] for name in training_sets(p)])
        if not any(LAYOUTS[name].find(p.data_root) for name in ("Set12", "BSD68")):
            LAYOUTS["Set12"].files(p.data_root)
        return
    if p.profile == "paper":
        raise ParameterError(
            "profile 'paper' trains on the paper's own data; give data_root, a folder with "
            f"{', '.join(TRAINING[p.variant])} and Set12 or BSD68 (data/README.md)"
        )
    missing = sum(not photo.path.is_file() for photo in photos.catalogue())
    if missing and p.profile != "smoke":
        raise ParameterError(
            f"profile {p.profile!r} needs the photo bank, of which {missing} pictures are missing; "
            "run `enhancelib fetch --only photos`, or give data_root"
        )


def training_sets(p: Parameters) -> list[str]:
    """The training sets under data_root that this run reads.

    Args:
        p: The ablations train on Train400; the training section on its variant's sets.

    Returns:
        Set names; for variant 3, Train400 where the paper's two sets are not at hand.
    """
    wanted = TRAINING[p.variant]
    if p.variant == "3" and not all(LAYOUTS[name].find(p.data_root) for name in wanted):
        wanted = ("Train400",)
    return sorted({*wanted, "Train400"})


def pool(
    p: Parameters, recipe: Recipe, *, variant: str = "S", device: torch.device | str = "cpu"
) -> datasets.PatchPool:
    """Training patches of one variant.

    Args:
        p: data_root decides between real sets and the photo bank.
        recipe: Gives the patch size.
        variant: "C" is colour, the others grey.
        device: Where the pixels live.

    Returns:
        Patches; under recipe "official" cut as in the released code (stride 10, four scales).
    """
    official_cut = p.recipe == "official"
    scales: Sequence[float] = (1.0, 0.9, 0.8, 0.7) if official_cut else (1.0,)
    if not p.data_root:
        scales = (1.0, 0.5, 0.25)  # most bundled photos are large, and smooth at full size
    pictures = _training_pictures(p, variant)
    return datasets.PatchPool(
        datasets.pyramid(pictures, scales, cumulative=official_cut and bool(p.data_root)),
        recipe.patch,
        stride=10 if official_cut else 1,
        device=device,
    )


def _training_pictures(p: Parameters, variant: str) -> Iterator[Tensor]:
    colour = variant == "C"
    if p.data_root:
        names = [n for n in training_sets(p) if variant == "S" or n in TRAINING[variant]]
        for name in [n for n in names if n == "Train400"] if variant in "SB" else names:
            for picture in LAYOUTS[name].read(p.data_root).values():
                yield datasets.grey_or_colour(picture, colour)
        return
    bundled = p.profile == "smoke"
    listed = photos.names("train", bundled=bundled)
    for name in listed if colour else (*listed, *photos.names("train", False)):
        yield datasets.grey_or_colour(photos.load(name), colour)


def test_sets(p: Parameters) -> dict[str, dict[str, Tensor]]:
    """Grey test pictures: the test photos of the bank, and the sets found under data_root.

    Args:
        p: The profile says how many photos, and how large.

    Returns:
        Set name -> picture name -> (1, H, W); at profile "paper" the paper's sets alone.
    """
    sets = {} if p.profile == "paper" else {PHOTOS: test_photos(p, colour=False)}
    for name in ("Set12", "BSD68"):
        if p.data_root and LAYOUTS[name].find(p.data_root):
            sets[name] = LAYOUTS[name].read(p.data_root)
    return sets


def test_photos(p: Parameters, *, colour: bool) -> dict[str, Tensor]:
    """The held-out photos of the bank, cropped around their centre.

    Args:
        p: Profile smoke takes those inside scikit-image, the same on every machine.
        colour: Three channels or one.

    Returns:
        Photo name -> (C, H, W).
    """
    scale = SCALES[p.profile]
    listed = photos.names("test", bundled=p.profile == "smoke")[: scale.photos]
    return {n: crop(datasets.grey_or_colour(photos.load(n), colour), scale.side) for n in listed}


def validation(p: Parameters, side: int = 96) -> Tensor:
    """Grey crops on which curves are watched; never a test picture.

    Args:
        p: Profile smoke takes photos inside scikit-image.
        side: In pixels.

    Returns:
        (B, 1, side, side).
    """
    bundled = p.profile == "smoke"
    names = [*photos.names("validation", bundled=bundled), *photos.names("validation", False)]
    loaded = (datasets.grey_or_colour(photos.load(name), False) for name in names)
    return torch.stack([crop(picture, side) for picture in loaded])


def crop(image: Tensor, side: int) -> Tensor:
    """The centre of a picture.

    Args:
        image: (..., H, W).
        side: Largest height and width of the result.

    Returns:
        (..., min(H, side), min(W, side)).
    """
    top, left = ((n - min(n, side)) // 2 for n in image.shape[-2:])
    return image[..., top : top + side, left : left + side]


def noisy(clean: Tensor, sigma: float) -> Tensor:
    """Y = x + v with the noise of the parity protocol: NumPy's RandomState(0) for every picture.

    Args:
        clean: (C, H, W) in [0, 1].
        sigma: Noise level in 8-bit units.

    Returns:
        (C, H, W), not clipped.
    """
    v = torch.from_numpy(np.random.RandomState(0).randn(*clean.shape)).to(clean.dtype)
    return clean + v * (sigma / 255)


def official(path: str | Path) -> dict[str, Path]:
    """The official networks in a file or folder, by what their names say.

    Args:
        path: One file, or a folder (and the folders in it) of released files.

    Returns:
        "S15", "S25", "S50", "B", "C25", "CB", "3" -> file, for those that are there.

    Raises:
        ParameterError: If the path does not exist or holds none of them.

    Example:
        >>> official("/nowhere")
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: weights '/nowhere' does not exist; give a ...
    """
    base = Path(path).expanduser()
    if not base.exists():
        raise ParameterError(
            f"weights {str(path)!r} does not exist; give a file or folder of the networks released "
            "in cszn/DnCNN or cszn/KAIR (data/README.md)"
        )
    files = [base] if base.is_file() else sorted(p for p in base.rglob("*") if p.is_file())
    found: dict[str, Path] = {}
    for file in files:
        role = _role(file.stem)
        if role and file.suffix in weights.READERS:
            found.setdefault(role, file)
    if not found:
        raise ParameterError(
            f"weights {str(path)!r} holds no file named like a released DnCNN (sigma=25.mat, "
            "sigma25.npz, dncnn_25.pth, GD_Gray_Blind, color_sigma25, GD_Color_Blind, DnCNN3)"
        )
    return found


def _role(stem: str) -> str | None:
    name = stem.lower()
    if "fdncnn" in name or "bnorm" in name:
        return None
    if "blind" in name:
        return "CB" if "color" in name else "B"
    if name in ("dncnn3", "dncnn_3"):
        return "3"
    if match := re.fullmatch(r"(color_)?(?:specific_)?(?:sigma=?|dncnn_)(\d+)", name):
        return ("C" if match[1] else "S") + match[2]
    return None


def pictures_at_scale(picture: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Ground truth and its bicubic down-and-up version, of the super-resolution rows.

    Args:
        picture: (1, H, W).
        scale: 2, 3 or 4.

    Returns:
        (clean, degraded), cropped to a multiple of the scale.
    """
    clean = degradations.modcrop(picture, scale)
    generator = torch.Generator()
    sample = degradations.Bicubic(scale)({"clean": clean[None]}, generator)
    return clean, images.clip(sample["degraded"][0])


def inputs(p: Parameters) -> dict[str, object]:
    """What of the user's disk a run reads, so that its results can be told apart.

    Args:
        p: The parameters.

    Returns:
        For `Run.notes`: "inputs" (set or weight file -> sha256) and "data_label".
    """
    found = {}
    for name, layout in LAYOUTS.items():
        if p.data_root and layout.find(p.data_root):
            found[name] = runtime.digest(*layout.files(p.data_root))
    files = official(p.weights) if p.weights else {}
    found |= {f"weights {role}": runtime.digest(file) for role, file in files.items()}
    return {"inputs": found, "data_label": "real" if p.data_root else ""}
