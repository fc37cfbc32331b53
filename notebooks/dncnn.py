# ---
# jupyter:
#   jupytext:
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # DnCNN: predict the noise, not the picture
#
# K. Zhang, W. Zuo, Y. Chen, D. Meng, L. Zhang. *Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising.* IEEE Transactions on Image Processing 26(7), 2017. [arXiv 1608.03981](https://arxiv.org/abs/1608.03981)
#
# **The claim in one sentence.** A plain deep network that predicts the noise instead of the picture, trained with batch normalisation, denoises better than hand-made priors, and one such network can serve many noise levels and tasks.
#
# Removing noise is an inverse problem: many pictures explain one noisy observation, so something must be assumed. Gaussian noise is the assumption about the damage. The assumption about pictures used to be written by hand: patches are sparse in a learned dictionary (sparse coding), neighbouring pixels follow a Markov random field (MRF), patches follow a mixture of Gaussians (EPLL) or form matrices of low rank (WNNM). Each of these leads to an iteration that removes a little noise at every step, and each must be solved anew for every picture.
#
# DnCNN keeps the iteration in spirit and learns everything else. The bridge is TNRD, which unrolls one gradient step of such a prior, started at the noisy picture $y$:
#
# $$x_1 = y - \alpha\lambda \sum_k \bar f_k * \phi_k(f_k * y) - \alpha \left.\frac{\partial \mathcal{D}(y - z)}{\partial z}\right|_{z=0} \tag{1}$$
# Eq. 1: definition
#
# Filters $f_k$, pointwise functions $\phi_k$ and mirrored filters $\bar f_k$: a convolution, a non-linearity, a convolution. For Gaussian noise the data term $\mathcal{D}$ has no gradient at $z = 0$, so the step only subtracts something from $y$,
#
# $$v_1 = y - x_1 = \alpha\lambda \sum_k \bar f_k * \phi_k(f_k * y) \tag{2}$$
# Eq. 2: definition
#
# and that something, a small network's output, is an estimate of the noise. DnCNN makes the network deep and asks it for all of the noise at once.
#
# **What this notebook can show.** At profile `smoke` it shows that everything runs, and judges nothing. At `small` it trains narrow networks for minutes on a CPU, three seeds each, and judges the *directions* that the paper claims; the paper's decibels need `paper`, real data and a GPU. The authors' own networks can be checked at any profile with `weights` and `data_root`. The verdict at the end is computed, and says what did not hold.

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
profile = "smoke"  # smoke, small, large or paper
seed = 0  # first seed
seeds = 3  # number of seeds of every ablation
device = "auto"  # auto, cpu, cuda or cuda:N
data_root = ""  # folder with Train400, Set12, BSD68 ...; empty means bundled photos
weights = ""  # file or folder of official weights; empty means none
out = ""  # run folder; empty means one under runs/
tables = "main"  # main, or all for the tables that take hours
sigma = 25.0  # noise level in 8-bit units
variant = "S"  # network of the training section: S, B, C or 3
recipe = "profile"  # recipe of the training section: profile, paper or official
steps = 0  # optimiser steps of the training section; 0 means the recipe's

# %%
from enhancelib import running

p = running.check("dncnn", globals())

# %% [markdown]
# ## Imports and environment

# %%
# %matplotlib inline
from IPython.display import Code, display

from enhancelib import claims, metrics, results, runtime, training, widgets
from enhancelib.degradations import GaussianNoise
from enhancelib.losses import pixel
from enhancelib.papers.dncnn import PAPER, data, explore, figures, probing, sections, three
from enhancelib.papers.dncnn.study import Study
from enhancelib.tables import shaded

run = results.open_run("dncnn", p)
run.notes.update(data.inputs(p))
s = Study(run, p)
display(dict(runtime.environment(run.runtime)))

# %% [markdown]
# ## Data, with a look at it
#
# The noisy picture is the clean one plus independent Gaussian noise of standard deviation $\sigma$, given in 8-bit units and added to intensities in $[0, 1]$:
#
# $$y = x + v, \qquad v \sim \mathcal{N}\!\left(0, (\sigma/255)^2 I\right) \tag{3}$$
# Eq. 3: enhancelib.degradations.GaussianNoise
#
# It is *not* clipped to $[0, 1]$, in training or in tests. The paper does not say so, the released code does it, and it matters: clipping makes the noise depend on the picture, so a network trained with one convention meets another noise when it is tested with the other.
#
# Without `data_root`, patches come from the photo bank (`enhancelib fetch`), and scores from its test photos, which nothing here trains on or selects by. The patches drawn below are of two of these test photos, whose licence lets us print them. With it, they come from Train400 and the sets found there.

# %%
x = figures.shown(64)[None]
y = GaussianNoise(p.sigma)({"clean": x}, runtime.generator(p.seed))["degraded"]
print("pictures:", {name: len(pictures) for name, pictures in data.test_sets(p).items()})
figures.samples(run, p)

