"""Pairs of pictures of one view, by a phone and by a good camera: DPED and the PIRM 2018 subset.

    DATA_ROOT/dped/PHONE/training_data/{PHONE,canon}/N.jpg        "train"
    DATA_ROOT/dped/PHONE/test_data/patches/{PHONE,canon}/N.jpg    "test"
    DATA_ROOT/dped/PHONE/test_data/full_size_test_images/N.jpg    photos without a partner
    DATA_ROOT/dped/patches/{iphone,canon}/N.jpg                   "pirm": 400 pairs, iPhone only

DATA_ROOT may also be the folder dped itself, or the folder patches of the subset. `find` lists
what is there, `check` decodes every file once, before any training; both say in one sentence what
is wrong.
"""

from __future__ import annotations

import os
from pathlib import Path

from enhancelib.datasets import SUFFIXES, DataError
from enhancelib.pairfiles import PAGE, Checked, PairFiles, check, number
from enhancelib.pairpool import Batches, PairPool, Pairs, RotatingPool

__all__ = [
    "PAGE",
    "PHONES",
    "Batches",
    "Checked",
    "PairFiles",
    "PairPool",
    "Pairs",
    "RotatingPool",
    "check",
    "few",
    "find",
    "full_size",
]

PHONES = ("iphone", "blackberry", "sony")
_CAMERA = "canon"
_PARTS = {"train": ("training_data",), "test": ("test_data", "patches")}


def find(data_root: str | Path, phone: str = "iphone") -> dict[str, PairFiles]:
    """The sets of pairs of one phone under a folder; names are compared, no file is opened.

    Args:
        data_root: The user's folder of data sets, the folder dped, or the subset's patches.
        phone: "iphone", "blackberry" or "sony".

    Returns:
        "train" and "test" of DPED where one of them is there; else "pirm".

    Raises:
        DataError: If data_root is no folder, holds no pairs of this phone, or one of two partner
            folders lacks a picture or all.

    Example:
        >>> find("/nowhere")
        Traceback (most recent call last):
        enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
    """
    bases = _bases(data_root, phone)
    for base in bases:
        if sets := _dped(base, phone):
            return sets
    subset = next((folder for base in bases if (folder := _pirm(base))), None)
    if subset and phone == "iphone":
        return {"pirm": _listed("PIRM 2018 subset", subset, phone)}
    others = [other for other in PHONES if any(_has(base, other) for base in bases)]
    others += ["iphone (the PIRM subset)"] if subset else []
    seen = f"but pairs of {', '.join(others)}: choose that phone, or add it" if others else ""
    raise DataError(
        f"{str(data_root)!r} holds no pairs of phone {phone!r}{', ' + seen if seen else ''}. "
        f"{_expected(data_root, phone)}"
    )


def few(data_root: str | Path, phone: str) -> PairFiles | None:
    """The handful of real pairs, beside the PIRM subset, that stand for a phone without its set.

    Args:
        data_root: As for `find`.
        phone: "iphone", "blackberry" or "sony".

    Returns:
        dped/other_phones/PHONE_phone_N.png with PHONE_dslr_N.png, or None where there are none.

    Raises:
        DataError: If data_root is no folder or the phone is unknown.

    Example:
        >>> few("/nowhere", "sony")
        Traceback (most recent call last):
        enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
    """
    for base in _bases(data_root, phone):
        if folder := _child(base, "other_phones"):
            phones = {number(p.stem): p.name for p in folder.glob(f"{phone}_phone_*")}
            cameras = {number(p.stem): p.name for p in folder.glob(f"{phone}_dslr_*")}
            both = sorted(phones.keys() & cameras.keys())
            names = tuple((phones[n], cameras[n]) for n in both)
            return PairFiles(f"DPED, {len(both)} {phone} pairs", folder, folder, names)
    return None


def full_size(data_root: str | Path, phone: str = "iphone") -> list[Path]:
    """Whole photos of the phone, which have no partner.

    Args:
        data_root: As for `find`.
        phone: "iphone", "blackberry" or "sony".

    Returns:
        DPED's full-size test photos, else what lies in HD_res and full_size beside the subset;
        in the order of their numbers, empty where there is none.

    Raises:
        DataError: If data_root is no folder or the phone is unknown.

    Example:
        >>> full_size("/nowhere")
        Traceback (most recent call last):
        enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
    """
    bases = _bases(data_root, phone)
    folders = [_child(b, phone, "test_data", "full_size_test_images") for b in bases]
    if phone == "iphone":
        folders += [_child(base, name) for base in bases for name in ("HD_res", "full_size")]
    found = [sorted(_pictures(folder).items(), key=_order) for folder in folders if folder]
    return [Path(path) for items in found[:1] for _, path in items]


