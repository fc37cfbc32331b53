"""Pairs of pictures in memory, and training crops out of them: same place, same turn in both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from enhancelib import images, runtime
from enhancelib.datasets import DataError, Sample

Batches = Callable[[int, torch.Generator], Sample]


@dataclass(frozen=True)
class Pairs:
    """Pairs in memory, with the 8 bits of their files.

    Args:
        names: One per pair.
        levels: (2, N, 3, H, W) uint8: the pictures to enhance, then those to reach.

    Raises:
        DataError: If the levels have another type or shape, or not one pair per name.

    Example:
        >>> two = Pairs(("a", "b"), torch.full((2, 2, 3, 8, 8), 255, dtype=torch.uint8))
        >>> two.degraded.shape, two.white.tolist(), len(two.without_white())
        (torch.Size([2, 3, 8, 8]), [True, True], 0)
        >>> Pairs(("a",), torch.zeros(2, 2, 3, 8, 8, dtype=torch.uint8))
        Traceback (most recent call last):
        enhancelib.datasets.DataError: 1 names for pairs of shape (2, 2, 3, 8, 8) and type ...
    """

    names: tuple[str, ...]
    levels: Tensor

    def __post_init__(self) -> None:
        shape = tuple(self.levels.shape)
        fits = self.levels.dtype == torch.uint8 and len(shape) == 5
        if not fits or shape[:3] != (2, len(self.names), 3):
            raise DataError(
                f"{len(self.names)} names for pairs of shape {shape} and type {self.levels.dtype}; "
                "expected (2, N, 3, H, W), uint8, and a name for each of the N"
            )

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.names)

    @cached_property
    def degraded(self) -> Tensor:
        """The pictures to enhance, (N, 3, H, W) float32 in [0, 1]."""
        return images.from_uint8(self.levels[0])

    @cached_property
    def clean(self) -> Tensor:
        """The pictures to reach, (N, 3, H, W) float32 in [0, 1]."""
        return images.from_uint8(self.levels[1])

    @cached_property
    def white(self) -> Tensor:
        """(N,) bool: pairs where every pixel of both is 255, so that no error is left to measure.

        The PSNR of an untouched picture is infinite there.
        """
        return self.levels.eq(255).flatten(2).all(2).all(0)

    def choose(self, places: Sequence[int]) -> Pairs:
        """Some of the pairs.

        Args:
            places: Which, counted from 0.

        Returns:
            Those alone, in the order given.
        """
        return Pairs(tuple(self.names[k] for k in places), self.levels[:, list(places)])

    def without_white(self) -> Pairs:
        """The pairs that are not pure white.

        Returns:
            Those alone.
        """
        return self.choose(self.white.logical_not().nonzero().flatten().tolist())

    def chunks(self, size: int = 64) -> list[Sample]:
        """All pairs in order, a few at a time.

        Args:
            size: Most pairs at a time.

        Returns:
            Samples of `degraded` and `clean`, (B, 3, H, W); their pixels are views.
        """
        starts = range(0, len(self), size)
        return [
            {"degraded": self.degraded[k : k + size], "clean": self.clean[k : k + size]}
            for k in starts
        ]


class PairPool:
    """Square crops of many pairs, cut on the device.

    Args:
        pairs: All of one size, kept there with 8 bits.
        device: Where the pixels live.

    Raises:
        DataError: If there is no pair.

    Example:
        >>> pairs = Pairs(("a",), torch.randint(256, (2, 1, 3, 20, 30), dtype=torch.uint8))
        >>> sample = PairPool(pairs).sample(4, 8, torch.Generator().manual_seed(0))
        >>> sorted(sample), sample["clean"].shape
        (['clean', 'degraded'], torch.Size([4, 3, 8, 8]))
        >>> PairPool(pairs.choose([]))
        Traceback (most recent call last):
        enhancelib.datasets.DataError: no pair to cut crops from
    """

    def __init__(self, pairs: Pairs, *, device: torch.device | str = "cpu") -> None:
        if not len(pairs):
            raise DataError("no pair to cut crops from")
        self.device = torch.device(device)
        self.count = len(pairs)
        self.height, self.width = pairs.levels.shape[-2:]
        # (2, N H W, 3): a pixel's channels lie together, a crop is one gather.
        self.pixels = pairs.levels.to(self.device).movedim(2, -1).reshape(2, -1, 3)

    def __len__(self) -> int:
        """The number of pairs."""
        return self.count

    def sample(self, count: int, size: int, generator: torch.Generator) -> Sample:
        """Random crops: every pair with the same chance, and every position and turn in it.

        Args:
            count: How many.
            size: Side in pixels.
            generator: On the CPU.

        Returns:
            `degraded` and `clean`, (count, 3, size, size) float32 in [0, 1] on the pool's device.

        Raises:
            DataError: If a crop is larger than the pictures, or has no pixel.

        Example:
            >>> pairs = Pairs(("a",), torch.zeros(2, 1, 3, 20, 30, dtype=torch.uint8))
            >>> PairPool(pairs).sample(1, 24, torch.Generator())
            Traceback (most recent call last):
            enhancelib.datasets.DataError: crops of 24 pixels out of pictures of 30 x 20; ...
        """
        if not 1 <= size <= min(self.height, self.width):
            raise DataError(
                f"crops of {size} pixels out of pictures of {self.width} x {self.height}; expected "
                "1 to the smaller side"
            )
        pair = torch.randint(self.count, (count,), generator=generator)
        top = torch.randint(self.height - size + 1, (count,), generator=generator)
        left = torch.randint(self.width - size + 1, (count,), generator=generator)
        turn = torch.randint(8, (count,), generator=generator)
        corner = (pair * self.height + top) * self.width + left
        index = corner[:, None, None] + _offsets(size, self.width)[turn]
        crops = self.pixels[:, index.to(self.device)].permute(0, 1, 4, 2, 3).float() / 255
        return {"degraded": crops[0], "clean": crops[1]}

    def batches(self, count: int, size: int) -> Batches:
        """Crops for `training.fit`.

        Args:
            count: Crops per step.
            size: Side in pixels.

        Returns:
            (step number, generator) -> sample; the generator alone decides.
        """
        return lambda index, generator: self.sample(count, size, generator)


class RotatingPool:
    """Crops of a set too large for memory: random pairs, all replaced after some steps.

    Which pairs a step can draw from depends on its number alone, so a run that is killed and
    started again sees the same ones.

    Args:
        read: Pairs of the given places.
        total: How many pairs there are.
        block: Pairs in memory at a time.
        every: Steps until they are replaced.
        seed: Decides which pairs form which block.
        device: Where the pixels live.

    Raises:
        DataError: If the set, a block or its time is empty.

    Example:
        >>> levels = torch.arange(10).to(torch.uint8)[None, :, None, None, None]
        >>> ten = Pairs(tuple("abcdefghij"), levels.expand(2, 10, 3, 4, 4).contiguous())
        >>> pool = RotatingPool(ten.choose, 10, block=2, every=5)
        >>> batches = pool.batches(64, 4)
        >>> [len(batches(k, torch.Generator())["clean"].unique()) for k in (0, 4, 5)]
        [2, 2, 2]
        >>> RotatingPool(ten.choose, 0)
        Traceback (most recent call last):
        enhancelib.datasets.DataError: 0 pairs in blocks of 30000, replaced after 1000 steps; ...

    Source: official code of DPED (aiff22/DPED, train_model.py): 30,000 patches, 1,000 iterations.
    """

    def __init__(
        self,
        read: Callable[[Sequence[int]], Pairs],
        total: int,
        *,
        block: int = 30_000,
        every: int = 1000,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if min(total, block, every) < 1:
            raise DataError(
                f"{total} pairs in blocks of {block}, replaced after {every} steps; expected 1 or "
                "more of each"
            )
        self.read, self.total, self.block, self.every = read, total, block, every
        self.seed, self.device = seed, torch.device(device)
        self._held: tuple[int, PairPool] | None = None

    def __len__(self) -> int:
        """The number of pairs in the whole set."""
        return self.total

    def pool(self, index: int) -> PairPool:
        """The pairs that one step draws from.

        Args:
            index: Step number.

        Returns:
            A pool of at most `block` pairs; it stays the same for `every` steps.
        """
        number = index // self.every
        if self._held is None or self._held[0] != number:
            self._held = None  # frees the pixels before the next are read
            generator = runtime.generator(self.seed, "pairs", number)
            chosen = torch.randperm(self.total, generator=generator)[: self.block]
            self._held = number, PairPool(self.read(chosen.tolist()), device=self.device)
        return self._held[1]

    def sample(self, count: int, size: int, generator: torch.Generator) -> Sample:
        """Crops of the first block.

        Args:
            count: How many.
            size: Side in pixels.
            generator: On the CPU.

        Returns:
            As `PairPool.sample`.
        """
        return self.pool(0).sample(count, size, generator)

    def batches(self, count: int, size: int) -> Batches:
        """Crops for `training.fit`.

        Args:
            count: Crops per step.
            size: Side in pixels.

        Returns:
            (step number, generator) -> sample.
        """
        return lambda index, generator: self.pool(index).sample(count, size, generator)


def _offsets(size: int, width: int) -> Tensor:
    """(8, size, size): how far every pixel of a crop is from its corner, for the eight turns."""
    steps = torch.arange(size)
    grid = steps[:, None] * width + steps
    return torch.stack([images.dihedral(grid[None], k)[0] for k in range(8)])
