"""Whether what the parameters point to is there is seen before any work starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import skimage.data
import torch

from enhancelib import images, runtime
from enhancelib.datasets import DataError
from enhancelib.papers.dilie import checks, demands
from enhancelib.papers.dilie.settings import Parameters
from enhancelib.papers.parameters import ParameterError

PHOTO = images.from_array(skimage.data.coffee()[:40, :60])


def written(file: Path, photo: torch.Tensor = PHOTO) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    images.write(file, photo)
    return str(file)


def test_nothing_given_needs_nothing() -> None:
    checks.check(Parameters())
    assert checks.notes(Parameters()) == {"inputs": {}, "data_label": ""}


@pytest.mark.parametrize("name", ["photo", "reference"])
def test_a_photo_that_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    good = written(tmp_path / "good.png")
    checks.check(Parameters(**{name: good}))
    flat = written(tmp_path / "flat.png", PHOTO[:, : demands.LEAST - 1])
    with pytest.raises(
        ParameterError, match=rf"{name}: .*flat\.png has 60 x 32 pixels; .* 33 or more"
    ):
        checks.check(Parameters(**{name: flat}))
    checks.check(Parameters(**{name: written(tmp_path / "just.png", PHOTO[:, : demands.LEAST])}))
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(good).read_bytes()[:100])
    for file, why in ((broken, "broken.png"), (tmp_path / "no.png", "no such file")):
        with pytest.raises(ParameterError, match=rf"^{name}: .*{why}") as error:
            checks.check(Parameters(**{name: str(file)}))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("left", ["alpha", "beta", "affine"])
def test_a_loss_needs_a_term(left: str) -> None:
    none = {"alpha": 0.0, "beta": 0.0, "affine": 0.0}
    with pytest.raises(ParameterError, match="alpha, beta and affine are 0; give L_PE at least"):
        checks.check(Parameters(**none))
    checks.check(Parameters(**{**none, left: 1.0}))


def test_weights_and_pairs_are_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match=r"weights: .* holds none of"):
        checks.check(Parameters(weights=str(tmp_path / "empty")))
    written(tmp_path / "data" / "ihaze" / "01_indoor_hazy.png")
    with pytest.raises(DataError, match="has no clean partner"):
        checks.check(Parameters(data_root=str(tmp_path / "data")))
    written(tmp_path / "data" / "ihaze" / "01_indoor_GT.png", PHOTO[:, 1:])
    with pytest.raises(DataError, match="have 60 x 40 and 60 x 39 pixels"):  # read, not only listed
        checks.check(Parameters(data_root=str(tmp_path / "data")))


def test_notes_hold_the_digests_of_pairs_and_weights(tmp_path: Path) -> None:
    folder, file = tmp_path / "data" / "ohaze", tmp_path / "w" / "PieAPPv0.1.pth"
    hazy = written(folder / "01_outdoor_hazy.png")
    clean = written(folder / "01_outdoor_GT.png", 0.5 * PHOTO)
    file.parent.mkdir()
    file.write_bytes(b"weights")
    p = Parameters(data_root=str(tmp_path / "data"), weights=str(file))
    before = checks.notes(p)
    assert before["inputs"] == {"O-HAZE": runtime.digest(Path(hazy), Path(clean))}
    assert list(before["weights"]) == ["pieapp"]
    assert before["data_label"] == "real"
    written(Path(clean), 0.6 * PHOTO)
    file.write_bytes(b"other weights")
    after = checks.notes(p)
    assert after["inputs"] != before["inputs"]
    assert after["weights"] != before["weights"]
