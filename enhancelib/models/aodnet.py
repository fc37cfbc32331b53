r"""AOD-Net: five small convolutions that dehaze in one step, `J = K I - K + 1`.

The haze model `I = J t + A (1 - t)` is solved for J with transmission and airlight folded into one
map K, which the network estimates.

| symbol | variable | what it is |
|---|---|---|
| I | degraded | hazy picture |
| K | "K" of `outputs` | 3 maps, at least 0 |
| J | returned | haze-free picture, `relu(K I - K + b)`, b = 1 |

Source: Li, Peng, Wang, Xu, Feng, "AOD-Net: All-in-One Dehazing Network", ICCV 2017; released code
Boyiliee/AOD-Net (0f1d380).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancelib.models._layers import Layers, check_picture

_SPREAD = 0.01  # of the Gaussian initial weights
_KERNELS = ((3, 1), (3, 3), (6, 5), (6, 7), (12, 3))  # maps in, side


class AODNet(nn.Module):
    """The dehazing network, for any resolution.

    1x1, 3x3, 5x5, 7x7 and 3x3 convolutions of 3 maps each with ReLU; the third sees the first two,
    the fourth the second and third, the last one all four. Zeros around, so the size stays.

    Args:
        generator: Where the initial weights are drawn; None is torch's global generator.

    Source: Boyiliee/AOD-Net. Initial weights are normal of standard deviation 0.01, biases 0,
        which the paper says of the weights and leaves open of the biases.

    Example:
        >>> sum(p.numel() for p in AODNet().parameters())
        1761
    """

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        layers = Layers(generator=generator)
        for number, (maps, side) in enumerate(_KERNELS, start=1):
            conv = layers.conv(maps, 3, side)
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            nn.init.normal_(conv.weight, std=_SPREAD, generator=generator)
            nn.init.zeros_(conv.bias)
            self.add_module(f"conv{number}", conv)

    @property
    def options(self) -> dict[str, int]:
        """What `models.build("aodnet", **options)` needs: nothing, there is only one.

        Returns:
            An empty dict.
        """
        return {}

    def forward(self, degraded: Tensor) -> Tensor:
        """Dehaze.

        Args:
            degraded: I, (B, 3, H, W), RGB in [0, 1].

        Returns:
            J, (B, 3, H, W), at least 0 and not cut at 1.

        Raises:
            ValueError: If the shape is another one.

        Example:
            >>> AODNet()(torch.zeros(1, 3, 5, 7)).shape
            torch.Size([1, 3, 5, 7])
            >>> AODNet()(torch.zeros(1, 1, 5, 7))
            Traceback (most recent call last):
            ValueError: degraded has shape (1, 1, 5, 7); expected (B, 3, H, W)
        """
        return self.outputs(degraded)["restored"]

    def outputs(self, degraded: Tensor) -> dict[str, Tensor]:
        """Dehaze, and show K.

        Args:
            degraded: As for `forward`.

        Returns:
            K (B, 3, H, W), at least 0, and restored.

        Raises:
            ValueError: As `forward` does.

        Example:
            >>> sorted(AODNet().outputs(torch.zeros(1, 3, 5, 7)))
            ['K', 'restored']
            >>> AODNet().outputs(torch.zeros(3, 5, 7))
            Traceback (most recent call last):
            ValueError: degraded has shape (3, 5, 7); expected (B, 3, H, W)
        """
        check_picture("degraded", degraded)
        x1 = self._step(1, degraded)
        x2 = self._step(2, x1)
        x3 = self._step(3, x1, x2)
        x4 = self._step(4, x2, x3)
        K = self._step(5, x1, x2, x3, x4)
        return {"K": K, "restored": functional.relu(K * degraded - K + 1)}

    def _step(self, number: int, *maps: Tensor) -> Tensor:
        return functional.relu(self.get_submodule(f"conv{number}")(torch.cat(maps, 1)))
