"""Pairs of the PRaD notebook: real ones under data_root, else bundled photos and a stand-in phone.

Splits, once and for all. PIRM 2018 subset: pairs 0-235 train, 236-299 validation, 300-399 test.
DPED: test_data/patches test; of training_data the last 640 in number are not trained on, and every
tenth of them is a validation pair (neighbours in number may show one photo; crops of one photo may
still lie on both sides). Bundled photos: the split of the photo bank. Pairs that are pure white in
both pictures are never trained on; in the test set they stay, marked. Nothing that trains or
selects reads a test pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from enhancelib import images, pairs, photos, runtime
from enhancelib.datasets import DataError, Sample
from enhancelib.degradations import Phone
from enhancelib.pairs import Batches, PairFiles, PairPool, Pairs, RotatingPool
from enhancelib.papers.parameters import ParameterError
from enhancelib.papers.prad import bundled
from enhancelib.papers.prad.bundled import PATCH, SIZES

if TYPE_CHECKING:
    from enhancelib.papers.prad.settings import Parameters
    from enhancelib.recipes import Recipe

__all__ = [
    "PATCH",
    "Pairs",
    "aligned",
    "check",
    "chunks",
    "clean_patches",
    "few",
    "full_size",
    "inputs",
    "name",
    "other_cameras",
    "pirm",
    "shifted",
    "test",
    "train",
    "validation",
]

MADE = "bundled photos, degraded"
"""What test pairs are called that no phone took."""
BLOCK, EVERY = 30_000, 1000  # DPED's code: random patches, replaced after so many steps
FIRST_VALIDATION, FIRST_TEST = 236, 300  # numbers in the PIRM subset
HELD_BACK, VALIDATION = 640, 64  # pairs of DPED's training data


def check(p: Parameters) -> None:
    """See that all pairs are there and can be decoded, before any work starts.

    Args:
        p: Checked parameters.

    Raises:
        ParameterError: If pairs of another phone, or profile "paper", are asked for without
            data_root, or the photo bank is not fetched.
        DataError: If data_root lacks a set, a partner or a whole picture.

    Example:
        >>> from types import SimpleNamespace as P
        >>> check(P(profile="small", data_root="", phone="sony", seed=0))
        Traceback (most recent call last):
        enhancelib.papers.parameters.ParameterError: phone 'sony' is read from data_root; ...
        >>> check(P(profile="small", data_root="/nowhere", phone="iphone", seed=0))
        Traceback (most recent call last):
        enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
    """
    if p.data_root:
        for files in _sets(p.data_root, p.phone).values():
            pairs.check(files)
        _splits(p.data_root, p.phone)
        return
    if p.phone != "iphone":
        raise ParameterError(
            f"phone {p.phone!r} is read from data_root; without it, bundled photos are degraded "
            "like an iPhone 3GS's: give data_root (data/README.md) or phone='iphone'"
        )
    if p.profile == "paper":
        raise ParameterError(
            "profile 'paper' trains on DPED; give data_root, a folder with dped/iphone/"
            "{training_data,test_data} (data/README.md)"
        )
    missing = sum(not photo.path.is_file() for photo in photos.catalogue())
    if missing and p.profile != "smoke":
        raise ParameterError(
            f"profile {p.profile!r} needs the photo bank, of which {missing} pictures are missing; "
            "run `enhancelib fetch --only photos`, or give data_root"
        )


def inputs(p: Parameters) -> dict[str, object]:
    """What of the user's disk a run reads, so that its results can be told apart.

    Args:
        p: The parameters.

    Returns:
        For `Run.notes`: "inputs" (set -> sha256 of its files) and "data_label".
    """
    found = _sets(p.data_root, p.phone).values() if p.data_root else ()
    digests = {files.title: runtime.digest(*files.paths()) for files in found}
    return {"inputs": digests, "data_label": "real" if p.data_root else ""}


def name(p: Parameters) -> str:
    """What the test pairs are called in tables.

    Args:
        p: The parameters.

    Returns:
        Such as "PIRM 2018 subset, 300-399".
    """
    if not p.data_root:
        return MADE
    sets = _sets(p.data_root, p.phone)
    return f"{sets['pirm'].title}, 300-399" if "pirm" in sets else sets["test"].title


def train(p: Parameters, *, device: torch.device | str = "cpu") -> PairPool | RotatingPool:
    """Training pairs.

    Args:
        p: data_root decides between real and made pairs; the seed decides which 30,000 of more
            pairs are in memory, or how bundled photos are cut and degraded.
        device: Where the pixels live.

    Returns:
        Has `sample(count, size, generator)` and `batches(count, size)`.
    """
    if not p.data_root:
        return PairPool(_bank(p, "train", seed=p.seed), device=device)
    files = _splits(p.data_root, p.phone)["train"]
    if len(files) <= BLOCK:
        return PairPool(files.read(), device=device)
    return RotatingPool(
        files.read, len(files), block=BLOCK, every=EVERY, seed=p.seed, device=device
    )


def chunks(p: Parameters, size: int = 64) -> Iterator[Sample]:
    """Training pairs as they are, a few at a time, for fits that see each once.

    Args:
        p: As for `train`.
        size: Most pairs at a time.

    Yields:
        `degraded` and `clean`, (B, 3, H, W); of more than 30,000 pairs, that many spread over all.
    """
    if not p.data_root:
        yield from _bank(p, "train", seed=p.seed).chunks(size)
        return
    files = _splits(p.data_root, p.phone)["train"]
    places = _spread(len(files), min(len(files), BLOCK))
    for start in range(0, len(places), size):
        yield from files.read(places[start : start + size]).chunks(size)


def validation(p: Parameters) -> Pairs:
    """Pairs that curves are watched and critics studied on: not trained on, and never tested on.

    Args:
        p: The parameters.

    Returns:
        64 pairs, the same in every run; fewer at profile smoke or from a small set.
    """
    if not p.data_root:
        return _bank(p, "validation")
    return _splits(p.data_root, p.phone)["validation"].read()


def test(p: Parameters) -> Pairs:
    """The pairs of the tables.

    Args:
        p: The parameters.

    Returns:
        All test pairs, the pure white ones marked by `white`; the same in every run.
    """
    if not p.data_root:
        return _bank(p, "test")
    return _real(p.data_root, p.phone, "test")


def pirm(p: Parameters) -> Pairs | None:
    """The whole PIRM subset, for parity with what others print about its 400 pairs.

    Args:
        p: The parameters.

    Returns:
        All pairs in the order of their numbers, or None where data_root holds no such subset.
    """
    if not p.data_root or p.phone != "iphone":
        return None
    found = pairs.find(p.data_root, "iphone").get("pirm")
    return found.read() if found else None


def few(p: Parameters) -> Pairs | None:
    """The handful of real pairs that lie beside the PIRM subset for every phone.

    Args:
        p: The parameters.

    Returns:
        Four pairs of `p.phone`, or None where data_root has none.
    """
    files = pairs.few(p.data_root, p.phone) if p.data_root else None
    return files.read() if files else None


def clean_patches(p: Parameters, count: int) -> Tensor:
    """Targets alone, for measuring losses between a picture and itself.

    Args:
        p: The parameters.
        count: How many at most.

    Returns:
        (N, 3, 100, 100), from the camera's side of the training part or of bundled test photos.
    """
    if not p.data_root:
        return test(p).clean[:count]
    files = _splits(p.data_root, p.phone)["train"]
    return files.read(range(min(count, len(files)))).clean


def aligned(p: Parameters) -> Pairs:
    """Pairs of bundled photos whose two pictures lie exactly over one another.

    Args:
        p: The profile says how many.

    Returns:
        Degraded like those of `test`, but not moved; of the bank's test photos.
    """
    return _bank(p, "test", phone=Phone(shift=0.0))


def shifted(
    p: Parameters, recipe: Recipe, shift: int, *, device: torch.device | str = "cpu"
) -> Batches:
    """Training crops whose target is moved at random by whole pixels.

    Args:
        p: The profile says how many patches there are.
        recipe: Gives batch and patch.
        shift: Largest displacement along each axis, in pixels.
        device: Where the pixels live.

    Returns:
        (step number, generator) -> sample; bundled photos.
    """
    margin = max(shift, 4)  # so that all shifts up to 4 see the same patches
    size = PATCH + 2 * margin
    still = _bank(p, "train", phone=Phone(shift=0.0), seed=p.seed, size=size)
    pool = PairPool(still, device=device)

    def batches(index: int, generator: torch.Generator) -> Sample:
        wide = pool.sample(recipe.batch, recipe.patch + 2 * shift, generator)
        moves = torch.randint(2 * shift + 1, (recipe.batch, 2), generator=generator).tolist()
        inner = slice(shift, shift + recipe.patch)
        moved = [
            picture[:, top : top + recipe.patch, left : left + recipe.patch]
            for picture, (top, left) in zip(wide["clean"], moves, strict=True)
        ]
        return {"degraded": wide["degraded"][..., inner, inner], "clean": torch.stack(moved)}

    return batches


def full_size(p: Parameters, count: int = 4) -> dict[str, Tensor]:
    """Whole photos to enhance and look at; they have no partner.

    Args:
        p: The parameters.
        count: How many at most.

    Returns:
        Name -> (3, H, W): the phone's own photos under data_root, else publishable bundled photos
        at most 1280 pixels long, degraded by the stand-in phone.
    """
    if p.data_root and (files := pairs.full_size(p.data_root, p.phone)):
        return {file.stem: images.read(file) for file in files[:count]}
    generator = runtime.generator(0, "prad", "full size")
    return {n: bundled.taken(bundled.whole(n), generator) for n in other_cameras(p)[:count]}


def other_cameras(p: Parameters) -> list[str]:
    """Bundled photos of other cameras, for the strip of what a network makes of them.

    Args:
        p: Profile smoke takes those inside scikit-image.

    Returns:
        Names of test photos whose licence allows a figure; `bundled.whole` reads one.
    """
    return bundled.other_cameras(bundled=p.profile == "smoke")


def _bank(
    p: Parameters,
    split: str,
    *,
    seed: int = 0,
    phone: Phone | None = None,
    size: int = PATCH,
) -> Pairs:
    count = getattr(SIZES[p.profile], split)
    own = p.profile == "smoke"
    return bundled.bank(split, count, seed=seed, phone=phone, size=size, bundled=own)


def _sets(data_root: str, phone: str) -> dict[str, PairFiles]:
    """The sets that a run reads: the subset, or both of DPED's."""
    found = pairs.find(data_root, phone)
    if "pirm" not in found and len(found) < 2:
        lacking = "test_data/patches" if "train" in found else "training_data"
        raise DataError(
            f"DPED {phone} under {data_root!r} has no {lacking}; training and test patches are "
            f"both needed. Official page: {pairs.PAGE}"
        )
    return found


