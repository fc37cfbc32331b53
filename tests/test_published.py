"""The published numbers: well formed, and their rows agree with the printed averages."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from enhancelib import published

FOLDER = Path(__file__).parent.parent / "data" / "published"
SLUGS = sorted({file.stem.split("_")[0] for file in FOLDER.glob("*_*.csv")})
LINE = {
    "paper": "a",
    "table": "t",
    "row": "r",
    "dataset": "d",
    "image": "mean",
    "metric": "psnr",
    "setting": "sigma=25",
    "value": "31.2",
    "source": "README",
    "certainty": "paper",
}
# One cell of the recalled WNNM row at sigma 15 is wrong by about 0.1 dB (the spec says so)
LOOSE = {("WNNM", "sigma=15"): 0.008}


def write(
    folder: Path, *lines: dict[str, str], columns: tuple[str, ...] = published.COLUMNS
) -> Path:
    text = [",".join(columns)] + [",".join(line.values()) for line in lines]
    (folder / "a_t.csv").write_text("\n".join(text) + "\n")
    return folder


@pytest.mark.parametrize("slug", SLUGS)
def test_every_file_loads(slug: str) -> None:
    frame = published.load(slug)
    assert set(frame.certainty) <= set(published.CERTAINTIES)
    assert frame.value.notna().all()
    assert (frame.value > 0).all()
    assert not frame.duplicated(["table", "row", "dataset", "image", "metric", "setting"]).any()


def test_each_table_lies_in_the_file_of_its_name() -> None:
    for file in FOLDER.glob("*_*.csv"):
        slug, table = file.stem.split("_", 1)
        with file.open() as stream:
            tables = set(pd.read_csv(stream).table)
        assert tables == {table}, f"{file.name} holds table {tables}, slug {slug}"


def test_set12_rows_average_to_the_printed_average() -> None:
    frame = published.rows("dncnn", table="set12")
    checked = 0
    for (method, setting), group in frame.groupby(["row", "setting"]):
        images = group[group.image != "mean"].value
        printed = group[group.image == "mean"].value.item()
        assert len(images) == 12
        off = abs(images.mean() - printed)
        allowed = LOOSE.get((method, setting), 0.002) + 0.0005  # averages print three decimals
        assert off <= allowed, f"{method} {setting}: {off:.4f} dB off"
        checked += 1
    assert checked == 22  # 7 methods at sigma 15, 8 at 25 and 7 at 50: MLP, CSF are not everywhere


@pytest.mark.parametrize(
    ("table", "filters", "value"),
    [
        # read by eye in the spec, one number per table, to notice shifted columns
        ("bsd68", {"row": "MLP", "sigma": 50}, 26.03),
        ("bsd68", {"row": "DnCNN-B", "sigma": 25}, 29.16),
        ("set12", {"row": "DnCNN-S", "sigma": 25, "image": "mean"}, 30.436),
        ("set12", {"row": "TNRD", "sigma": 50, "image": "09"}, 25.70),
        ("retrained", {"row": "DnCNN-B (SaoYan)", "dataset": "Set12", "sigma": 15}, 32.725),
        ("dncnn3", {"row": "DnCNN-3", "dataset": "Set5", "scale": 3, "metric": "ssim"}, 0.9222),
        ("dncnn3", {"row": "AR-CNN", "dataset": "LIVE1", "quality": 40, "metric": "psnr"}, 33.63),
        ("colour", {"row": "CDnCNN-B", "sigma": 35}, 29.58),
        ("seconds", {"row": "DnCNN-S", "size": 512, "device": "gpu"}, 0.051),
    ],
)
def test_spot_checks(table: str, filters: dict[str, str | float], value: float) -> None:
    assert published.rows("dncnn", table=table, **filters).value.tolist() == [value]


@pytest.mark.parametrize(
    ("table", "filters", "value"),
    [
        ("depth", {"row": "first convolution's features"}, 22.92),
        ("cfa", {"row": "+ CFA", "metric": "psnr"}, 22.90),
        ("ppcn", {"row": "PPCN student", "metric": "psnr"}, 22.54),
        ("ppcn", {"row": "DPED", "metric": "ms_ssim_dped"}, 0.9204),
        ("ppcn", {"row": "DPED", "metric": "seconds", "device": "cpu"}, 10.701),
        (
            "dped",
            {"row": "DPED", "dataset": "DPED iPhone test patches", "metric": "psnr_dped"},
            20.08,
        ),
        ("pirm", {"row": "DPED", "metric": "mos", "track": "B"}, 2.4411),
        ("curves", {"row": "DPED, official code, batch 32", "metric": "color", "step": 0}, 946.0),
        (
            "curves",
            {"row": "DPED, official code, batch 8", "metric": "psnr_dped", "step": 19000},
            20.58,
        ),
    ],
)
def test_prad_spot_checks(table: str, filters: dict[str, str | float], value: float) -> None:
    assert published.rows("prad", table=table, **filters).value.tolist() == [value]


@pytest.mark.parametrize(
    ("table", "filters", "value"),
    [
        (
            "dehazing",
            {"row": "dark channel", "dataset": "O-HAZE, NTIRE 2018", "metric": "psnr"},
            16.78,
        ),
        ("dehazing", {"row": "AOD-Net", "dataset": "I-HAZE, NTIRE 2018", "metric": "ssim"}, 0.7323),
        ("dehazing", {"row": "PFFNet", "dataset": "O-HAZE, NTIRE 2018", "metric": "psnr"}, 20.23),
        ("dehazing", {"row": "Ren (MSCNN)", "metric": "ciede2000"}, 14.67),
        ("dehazing", {"row": "Double-DIP", "metric": "psnr"}, 18.82),
        ("dip", {"row": "DIP, exponential average", "sigma": 25}, 30.43),
        ("haziness", {"row": "WCT2"}, 0.943),
        ("haziness", {"row": "DILIE"}, 0.350),
    ],
)
def test_dilie_spot_checks(table: str, filters: dict[str, str | float], value: float) -> None:
    assert published.rows("dilie", table=table, **filters).value.tolist() == [value]


def test_what_is_certain_about_dilies_figure_6() -> None:
    """The smallest of the four is DILIE's; whose the others are is a guess, and says so."""
    rows = published.rows("dilie", table="haziness").set_index("row")
    assert rows["value"].idxmin() == "DILIE"
    assert dict(rows["certainty"]) == {
        "DPST": "derived", "WCT2": "derived", "STROTSS": "derived", "DILIE": "text",
    }  # fmt: skip


