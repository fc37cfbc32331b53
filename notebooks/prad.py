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
# # PRaD: a phone's photo, judged in pairs
#
# *Perceptual Image Enhancement by Relativistic Discriminant Learning With Cross-Scale Aggregated Representation.* IEEE Access 7, pp. 39660-39669, 2019, article 8672893. (The copies of its page name no authors, so none are named here.)
#
# **The claim in one sentence.** A small generator whose decoder reads every scale of its encoder, trained by seven losses and by a critic that judges each picture beside the one it was made from, turns phone photos into DSLR-like ones better than networks ten times its size.
#
# Two photos of one view, from a phone and from a DSLR, never lie exactly over one another. The optics differ, so after the best alignment details are still off by a few pixels, and a loss that compares pixel with pixel punishes a sharp answer that is slightly elsewhere more than a blurred one. DPED's way out was to split the comparison: colour on blurred pictures, content in the features of a classification network, texture by an adversarial critic. PRaD keeps the split and changes the parts.
#
# **What this notebook can show.** At `smoke` that everything runs; nothing is judged. At `small` it trains the whole system for minutes on a CPU and judges *directions*: what each loss does to shifted pairs, what the critic learns, whether the texture loss does what it says. The paper's gaps between generators, 0.07 to 0.17 dB, need to be larger than the spread between seeds to mean anything; the notebook measures that spread. Most numbers of the paper's tables are lost, and what is derived from its text is marked so.

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
profile = "smoke"  # smoke, small, large or paper
seed = 0  # first seed
seeds = 3  # number of seeds of every ablation
device = "auto"  # auto, cpu, cuda or cuda:N
data_root = ""  # folder with dped/; empty means bundled photos under a simulated phone
weights = ""  # file or folder of official weights of DPED and PPCN; empty means none
out = ""  # run folder; empty means one under runs/
tables = "main"  # main, or all for the tables that take hours
phone = "iphone"  # whose pairs are read from data_root: iphone, blackberry or sony
size = "S"  # widths of the generator: S, M or L
norm = "none"  # normalisation of the generator: none, batch, instance or weight
recipe = "profile"  # recipe of the training section: profile or paper
steps = 0  # generator steps of the training section; 0 means the recipe's
hours = 0.0  # no further arm starts after this many hours; 0 means no limit
w_content = 1.0  # weight of the content loss, Eq. 16
w_gan = 0.4  # weight of the adversarial loss, Eq. 8
w_texture = 0.4  # weight of the texture loss, Eq. 15
w_color = 0.1  # weight of the colour loss, Eq. 9
w_cx = 0.4  # weight of the contextual loss, Eq. 17
w_tv = 400.0  # weight of the total variation loss, Eq. 18

# %%
from enhancelib import running

p = running.check("prad", globals())

# %% [markdown]
# ## Imports and environment

# %%
# %matplotlib inline
from IPython.display import Code, display

from enhancelib import adversarial, claims, published, results, runtime, widgets
from enhancelib.papers.prad import (
    PAPER,
    critics,
    efficiency,
    explore,
    figures,
    official,
    scoring,
    sections,
    settings,
    shifts,
)
from enhancelib.papers.prad.study import Study
from enhancelib.widgets import optimise

# %%
run = results.open_run("prad", p)
run.notes.update(official.inputs(p))
s = Study(run, p)
display(dict(runtime.environment(run.runtime)))

# %% [markdown]
# ## Data, with a look at it
#
# DPED photographed the same views with three phones and a Canon 70D, aligned the photos by SIFT and cut patches of 100 x 100 pixels. Of its iPhone test patches, 400 pairs circulate as the validation set of the PIRM 2018 challenge; give their folder as `data_root`. Without it, photos of the bank pass through a simulated phone (`degradations.Phone`): exposure, channel gains, desaturation, blur, noise, JPEG, and a shift of a few pixels, which is what makes the problem hard.
#
# Four of the 400 pairs are pure white in both pictures. Their PSNR under the identity is infinite, so every table says what it is without them.

# %%
print(sections.names(p))
figures.samples(s)

