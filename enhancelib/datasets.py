"""Benchmark sets on the user's disk, and training patches.

Real sets are folders under `data_root`; a `Layout` says what is expected and where the authors
offer it, and is checked before any training starts. Patches live on the device as 8-bit pixels in
one flat buffer and are cut there by index, with one of the eight flips and rotations each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from enhancelib import images
from enhancelib.degradations import Degradation

SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
Sample = dict[str, Tensor]


class DataError(ValueError):
    """A data set is not laid out as expected."""


@dataclass(frozen=True)
class Layout:
    """One benchmark set as its authors lay it out.

    Args:
        name: As the papers call it.
        folders: Names under data_root that are looked for, without regard to case.
        count: Pictures in the whole set.
        colour: Whether the pictures are read in colour.
        page: Where the authors offer it.
    """

    name: str
    folders: tuple[str, ...]
    count: int
    colour: bool
    page: str

    def find(self, data_root: str | Path) -> Path | None:
        """The set's folder.

        Args:
            data_root: The user's folder of data sets.

        Returns:
            The first match, or None.
        """
        root = Path(data_root).expanduser()
        there = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()}
        return next((there[n.lower()] for n in self.folders if n.lower() in there), None)

    def files(self, data_root: str | Path) -> list[Path]:
        """The set's pictures, sorted by name.

        Args:
            data_root: The user's folder of data sets.

        Returns:
            At least one file.

        Raises:
            DataError: If data_root, the folder or pictures in it are missing; the message shows
                the expected layout and the page where the set is offered.

        Example:
            >>> set12 = Layout("Set12", ("Set12",), 12, False, "github: cszn/DnCNN")
            >>> set12.files("/nowhere")
            Traceback (most recent call last):
            enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
        """
        expected = (
            f"Expected: {data_root}/{self.folders[0]}/*.png ({self.count} pictures). "
            f"Official source: {self.page}"
        )
        if not Path(data_root).expanduser().is_dir():
            raise DataError(f"data_root {str(data_root)!r} is no folder. {expected}")
        folder = self.find(data_root)
        if folder is None:
            raise DataError(f"{self.name} is not under {str(data_root)!r}. {expected}")
        found = sorted(
            p
            for p in folder.iterdir()
            if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
        )
        if not found:
            raise DataError(f"{folder} holds no pictures. {expected}")
        return found

    def read(self, data_root: str | Path) -> dict[str, Tensor]:
        """The set's pictures.

        Args:
            data_root: The user's folder of data sets.

        Returns:
            File stem -> (3, H, W), or (1, H, W) for a grey set, in [0, 1].

        Raises:
            DataError: As `files`.

        Example:
            >>> Layout("Set5", ("Set5",), 5, True, "github: cszn/DnCNN").read("/nowhere")
            Traceback (most recent call last):
            enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
        """
        files = self.files(data_root)
        return {file.stem: grey_or_colour(images.read(file), self.colour) for file in files}


def grey_or_colour(image: Tensor, colour: bool) -> Tensor:
    """A picture with the number of channels that a set is read with.

    Args:
        image: (1 or 3, H, W) in [0, 1].
        colour: Three channels if true, else one (BT.601 luma, full range).

    Returns:
        (3, H, W) or (1, H, W).
    """
    if colour:
        return image.expand(3, -1, -1)
    return images.luma(image) if image.shape[0] == 3 else image


def pyramid(
    pictures: Iterable[Tensor], scales: Sequence[float], *, cumulative: bool = False
) -> Iterator[Tensor]:
    """Pictures at several sizes, by MATLAB's bicubic resize.

    Args:
        pictures: Each (C, H, W) in [0, 1].
        scales: Factors. DnCNN's release uses 1, .9, .8, .7 applied one after another.
        cumulative: Apply each factor to the result of the one before.

    Yields:
        len(scales) pictures for each picture, clipped to [0, 1].
    """
    for picture in pictures:
        current = picture
        for scale in scales:
            source = current if cumulative else picture
            current = source if scale == 1 else images.resize(source, scale=scale).clamp(0, 1)
            yield current


class PatchPool:
    """Square patches of many pictures, cut on the device.

    Args:
        pictures: Each (C, H, W) in [0, 1], stored with 8 bits.
        size: Side of the patches, in pixels.
        stride: Grid on which patches may start; 1 means everywhere.
        device: Where the pixels live.

    Raises:
        DataError: If there is no picture, one is smaller than a patch, they differ in channels, or
            size or stride is below 1.

    Example:
        >>> pool = PatchPool([torch.rand(3, 20, 30)], 8)
        >>> pool.sample(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 8, 8])
        >>> PatchPool([torch.rand(3, 20, 30)], 24)
        Traceback (most recent call last):
        enhancelib.datasets.DataError: a picture of 30 x 20 pixels is smaller than the patch ...
    """

    def __init__(
        self,
        pictures: Iterable[Tensor],
        size: int,
        *,
        stride: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.size, self.stride, self.device = size, stride, torch.device(device)
        levels = [images.to_uint8(picture) for picture in pictures]
        _insist_patches(levels, size, stride)
        self.pixels = torch.cat([p.flatten(1).T for p in levels]).to(self.device)
        shape = torch.tensor([p.shape[1:] for p in levels])
        self.width = shape[:, 1]
        self.offset = torch.cat([torch.zeros(1, dtype=torch.long), shape.prod(1).cumsum(0)[:-1]])
        rows, self.columns = ((shape - size) // stride + 1).unbind(1)
        self.places = rows * self.columns
        self.last = self.places.cumsum(0)
        self.grids = _grids(size).to(self.device)

    def __len__(self) -> int:
        """The number of different patches, flips and rotations not counted."""
        return int(self.last[-1])

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Random patches: every picture with the same chance, and every position in it.

        A large smooth picture thus weighs no more than a small detailed one.

        Args:
            count: How many.
            generator: On the CPU.

        Returns:
            (count, C, size, size) float32 in [0, 1] on the pool's device.
        """
        picture = torch.randint(len(self.width), (count,), generator=generator)
        share = torch.rand(count, generator=generator, dtype=torch.float64)
        turn = torch.randint(8, (count,), generator=generator)
        return self._cut(picture, (share * self.places[picture]).long(), turn)

    def patch(self, place: int) -> Tensor:
        """One patch, as it stands in its picture.

        Args:
            place: Its number, from 0 to len(pool) - 1.

        Returns:
            (C, size, size) float32 in [0, 1].

        Raises:
            DataError: If there is no such patch.

        Example:
            >>> PatchPool([torch.rand(1, 9, 9)], 8).patch(4)
            Traceback (most recent call last):
            enhancelib.datasets.DataError: patch 4 of a pool of 4; expected 0 to 3
        """
        if not 0 <= place < len(self):
            raise DataError(
                f"patch {place} of a pool of {len(self)}; expected 0 to {len(self) - 1}"
            )
        picture = torch.searchsorted(self.last, torch.tensor([place]), right=True)
        inside = place - self.last[picture] + self.places[picture]
        return self._cut(picture, inside, torch.tensor([0]))[0]

    def _cut(self, picture: Tensor, inside: Tensor, turn: Tensor) -> Tensor:
        row = inside // self.columns[picture] * self.stride
        column = inside % self.columns[picture] * self.stride
        width = self.width[picture]
        corner = (self.offset[picture] + row * width + column).to(self.device)
        grid = self.grids[turn.to(self.device)]
        index = (
            corner[:, None, None] + grid[:, 0] * width.to(self.device)[:, None, None] + grid[:, 1]
        )
        return self.pixels[index].permute(0, 3, 1, 2).float() / 255


