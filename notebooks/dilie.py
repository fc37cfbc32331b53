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
# # DILIE: enhancing one photo with nothing but that photo
#
# Indra Deep Mastan and Shanmuganathan Raman, *DILIE: Deep Internal Learning for Image Enhancement*, arXiv 2012.06469, 2020.
#
# **The claim in one sentence.** A hazy or noisy photo can be enhanced without any training data, first by fitting untrained networks to the photo itself, then by moving the style of another photo into it, and the loss that keeps the photo's context makes the first step better.
#
# There is no training set here. A network with random weights is fitted to one picture, and it turns out to fit edges and surfaces long before it fits noise; three such networks that must explain one hazy photo together divide it into a scene, a veil and a map of how thick the veil is. What comes out is then restyled by optimising its pixels under the features of a classification network. So every number below is the end of an optimisation on one picture, and what matters is when it is stopped, which seed it had, and what a filter from the textbook would have done.
#
# **What this notebook can show.** At `smoke` that everything runs; nothing is judged. At `small` it repeats the paper's steps on pictures of 96 to 256 pixels and judges directions over three seeds. It cannot show the paper's tables: the copies of the paper that we could read stop before them, and so do its loss weights, iterations and photographs. Where a number of the paper is known, it is printed; elsewhere stands "n/a".

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
profile = "smoke"  # smoke, small, large or paper
seed = 0  # first seed
seeds = 3  # number of seeds of every ablation
device = "auto"  # auto, cpu, cuda or cuda:N
data_root = ""  # folder with ohaze/, ihaze/, sots_indoor/, dip/; empty means bundled photos
weights = ""  # file or folder of official weights (PCA-KD, WCT2, AOD-Net, MSCNN, PieAPP)
out = ""  # run folder; empty means one under runs/
tables = "main"  # main, or all for the tables that take hours
photo = ""  # your own photo for the whole framework; empty means a bundled one
reference = ""  # style photo; empty means a bundled one
corruption = "haze"  # what is wrong with the photo: haze or noise
style = "photo"  # kind of style enhancement: photo or art
sigma = 25.0  # strength of the noise, of 255
lam = 0.001  # weight of the contextual content loss, Eq. 9
alpha = 1.0  # weight of the content loss of L_PE
beta = 1.0  # weight of the style loss of L_PE
affine = 10000.0  # weight of the affine loss of L_PE
steps = 0  # iterations of every optimisation; 0 means the profile's
hours = 0.0  # no further arm starts after this many hours; 0 means no limit

# %%
from enhancelib import running

p = running.check("dilie", globals())

# %% [markdown]
# ## Imports and environment

# %%
# %matplotlib inline
from IPython.display import Code, display

from enhancelib import claims, internal, published, results, runtime, widgets
from enhancelib.papers.dilie import (
    PAPER,
    charts,
    checks,
    dehazing,
    denoising,
    explore,
    figures,
    framework,
    full,
    official,
    sections,
    styling,
)
from enhancelib.papers.dilie.study import Study

# %%
run = results.open_run("dilie", p)
run.notes.update(checks.notes(p))
s = Study(run, p)
display(dict(runtime.environment(run.runtime)))

# %% [markdown]
# ## Data, with a look at it
#
# Haze is synthetic on bundled photos, so that the truth is known: transmission falls from the bottom of the picture to its top, and the airlight is one bright grey. With a `data_root` the real pairs join in: O-HAZE and I-HAZE were photographed twice, with and without a haze machine, and SOTS is rendered indoors. The noise is Gaussian, added and clipped, as Deep Image Prior does.

# %%
print(sections.names(s))
figures.samples(s)