# %% [markdown]
# ## The method
#
# ### Generator
#
# $$I_e = F_{\mathbf W}(I_s) \tag{1}$$
# Eq. 1: definition
#
# The generator is a U-Net without normalisation. Each encoder scale is two convolutions $C$ (with their activation) and a down-sampling $\Downarrow$, each decoder scale up-samples, aggregates and convolves:
#
# $$y_{enc}^{n} = \Downarrow C(C(y_{enc}^{n-1})) \tag{2}$$
# Eq. 2: architecture
#
# $$y_{dec}^{n} = C(CFA_n(\Uparrow y_{dec}^{n+1})) \tag{3}$$
# Eq. 3: architecture
#
# $$CFA_n(\cdot) = C(\mathrm{Concat}(R(\Uparrow y_{dec}^{n+1}), F_n)) \tag{4}$$
# Eq. 4: architecture
#
# $F_n$ holds the features of *all* encoder scales, resampled to scale $n$, where a U-Net passes only those of the same scale; $R$ refines what comes from below. Widths, depth and kernels are lost in the source text. Three scales of 16, 32 and 64 channels fit everything that it does say, including "10 times less parameters than GridNet".

# %%
generator, critic = s.generator(settings.FULL, p.seed), s.critic("pair", p.seed)
figures.framework(run, generator, critic)

# %% tags=["keep_output", "nbval-check-output"]
print(sections.accounts(run).to_string(index=False))

# %% [markdown]
# ### The critic sees pairs
#
# A critic that looks at one picture learns the style of DSLR photos; any DSLR photo pleases it, also one of another scene. PRaD's critic is shown the phone's picture beside the one in question, and features $\varphi$ of the latter:
#
# $$I_r = \mathrm{Concat}[I_s, I_t, \varphi(I_t)], \quad I_f = \mathrm{Concat}[I_s, F_{\mathbf W}(I_s), \varphi(F_{\mathbf W}(I_s))] \tag{5}$$
# Eq. 5: enhancelib.models.prad.Critic
#
# It is *relativistic*: its probability is that a real pair looks more real than fake ones do on average,
#
# $$D_{PRaD}(I_r, I_f) = \sigma\left(C(I_r) - E_{I_f}[C(I_f)]\right) \tag{6}$$
# Eq. 6: enhancelib.losses.adversarial.relativistic_probability
#
# $$L_{PRaD} = -E_{I_r}[\log D(I_r, I_f)] - E_{I_f}[\log(1 - D(I_f, I_r))] \tag{7}$$
# Eq. 7: enhancelib.losses.adversarial.relativistic_critic
#
# $$L_{GAN} = -E_{I_r}[\log(1 - D(I_r, I_f))] - E_{I_f}[\log D(I_f, I_r)] \tag{8}$$
# Eq. 8: enhancelib.losses.adversarial.relativistic_generator
#
# Both are $2 \ln 2 = 1.386$ when the scores say nothing. Real pictures stand in the generator's loss too, so it learns from both terms: what a standard critic forgets, that the share of real pictures should *fall* when fakes improve.
#
# ### Seven losses
#
# Colour is the squared error. Eq. 9 has no $1/CHW$, unlike its neighbours, and the published weight 0.1 only matters if it is a sum, so a sum it is (halved, as in DPED's code), with the weight scaled to the patch's area:
#
# $$L_{color} = \lVert F_{\mathbf W}(I_s) - I_t \rVert_2^2 \tag{9}$$
# Eq. 9: enhancelib.losses.pixel.half_sse
#
# Texture has two parts. Local contrast normalisation takes mean and deviation of a $7 \times 7$ window out of the picture, as early vision does:
#
# $$\tilde I(i,j) = \frac{I(i,j) - \mu(i,j)}{\sigma(i,j) + C} \tag{10}$$
# Eq. 10: enhancelib.losses.texture.local_contrast
#
# $$\mu(i,j) = \frac{1}{(2P+1)(2Q+1)} \sum_{p=-P}^{P} \sum_{q=-Q}^{Q} I(i+p, j+q) \tag{11}$$
# Eq. 11: enhancelib.losses.texture.local_contrast
#
# $$\sigma^2(i,j) = \sum_{p=-P}^{P} \sum_{q=-Q}^{Q} (I(i+p, j+q) - \mu(i,j))^2 \tag{12}$$
# Eq. 12: enhancelib.losses.texture.local_contrast
#
# and compares the results in feature space. Without it, a loss on features would spend itself on brightness. The other part compares gradients, which no change of brightness touches:
#
# $$L_{lcn} = \frac{1}{CHW} \lVert \varphi_j(\tilde F_{\mathbf W}(I_s)) - \varphi_j(\tilde I_t) \rVert \tag{13}$$
# Eq. 13: enhancelib.losses.texture.lcn
#
# $$L_{grad} = \lVert \nabla_x F_{\mathbf W}(I_s) - \nabla_x I_t \rVert + \lVert \nabla_y F_{\mathbf W}(I_s) - \nabla_y I_t \rVert \tag{14}$$
# Eq. 14: enhancelib.losses.texture.gradient
#
# $$L_{texture} = L_{lcn} + L_{grad} \tag{15}$$
# Eq. 15: enhancelib.papers.prad.settings.objective
#
# Content compares deep features, contextual loss compares *sets* of features without asking where they are, and total variation keeps the noise down that the adversarial term would invite:
#
# $$L_{content} = \frac{\lVert \varphi(F_{\mathbf W}(I_s)) - \varphi(I_t) \rVert}{C'H'W'} \tag{16}$$
# Eq. 16: enhancelib.losses.pixel.mse
#
# $$L_{cx} = -\log\left(CX(\varphi_j(F_{\mathbf W}(I_s)), \varphi_j(I_t))\right) \tag{17}$$
# Eq. 17: enhancelib.losses.contextual.contextual
#
# $$L_{tv} = \frac{1}{CHW} \lVert \nabla_x F_{\mathbf W}(I_s) + \nabla_y F_{\mathbf W}(I_s) \rVert \tag{18}$$
# Eq. 18: enhancelib.losses.pixel.total_variation
#
# $$L = L_{content} + 0.4 L_{GAN} + 0.4 L_{texture} + 0.1 L_{color} + 0.4 L_{cx} + 400 L_{tv} \tag{19}$$
# Eq. 19: enhancelib.papers.prad.settings.objective

