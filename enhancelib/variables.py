"""What is changed when one picture is optimised: weights of a network, pixels, or a pyramid.

A source is a module whose `forward(noise)` makes the variable part of a sample, at least "output".
`noise` is the generator of the step's randomness; None asks for the clean picture. Sources nest: a
decomposition holds three `Generated` and returns their pictures under the paper's names.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

Sample = dict[str, Tensor]


class Generated(nn.Module):
    """A picture that a network makes from a fixed input: `output = f_theta(z + jitter n)`.

    n is standard normal, fresh at every step, drawn on the CPU so that devices agree.

    Args:
        network: f; its weights are the variables.
        z: Its input, (B, C, H, W).
        jitter: Standard deviation of the noise; 1/30 in Deep Image Prior's denoising.

    Raises:
        ValueError: If jitter is negative or not finite.

    Example:
        >>> source = Generated(nn.Conv2d(2, 3, 1), torch.rand(1, 2, 4, 4), jitter=0.1)
        >>> source(None)["output"].equal(source(None)["output"])
        True
        >>> generator = torch.Generator()
        >>> source(generator)["output"].equal(source(generator)["output"])
        False
        >>> Generated(nn.Identity(), torch.zeros(1, 1, 2, 2), jitter=-1.0)
        Traceback (most recent call last):
        ValueError: jitter is -1.0; expected 0.0 (none) or more
    """

    z: Tensor

    def __init__(self, network: nn.Module, z: Tensor, jitter: float = 0.0) -> None:
        super().__init__()
        if not 0 <= jitter < float("inf"):
            raise ValueError(f"jitter is {jitter}; expected 0.0 (none) or more")
        self.network, self.jitter = network, jitter
        self.register_buffer("z", z.detach().clone())
        self._held: Tensor | None = None

    def forward(self, noise: torch.Generator | None) -> Sample:
        """Make the picture.

        Args:
            noise: Draws n; None leaves z as it is.

        Returns:
            "output": (B, outputs, H, W).
        """
        z = self.z
        if noise is not None and self.jitter:
            z = z + (self._drawn(noise) if self._held is None else self._held)
        return {"output": self.network(z)}

    def hold(self, noise: torch.Generator | None) -> None:
        """Draw n once for all calls that follow, into memory that stays where it is.

        An optimiser that calls a step's loss more than once needs it, and so does a CUDA graph.

        Args:
            noise: Draws n; None lets go of it.
        """
        if noise is None:
            self._held = None
        elif self.jitter and self._held is None:
            self._held = self._drawn(noise)
        elif self.jitter and self._held is not None:
            self._held.copy_(self._drawn(noise))

    def _drawn(self, noise: torch.Generator) -> Tensor:
        n = torch.randn(self.z.shape, generator=noise, dtype=self.z.dtype)
        held = torch.empty_like(self.z)  # in the layout of z
        return held.copy_(n.mul_(self.jitter))


def generated(source: nn.Module) -> Iterator[Generated]:
    """The `Generated` inside a source, in the order in which they draw.

    Args:
        source: Any module.

    Yields:
        Each of them once.
    """
    for part in source.modules():
        if isinstance(part, Generated):
            yield part


class Pixels(nn.Module):
    """A picture whose pixels are the variables; nothing keeps them in [0, 1].

    Args:
        image: (B, C, H, W), where it begins.

    Example:
        >>> Pixels(torch.zeros(1, 3, 2, 2))(None)["output"].requires_grad
        True
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.pixels = nn.Parameter(image.detach().clone(memory_format=torch.contiguous_format))

    def image(self) -> Tensor:
        """The picture as it is now.

        Returns:
            (B, C, H, W), detached.
        """
        return self.pixels.detach().clone()

    def forward(self, noise: torch.Generator | None = None) -> Sample:
        """Show the picture.

        Args:
            noise: Not used.

        Returns:
            "output": (B, C, H, W).
        """
        return {"output": self.pixels.clone()}  # an update must not change what a step has shown


class Pyramid(nn.Module):
    """A picture as the sum of a Laplacian pyramid, whose levels are the variables.

    `x_0` is the picture, `x_{k+1}` its bilinear reduction to half the size, rounded down;
    `l_k = x_k - enlarged(x_{k+1})`, and the last level is `x_levels`. A step of the same size moves
    fine and coarse structure alike, which pixels do not.

    Args:
        image: (B, C, H, W), where it begins.
        levels: Number of differences l_k; 5 in STROTSS.

    Raises:
        ValueError: If levels is below 1, or image is of another shape.

    Source: Kolkin, Salavon, Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and
    Self-Similarity", CVPR 2019; nkolkin13/STROTSS (9a1543a).

    Example:
        >>> image = torch.rand(1, 3, 37, 50)
        >>> [tuple(level.shape[2:]) for level in Pyramid(image, levels=3).levels]
        [(37, 50), (18, 25), (9, 12), (4, 6)]
        >>> bool(torch.allclose(Pyramid(image).image(), image, atol=1e-6))
        True
        >>> Pyramid(image, levels=0)
        Traceback (most recent call last):
        ValueError: levels is 0, image has shape (1, 3, 37, 50); expected 1 or more, (B, C, H, W)
    """

    def __init__(self, image: Tensor, levels: int = 5) -> None:
        super().__init__()
        if levels < 1 or image.ndim != 4:
            raise ValueError(
                f"levels is {levels}, image has shape {tuple(image.shape)}; "
                "expected 1 or more, (B, C, H, W)"
            )
        self.levels = nn.ParameterList(nn.Parameter(level) for level in _split(image, levels))

    def image(self) -> Tensor:
        """The picture as it is now.

        Returns:
            (B, C, H, W), detached.
        """
        with torch.no_grad():
            return self(None)["output"].clone()  # type: ignore[no-any-return]

    def forward(self, noise: torch.Generator | None = None) -> Sample:
        """Add the levels up.

        Args:
            noise: Not used.

        Returns:
            "output": (B, C, H, W).
        """
        finer = list(self.levels)
        picture = finer.pop()
        while finer:
            level = finer.pop()
            picture = level + _sized(picture, level.shape[2], level.shape[3])
        return {"output": picture}


def _split(image: Tensor, levels: int) -> list[Tensor]:
    found, current = [], image.detach()
    for _ in range(levels):
        height, width = current.shape[2:]
        half = _sized(current, max(1, height // 2), max(1, width // 2))
        found.append(current - _sized(half, height, width))
        current = half
    return [*found, current.clone()]


def _sized(x: Tensor, height: int, width: int) -> Tensor:
    return functional.interpolate(x, (height, width), mode="bilinear", align_corners=False)