# %% [markdown]
# ## The method
#
# DILIE is two steps, each trained on nothing but the picture at hand, one after the other:
#
# $$E = \mathrm{SFE}(\mathrm{CFE}(I; f, \phi, \gamma), S; \phi, \rho) \tag{1}$$
# Eq. 1: definition
#
# $$\hat C = \mathrm{CFE}(I; f, \phi, \gamma), \quad \gamma \in \{ID, IR\} \tag{2}$$
# Eq. 2: definition
#
# Content feature enhancement (CFE) undoes the corruption with untrained encoder-decoders $f_\theta$, style feature enhancement (SFE) restyles the result after a photo $S$. The formulas of the paper are lost in the copies that exist; letters are ours, the structure follows its sentences.
#
# ### Decomposition, for haze
#
# $$\theta_c^*, \theta_d^*, \theta_m^* = \arg\min L_{ID}(f_{\theta_c}(z_c), f_{\theta_d}(z_d), f_{\theta_m}(z_m); I) \tag{3}$$
# Eq. 3: definition
#
# $$L_{ID} = \lVert m \odot c + (1 - m) \odot d - I \rVert_2^2 \tag{4}$$
# Eq. 4: enhancelib.papers.dilie.cfe.decomposition
#
# Nothing in Eq. 4 says which layer is the scene: a network that puts the whole photo into $c$ and sets $m = 1$ satisfies it. What breaks the tie is the architecture (smooth fields are easier for the nets of $m$ and $d$), a smoothness loss, and, says the paper, the context of the input, compared in VGG19's conv4_2:
#
# $$L_{CCL}(\hat C, I) = -\log \mathrm{CX}(\phi^h(\hat C), \phi^h(I)) \tag{5}$$
# Eq. 5: enhancelib.losses.contextual.contextual
#
# $$\mathrm{CX}(X, Y) = \frac1N \sum_j \max_i \frac{w_{ij}}{\sum_k w_{ik}}, \quad w_{ij} = \exp\left(\frac1h \Big(1 - \frac{d_{ij}}{\min_k d_{ik} + 10^{-5}}\Big)\right) \tag{CX}$$
# Eq. CX: enhancelib.losses.contextual.similarity
#
# Features are centred and have unit length before they are compared, so a factor that all of them share drops out. Haze is more than that, for its contrast falls with distance; a table below shows what it does to CX of plain colours. That is also the risk of the loss: it asks the result to stay near the *hazy* input.
#
# $$I(x) = J(x) t(x) + A(x) (1 - t(x)) \tag{8}$$
# Eq. 8: enhancelib.degradations.haze.scattered
#
# $$\theta_J^*, \theta_A^*, \theta_t^* = \arg\min L_{ID}(tJ + (1-t)A; I) + \lambda L_{CCL}(J, I) \tag{9}$$
# Eq. 9: enhancelib.papers.dilie.cfe.objective
#
# ### Reconstruction, for noise
#
# $$\theta^* = \arg\min L_{IR}(T(f_\theta(z)), I), \quad \hat C = f_{\theta^*}(z) \tag{6}$$
# Eq. 6: enhancelib.papers.dilie.cfe.reconstruction
#
# $$\theta^* = \arg\min \lVert f_\theta(z) - I \rVert_2^2, \quad \text{stopped early} \tag{10}$$
# Eq. 10: definition
#
# $T$ is the identity for noise, a down-sampler for super-resolution, a mask for missing pixels. Given enough steps $f_\theta$ fits the noise too, so stopping is part of the method.
#
# ### Style
#
# $$E^* = \arg\min_E L_{SFE}(E; \hat C, S, \rho) \tag{7}$$
# Eq. 7: definition
#
# $$L_{PE} = \alpha L_C + \beta L_S + \gamma L_{aff} \tag{PE}$$
# Eq. PE: enhancelib.papers.dilie.restyling.Problem
#
# $$L_{aff} = \sum_{c} V_c(E)^T M_{\hat C} V_c(E) \tag{aff}$$
# Eq. aff: enhancelib.losses.photorealism.matting
#
# $M$ is the matting Laplacian of the picture that is restyled: the loss is zero where, in every window of 3 x 3 pixels, the new colours are an affine function of the old ones. Colours may change, edges may not. For art there is no such term; distributions of features are matched by a relaxed earth mover's distance, and content is what distances between features are:
#
# $$L_{AE} = \frac{\alpha \ell_C + \ell_r + \ell_m + \ell_p / \max(\alpha, 1)}{\alpha + 2} \tag{AE}$$
# Eq. AE: enhancelib.losses.transport.strotss
#
# $$\ell_r = \max\Big(\frac1n \sum_i \min_j D_{ij}, \frac1m \sum_j \min_i D_{ij}\Big) \tag{REMD}$$
# Eq. REMD: enhancelib.losses.transport.remd
#
# $$\ell_m = \frac1c \lVert \mu_X - \mu_Y \rVert_1 + \frac1{c^2} \lVert \Sigma_X - \Sigma_Y \rVert_1 \tag{moments}$$
# Eq. moments: enhancelib.losses.transport.moments
#
# $$\ell_C = n \, \mathrm{mean}_{ij} \left| \frac{D^X_{ij}}{\sum_i D^X_{ij}} - \frac{D^C_{ij}}{\sum_i D^C_{ij}} \right| \tag{self}$$
# Eq. self: enhancelib.losses.transport.self_similarity
#
# ### How much haze went into the result
#
# $$H(S) = E(C, \mathrm{ST}(I, S)) - E(C, \mathrm{ST}(C, S)) \tag{H}$$
# Eq. H: enhancelib.papers.dilie.haziness.relative_haze
#
# $E$ is an error of perception, PieAPP in the paper; its weights are a file of 273 MB that its authors hand out. Without it $E$ is another error under its own name. The minus sign is lost in the text; a ratio could not be below 1, as all printed values are.

