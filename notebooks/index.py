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
# # Paper notebooks that rerun themselves
#
# One notebook per paper. Each explains a method with its equations, trains it, runs its ablations, prints its tables with the published numbers beside ours, draws its figures, and closes with a verdict that it computes.
#
# This page lists them, and what has been published from them.

# %% [markdown]
# ## The catalogue

# %% tags=["keep_output", "nbval-check-output"]
from enhancelib import papers

for slug in papers.PAPERS:
    paper = papers.load(slug)
    print(f"{slug}.ipynb: {paper.title}\n  {paper.citation}\n  {paper.claim}")

# %% [markdown]
# ## What held so far
#
# One row per paper, profile and kind of evidence. "Official weights" means that the authors' network gave a published number back; "own training" that a network trained here showed the effect; "analysis" stands for counts, gradients and invariants. `enhancelib status` prints the same.

# %%
from enhancelib import publishing

publishing.status()

# %% [markdown]
# ## How to rerun
#
# - In JupyterLab: open a notebook and choose Run All. The cell under the title holds the parameters.
# - Headless: `enhancelib run dncnn --profile small -p sigma=15`, or plain `papermill notebooks/dncnn.ipynb out.ipynb -p profile small -p sigma 15`.
# - Many: `make reproduce PAPERS="dncnn prad" PROFILE=small`, which is Snakemake underneath.
# - Over runs: `enhancelib table runs/dncnn/*/ --by sigma,method`.
# - Your own photo: `enhancelib enhance dncnn photo.jpg -o restored.png`.
