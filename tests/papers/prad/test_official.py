"""Official networks by the names that their authors gave them, and the numbers that they print."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from enhancelib import models, published, results, weights
from enhancelib.datasets import DataError
from enhancelib.papers.parameters import ParameterError
from enhancelib.papers.prad import data, official
from enhancelib.papers.prad.official import DPED, PPCN
from enhancelib.papers.prad.study import apply
from tests import bundles, dped
from tests.papers.prad import small

NO_KD = "PPCN student w/o KD (official weights)"
TRACKS = (
    "PPCN student, track A (official weights)",
    "PPCN student, track B and C (official weights)",
)


def npz(path: Path, arrays: Mapping[str, Any]) -> Path:
    """As data/weights of the assets: variables' names with dots."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name.replace("/", "."): value for name, value in arrays.items()})
    return path


def bundle(folder: Path, stem: str, arrays: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    bundles.write(folder / stem, arrays)


# Files


def test_the_folders_of_the_assets(assets: Path) -> None:
    found = official.files(str(assets / "weights" / "dped"))
    assert {m: (model, file.name) for m, (model, file) in found.items()} == {
        "SRCNN (official weights)": ("srcnn", "dped_srcnn.npz"),
        DPED: ("dped", "iphone_orig.npz"),  # before the bundle of the same network
    }
    found = official.files(str(assets / "weights" / "ppcn"))
    assert {m: (model, file.name) for m, (model, file) in found.items()} == {
        NO_KD: ("ppcn", "ppcn_student_wo_kd.npz"),
        PPCN: ("ppcn", "ppcn_student.npz"),
    }
    whole = official.files(str(assets / "weights"))
    assert len(whole) == 4, "other papers' files, and golden outputs, are none of these"


def test_a_bundle_is_found_where_there_is_no_npz(assets: Path, tmp_path: Path) -> None:
    for file in (assets / "weights" / "dped").glob("iphone_orig.[di]*"):
        shutil.copy(file, tmp_path / file.name)
    assert official.files(str(tmp_path)) == {DPED: ("dped", tmp_path / "iphone_orig.index")}
    one = tmp_path / "iphone_orig.index"
    assert official.files(str(one)) == {DPED: ("dped", one)}
    p = small.parameters(tmp_path, weights=str(one))
    (network,) = official.networks(p).values()
    stored = weights.load("dped", assets / "weights" / "dped" / "iphone_orig.npz")
    ours = network.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in stored.state_dict().items())


NAMES = [
    # models_orig of aiff22/DPED, models_pretrained of aiff22/ai-challenge
    ("blackberry_orig", "DPED BlackBerry (official weights)", "dped", bundles.dped(4, 8)),
    ("sony_orig", "DPED Sony (official weights)", "dped", bundles.dped(4, 8)),
    ("dped_resnet_8_32", "ResNet_8_32 (official weights)", "dped", bundles.dped(2, 8)),
    ("dped_resnet_12_64", DPED, "dped", bundles.dped(4, 8)),
    # test/ckpt_enhancement and train/pretrained_teacher_model of Zheng222/PPCN
    ("teacher.ckpt", "PPCN teacher (official weights)", "ppcn", bundles.ppcn("teacher", "")),
    ("student.ckpt", PPCN, "ppcn", bundles.ppcn("student", "")),
    ("student_wo_kd", NO_KD, "ppcn", bundles.ppcn("student", "")),
    ("iphone_trackA.ckpt", TRACKS[0], "ppcn", bundles.ppcn("student", "")),
    ("iphone_trackBC.ckpt", TRACKS[1], "ppcn", bundles.ppcn("student", "")),
    # as they were converted for us
    ("pirm_resnet_8_32", "ResNet_8_32 (official weights)", "dped", bundles.dped(2, 8)),
    ("ppcn_teacher", "PPCN teacher (official weights)", "ppcn", bundles.ppcn("teacher", "x/")),
    ("ppcn_iphone_trackBC", TRACKS[1], "ppcn", bundles.ppcn("student", "")),
]  # fmt: skip