# %% tags=["keep_output", "nbval-check-output"]
print(sections.counts(run).to_string(index=False))

# %% tags=["keep_output", "nbval-check-output"]
print(sections.evaluated().to_string(index=False))

# %% [markdown]
# ## Training: one picture at a time
#
# There is one training loop in this library, and a single picture goes through it as well. What internal learning adds, fresh input noise, averages, the best state and the rules that stop it, is in the step:

# %%
display(sections.recipes(s))
Code(running.listing(internal.optimise), language="python")

# %% [markdown]
# When does a network fit a picture, and when its noise? The same network, loss and rate on four targets: a photo, the photo with noise, noise alone, and the photo with its pixels shuffled. The paper calls what the curves show a high impedance to noise.

# %%
denoising.impedance(s)
charts.impedance(run)

# %% [markdown]
# ### Denoising
#
# With and without skip connections (the paper's text says without, the code it builds on has them), over all seeds, against filters that need no network at all. The average is the exponential mean of the outputs.

# %%
denoising.measure(s)
display(run.table("denoising", denoising.table(run), note=denoising.NOTE))
charts.denoising(run)

# %% [markdown]
# ### Dehazing: three networks that must agree
#
# $\lambda$ weighs the contextual content loss. All arms of one seed start from the same weights and see the same noise. What is scored is the haze model inverted with the filtered transmission, as Double-DIP does; the network's own $J$ is a by-product.

# %%
found = dehazing.measure(s)

# %% [markdown]
# On synthetic haze the truth is known, so the layers themselves can be judged: error and correlation of $t$, error of $A$.

# %%
display(run.table("layers", dehazing.layers_table(run), note=dehazing.NOTE))

# %% [markdown]
# ### At full width and full size
#
# One of everything, one seed: 128 channels at 256 pixels, a decomposition in two passes, a restyling of 512 pixels.

# %%
full.measure(s)
display(run.table("full_size", full.table(run)))

# %% [markdown]
# ## Tables: ours beside the published numbers
#
# The paper's numbers for its Table 1 (dehazing) are not known, "n/a" stands for them. Below ours is what others published on these sets; those rows share neither pictures nor sizes with ours.

# %%
dehazing.compare(s, found)
display(run.table("dehazing", dehazing.table(run), note=dehazing.NOTE))
display(run.table("published_dehazing", published.listed("dilie", "dehazing")))

# %% [markdown]
# **Haze that style transfer carries along** (Fig. 6 of the paper). The style photo has no haze, and yet a restyled hazy photo is hazy. Every method restyles the hazy photo $I$, the dehazed $\hat C$ and the clean $C$; H says how much worse the hazy input came out.

# %%
official.parity(run, p)
styling.haziness(s)
display(run.table("haziness", styling.haziness_table(run), note=styling.NOTE))
charts.haziness(run)

# %% tags=["keep_output", "nbval-check-output"]
print(published.listed("dilie", "haziness").to_string(index=False))

# %% [markdown]
# **Table 2, and noisy enhancement** (section 4.2 of the paper): the error between the content and what each style transfer made of it, from hazy and from noisy input. For noise, content and style both carry it; the style is used as it is, or denoised first.

# %%
styling.noisy(s)
display(run.table("table2", styling.table_2(run), note=styling.NOTE))
display(run.table("noisy", styling.noisy_table(run)))

# %% [markdown]
# ## Figures

# %%
figures.denoised(s)

# %%
figures.layers(s, found)

# %%
figures.restyled(s)

# %%
figures.noisy(s)

# %% [markdown]
# ## Ablations
#
# The contextual content loss, by its weight $\lambda$: whole curves, over all seeds.

