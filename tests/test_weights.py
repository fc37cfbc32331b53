"""The authors' networks, the same from every format, and a sentence for every wrong file.

The parity figures are those of denoise-dehaze.md A7, under its protocol.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torch import Tensor, nn

from enhancelib import models, weights
from enhancelib.models.dncnn import DnCNN
from enhancelib.weights import WeightsError

State = dict[str, Tensor]


def state_of(network: nn.Module) -> State:
    return network.state_dict()


def assert_same(first: nn.Module, second: nn.Module) -> None:
    a, b = state_of(first), state_of(second)
    assert list(a) == list(b)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert first.options == second.options


def small(**options: Any) -> DnCNN:
    network = DnCNN(
        **{"D": 4, "width": 6, "generator": torch.Generator().manual_seed(0), **options}
    )
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


def cells(items: list[Any]) -> np.ndarray[Any, Any]:
    row = np.empty((1, len(items)), dtype=object)
    for index, item in enumerate(items):
        row[0, index] = item
    return row


def simplenn(network: DnCNN) -> dict[str, Any]:
    """The network as MatConvNet's list of layers, for savemat."""
    layers: list[dict[str, Any]] = []
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            filters = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
            bias = np.zeros((0, 0)) if layer.bias is None else layer.bias.detach().numpy()[:, None]
            geometry = {"stride": 1.0, "pad": 1.0}
            layers.append({"type": "conv", "weights": cells([filters, bias]), **geometry})
        elif isinstance(layer, nn.BatchNorm2d):
            moments = torch.stack((layer.running_mean, (layer.running_var + 1e-4).sqrt()), dim=1)
            arrays = [layer.weight.detach().numpy(), layer.bias.detach().numpy(), moments.numpy()]
            layers.append({"type": "bnorm", "weights": cells(arrays)})
        else:
            layers.append({"type": "relu", "leak": 0.0})
    return {"net": {"layers": cells(layers)}}


def test_one_network_from_three_official_formats(assets: Path) -> None:
    folder = assets / "weights" / "dncnn"
    npz = weights.load("dncnn", folder / "npz" / "sigma25.npz")
    assert npz.options == {
        "D": 17, "c": 1, "width": 64, "norm": "none", "residual": True, "noise_map": False,
    }  # fmt: skip
    assert not npz.training
    assert_same(weights.load("dncnn", folder / "mat" / "sigma=25.mat"), npz)
    assert_same(weights.load("dncnn", folder / "kair" / "dncnn_25.pth"), npz)


def test_matlab_5_and_7_3_hold_the_same(assets: Path, tmp_path: Path) -> None:
    original = weights.load("dncnn", assets / "weights" / "dncnn" / "mat" / "GD_Color_Blind.mat")
    assert (original.D, original.c) == (20, 3)
    for compressed in (False, True):
        savemat(tmp_path / "old.mat", simplenn(original), do_compression=compressed)
        assert "MATLAB 5.0" in (tmp_path / "old.mat").read_bytes()[:20].decode()
        assert_same(weights.load("dncnn", tmp_path / "old.mat"), original)


def test_the_blind_network_from_both_formats(assets: Path) -> None:
    folder = assets / "weights" / "dncnn"
    mat = weights.load("dncnn", folder / "mat" / "GD_Gray_Blind.mat")
    assert_same(mat, weights.load("dncnn", folder / "npz" / "GD_Gray_Blind.npz"))
    assert sum(p.numel() for p in mat.parameters()) == 665_921