def _splits(data_root: str, phone: str) -> dict[str, PairFiles]:
    """The files of "train" (without pure white pairs), "validation" and "test"."""
    sets = _sets(data_root, phone)
    whole = sets["pirm"] if "pirm" in sets else sets["train"]
    white = set(pairs.check(whole).white)
    if "pirm" in sets:
        chosen = _by_number(whole)
    else:
        held = min(HELD_BACK, max(1, len(whole) // 5))
        kept = len(whole) - held
        spread = _spread(held, min(VALIDATION, held))
        chosen = {"train": list(range(kept)), "validation": [kept + k for k in spread]}
    chosen["train"] = [k for k in chosen["train"] if k not in white]
    splits = {part: whole.choose(places) for part, places in chosen.items()}
    splits.setdefault("test", sets.get("test", whole))
    if empty := [part for part, files in splits.items() if not len(files)]:
        raise DataError(
            f"{whole.title} has no pair for {empty[0]} among its {len(whole)}; get the whole set. "
            f"Official page: {pairs.PAGE}"
        )
    return splits


def _by_number(whole: PairFiles) -> dict[str, list[int]]:
    chosen: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for place, number in enumerate(whole.numbers()):
        validation = "validation" if number >= FIRST_VALIDATION else "train"
        chosen["test" if number >= FIRST_TEST else validation].append(place)
    return chosen


@lru_cache(maxsize=2)
def _real(data_root: str, phone: str, part: str) -> Pairs:
    return _splits(data_root, phone)[part].read()


def _spread(total: int, count: int) -> list[int]:
    """Places spread evenly over a row of `total`."""
    return [k * total // count for k in range(count)]