# %% tags=["keep_output", "nbval-check-output"]
clean = figures.shown(64)[None]
noisy = data.noisy(clean, 25.0)
print(f"Eq. 3, noise level measured on a photo: {255 * float((noisy - clean).std()):.1f}")
print(f"Eq. 5, loss of the network that does nothing: {float(pixel.half_sse(noisy, clean)):.3f}")

# %% [markdown]
# The argument for predicting $v$ is visible before any training. Noisy and clean patches have whatever histogram the photos have; the residual is one Gaussian, the same for all photos. Batch normalisation, which pulls every layer's input towards such a shape, then has an easy target, and the output no longer depends on the brightness of a patch.

# %%
figures.histograms(run, p)

# %% [markdown]
# ## The method
#
# The network has $D$ convolutions of $3 \times 3$ with zero padding: one with ReLU, $D - 2$ with batch normalisation and ReLU, a last one alone. There is no pooling and no skip inside. Its output is the residual, and the picture is what remains:
#
# $$\hat x = y - \mathcal{R}(y; \Theta) \tag{4}$$
# Eq. 4: enhancelib.models.dncnn.DnCNN
#
# The direct form $\mathcal{F}(y) \approx x$ is the same network without the subtraction. The noisy picture resembles the clean one far more than the noise, above all when there is little of it, so $\mathcal{F}$ has to learn something close to the identity, which a stack of convolutions finds hard; $\mathcal{R}$ starts close to its goal.

# %%
figures.architecture(run)

# %% [markdown]
# The loss is half the squared error of the residual, summed over the pixels of a patch and averaged over the $N$ patches of a batch:
#
# $$\ell(\Theta) = \frac{1}{2N} \sum_{i=1}^{N} \left\lVert \mathcal{R}(y_i; \Theta) - (y_i - x_i) \right\rVert_F^2 \tag{5}$$
# Eq. 5: enhancelib.losses.pixel.half_sse
#
# The sum makes gradients proportional to the patch area. Adam does not notice; with SGD the learning rate means nothing without it.
#
# For use, each batch normalisation is merged into the convolution before it, with its running moments $\mu, s^2$, which changes no output:
#
# $$w' = \frac{\gamma}{\sqrt{s^2 + \epsilon}}\, w, \qquad b' = \beta + \frac{\gamma}{\sqrt{s^2 + \epsilon}} (b - \mu) \tag{6}$$
# Eq. 6: enhancelib.models.fold
#
# A pixel of the output sees
#
# $$(2D + 1) \times (2D + 1) \tag{7}$$
# Eq. 7: architecture
#
# pixels of the input. The paper picks $D = 17$ (35 pixels) for one noise level, to match the patches that competing methods look at, and $D = 20$ (41 pixels) for the blind and the three-task networks. The table measures both, on the built networks.

# %% tags=["keep_output", "nbval-check-output"]
print(sections.architecture(run).to_string(index=False))

# %% [markdown]
# The figure shows how much each input pixel moves the middle output pixel before any training. The field has the size that Eq. 7 says, but most of the influence sits in its middle: a field is a limit, not a measure of what is used.

# %%
figures.receptive_fields(run)

# %% [markdown]
# ## Training
#
# The recipe of this run, beside the paper's and that of the released code, which differ in optimiser, schedule and batch.

# %%
sections.recipes(s)

# %% [markdown]
# The step, as it stands in the library, and the run:

# %%
Code(running.listing(training.supervised), language="python")

# %%
found = sections.networks(s)
figures.training(run, found.main)

# %% [markdown]
# ## Tables: ours beside the published numbers
#
# Noise is drawn with the same seed for every method and picture. Rows are published numbers where "source" says so; they share a table with ours only on the same set and by the same protocol. Bracketed marks say how sure a published number is.

# %%
sections.denoising(s, found)
note = metrics.METRICS["psnr_8bit"].protocol
display(run.table("photos", sections.denoising_table(run, "photos"), note=note))
print(note)

# %% tags=["keep_output", "nbval-check-output"]
print(sections.published_table("bsd68").to_string(index=False))

# %%
for name in ("Set12", "BSD68"):
    published = sections.published_means(name.lower())
    frame = sections.denoising_table(run, name, published)
    display(name, shaded(run.table(name.lower(), frame, note=note)))
    if not len(run.values(dataset=name)):
        print(f"{name}: no rows of ours; give data_root, a folder that holds {name}")
sections.parity(run, sections.published_means("set12"))

# %% [markdown]
# ## Figures
#
# What each method makes of a photo, an enlarged crop, and the residual as a picture. If the contours of the photo show in the residual, the network took structure for noise.

# %%
figures.denoised(s, found.main[p.seed].network)

# %% [markdown]
# How long a picture takes on this machine. The published seconds are from another decade's machine, so only the growth with the number of pixels compares.

# %%
run.table("seconds", sections.timing(s), note="wall-clock seconds, median of 3")

