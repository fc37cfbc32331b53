"""What a paper declares for its panel: the controls, and what one rendering shows.

These are plain values. They know nothing of ipywidgets, so a paper's room can hold them and its
render function can be called, timed and tested without a notebook.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Slider:
    """A number between two ends.

    The control is a whole-number slider when value, ends and step are all integers.

    Args:
        value: Where it starts, in [low, high].
        low: Left end.
        high: Right end, above `low`.
        step: Distance between neighbouring positions, in (0, high - low].
        label: What it sets; the name in the panel's `controls` where empty.
        unit: Unit printed behind the number, such as "/255" or "dB".

    Raises:
        ValueError: If low, value and high are not in this order, or no step fits between them.

    Example:
        >>> Slider(25, 0, 75, label="noise level σ", unit="/255").step
        1
        >>> Slider(80, 0, 75)
        Traceback (most recent call last):
        ValueError: slider value is 80; expected a number from 0 to 75
    """

    value: float
    low: float
    high: float
    step: float = 1
    label: str = ""
    unit: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.step <= self.high - self.low:
            raise ValueError(
                f"slider runs from {self.low} to {self.high} in steps of {self.step}; "
                "expected low < high and a positive step that fits between them"
            )
        if not self.low <= self.value <= self.high:
            raise ValueError(
                f"slider value is {self.value}; expected a number from {self.low} to {self.high}"
            )

    @property
    def whole(self) -> bool:
        """Whether every position is an integer.

        Returns:
            True when the render function receives an `int`, False for a `float`.
        """
        return all(isinstance(x, int) for x in (self.value, self.low, self.high, self.step))


@dataclass(frozen=True)
class Choice:
    """One of a few named things.

    Args:
        value: The one chosen at the start.
        options: All of them, in the order shown.
        label: What it sets; the name in the panel's `controls` where empty.

    Raises:
        ValueError: If `value` is not among the options.

    Example:
        >>> Choice("S", ("S", "B"), label="variant").options
        ('S', 'B')
        >>> Choice("T", ("S", "B"))
        Traceback (most recent call last):
        ValueError: choice value is 'T'; expected one of 'S', 'B'
    """

    value: str
    options: tuple[str, ...]
    label: str = ""

    def __post_init__(self) -> None:
        if self.value not in self.options:
            known = ", ".join(map(repr, self.options)) or "at least one option"
            raise ValueError(f"choice value is {self.value!r}; expected one of {known}")


Control = Slider | Choice


@dataclass(frozen=True)
class View:
    """What one rendering shows.

    Args:
        before: (C, H, W), C 1 or 3, range [0, 1]; shown left of the divider. Values outside the
            range are shown as its ends.
        after: Same height and width; shown right of the divider.
        caption: One line of text, such as "PSNR 20.31 -> 30.12 dB". The panel adds the time.

    Raises:
        ValueError: If a picture has another shape, the two differ in height or width, or one
            holds a value that is not finite.

    Example:
        >>> import torch
        >>> View(torch.zeros(3, 8, 8), torch.ones(1, 8, 8), "grey").after.shape
        torch.Size([1, 8, 8])
        >>> View(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9))
        Traceback (most recent call last):
        ValueError: before is 8x8 and after 8x9 pixels; expected the same height and width
    """

    before: Tensor
    after: Tensor
    caption: str = ""

    def __post_init__(self) -> None:
        for name, picture in (("before", self.before), ("after", self.after)):
            if picture.dim() != 3 or picture.shape[0] not in (1, 3) or picture.numel() == 0:
                raise ValueError(f"{name} is {tuple(picture.shape)}; expected (1 or 3, H, W)")
            if not bool(picture.isfinite().all()):
                raise ValueError(f"{name} holds values that are not finite numbers")
        one, other = self.before.shape[1:], self.after.shape[1:]
        if one != other:
            raise ValueError(
                f"before is {one[0]}x{one[1]} and after {other[0]}x{other[1]} pixels; "
                "expected the same height and width"
            )
