"""DnCNN: residual learning of a deep CNN for Gaussian denoising.

Symbols: x clean picture (`clean`), y = x + v noisy picture (`degraded`), v noise (`residual`),
R the network's residual, F its direct form, D depth, c channels, sigma noise level in 8-bit units.
"""

from enhancelib.papers import Paper
from enhancelib.papers.dncnn import data, enhance, settings, verdict

PAPER = Paper(
    slug="dncnn",
    title="Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising",
    citation=(
        "K. Zhang, W. Zuo, Y. Chen, D. Meng, L. Zhang. IEEE Transactions on Image Processing "
        "26(7):3142-3155, 2017. arXiv 1608.03981"
    ),
    claim=(
        "A plain deep network that predicts the noise instead of the picture, trained with batch "
        "normalisation, denoises better than hand-made priors, and one network can serve many "
        "noise levels and tasks."
    ),
    parameters=settings.Parameters,
    check=data.check,
    claims=verdict.CLAIMS,
    hours=settings.hours,
    enhance=enhance.enhance,
)