# %%
dehazing.sweep(s)
display(run.table("lambda", dehazing.lambda_table(run), note=dehazing.NOTE))
charts.dehazing(run)

# %% [markdown]
# Input distribution, up-sampling and stopping rules; and what else the prior restores: enlarged, unmasked, from a few pixels.

# %%
denoising.variants(s)
display(run.table("dip_variants", denoising.variants_table(run)))

# %%
denoising.settings_run(s)
display(run.table("seven_settings", denoising.settings_table(run)))

# %% [markdown]
# The affine loss at three weights, from one first stage, beside the other losses of Deep Photo Style Transfer: does a larger weight keep edges? And the balance of content and style in $L_{PE}$.

# %%
styling.affine(s)
display(run.table("affine", styling.affine_table(run)))
styling.balance(s)
charts.balance(run)

# %% [markdown]
# ## The whole framework, on one photo
#
# `framework.dilie(I, S, ...)` is Eq. 1 as one call. The panel, the command `enhancelib enhance dilie` and this cell use the same one. Give `photo` and `reference` for your own. Under water or in snow the haze model is wrong; try it, nothing is claimed.

# %%
made = framework.dilie(*explore.given_photo(s), **explore.given_options(s))
figures.framework(s, made)

# %% [markdown]
# ## Explore
#
# The losses of SFE on one photo: content, style, affine and total variation, under sliders. Then a scrubber through the dehazing above, layer by layer.

# %%
explorer = widgets.LossExplorer(**explore.losses(s))
explorer

# %%
film = explore.Film(s, found)
scrubber = widgets.Panel(
    lambda picture, **values: widgets.View(*film(picture, **values)),
    controls={
        "moment": widgets.Slider(100, 0, 100, 5, unit="% of the film"),
        "layer": widgets.Choice("dehazed", explore.LAYERS),
    },
    pictures=film.pictures,
    title="A dehazing, layer by layer",
    labels=("hazy", "layer"),
    limit=None,
)
scrubber

# %% [markdown]
# And your own photo, reduced to 128 pixels so that a hundred steps take seconds to minutes; `enhancelib enhance dilie` keeps its size.

# %%
render = explore.own_photo(s)
own = widgets.Panel(
    lambda picture, **values: widgets.View(*render(picture, **values)),
    controls={
        "method": widgets.Choice("dark channel", explore.METHODS),
        "steps": widgets.Slider(100, 2, 500, 2, label="steps"),
    },
    pictures=film.pictures,
    title="Your own photo",
    labels=("photo", "enhanced"),
    limit=128,
)
own

# %% [markdown]
# ## Verdict
#
# Every claim with the numbers that judge it. Margins stand in `enhancelib/papers/dilie/verdict.py` and were set before the published run.

# %%
display(run.table("verdict", claims.verdicts(run, PAPER.claims)))
print(f"profile {p.profile}: results in {run.finish().parent}")

# %% [markdown]
# ## References and departures
#
# - Deep Image Prior: D. Ulyanov et al., CVPR 2018, [code](https://github.com/DmitryUlyanov/deep-image-prior). Double-DIP: Y. Gandelsman et al., CVPR 2019, [code](https://github.com/yossigandelsman/DoubleDIP).
# - Contextual loss: R. Mechrez et al., ECCV 2018. Deep Photo Style Transfer: F. Luan et al., CVPR 2017. STROTSS: N. Kolkin et al., CVPR 2019. PCA-KD: T.-Y. Chiu and D. Gurari, CVPR 2022. PieAPP: E. Prashnani et al., CVPR 2018. Dark channel: K. He et al., TPAMI 2011.
#
# What the paper leaves open, and how we chose: the norms of Eqs. 4, 6 and 10 are means of squares; networks, inputs, noise, smoothness and rates of the decomposition are Double-DIP's, those of the reconstruction Deep Image Prior's; $L_C$ and $L_S$ of $L_{PE}$ are contextual losses on the layers of the paper's footnote, with $\gamma = 10^4$ from Deep Photo Style Transfer; $L_{AE}$ is STROTSS' objective on VGG19, started from $\hat C$; H is a difference.
#
# Where we depart: sizes and iterations at every profile but `paper`; airlight and guided filter are scaled to small pictures; PCA-KD stands where WCT2's weights are not given, under its own name; the average of outputs is corrected for its start.
