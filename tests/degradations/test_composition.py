"""One after the other, or one of several: every item says truly what happened to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import skimage.data
import torch

from enhancelib.degradations import Bicubic, Chain, GaussianNoise, Jpeg, OneOf, Sample
from enhancelib.images import from_array

GRAVEL = from_array(skimage.data.gravel()[:48, :48])
BATCH = GRAVEL.expand(120, 1, 48, 48)
THREE = OneOf((GaussianNoise((10.0, 50.0)), Bicubic((2, 3, 4)), Jpeg((5, 99))))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_chain_is_one_after_the_other() -> None:
    both = Chain((Bicubic(2), GaussianNoise(25.0)))({"clean": BATCH}, generator())
    rng = generator()
    first = Bicubic(2)({"clean": BATCH}, rng)
    second = GaussianNoise(25.0)(first, rng)
    assert torch.equal(both["degraded"], second["degraded"])
    assert torch.equal(both["clean"], BATCH)
    assert both.keys() == {"clean", "degraded", "scale", "noise_level"}
    noise = both["degraded"] - first["degraded"]
    assert float(noise.std()) * 255 == pytest.approx(25, rel=0.01)


def test_each_kind_is_as_likely() -> None:
    kinds = THREE({"clean": BATCH}, generator())["kind"]
    assert kinds.shape == (120, 1, 1, 1)
    assert kinds.dtype == torch.int64
    for kind in range(3):
        assert abs(int((kinds == kind).sum()) - 40) < 4 * math.sqrt(120 * 2 / 9)


def test_factors_of_what_did_not_happen_are_neutral() -> None:
    sample = THREE({"clean": BATCH}, generator())
    kind = sample["kind"].flatten()
    level, scale, quality = (sample[n].flatten() for n in ("noise_level", "scale", "quality"))
    assert bool((level[kind == 0] >= 10 / 255).all())
    assert level[kind != 0].unique().tolist() == [0.0]
    assert bool((scale[kind == 1] >= 2).all())
    assert scale[kind != 1].unique().tolist() == [1.0]
    assert bool((quality[kind == 2] <= 99).all())
    assert quality[kind != 2].unique().tolist() == [100.0]


def test_what_is_told_is_what_happened() -> None:
    sample = THREE({"clean": BATCH}, generator())
    for row in range(30):
        clean = BATCH[row : row + 1]
        kind = int(sample["kind"][row])
        got = sample["degraded"][row : row + 1]
        if kind == 0:
            assert torch.allclose((got - clean).std(), sample["noise_level"][row], rtol=0.1)
            continue
        step = (
            Bicubic(int(sample["scale"][row])) if kind == 1 else Jpeg(int(sample["quality"][row]))
        )
        assert torch.allclose(got, step({"clean": clean}, generator())["degraded"], atol=1e-6)


def test_factors_from_before_are_kept() -> None:
    chain = Chain((GaussianNoise(5.0), OneOf((GaussianNoise(50.0), Jpeg(10)))))
    sample = chain({"clean": BATCH}, generator())
    kind = sample["kind"].flatten()
    levels = sample["noise_level"].flatten() * 255
    assert torch.allclose(levels[kind == 0], torch.tensor(50.0))
    assert torch.allclose(levels[kind == 1], torch.tensor(5.0))


def test_items_keep_their_own_companions() -> None:
    @dataclass(frozen=True)
    class Shift:
        """Adds the item's own depth, to show which row it was given."""

        @property
        def neutral(self) -> Mapping[str, float]:
            return {"shift": 0.0}

        def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
            return {
                **sample,
                "degraded": sample["clean"] + sample["depth"],
                "shift": sample["depth"],
            }

    depth = torch.arange(120.0).view(120, 1, 1, 1).expand(120, 1, 48, 48)
    sample = OneOf((Shift(), GaussianNoise(0.0)))({"clean": BATCH, "depth": depth}, generator())
    moved = sample["kind"] == 0
    assert sample["shift"].shape == depth.shape  # a map where the choice gives maps
    assert torch.equal(sample["shift"], torch.where(moved, depth, 0.0))
    assert torch.allclose(sample["degraded"], BATCH + sample["shift"])


def test_nested_choices_tell_the_outer_kind() -> None:
    inner = OneOf((GaussianNoise(5.0), GaussianNoise(50.0)))
    sample = OneOf((inner, Jpeg(10)))({"clean": BATCH}, generator())
    quality = sample["quality"].flatten()
    assert torch.equal(sample["kind"].flatten() == 1, quality == 10)
    assert OneOf((inner, Jpeg(10))).neutral == {"noise_level": 0.0, "quality": 100.0, "kind": -1}


def test_the_generator_alone_decides_and_the_given_sample_is_untouched() -> None:
    given = {"clean": BATCH.clone()}
    a, b = THREE(given, generator()), THREE(given, generator())
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["kind"], THREE(given, generator(1))["kind"])
    assert list(given) == ["clean"]
    assert torch.equal(given["clean"], BATCH)


def test_one_item_and_one_choice() -> None:
    sample = OneOf((GaussianNoise(25.0),))({"clean": BATCH[:1]}, generator())
    assert sample["kind"].tolist() == [[[[0]]]]
    assert not torch.equal(sample["degraded"], BATCH[:1])


def test_neutral_names_every_factor() -> None:
    for degradation in (THREE, Chain((Bicubic(2), Jpeg(10))), *THREE.choices):
        added = set(degradation({"clean": BATCH[:2]}, generator())) - {"clean", "degraded"}
        assert added == set(degradation.neutral)


@pytest.mark.parametrize("make", [lambda: Chain(()), lambda: OneOf(())])
def test_refuses_nothing(make: type) -> None:
    with pytest.raises(ValueError, match="is empty; expected at least one degradation"):
        make()