@torch.no_grad()
def test_batch_normalisation_is_recognised_and_folds_to_the_merged_release(assets: Path) -> None:
    folder = assets / "weights" / "dncnn" / "npz"
    trained = weights.load("dncnn", folder / "sigma25_Bnorm.npz")
    merged = weights.load("dncnn", folder / "sigma25.npz")
    assert trained.norm == "batch"
    assert sum(p.numel() for p in trained.parameters()) == 556_097
    y = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(trained(y), merged(y), atol=1e-5, rtol=0)
    torch.testing.assert_close(models.fold(trained)(y), merged(y), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "none", "c": 3},
        {"norm": "none", "residual": False, "noise_map": True},
        {"norm": "none", "residual": False, "noise_map": True, "c": 3},
    ],
)
def test_a_matlab_5_file_gives_the_network_back(options: dict[str, Any], tmp_path: Path) -> None:
    network = small(**options)
    savemat(tmp_path / "net.mat", simplenn(network))
    loaded = weights.load("dncnn", tmp_path / "net.mat")
    assert loaded.options == network.options
    for key, value in state_of(network).items():
        torch.testing.assert_close(state_of(loaded)[key], value, atol=1e-6, rtol=1e-6)


def kair(network: DnCNN, prefix: str) -> State:
    return {key.replace("layers.", prefix): value for key, value in state_of(network).items()}


@pytest.mark.parametrize("prefix", ["model.", "module.dncnn.", "layers.", ""])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_state_dicts_of_any_prefix(prefix: str, norm: str, tmp_path: Path) -> None:
    network = small(norm=norm)
    torch.save(kair(network, prefix), tmp_path / "net.pth")
    assert_same(weights.load("dncnn", tmp_path / "net.pth"), network)
    torch.save({"epoch": 3, "state_dict": kair(network, prefix)}, tmp_path / "net.pt")
    assert_same(weights.load("dncnn", tmp_path / "net.pt"), network)


@torch.no_grad()
def test_a_bias_before_the_normalisation_moves_into_its_mean(tmp_path: Path) -> None:
    network = small()
    state = kair(network, "model.")
    state["model.2.bias"] = torch.linspace(-1, 1, 6)  # KAIR's convolutions always have one
    torch.save(state, tmp_path / "net.pth")
    loaded, y = weights.load("dncnn", tmp_path / "net.pth"), torch.rand(1, 1, 7, 7)
    network.layers[2].bias = nn.Parameter(state["model.2.bias"])
    torch.testing.assert_close(loaded(y), network(y), atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_convolutions_without_any_bias_get_zeros(tmp_path: Path) -> None:
    state = {k: v for k, v in kair(small(norm="none"), "dncnn.").items() if "bias" not in k}
    torch.save(state, tmp_path / "net.pth")
    loaded = weights.load("dncnn", tmp_path / "net.pth")
    assert not any(p.any() for name, p in loaded.named_parameters() if "bias" in name)


def test_options_override_what_the_file_tells(tmp_path: Path) -> None:
    network = small(norm="none", residual=False)
    torch.save(kair(network, "model."), tmp_path / "net.pth")
    assert weights.load("dncnn", tmp_path / "net.pth").residual
    assert not weights.load("dncnn", tmp_path / "net.pth", residual=False).residual
    with pytest.raises(WeightsError, match=r"net\.pth: key 'layers\.6\.weight' has shape"):
        weights.load("dncnn", tmp_path / "net.pth", D=5)
    with pytest.raises(ValueError, match="refuses its options"):
        weights.load("dncnn", tmp_path / "net.pth", depth=5)


def test_loading_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    weights.save(small(), tmp_path / "a.safetensors", name="dncnn", options=OPTIONS, card={})
    before = torch.random.get_rng_state()
    weights.load("dncnn", tmp_path / "a.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)


OPTIONS = {"D": 4, "width": 6}


def test_a_saved_network_comes_back_with_its_card(tmp_path: Path) -> None:
    path = tmp_path / "new" / "net.safetensors"
    card = {"data": "train bank", "psnr": {"25": 28.5}}
    network = small()
    network.to(memory_format=torch.channels_last)
    weights.save(network, path, name="dncnn", options=OPTIONS, card=card)
    assert_same(weights.load("dncnn", path), small())
    assert weights.card(path) == card
    assert [file.name for file in path.parent.iterdir()] == ["net.safetensors"]
    assert len(weights.sha256(path)) == 64
    assert not weights.load("dncnn", path, residual=False).residual


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    weights.save(small(), path, name="dncnn", options=OPTIONS, card={"version": 1})
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WeightsError, match=r"cannot be written .*No space left"):
        weights.save(small(), path, name="dncnn", options=OPTIONS, card={"version": 2})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"options": {"D": 5, "width": 6}}, "key 'layers.8.weight' has shape"),
        ({"options": {"D": 4, "width": 6, "norm": "none"}}, "key 'layers.2.bias' is missing"),
        ({"card": {"when": object()}}, "plain JSON values"),
        ({"card": {"psnr": float("nan")}}, "plain JSON values"),
        ({"name": "dcnn"}, "model is 'dcnn'"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    call = {"name": "dncnn", "options": OPTIONS, "card": {}, **change}
    with pytest.raises(ValueError, match=sentence):
        weights.save(small(), tmp_path / "net.safetensors", **call)
    assert not list(tmp_path.iterdir())


def test_save_writes_safetensors_only(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"suffix is '\.pth'; expected '\.safetensors'"):
        weights.save(small(), tmp_path / "net.pth", name="dncnn", options=OPTIONS, card={})


def test_a_network_of_parts_is_a_dict_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.coarse, self.fine = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 2, 3)

    monkeypatch.setitem(models.MODELS, "pair", Pair)
    pair = Pair()
    files = {"coarse": tmp_path / "a.pth", "fine": tmp_path / "b.npz"}
    torch.save(pair.coarse.state_dict(), files["coarse"])
    np.savez(files["fine"], **{k: v.numpy() for k, v in pair.fine.state_dict().items()})
    loaded = weights.load("pair", files)
    assert all(torch.equal(v, state_of(pair)[k]) for k, v in state_of(loaded).items())
    with pytest.raises(WeightsError, match=r"a\.pth: key 'fine\.weight' is missing"):
        weights.load("pair", {"coarse": files["coarse"]})
    with pytest.raises(WeightsError, match="empty dict"):
        weights.load("pair", {})


