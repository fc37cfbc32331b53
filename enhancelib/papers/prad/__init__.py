"""PRaD: phone photos towards DSLR quality by a pair-wise relativistic critic.

Symbols: I_s phone picture (`degraded`), I_t DSLR picture (`clean`), F the generator, phi features
of a frozen VGG19, C the critic's raw score, I_r and I_f its real and fake inputs.
"""

from enhancelib.papers import Paper
from enhancelib.papers.prad import enhance, official, settings, verdict

PAPER = Paper(
    slug="prad",
    title=(
        "Perceptual Image Enhancement by Relativistic Discriminant Learning With Cross-Scale "
        "Aggregated Representation"
    ),
    citation="IEEE Access 7, pp. 39660-39669, 2019, article 8672893 (authors not known to us)",
    claim=(
        "A small generator that reads every scale of its encoder, trained with seven losses and a "
        "critic that judges pairs, enhances phone photos better than networks ten times its size."
    ),
    parameters=settings.Parameters,
    check=official.check,
    claims=verdict.CLAIMS,
    hours=settings.hours,
    enhance=enhance.enhance,
)