@pytest.mark.parametrize(("stem", "method", "model", "arrays"), NAMES, ids=[n[0] for n in NAMES])
@pytest.mark.parametrize("kind", ["npz", "bundle"])
def test_names_of_networks_that_we_do_not_have(
    tmp_path: Path, kind: str, stem: str, method: str, model: str, arrays: Mapping[str, Any]
) -> None:
    if kind == "npz":
        npz(tmp_path / f"{stem}.npz", arrays)
    else:
        bundle(tmp_path, stem, arrays)
    found = official.files(str(tmp_path))
    assert {m: name for m, (name, _) in found.items()} == {method: model}
    (network,) = official.networks(small.parameters(tmp_path, weights=str(tmp_path))).values()
    wanted = {"dped": models.dped.DPED, "ppcn": models.ppcn.PPCN}[model]
    assert isinstance(network, wanted)
    assert not network.training
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 20, 24)).shape == (1, 3, 20, 24)


def test_all_names_together_keep_their_order_and_do_not_collide(tmp_path: Path) -> None:
    """The repositories as their authors laid them out, in one folder."""
    for place, stem in (
        ("DPED/models_orig", "blackberry_orig"),
        ("DPED/models_orig", "sony_orig"),
        ("DPED/models_orig", "iphone_orig"),
        ("ai-challenge/models_pretrained", "dped_resnet_8_32"),
        ("ai-challenge/models_pretrained", "dped_resnet_12_64"),
        ("PPCN/test/ckpt_enhancement", "student.ckpt"),
        ("PPCN/test/ckpt_enhancement", "student_wo_kd"),
        ("PPCN/test/ckpt_enhancement", "teacher.ckpt"),
        ("PPCN/train/pretrained_teacher_model", "teacher.ckpt"),
        ("PPCN/test/ckpt_enhancement", "iphone_trackA.ckpt"),
        ("PPCN/test/ckpt_enhancement", "iphone_trackBC.ckpt"),
    ):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / f"{stem}.index").touch()
    (tmp_path / "PPCN/test/ckpt_super_resolution").mkdir()
    (tmp_path / "PPCN/test/ckpt_super_resolution/generator_all.ckpt.index").touch()
    found = official.files(str(tmp_path))
    assert {method: file.name for method, (_, file) in found.items()} == {
        "ResNet_8_32 (official weights)": "dped_resnet_8_32.index",
        DPED: found[DPED][1].name,
        "DPED BlackBerry (official weights)": "blackberry_orig.index",
        "DPED Sony (official weights)": "sony_orig.index",
        NO_KD: "student_wo_kd.index",
        TRACKS[0]: "iphone_trackA.ckpt.index",
        TRACKS[1]: "iphone_trackBC.ckpt.index",
        PPCN: "student.ckpt.index",
        "PPCN teacher (official weights)": "teacher.ckpt.index",
    }
    assert found[DPED][1].stem in ("iphone_orig", "dped_resnet_12_64")


def test_what_leads_to_no_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="does not exist; give a file or folder of the netw"):
        official.files(str(tmp_path / "none"))
    (tmp_path / "vgg.npz").touch()
    (tmp_path / "iphone_orig.txt").touch()
    for place in (tmp_path, tmp_path / "vgg.npz"):
        with pytest.raises(ParameterError, match="holds no file named like a released network"):
            official.files(str(place))


def test_check_looks_at_weights_and_data(assets: Path, tmp_path: Path) -> None:
    official.check(small.parameters(tmp_path))
    official.check(small.parameters(tmp_path, weights=str(assets / "weights" / "ppcn")))
    with pytest.raises(ParameterError, match="does not exist"):
        official.check(small.parameters(tmp_path, weights="/nowhere"))
    with pytest.raises(DataError, match="is no folder"):
        official.check(small.parameters(tmp_path, data_root="/nowhere"))


def test_weights_that_leave_no_loss_are_refused(tmp_path: Path) -> None:
    none = dict.fromkeys(("w_content", "w_gan", "w_texture", "w_color", "w_cx", "w_tv"), 0.0)
    with pytest.raises(ParameterError, match="all weights of losses are 0; give at least one of"):
        official.check(small.parameters(tmp_path, **none))
    official.check(small.parameters(tmp_path, **{**none, "w_color": 0.1}))


def test_another_phone_than_that_of_the_subset_is_a_sentence(assets: Path, tmp_path: Path) -> None:
    p = small.parameters(tmp_path, data_root=str(assets / "data"), phone="sony")
    with pytest.raises(
        DataError, match=r"holds no pairs of phone 'sony', but pairs of iphone \(the"
    ):
        official.check(p)
    with pytest.raises(ParameterError, match="phone 'blackberry' is read from data_root"):
        official.check(small.parameters(tmp_path, phone="blackberry"))
    root = dped.tree(assets, tmp_path / "root", phone="sony", train=6, test=2)
    official.check(small.parameters(tmp_path, data_root=str(root), phone="sony"))


