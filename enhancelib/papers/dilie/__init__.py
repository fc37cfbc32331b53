"""DILIE: one photo enhanced by networks that have seen nothing but that photo.

Symbols: I the corrupted photo (`degraded`), C the clean one (`clean`), C^ the result of content
feature enhancement (CFE), S the style photo, E the enhanced photo (`output`); J, A, t scene,
airlight and transmission; phi features of a frozen VGG19.
"""

from enhancelib.papers import Paper
from enhancelib.papers.dilie import checks, enhance, settings, verdict

PAPER = Paper(
    slug="dilie",
    title="DILIE: Deep Internal Learning for Image Enhancement",
    citation="I. D. Mastan, S. Raman, arXiv 2012.06469, 2020",
    claim=(
        "A hazy or noisy photo can be enhanced without training data: untrained networks fitted to "
        "it undo the corruption, the style of another photo is moved into the result, and a loss "
        "that keeps the photo's context helps."
    ),
    parameters=settings.Parameters,
    check=checks.check,
    claims=verdict.CLAIMS,
    hours=settings.hours,
    enhance=enhance.enhance,
    options=enhance.OPTIONS,
)
