"""The four losses of DPED under the weights of its paper and of its released code.

| term | function | paper | released code |
|---|---|---|---|
| content | mean square of VGG19's relu5_4 | 1 | 10 |
| texture | `adversarial.dped_texture`, a sum over the batch | 0.4 | 1 |
| color | `color.blurred`, a sum over pixels | 0.1 | 0.5 |
| tv | `pixel.total_variation` | 400 | 2000 |

The reductions are the code's in both: the paper's weights only balance under them.

Source: Ignatov et al., ICCV 2017; aiff22/DPED (ebb01315). The paper's weights are recalled.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from enhancelib.losses import Objective, Term, adversarial, color, perceptual, pixel

LAYER = "relu5_4"
WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "paper": {"content": 1.0, "texture": 0.4, "color": 0.1, "tv": 400.0},
    "code": {"content": 10.0, "texture": 1.0, "color": 0.5, "tv": 2000.0},
}
"""Weighting -> term -> weight."""


def objective(
    vgg19: perceptual.Network, *, weights: str = "paper", kernel: str = "code"
) -> Objective:
    """The generator's total loss.

    Its sample holds `output`, `clean` and `fake_scores`: the discriminator's two logits for the
    output, (B, 2).

    Args:
        vgg19: The frozen network, pooling with ceiling (`features.load("vgg19", ceil=True)`).
        weights: "paper" or "code".
        kernel: Blur of the colour loss, "code" (21 taps) or "paper" (variance 3).

    Returns:
        The objective.

    Raises:
        ValueError: If `weights` is another word.

    Example:
        >>> network = lambda picture, layers: {"relu5_4": picture}
        >>> objective(network, weights="code").terms["tv"].weight
        2000.0
        >>> objective(network, weights="thesis")
        Traceback (most recent call last):
        ValueError: weights is 'thesis'; expected 'paper' or 'code'
    """
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {weights!r}; expected 'paper' or 'code'")
    chosen = WEIGHTS[weights]

    def blurred(output: Tensor, target: Tensor) -> Tensor:
        return color.blurred(output, target, kernel=kernel)

    terms = {
        "content": Term(chosen["content"], pixel.mse, (f"output/{LAYER}", f"clean/{LAYER}")),
        "texture": Term(chosen["texture"], adversarial.dped_texture, ("fake_scores",)),
        "color": Term(chosen["color"], blurred),
        "tv": Term(chosen["tv"], pixel.total_variation, ("output",)),
    }
    return Objective(terms, perceptual.Taps(vgg19, {"output": (LAYER,), "clean": (LAYER,)}))