# %% [markdown]
# ## Ablation
#
# ### Residual learning and batch normalisation
#
# The paper's central figure: four combinations under Adam and SGD. Each arm trains a small network from the same seeds on the same patches. The paper finds that both help and that they help each other; others have since reported that without batch normalisation Adam does as well. What we measure is printed either way.

# %%
arms = sections.ablation(s)
display(run.table("ablation", sections.ablation_table(run), note=note))
figures.curves(run, arms)

# %% [markdown]
# ### Noise level: what residual learning gains, and what one network can cover
#
# If the argument of the method section is right, the gain of residual over direct prediction grows as the noise falls, because $y$ then resembles $x$ the more. The same networks answer two more questions. How much does a network trained for one level lose at another? And what does a single blind network, trained on all levels from 0 to 55, give up against specific ones?

# %%
sections.gain(s)
sections.blind(s)
for name in ("gain", "blind", "mismatch"):
    display(name, run.table(name, sections.pivot(run, name), note=note))
figures.against_level(run)

# %% [markdown]
# ### Does the network separate noise and structure gradually?
#
# The source says that the hidden layers gradually separate the picture from the noise. We test it with a linear probe: a linear map from each layer's features to the picture and to the noise, fitted on half of the validation crops and scored on the other half. A claim of this kind needs the noise to become easier to read with depth. What a linear probe cannot read may still be there, so a flat curve for $x$ is no proof that structure is gone.

# %%
probing.measure(s, found)
figures.probe(run)

# %% [markdown]
# ### One network, three tasks
#
# DnCNN-3 is trained on noise, bicubic down-sampling and JPEG at once, and is told neither task nor strength. The idea is that all three leave a residual that is small and local; the table and the verdict say how far it carries at this scale. The six tiles below were degraded in six ways and restored by one pass.

# %%
three.measure(s, found)
display(run.table("three", sections.pivot(run, "three"), note=note))
if three.published(run) is not None:
    display(run.table("three_published", three.published(run)))
figures.six_tiles(s, three.network(s))

# %% [markdown]
# ## Explore
#
# Everything here is computed when a control moves. Choose a photo or bring your own, change the noise level and the network, and drag the divider (or focus it and use the arrow keys). Two things to try: a specific network far from its level, and the direct network at a low level.

# %%
networks = explore.variants(p, arms, found)
render = explore.renderer(networks)
panel = widgets.Panel(
    lambda picture, **values: widgets.View(*render(picture, **values)),
    controls={
        "sigma": widgets.Slider(int(p.sigma), 0, 75, label="noise level σ", unit="/255"),
        "network": widgets.Choice(next(iter(networks)), tuple(networks), label="network"),
    },
    pictures=explore.pictures(p),
    title="Noise, removed while you watch",
    labels=("noisy", "restored"),
    note="Grey networks restore the three channels one by one.",
)
panel

# %% [markdown]
# ## Verdict
#
# Every claim with the numbers that judge it. The margins stand in `enhancelib/papers/dncnn/verdict.py` and were set before the published run. A claim by own training holds when the 95 % interval of the differences per seed clears its margin, and stays open when the interval contains it. With three seeds the interval is wide, and should be.

# %%
display(run.table("verdict", claims.verdicts(run, PAPER.claims)))
print(f"profile {p.profile}: results in {run.finish().parent}")

# %% [markdown]
# ## References and departures
#
# - The official code is MatConvNet ([cszn/DnCNN](https://github.com/cszn/DnCNN)); the authors' PyTorch version is in [cszn/KAIR](https://github.com/cszn/KAIR).
# - TNRD: Y. Chen, T. Pock, *Trainable Nonlinear Reaction Diffusion*, TPAMI 2017. BM3D: K. Dabov et al., TIP 2007.
#
# What the paper leaves open, and how we chose: the constant of batch normalisation is $10^{-4}$ (released code); its running moments use momentum 0.1, where the release keeps those of the last mini-batch only, because the moments of one batch depend on which batch came last; noise is not clipped (released code).
#
# Where we depart at `smoke`, `small` and `large`: networks are narrower or shallower, trained for hundreds to thousands of steps instead of 80,000; Adam's rate drops once, at four fifths of the steps; SGD's gradients are clipped to norm 1, because Eq. 5 sums over a patch; residual networks start with their last layer scaled by 0.1; photos of the bank stand in for BSD unless `data_root` is given; the ablation's networks of the gain and blind sections have no batch normalisation, so that its running moments cannot blur the comparison. Profile `paper` follows the article's recipe, and `recipe="official"` the release. One thing in the former cannot be as it is remembered: SGD with rate 0.1 on Eq. 5 summed over a patch (`tests/papers/dncnn/test_study.py` shows how it ends). We let the rate belong to the average over pixels and start as the released code does.
#
# Why our numbers differ from the paper's at these profiles: less training, smaller networks, other pictures. Why they should not differ in direction: the claims do not speak of size.