def as_npz(path: Path, state: dict[str, Any]) -> Path:
    np.savez(path, **state)
    return path


def layers(D: int = 4, width: int = 6, c: int = 1, incoming: int = 1) -> dict[str, Any]:
    shapes = [(width, incoming, 3, 3), *[(width, width, 3, 3)] * (D - 2), (c, width, 3, 3)]
    return {f"conv{i}.weight": np.ones(s, np.float32) for i, s in enumerate(shapes)}


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"fc.weight": np.ones((3, 3))}, "unexpected key 'fc.weight'"),
        ({**layers(), "head.conv9.weight": np.ones(3)}, "unexpected key 'head.conv9.weight'"),
        ({**layers(), "conv1.dilate": np.array(2.0)}, "unexpected key 'conv1.dilate'"),
        ({**layers(), "conv1.weight": np.ones((6, 6, 5, 5))},
         r"conv1.weight has shape \(6, 6, 5, 5\); expected \(6, 6, 3, 3\)"),
        ({**layers(), "conv3.bias": np.ones(2)}, r"conv3.bias has shape \(2,\); expected \(1,\)"),
        (layers(c=3, incoming=1), "conv0.weight reads 1 channels where conv3.weight writes 3"),
        ({**layers(), "bn0.weight": np.ones(6)}, "conv0 has a batch normalisation"),
        ({**layers(), "bn1.weight": np.ones(6)}, "conv2 has no batch normalisation"),
        ({"bn0.weight": np.ones(6)}, "unexpected key 'bn0.weight'; no convolution stands before"),
        ({"conv0.bias": np.ones(6), **layers(D=2)}, "holds 2 convolutions"),
        ({k: v for k, v in layers(D=2).items()} | {"conv2.bias": np.ones(1)},
         "key 'conv2.weight' is missing"),
        ({**layers(), "conv2.weight": np.full((6, 6, 3, 3), np.nan)},
         "key 'layers.4.weight' holds NaN"),
        ({"conv0.weight": np.array(["a"])}, "holds an array of <U1 where numbers were expected"),
    ],
)  # fmt: skip
def test_the_first_misfit_is_named(state: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = as_npz(tmp_path / "wrong.npz", state)
    with pytest.raises(WeightsError, match=rf"wrong\.npz: {sentence}"):
        weights.load("dncnn", path)


def test_moments_must_be_complete(tmp_path: Path) -> None:
    norms = {f"bn{i}.{k}": np.ones(6) for i in (1, 2) for k in ("weight", "bias", "mean", "std")}
    path = as_npz(tmp_path / "net.npz", {**layers(), **norms})
    assert weights.load("dncnn", path).norm == "batch"
    as_npz(path, {**layers(), **norms, "bn2.std": np.ones(5)})
    with pytest.raises(WeightsError, match=r"bn2\.std has shape \(5,\); expected \(6,\)"):
        weights.load("dncnn", path)
    del norms["bn2.mean"]
    with pytest.raises(WeightsError, match=r"key 'bn2\.mean' is missing"):
        weights.load("dncnn", as_npz(path, {**layers(), **norms}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: x[1].update(type="pool"), "layer 1 of the MatConvNet network is 'pool'"),
        (lambda x: x[2].update(stride=2.0), "unexpected key 'conv1.stride'"),
        (lambda x: x[2].update(pad=np.array([[1.0, 1, 0, 1]])), "unexpected key 'conv1.pad'"),
        (lambda x: x[2].update(dilate=3.0), "unexpected key 'conv1.dilate'"),
        (lambda x: x[1].update(leak=0.2), "unexpected key 'relu1.leak'"),
        (lambda x: x[3].update(weights=cells([np.ones(6)] * 2)), "bn1 has 2 arrays"),
    ],
)
def test_another_matconvnet_network_is_refused(change: Any, sentence: str, tmp_path: Path) -> None:
    content = simplenn(small())
    change(content["net"]["layers"][0])
    savemat(tmp_path / "net.mat", content)
    with pytest.raises(WeightsError, match=rf"net\.mat: {sentence}"):
        weights.load("dncnn", tmp_path / "net.mat")


