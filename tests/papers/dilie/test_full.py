"""What tables="all" adds at full size, here at small sides: each task scores what it made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from enhancelib.papers.dilie import cfe, full
from enhancelib.papers.dilie.study import Study
from enhancelib.tables import select

ALL = (full.RECONSTRUCTION, full.DECOMPOSITION, full.RESTYLING)


@pytest.fixture
def little(s: Study, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(full, "SIDE", 40)
    monkeypatch.setattr(full, "LONG", 56)
    s.p = replace(s.p, tables="all")
    return s


def value(s: Study, method: str, metric: str) -> float:
    return float(
        select(s.run.values(table="full_size"), method=method, metric=metric)["value"].item()
    )


def test_the_main_tables_leave_it_out_and_say_so(
    s: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    full.measure(s)
    assert "not run at this profile; tables='all' runs them" in capsys.readouterr().out
    assert s.run.values(table="full_size").empty
    assert full.table(s.run)["task"].tolist() == ["not run at this profile"]


def test_everything_runs_once(little: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, object]] = []
    denoise, dehaze = cfe.denoise, cfe.dehaze

    def denoised(noisy: torch.Tensor, **given: object) -> cfe.Restored:
        seen.append(("denoise", given["setting"]))
        return denoise(noisy, **given)  # type: ignore[arg-type]

    def dehazed(hazy: torch.Tensor, **given: object) -> cfe.Dehazed:
        seen.append(("dehaze", given["passes"]))
        return dehaze(hazy, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(cfe, "denoise", denoised)
    monkeypatch.setattr(cfe, "dehaze", dehazed)
    full.measure(little)
    assert [what for what, _ in seen] == ["denoise", "dehaze"]
    assert seen[0][1].parameters == 2_217_831  # type: ignore[attr-defined]
    assert seen[1][1] == 2
    values = little.run.values(table="full_size")
    assert tuple(dict.fromkeys(values["method"])) == ALL
    # sigma 25 of 255, clipped: 20.2 dB and a little more where the picture is black or white
    assert 19.5 < value(little, full.RECONSTRUCTION, "psnr of the input") < 23.5
    one = little.hazy_pictures()[0]
    gap = float((one.hazy - one.clean).double().square().mean())
    found = value(little, full.DECOMPOSITION, "psnr of the input")
    assert 10 ** (-found / 10) == pytest.approx(gap, rel=1e-4)
    assert 0 < value(little, full.RESTYLING, "edge_ssim") <= 1
    assert 0 < value(little, full.RESTYLING, "VGG19-unit") < 2
    assert len(full.table(little.run)) == len(values)


def test_without_vgg19_the_reconstruction_is_left(little: Study) -> None:
    little.vgg19 = None
    full.measure(little)
    assert set(little.run.values(table="full_size")["method"]) == {full.RECONSTRUCTION}


def test_no_task_starts_after_the_hours(little: Study, capsys: pytest.CaptureFixture[str]) -> None:
    little.p = replace(little.p, hours=1e-9)
    full.measure(little)
    assert little.run.values(table="full_size").empty
    assert capsys.readouterr().out.count("hours are over") == len(ALL)
