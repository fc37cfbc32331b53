"""Device, threads, seeds and folders: the one place that sets them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from enhancelib import runtime

ROOT = Path(__file__).parent.parent


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *author, *words], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository that the library takes for its own."""
    (tmp_path / "enhancelib").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "enhancelib" / "a.py").write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    monkeypatch.setattr(runtime, "root", lambda: tmp_path)
    return tmp_path


# Device, threads, precision


def test_setup_fixes_the_threads_of_this_process_and_tells_them() -> None:
    code = (
        "import torch; from enhancelib import runtime; r = runtime.setup('cpu', threads=1);"
        "print(r.threads, torch.get_num_threads(), runtime.setup('cpu').threads)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["1", "1", "1"]


def test_auto_takes_cuda_exactly_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert runtime.setup("auto").device.type == expected


@pytest.mark.parametrize(
    "name", ["", "CPU", "gpu", "cuda:", "cuda:x", "cpu:1", "cuda:-1", "cuda:²"]
)
def test_an_unknown_device_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="expected 'auto', 'cpu', 'cuda' or 'cuda:N'"):
        runtime.setup(name)


def test_an_absent_device_is_refused_with_the_number_of_devices() -> None:
    with pytest.raises(ValueError, match=f"this machine has {torch.cuda.device_count()} CUDA"):
        runtime.setup("cuda:99")


@pytest.mark.parametrize("wrong", [{"precision": "fp16"}, {"threads": -1}])
def test_other_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        runtime.setup("cpu", **wrong)  # type: ignore[arg-type]


def test_autocast_lowers_matrix_products_at_bf16_and_nothing_at_fp32() -> None:
    a = torch.full((4, 4), 1.001)
    for precision, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with runtime.setup("cpu", precision=precision).autocast():
            assert (a @ a).dtype == kind


# Seeds


def test_a_derived_seed_is_the_hash_that_other_machines_compute_too() -> None:
    # `printf 0/main/1 | sha256sum` begins with these 16 digits; one bit less fits an int64
    assert runtime.derive(0, "main", 1) == 0x6843BF84F41ABBC3 >> 1
    assert 0 <= runtime.derive(2**31 - 1, "x") < 2**63


def test_every_key_counts_in_its_place() -> None:
    seeds = [
        runtime.derive(0),
        runtime.derive(1),
        runtime.derive(0, "a"),
        runtime.derive(0, "a", "b"),
        runtime.derive(0, "b", "a"),
        runtime.derive(0, "a", 0),
    ]
    assert len(set(seeds)) == len(seeds)


def test_generators_of_one_purpose_agree_and_of_two_do_not() -> None:
    first, again = (torch.rand(8, generator=runtime.generator(3, "x", 5)) for _ in range(2))
    other = torch.rand(8, generator=runtime.generator(3, "x", 6))
    assert first.equal(again)
    assert not first.equal(other)


def test_there_is_one_process_outside_torchrun() -> None:
    assert (runtime.rank(), runtime.world()) == (0, 1)


# Folders


def test_the_root_is_this_checkout_whatever_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert runtime.root() == ROOT
    assert runtime.data("photos.csv") == ROOT / "data" / "photos.csv"
    assert runtime.data("notebooks") == ROOT / "notebooks"


def test_the_cache_goes_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENHANCELIB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert runtime.cache() == tmp_path / "enhancelib"
    monkeypatch.setenv("ENHANCELIB_CACHE", str(tmp_path / "mine"))
    assert runtime.cache() == tmp_path / "mine"
    monkeypatch.delenv("ENHANCELIB_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert runtime.cache() == tmp_path / ".cache" / "enhancelib"


def test_assets_are_a_folder_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENHANCELIB_ASSETS", str(tmp_path))
    assert runtime.assets() == tmp_path
    monkeypatch.setenv("ENHANCELIB_ASSETS", str(tmp_path / "absent"))
    assert runtime.assets() is None


def test_a_digest_is_that_of_the_contents_in_their_order(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"ab")
    b.write_bytes(b"c")
    # sha256("abc"), FIPS 180-2 appendix B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert runtime.digest(a, b) == known
    assert runtime.digest(b, a) != known


# What a result says of its origin


def test_code_is_the_library_without_its_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "enhancelib"
    for name in ("runtime.py", "cli.py", "models/dncnn.py", "widgets/panel.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("a = 1\n")
    monkeypatch.setattr(runtime, "__file__", str(package / "runtime.py"))
    first = runtime.code()
    assert len(first) == 16
    for name in ("cli.py", "widgets/panel.py"):
        (package / name).write_text("a = 2\n")
    assert runtime.code() == first
    (package / "models" / "dncnn.py").write_text("a = 2\n")
    assert runtime.code() != first


def test_a_clean_tree_is_clean_and_every_change_of_code_is_dirty(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert runtime.commit() == (head, False)
    (checkout / "scratch.txt").write_text("mine\n")
    assert runtime.commit() == (head, False), "an untracked file that is no code"
    (checkout / "notebooks" / "new.py").write_text("b = 1\n")
    assert runtime.commit() == (head, True), "an untracked notebook"
    (checkout / "notebooks" / "new.py").unlink()
    (checkout / "enhancelib" / "a.py").write_text("a = 2\n")
    assert runtime.commit() == (head, True), "a changed file"


def test_outside_a_checkout_nothing_is_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "root", lambda: tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert runtime.commit() == ("unknown", True)


def test_commits_that_touch_library_or_notebook_are_counted(checkout: Path) -> None:
    first = git(checkout, "rev-parse", "HEAD")
    for name in ("enhancelib/a.py", "notebooks/dncnn.py", "README.md", "notebooks/prad.py"):
        (checkout / name).write_text("changed\n")
        git(checkout, "add", ".")
        git(checkout, "commit", "-qm", name)
    assert runtime.commits_since(first, "dncnn") == 2
    assert runtime.commits_since("0" * 40, "dncnn") == "n/a"


def test_the_environment_tells_what_numbers_depend_on() -> None:
    found = runtime.environment(runtime.Runtime(torch.device("cpu"), 1))
    assert {"commit", "dirty", "versions", "device", "threads"} <= set(found)
    assert found["device"] == "cpu"
    assert found["threads"] == 1
    assert found["tf32"] is False
    assert found["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]  # type: ignore[index]