def synthetic(
    pool: PatchPool, degradation: Degradation, batch: int
) -> Callable[[int, torch.Generator], Sample]:
    """Training samples made by degrading patches.

    Args:
        pool: Where clean patches come from.
        degradation: Adds `degraded` and its factors.
        batch: Patches per sample.

    Returns:
        `batches` for `training.fit`: a function of the step number and a fresh generator.
    """

    def batches(index: int, generator: torch.Generator) -> Sample:
        return degradation({"clean": pool.sample(batch, generator)}, generator)

    return batches


def check(data_root: str | Path, layouts: Sequence[Layout]) -> Mapping[str, list[Path]]:
    """Check that all sets are there before anything starts.

    Args:
        data_root: The user's folder of data sets.
        layouts: What the run needs.

    Returns:
        Set name -> files.

    Raises:
        DataError: If one is missing.

    Example:
        >>> check("/nowhere", [Layout("Set12", ("Set12",), 12, False, "github: cszn/DnCNN")])
        Traceback (most recent call last):
        enhancelib.datasets.DataError: data_root '/nowhere' is no folder. Expected: ...
    """
    return {layout.name: layout.files(data_root) for layout in layouts}


def _insist_patches(pictures: Sequence[Tensor], size: int, stride: int) -> None:
    if min(size, stride) < 1:
        raise DataError(f"patches of {size} pixels at stride {stride}; expected 1 or more")
    if len(channels := {picture.shape[0] for picture in pictures}) > 1:
        raise DataError(f"pictures of {sorted(channels)} channels in one pool; expected one number")
    if not pictures:
        raise DataError(f"no picture to cut patches of {size} pixels from")
    for picture in pictures:
        height, width = picture.shape[-2:]
        if min(height, width) < size:
            raise DataError(
                f"a picture of {width} x {height} pixels is smaller than the patch of {size}; "
                "use a smaller patch or leave the picture out"
            )


def _grids(size: int) -> Tensor:
    """(8, 2, size, size): row and column of every pixel under the eight flips and rotations."""
    steps = torch.arange(size)
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="ij"))
    turned = [torch.rot90(grid, k, (1, 2)) for k in range(4)]
    return torch.stack([*turned, *(t.flip(2) for t in turned)])