def write_all_formats(folder: Path) -> list[Path]:
    network = small(norm="none")
    torch.save(kair(network, "model."), folder / "net.pth")
    np.savez(folder / "net.npz", **layers())
    savemat(folder / "net.mat", simplenn(network))
    options = {**OPTIONS, "norm": "none"}
    weights.save(network, folder / "net.safetensors", name="dncnn", options=options, card={})
    return sorted(folder.iterdir())


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(part: float, tmp_path: Path) -> None:
    for path in write_all_formats(tmp_path):
        assert weights.load("dncnn", path).D == 4
        content = path.read_bytes()
        path.write_bytes(content[: int(part * len(content))])
        sentence = "empty" if part == 0 else "truncated|no file of plain tensors|MatConvNet"
        with pytest.raises(WeightsError, match=rf"{path.name}: .*({sentence})"):
            weights.load("dncnn", path)


def test_a_truncated_matlab_7_3_file_is_refused(assets: Path, tmp_path: Path) -> None:
    content = (assets / "weights" / "dncnn" / "mat" / "sigma=25.mat").read_bytes()
    for end in (100, 600, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.mat").write_bytes(content[:end])
        with pytest.raises(WeightsError, match=r"cut\.mat: "):
            weights.load("dncnn", tmp_path / "cut.mat")


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".pth", ".pt", ".safetensors"])
def test_something_else_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    for content in (b"<html>404</html>", b"\x00" * 2000, np.random.default_rng(0).bytes(4096)):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=rf"net\{suffix}: "):
            weights.load("dncnn", path)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/enhancelib-trap"),))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    trap = Path("/tmp/enhancelib-trap")
    torch.save(Trap(), tmp_path / "a.pth")
    torch.save({"model.0.weight": torch.ones(1), "x": Trap()}, tmp_path / "b.pth")
    torch.save(small(), tmp_path / "c.pth")  # a whole module, as old releases were saved
    torch.save(small(), tmp_path / "d.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "e.pt").write_bytes(pickle.dumps(Trap()))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(WeightsError, match=rf"{path.name}: no file of plain tensors.*run code"):
            weights.load("dncnn", path)
    np.savez(tmp_path / "f.npz", **{"conv0.weight": np.array([Trap()], dtype=object)})
    with pytest.raises(WeightsError, match=r"f\.npz: "):
        weights.load("dncnn", tmp_path / "f.npz")
    assert not trap.exists()


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pth: no such file"):
        weights.load("dncnn", tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="no such file"):
        weights.load("dncnn", tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"its suffix is none of \.safetensors, \.npz, \.mat"):
        weights.load("dncnn", tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match="No such file"):
        weights.sha256(tmp_path / "absent.pth")


def test_our_own_file_of_another_network(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = str(tmp_path / "net.safetensors")
    save_file(state_of(small()), path, {"name": "other", "options": json.dumps(OPTIONS)})
    with pytest.raises(WeightsError, match="holds a 'other', not a 'dncnn'"):
        weights.load("dncnn", path)
    save_file(state_of(small()), path, {"name": "dncnn", "options": "{"})
    with pytest.raises(WeightsError, match="metadata 'options' is not JSON"):
        weights.load("dncnn", path)
    save_file(state_of(small()), path, {"name": "dncnn", "options": "[1]"})
    with pytest.raises(WeightsError, match="expected a JSON object"):
        weights.load("dncnn", path)


def test_the_refusal_of_other_released_networks_names_the_file(assets: Path) -> None:
    for name in ("dehazenet/dehaze.mat", "zero_dce/Epoch99.pth", "aodnet/aodnet_official.npz"):
        path = assets / "weights" / name
        if path.is_file():
            with pytest.raises(WeightsError, match=path.name):
                weights.load("dncnn", path)


def psnr(restored: Tensor, clean: np.ndarray[Any, Any]) -> float:
    """After rounding to 8 bits, as the official scripts do."""
    levels = np.round(np.clip(restored.numpy(), 0, 1) * 255)
    return float(10 * np.log10(255**2 / np.mean((levels - clean) ** 2)))


def mean_psnr(network: nn.Module, folder: Path, sigma: float, mode: str) -> float:
    values = []
    fast = models.fast(network)
    for file in sorted(folder.glob("*.png")) + sorted(folder.glob("*.bmp")):
        with Image.open(file) as picture:
            levels = np.asarray(picture.convert(mode), dtype=np.float64)
        planes = levels[None] if mode == "L" else levels.transpose(2, 0, 1)
        v = np.random.RandomState(0).randn(1, *planes.shape)  # the draws of A7's figures
        y = torch.from_numpy((planes / 255 + sigma / 255 * v).astype(np.float32))
        with torch.inference_mode():
            values.append(psnr(fast(y)[0], planes))
    return float(np.mean(values))


@pytest.mark.parametrize(
    ("file", "sigma", "published", "tolerance"),
    [
        ("npz/sigma25.npz", 25, 30.43, 0.02),
        ("npz/sigma15.npz", 15, 32.851, 0.02),
        ("mat/GD_Gray_Blind.mat", 25, 30.35, 0.02),
    ],
)
def test_set12_gives_the_published_psnr(
    assets: Path, file: str, sigma: int, published: float, tolerance: float
) -> None:
    network = weights.load("dncnn", assets / "weights" / "dncnn" / file)
    value = mean_psnr(network, assets / "data" / "Set12", sigma, "L")
    assert value == pytest.approx(published, abs=tolerance)


def test_colour_photos_give_the_measured_psnr(assets: Path) -> None:
    network = weights.load("dncnn", assets / "weights" / "dncnn" / "npz" / "color_sigma25.npz")
    value = mean_psnr(network, assets / "data" / "live1_clean", 25, "RGB")
    assert value == pytest.approx(31.49, abs=0.02)