def test_a_damaged_file_is_a_sentence_of_its_own(assets: Path, tmp_path: Path) -> None:
    whole = (assets / "weights" / "ppcn" / "ppcn_student.npz").read_bytes()
    (tmp_path / "ppcn_student.npz").write_bytes(whole[:5000])
    with pytest.raises(weights.WeightsError, match=r"ppcn_student\.npz"):
        official.networks(small.parameters(tmp_path, weights=str(tmp_path)))


def test_no_weights_are_no_networks(tmp_path: Path) -> None:
    assert official.networks(small.parameters(tmp_path)) == {}


def test_results_tell_which_files_they_come_from(assets: Path, tmp_path: Path) -> None:
    """The index of a bundle holds the checksums of its values, so its digest tells both apart."""
    ours = assets / "weights" / "ppcn" / "ppcn_student.npz"
    p = small.parameters(tmp_path, weights=str(ours), data_root=str(assets / "data"))
    found = official.inputs(p)
    read: Any = found["inputs"]
    assert read[PPCN] == hashlib.sha256(ours.read_bytes()).hexdigest()
    assert len(read) == 2
    assert found["data_label"] == "real"
    assert official.inputs(small.parameters(tmp_path)) == {"inputs": {}, "data_label": ""}


# Parity


def test_rows_and_methods_belong_together() -> None:
    frame = published.rows("prad", table="ppcn")
    assert set(official._ROWS.values()) <= set(frame["row"])
    assert set(official._ROWS) <= {method for method, _ in official._STEMS.values()}


@pytest.fixture(scope="module")
def agreed(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The student on all 400 pairs: a second and a half, and two for MS-SSIM."""
    p = small.parameters(
        tmp_path_factory.mktemp("parity"),
        profile="small",
        data_root=str(assets / "data"),
        weights=str(assets / "weights" / "ppcn" / "ppcn_student.npz"),
    )
    run = results.open_run("prad", p)
    rows = official.parity(p, run)
    assert official.parity(p, run) == rows  # kept in the folder
    return {row["name"].split(",")[2].split()[0]: row for row in rows}


def test_the_student_reaches_what_its_authors_print(agreed: dict[str, dict[str, Any]]) -> None:
    """prad.md, 7.2: 22.54 and 0.9244 published, 22.562 and 0.9254 measured by another port."""
    assert list(agreed) == ["PSNR", "MS-SSIM"]
    psnr, ms_ssim = agreed.values()
    assert (psnr["published"], psnr["within"]) == (22.54, 0.05)
    assert (ms_ssim["published"], ms_ssim["within"]) == (0.9244, 0.002)
    assert psnr["ours"] == pytest.approx(22.562, abs=0.002)
    assert ms_ssim["ours"] == pytest.approx(0.9254, abs=2e-4)
    assert all(row["by"] == "official weights" for row in agreed.values())


def test_the_students_first_patches(assets: Path) -> None:
    """prad.md, 7.2: PSNR of patches 0 to 7."""
    p = small.parameters(Path("unused"), data_root=str(assets / "data"))
    pairs = data.pirm(p)
    assert pairs is not None
    eight = pairs.choose(range(8))
    network = weights.load("ppcn", assets / "weights" / "ppcn" / "ppcn_student.npz")
    restored = apply(network, eight.degraded)
    errors = (restored.clamp(0, 1) - eight.clean).double().square().mean((1, 2, 3))
    assert (-10 * errors.log10()).tolist() == pytest.approx(
        [22.626, 30.476, 26.838, 14.114, 18.089, 25.074, 26.980, 19.146], abs=6e-4
    )


def test_parity_needs_profile_data_and_weights(assets: Path, tmp_path: Path) -> None:
    run = small.opened(tmp_path / "run").run
    ours, theirs = str(assets / "data"), str(assets / "weights" / "ppcn")
    for given in (
        {"profile": "smoke", "data_root": ours, "weights": theirs},
        {"profile": "small", "data_root": ours},
        {"profile": "small", "weights": theirs},
    ):
        assert official.parity(small.parameters(tmp_path, **given), run) == []


def test_networks_without_a_published_row_are_left_out(assets: Path, tmp_path: Path) -> None:
    npz(tmp_path / "w" / "iphone_trackA.npz", bundles.ppcn("student", ""))
    p = small.parameters(
        tmp_path, profile="small", data_root=str(assets / "data"), weights=str(tmp_path / "w")
    )
    assert official.parity(p, results.open_run("prad", p)) == []