# %% tags=["keep_output", "nbval-check-output"]
print(explore.evaluated().to_string(index=False))

# %% [markdown]
# ## Why it works: every loss against a shift
#
# Each loss is measured between a DSLR patch and itself moved sideways, as a share of its value between two different scenes. A loss that is near 1 after two pixels cannot tell a slightly misplaced answer from a wrong one. DPED's blurred colour loss, which Eq. 9 drops, is shown beside it.

# %%
shifts.study(s)
display(run.table("shift", shifts.table(run)))
figures.shift(run)

# %% [markdown]
# The same question to trained networks: pairs of known misalignment, once with the squared error alone, once with the losses of Eq. 19 (no critic). Scores are against the target that lies exactly over the input; sharpness is gradient energy over the target's.

# %%
shifts.trainings(s)
display(run.table("misaligned", shifts.trained_table(run)))
figures.misaligned(run)

# %% [markdown]
# ## Training
#
# The recipe of this run beside the one taken for the paper's, whose own is lost. Algorithm 1 alternates: enhance, update the critic; enhance again, update the generator on Eq. 19. The two steps as they stand in the library:

# %%
display(sections.recipes(s))
Code(running.listing(adversarial.critic_step), language="python")

# %%
Code(running.listing(adversarial.generator_step), language="python")

# %%
found = sections.main(s)
sections.joint(s, found)
figures.curves(run, found, s)

# %% [markdown]
# What the unmodified recipe (50 patches of 100 x 100 pixels, all seven losses) would take here:

# %%
display(run.table("projection", efficiency.projection(s)))

# %% [markdown]
# ### The critic on its own
#
# With the generator frozen, a critic that can learn must win. Two fresh ones are trained on the same fixed pairs, one that sees pairs and one that sees the picture alone, and are then shown what a good critic should dislike: the target of another scene, a shifted target. The bars say how many standard deviations of its scores of real pairs each change costs.

# %%
alone = critics.alone(s, found[p.seed])
display(run.table("reactions", critics.table(s)))
figures.critic_alone(run, alone)

# %%
figures.reactions(run)

# %% [markdown]
# ## Tables: ours beside the published numbers
#
# The polynomial rows are one global colour map for all pictures, fitted on the training pairs by least squares. They need no network, and they are the yardstick.

# %%
networks = sections.quality(s, found)
note = scoring.protocols(scoring.QUALITY)
display(run.table("main", sections.quality_table(run), note=note))
print(note)

# %% [markdown]
# Three numbers are called PSNR in this literature, and two are called SSIM. The same outputs under all of them:

# %%
display(run.table("protocols", sections.protocol_table(run)))
sections.parity(run, p)
figures.conventions(run)

# %% tags=["keep_output", "nbval-check-output"]
print(published.listed("prad", "main").to_string(index=False))

# %%
for name in ("ppcn", "dped"):
    display(name, run.table(f"published_{name}", published.listed("prad", name)))

# %% [markdown]
# ## Figures

# %%
shown = sections.restorers(s, found, networks)
figures.patches(s, shown)