def _bases(data_root: str | Path, phone: str) -> list[Path]:
    """Where the sets may begin."""
    root = Path(data_root).expanduser()
    if phone not in PHONES:
        raise DataError(f"phone is {phone!r}; expected one of {', '.join(PHONES)}")
    if not root.is_dir():
        raise DataError(f"data_root {str(data_root)!r} is no folder. {_expected(data_root, phone)}")
    inside = _child(root, "dped")
    return [inside, root] if inside else [root]


def _expected(data_root: str | Path, phone: str) -> str:
    home = f"{data_root}/dped/{phone}"
    subset = f", or {data_root}/dped/patches/{{iphone,canon}}/N.jpg" if phone == "iphone" else ""
    return (
        f"Expected: {home}/training_data/{{{phone},{_CAMERA}}}/N.jpg and "
        f"{home}/test_data/patches/{{{phone},{_CAMERA}}}/N.jpg{subset}. Official page: {PAGE}"
    )


def _has(base: Path, phone: str) -> bool:
    return any(_child(base, phone, *part) for part in _PARTS.values())


def _dped(base: Path, phone: str) -> dict[str, PairFiles]:
    found = {name: _child(base, phone, *part) for name, part in _PARTS.items()}
    titles = {"train": f"DPED {phone}, training patches", "test": f"DPED {phone}, test patches"}
    return {name: _listed(titles[name], folder, phone) for name, folder in found.items() if folder}


def _pirm(base: Path) -> Path | None:
    """The folder with `iphone` and `canon` in it."""
    for folder in (_child(base, "patches"), base):
        if folder and _child(folder, "iphone") and not _has(folder, "iphone"):
            return folder
    return None


def _listed(title: str, folder: Path, phone: str) -> PairFiles:
    """The pairs in `folder`/phone and `folder`/canon, none without its partner."""
    sides = []
    for name in (phone, _CAMERA):
        side = _child(folder, name)
        if side is None or not (there := _pictures(side)):
            state = "is missing" if side is None else "holds no pictures"
            raise DataError(
                f"{title}: {folder / name} {state}; expected N.jpg with the same N in "
                f"{phone} and {_CAMERA}. Official page: {PAGE}"
            )
        sides.append((side, there))
    (first, phones), (second, cameras) = sides
    _insist_partners(title, phones, cameras, second)
    _insist_partners(title, cameras, phones, first)
    ordered = sorted(phones.items(), key=_order)
    names = tuple((Path(path).name, Path(cameras[stem]).name) for stem, path in ordered)
    return PairFiles(title, first, second, names)


def _insist_partners(title: str, one: dict[str, str], other: dict[str, str], place: Path) -> None:
    if lonely := sorted(one.keys() - other.keys(), key=lambda stem: (number(stem), stem)):
        more = f" and {len(lonely) - 1} more" if len(lonely) > 1 else ""
        raise DataError(
            f"{title}: {one[lonely[0]]}{more} has no partner in {place}; get the set again, or "
            f"take away what has none. Official page: {PAGE}"
        )


def _child(folder: Path, *names: str) -> Path | None:
    """A folder inside, step by step, without regard to case."""
    for name in names:
        there = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_dir()}
        if name.lower() not in there:
            return None
        folder = there[name.lower()]
    return folder


def _pictures(folder: Path) -> dict[str, str]:
    """Stem -> path of the pictures in a folder, as text: there may be 160,000 of them."""
    with os.scandir(folder) as entries:
        kept = sorted(e.path for e in entries if e.name.lower().endswith(SUFFIXES))
    stems = [os.path.splitext(os.path.basename(path))[0] for path in kept]
    found = {stem: path for stem, path in zip(stems, kept, strict=True) if stem[0] != "."}
    if len(found) < sum(stem[0] != "." for stem in stems):
        raise DataError(
            f"{folder} holds two pictures of one name with different suffixes; keep one"
        )
    return found


def _order(item: tuple[str, str]) -> tuple[int, str]:
    return number(item[0]), item[0]