def test_derived_values_of_prad_follow_from_stated_ones() -> None:
    """22.95 dB is stated, and gains over what is lost; the paper's gains are rounded themselves."""
    full = published.rows("prad", table="depth", row="PRaD").value.item()
    gain = published.rows("prad", table="cfa", metric="psnr_gain").set_index("row").value
    cfa = published.rows("prad", table="cfa", metric="psnr").set_index("row").value
    assert cfa["plain U-Net"] == pytest.approx(full - gain["PRaD over plain U-Net"])
    for row in ("+ R", "+ CFA"):
        expected = cfa["plain U-Net"] + gain[f"{row} over plain U-Net"]
        assert cfa[row] == pytest.approx(expected)
    pmn = published.rows("prad", table="main", row="PMN").value.item()
    over = published.rows("prad", table="main", row="PRaD over PMN").value.item()
    assert pmn == pytest.approx(full - over)
    image = published.rows("prad", table="discriminator", row="critic sees the image alone")
    assert image.value.item() == pytest.approx(full - 0.08)
    assert set(image.certainty) == {"derived"}


def test_a_missing_number_has_no_line() -> None:
    with pytest.raises(ValueError, match=r"no line of dncnn's table 'bsd68' has sigma=15"):
        published.rows("dncnn", table="bsd68", row="MLP", sigma=15)


def test_unknown_table_and_filter_name_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"table is 'set13'; dncnn has bsd68, colour"):
        published.rows("dncnn", table="set13")
    with pytest.raises(ValueError, match="neither a column nor a setting named 'sigmma'"):
        published.rows("dncnn", table="bsd68", sigmma=25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"certainty": "rumour"}, r"a_t.csv, line 3: certainty is 'rumour'"),
        ({"value": "n/a"}, r"a_t.csv, line 3: value is 'n/a'; expected a finite number"),
        ({"value": "nan"}, r"a_t.csv, line 3: value is 'nan'"),
        ({"paper": "b"}, r"a_t.csv, line 3: paper is 'b'; expected 'a'"),
        ({"source": " "}, r"a_t.csv, line 3: source is empty"),
        ({"setting": "25"}, r"a_t.csv, line 3: setting is '25'"),
        ({"certainty": "paper,paper"}, r"a_t.csv, line 3: expected 10 cells"),
        ({}, r"a_t.csv, line 3: the same number as line 2"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    bad = {**LINE, "row": "other", **change} if change else dict(LINE)
    with pytest.raises(published.PublishedError, match=message):
        published.load("a", folder=write(tmp_path, LINE, bad))


def test_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(published.PublishedError, match="line 1: columns must be paper, table"):
        published.load("a", folder=write(tmp_path, columns=("paper", "value")))
