"""Real hazy photos and their clean partners, in the folders that their authors hand out.

O-HAZE and I-HAZE: NN_outdoor_hazy.jpg beside NN_outdoor_GT.jpg (indoor likewise), in one folder or
in hazy/ and GT/. SOTS of RESIDE: hazy/SCENE_K.png with GT/SCENE_K.png or GT/SCENE.png. All are
handed out for research; nothing of them enters figures/. Two folders more are looked into: dip/,
the pictures of Deep Image Prior's notebooks, and pcakd/, the pictures of PCA-KD's demo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from enhancelib import images, runtime
from enhancelib.datasets import DataError

OFFICIAL = {
    "O-HAZE": "NTIRE 2018 dehazing challenge (ETH Zurich, Computer Vision Lab); arXiv 1804.05101",
    "I-HAZE": "NTIRE 2018 dehazing challenge (ETH Zurich, Computer Vision Lab); arXiv 1804.05091",
    "SOTS indoor": "RESIDE, page of its authors (Li et al., IEEE TIP 2019)",
    "SOTS outdoor": "RESIDE, page of its authors (Li et al., IEEE TIP 2019)",
}
"""Set -> where it is offered."""
FOLDERS: Mapping[str, str] = {
    "ohaze": "O-HAZE",
    "o-haze": "O-HAZE",
    "ihaze": "I-HAZE",
    "i-haze": "I-HAZE",
    "sots_indoor": "SOTS indoor",
    "sots_outdoor": "SOTS outdoor",
}
"""Folder under data_root, in small letters -> set."""
LAYOUT = (
    "Expected: ohaze/ or ihaze/ with NN_outdoor_hazy.jpg and NN_outdoor_GT.jpg (also in hazy/ and "
    "GT/), sots_indoor/ or sots_outdoor/ with hazy/ and GT/, dip/ with *.png, or pcakd/"
)
_SUFFIXES = (".png", ".jpg", ".jpeg")
_BORDER = 10  # pixels that SOTS' clean photos have more, at every side


@dataclass(frozen=True)
class HazyPair:
    """Two files of one view.

    Args:
        name: Of the pair, once in its set.
        dataset: The set, a key of `OFFICIAL`.
        hazy: The hazy photo.
        clean: The clean one.
    """

    name: str
    dataset: str
    hazy: Path
    clean: Path

    def read(self) -> tuple[Tensor, Tensor]:
        """Both photos.

        Returns:
            (hazy, clean), (3, H, W) in [0, 1], of one size: a clean photo of SOTS that still has
            its border of 10 pixels loses it.

        Raises:
            DataError: If a file cannot be decoded, or the sizes do not fit.

        Example:
            >>> HazyPair("a", "O-HAZE", Path("/nowhere/a.jpg"), Path("/nowhere/b.jpg")).read()
            Traceback (most recent call last):
            enhancelib.datasets.DataError: O-HAZE: /nowhere/a.jpg: no such file; ...
        """
        try:
            hazy, clean = images.read(self.hazy), images.read(self.clean)
        except images.ImageError as error:
            raise DataError(f"{self.dataset}: {error}") from error
        if [n - 2 * _BORDER for n in clean.shape[1:]] == list(hazy.shape[1:]):
            clean = clean[:, _BORDER:-_BORDER, _BORDER:-_BORDER]
        if hazy.shape != clean.shape:
            sizes = " and ".join(f"{x.shape[2]} x {x.shape[1]}" for x in (hazy, clean))
            raise DataError(
                f"{self.dataset}: {self.hazy.name} and {self.clean.name} have {sizes} pixels; "
                "expected one size"
            )
        return hazy, clean


def pairs(data_root: str) -> list[HazyPair]:
    """Every hazy photo under data_root that has a clean partner.

    Args:
        data_root: The user's folder; "" gives none.

    Returns:
        Pairs in the order of sets and names.

    Raises:
        DataError: If the folder does not exist, or a hazy or a clean photo has no partner.

    Example:
        >>> pairs("")
        []
        >>> pairs("/nowhere")
        Traceback (most recent call last):
        enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
    """
    if not data_root:
        return []
    root = Path(data_root).expanduser()
    if not root.is_dir():
        raise DataError(f"data_root {data_root!r} is no folder. {LAYOUT}")
    there = {one.name.lower(): one for one in sorted(root.iterdir()) if one.is_dir()}
    found: list[HazyPair] = []
    for folder, dataset in FOLDERS.items():
        if folder in there:
            found += _set(there[folder], dataset)
    return found


def _set(folder: Path, dataset: str) -> list[HazyPair]:
    files = [one for one in sorted(folder.rglob("*")) if one.suffix.lower() in _SUFFIXES]
    files = [one for one in files if not one.name.startswith(".")]  # macOS leaves such beside real
    clean = {_scene(one): one for one in files if _is_clean(one)}
    lonely = set(clean.values())
    found = []
    for hazy in (one for one in files if not _is_clean(one)):
        partner = clean.get(_scene(hazy)) or clean.get(_scene(hazy).partition("_")[0])
        if partner is None:
            raise DataError(
                f"{dataset}: {hazy} has no clean partner. {LAYOUT}. Official source: "
                f"{OFFICIAL[dataset]}"
            )
        found.append(HazyPair(_scene(hazy), dataset, hazy, partner))
        lonely.discard(partner)
    if lonely or not found:
        lack = f"{min(lonely)} has no hazy partner" if lonely else f"{folder} holds no hazy photo"
        raise DataError(f"{dataset}: {lack}. {LAYOUT}. Official source: {OFFICIAL[dataset]}")
    return found


def _is_clean(file: Path) -> bool:
    return file.parent.name.lower() in ("gt", "clear") or file.stem.lower().endswith("_gt")


def _scene(file: Path) -> str:
    stem = file.stem.lower()
    for word in ("_hazy", "_gt"):
        stem = stem.removesuffix(word)
    return stem


def restyled(data_root: str) -> list[tuple[Path, Path, Path]]:
    """The pictures of PCA-KD's demo under data_root.

    Args:
        data_root: The user's folder; "" gives none.

    Returns:
        (content, style, the authors' result) of both; nothing where there is no pcakd/.

    Raises:
        DataError: If pcakd/ lacks one of the six.

    Example:
        >>> restyled("/nowhere")
        []
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "pcakd").mkdir()
        ...     restyled(folder)
        Traceback (most recent call last):
        enhancelib.datasets.DataError: PCA-KD: ...content_0.jpeg is missing; expected ...
    """
    folder = Path(data_root).expanduser() / "pcakd"
    if not data_root or not folder.is_dir():
        return []
    names = ("content_{}.jpeg", "style_{}.jpeg", "official_result_vgg_{}.jpg")
    found = [tuple(folder / name.format(k) for name in names) for k in (0, 1)]
    for file in (file for three in found for file in three if not file.is_file()):
        raise DataError(
            f"PCA-KD: {file} is missing; expected content_K.jpeg, style_K.jpeg and "
            "official_result_vgg_K.jpg for K = 0 and 1. Official source: the demo of its repository"
        )
    return [(content, style, theirs) for content, style, theirs in found]


def check(data_root: str) -> None:
    """See that every picture is there and can be decoded, before any work starts.

    Args:
        data_root: The user's folder; "" needs nothing.

    Raises:
        DataError: As `pairs`, `HazyPair.read` and `restyled`, if a picture of dip/ or pcakd/ cannot
            be decoded, or if nothing under data_root is known.

    Example:
        >>> check("/nowhere")
        Traceback (most recent call last):
        enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
    """
    found, singles = pairs(data_root), _singles(data_root)
    if data_root and not found and not any(singles.values()):
        raise DataError(f"data_root {data_root!r} holds no set that is known. {LAYOUT}")
    for pair in found:
        pair.read()
    for name, files in singles.items():
        for file in files:
            try:
                images.read(file)
            except images.ImageError as error:
                raise DataError(f"{name}: {error}") from error


def inputs(data_root: str) -> dict[str, object]:
    """What of the user's disk a run reads, so that its results can be told apart.

    Args:
        data_root: The user's folder.

    Returns:
        For `Run.notes`: "inputs" (set -> sha256 of its files) and "data_label".
    """
    found: dict[str, list[Path]] = {}
    for pair in pairs(data_root):
        found.setdefault(pair.dataset, []).extend((pair.hazy, pair.clean))
    found |= {name: files for name, files in _singles(data_root).items() if files}
    digests = {name: runtime.digest(*files) for name, files in found.items()}
    return {"inputs": digests, "data_label": "real" if data_root else ""}


def _singles(data_root: str) -> dict[str, list[Path]]:
    """Pictures that are no pairs: whose they are -> files."""
    dip = Path(data_root).expanduser() / "dip"
    return {
        "Deep Image Prior": sorted(dip.glob("*.png")) if data_root else [],
        "PCA-KD": [file for three in restyled(data_root) for file in three],
    }