# %%
figures.feature_maps(run, found[p.seed].generator)

# %%
figures.full_size(s, shown)

# %%
figures.other_cameras(run, *sections.pictured(s, found))

# %% [markdown]
# ## Ablations
#
# ### Texture loss, and plain against cross-scale
#
# Supervised pairs without VGG and critic, small enough for three seeds everywhere: the plain U-Net with the squared error, with the texture loss added, and the whole generator with both.

# %%
pairs = sections.texture(s)
columns = ("psnr", "ms_ssim_dped", "ssim", "gradient_error", "lcn_error")
display(
    run.table(
        "texture", scoring.table(run, "texture", columns=columns), note=scoring.protocols(columns)
    )
)
display(run.table("spread", sections.spreads(run)))

# %% [markdown]
# ### The paper's tables
#
# Backbones, critic, aggregation and refinement, depth of the aggregated feature, normalisation and losses: every arm is a whole adversarial training with the same losses, steps and seed. They run with `tables="all"`.

# %%
sections.ablations(s)
note = scoring.protocols(scoring.QUALITY)
for group in sections.trained_groups(run):
    columns = (*scoring.QUALITY, "cast") if group == "norm" else scoring.QUALITY
    display(group, run.table(group, sections.group_table(run, group, columns), note=note))
figures.ablations(run)

# %% [markdown]
# ### Efficiency
#
# Multiply-adds and receptive fields of the accounting table are exact; seconds and memory are this machine's. Networks with instance normalisation look at the whole picture, so their patches and their photos are not the same thing.

# %%
display(run.table("efficiency", efficiency.measure(s)))

# %% [markdown]
# ## Explore
#
# One photo, seven losses. The gradient picture shows which pixels the total wants to change and how; the shares show who decides. Move a weight and watch the quarrel between content and total variation; press Run and the picture itself is optimised under your weights. Bring your own photo: it becomes the target, and a simulated phone makes the start.

# %%
points = explore.trade_off(s, found[p.seed], optimise.ends)
given = explore.given(s, found[p.seed])
curve = widgets.Curve(points, label="total variation from weight 0 up")
explorer = widgets.LossExplorer(**given, curve=curve)
explorer

# %% [markdown]
# ## Verdict
#
# Every claim with the numbers that judge it. Margins stand in `enhancelib/papers/prad/verdict.py` and were set before the published run. Own-training claims need the 95 % interval of per-seed differences to clear the margin; with one seed they stay open.

# %%
display(run.table("verdict", claims.verdicts(run, PAPER.claims)))
print(f"profile {p.profile}: results in {run.finish().parent}")

# %% [markdown]
# ## References and departures
#
# - DPED: A. Ignatov et al., ICCV 2017, [code](https://github.com/aiff22/DPED). PIRM 2018 challenge: [code](https://github.com/aiff22/ai-challenge). PPCN: Z. Hui et al., ECCVW 2018, [code](https://github.com/Zheng222/PPCN).
# - Relativistic GAN: A. Jolicoeur-Martineau, 2018. Contextual loss: R. Mechrez et al., ECCV 2018. Local contrast: L. Kang et al., CVPR 2014.
#
# What the paper leaves open, and how we chose: three scales of 16, 32 and 64 channels, LeakyReLU 0.2, output $0.58 \tanh + 0.5$ (the family's); $R$ a residual block; one up-sampling where Eqs. 3 and 4 write two; the critic is DPED's, with batch normalisation and one score; $\varphi$ is VGG19's relu1_2 in Eq. 5, divided by its running deviation, relu5_4 in Eqs. 13 and 16, relu4_2 in Eq. 17 with bandwidth 0.5 (PPCN); the window of Eqs. 10 to 12 is $7 \times 7$ with $\sigma$ as a root *mean* and $C = 1/255$ (Kang); Eq. 14 is an L1 distance; Eq. 18 averages both directions separately, as DPED's code does. Norms in Eqs. 13 and 16 are squared, as in DPED's code, because the weights only balance that way.
#
# Where we depart at `smoke`, `small` and `large`: fewer steps, smaller batches and patches, gradients clipped; the critic learns at a fifth of the generator's rate under a zero-centred gradient penalty of weight 10 (the section on the critic alone shows what one can do that nothing restrains); at `small` and `large` convolutions compute in bfloat16. Recipe `paper` has none of this. Without `data_root` a simulated phone makes the pairs. MOS needs people, RRM's core is obfuscated and PMN could not be identified: these stay "not reproducible".
