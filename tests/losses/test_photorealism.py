"""The matting term: pymatting's matrix, and the local fits that it stands for."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor

from enhancelib.losses import photorealism
from enhancelib.losses.photorealism import MattingLaplacian, matting, variation

Array = NDArray[np.float64]
FORMS = ("free", "sparse")
# astronaut[80:144, 90:160] charged on its own tone curve x^1.5, eps 1e-7; pymatting says so too
PINNED = 0.117744162


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def photo(name: str) -> Array:
    return np.asarray(getattr(data, name)()[80:144, 90:160] / 255)


def tensor(picture: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]


PICTURES: dict[str, Callable[[], Array]] = {
    "another photo": lambda: photo("chelsea"),
    "a tone curve": lambda: photo("astronaut") ** 1.5,
    "the guide": lambda: photo("astronaut"),
    "noise": lambda: np.random.default_rng(0).random((64, 70, 3)),
}


@pytest.fixture(scope="module")
def cf_laplacian() -> Callable[..., Any]:
    """Of pymatting, which compiles itself for a minute when it is imported for the first time."""
    from pymatting.laplacian.cf_laplacian import cf_laplacian as theirs

    made: Callable[..., Any] = theirs
    return made


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("radius", "eps"), [(1, 1e-7), (1, 1e-5), (2, 1e-5), (2, 1e-3)])
def test_value_and_gradient_are_pymattings(
    cf_laplacian: Callable[..., Any], name: str, form: str, radius: int, eps: float
) -> None:
    guide, V = photo("astronaut"), PICTURES[name]()
    L = cf_laplacian(guide, eps, radius)
    products = np.stack([(L @ V[..., c].ravel()).reshape(64, 70) for c in range(3)], axis=-1)
    image = tensor(V).requires_grad_()
    loss = MattingLaplacian(tensor(guide), radius=radius, eps=eps, form=form).loss(image)
    loss.backward()
    assert image.grad is not None
    assert float(loss.detach()) == pytest.approx(float((V * products).sum()), rel=1e-6)
    found = image.grad[0].permute(1, 2, 0).numpy()
    # The guide costs so little that pymatting's own rounding shows, of a 3 x 3 inverse by
    # cofactors; in 80-bit arithmetic its gradient is off by 2e-7 of the largest, ours by 3e-9.
    near = 1e-5 if name == "the guide" else 1e-6
    np.testing.assert_allclose(found, 2 * products, rtol=0, atol=near * abs(2 * products).max())


@pytest.mark.parametrize(("radius", "size"), [(1, (9, 7)), (2, (8, 11)), (1, (3, 3)), (2, (5, 6))])
def test_the_matrix_is_pymattings(
    cf_laplacian: Callable[..., Any], radius: int, size: tuple[int, int]
) -> None:
    guide = draw(2, 3, *size)
    found = MattingLaplacian(guide, radius=radius, eps=1e-4).sparse()
    assert found.layout == torch.sparse_csr
    whole, count = found.to_dense().numpy(), size[0] * size[1]
    for k in range(2):
        rows = slice(k * count, (k + 1) * count)
        wanted = cf_laplacian(guide[k].permute(1, 2, 0).numpy().copy(), 1e-4, radius).toarray()
        np.testing.assert_allclose(whole[rows, rows], wanted, rtol=0, atol=1e-12)
    assert not whole[:count, count:].any()


def fits_by_loops(image: Tensor, guide: Tensor, radius: int, eps: float) -> float:
    """What is left of the cheapest affine fit of every window, by least squares."""
    total = 0.0
    D, side = guide.shape[0], 2 * radius + 1
    for y in range(guide.shape[1] - 2 * radius):
        for x in range(guide.shape[2] - 2 * radius):
            window = (slice(None), slice(y, y + side), slice(x, x + side))
            I = guide[window].reshape(D, -1).T.numpy()  # noqa: E741
            # rows sqrt(eps) a = 0 add eps |a|^2 to the squares
            A = np.block(
                [[I, np.ones((side**2, 1))], [math.sqrt(eps) * np.eye(D), np.zeros((D, 1))]]
            )
            for V in image[window].reshape(image.shape[0], -1).numpy():
                target = np.concatenate([V, np.zeros(D)])
                ab = np.linalg.lstsq(A, target, rcond=None)[0]
                total += float(((A @ ab - target) ** 2).sum())
    return total


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("colours", [1, 3, 4])
@pytest.mark.parametrize(("radius", "eps"), [(1, 0.01), (2, 1e-4)])
def test_by_local_fits(form: str, colours: int, radius: int, eps: float) -> None:
    """Any number of colours in the guide and of channels in the picture; mean over the batch."""
    guide, image = draw(2, colours, 7, 8), draw(2, 2, 7, 8, seed=1)
    found = MattingLaplacian(guide, radius=radius, eps=eps, form=form).loss(image)
    each = [fits_by_loops(V, one, radius, eps) for V, one in zip(image, guide, strict=True)]
    assert float(found) == pytest.approx(np.mean(each), rel=1e-9)
    assert float(matting(image, guide, radius=radius, eps=eps)) == pytest.approx(
        np.mean(each), rel=1e-9
    )


def test_defaults() -> None:
    guide, image = draw(1, 3, 8, 9), draw(1, 3, 8, 9, seed=1)
    explicit = matting(image, guide, radius=1, eps=1e-7)
    assert torch.equal(matting(image, guide), explicit)
    torch.testing.assert_close(MattingLaplacian(guide).loss(image), explicit)
    assert MattingLaplacian(guide).form == "sparse"  # the faster one on a CPU
    assert MattingLaplacian(guide, radius=2).form == "free"


def test_value_on_a_photo() -> None:
    found = matting(tensor(photo("astronaut") ** 1.5), tensor(photo("astronaut")))
    assert float(found) == pytest.approx(PINNED, rel=1e-6)


@pytest.mark.parametrize("radius", [1, 2])
def test_symmetric_semi_definite_and_blind_to_constants(radius: int) -> None:
    M = MattingLaplacian(draw(1, 3, 6, 7), radius=radius).sparse().to_dense()
    torch.testing.assert_close(M, M.T, rtol=0, atol=1e-12)
    assert float(M.sum(dim=1).abs().max()) < 1e-12
    assert float(torch.linalg.eigvalsh(M).min()) > -1e-12
    # only the constant and the guide's channels are free, or nearly
    assert int((torch.linalg.eigvalsh(M) < 1e-6).sum()) == 4


@pytest.mark.parametrize("form", FORMS)
def test_affine_functions_of_the_guide_are_nearly_free(form: str) -> None:
    guide = tensor(photo("astronaut"))
    M = MattingLaplacian(guide, form=form)
    mix = torch.tensor([[0.5, 0.3, 0.1], [-0.4, 1.0, 0.2], [0.0, 0.0, 0.7]]).double()
    image = torch.einsum("cd,bdhw->bchw", mix, guide) + 0.2
    windows = 62 * 68
    # the fit's slopes are at most the true ones, and eps is their price
    assert 0 < float(M.loss(image)) <= 1e-7 * float(mix.square().sum()) * windows
    assert float(M.loss(tensor(photo("chelsea")))) > 1
    assert float(M.loss(torch.full((1, 3, 64, 70), 0.3))) == 0


@pytest.mark.parametrize("form", FORMS)
def test_gradients(form: str) -> None:
    M = MattingLaplacian(draw(2, 3, 5, 6), eps=0.01, form=form)
    image = draw(2, 2, 5, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(M.loss, (image,))
    if form == "free":
        assert torch.autograd.gradcheck(M.product, (image,))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("radius", [1, 2])
def test_product(form: str, radius: int) -> None:
    M = MattingLaplacian(draw(2, 3, 6, 7), radius=radius, eps=1e-3, form=form)
    v = draw(2, 4, 6, 7, seed=1)
    wanted = torch.einsum("ij,bcj->bci", M.sparse().to_dense()[:42, :42], v.flatten(2)[:1]).view(
        1, 4, 6, 7
    )
    torch.testing.assert_close(M.product(v)[:1], wanted)
    torch.testing.assert_close(M.loss(v), (v * M.product(v)).sum() / 2)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_types_are_computed_in_float64(form: str, dtype: torch.dtype) -> None:
    guide, image = draw(1, 3, 8, 9).to(dtype), draw(1, 3, 8, 9, seed=1).to(dtype)
    found = MattingLaplacian(guide, form=form).loss(image)
    wanted = MattingLaplacian(guide.double(), form=form).loss(image.double())
    assert found.dtype == torch.float32
    assert MattingLaplacian(guide, form=form).product(image).dtype == torch.float32
    assert float(found) == pytest.approx(float(wanted), rel=1e-7)


def test_no_gradient_flows_to_the_guide() -> None:
    guide = draw(1, 3, 8, 9).requires_grad_()
    assert not MattingLaplacian(guide).loss(draw(1, 3, 8, 9, seed=1)).requires_grad


def test_nothing_is_warned_about() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        M = MattingLaplacian(draw(1, 3, 8, 9), form="sparse")
        M.loss(draw(1, 3, 8, 9, seed=1).requires_grad_()).backward()


def test_variation_by_loops() -> None:
    image = draw(2, 3, 4, 5)
    total = 0.0
    for b, c, i, j in itertools.product(range(2), range(3), range(4), range(5)):
        if i + 1 < 4:
            total += float(image[b, c, i + 1, j] - image[b, c, i, j]) ** 2
        if j + 1 < 5:
            total += float(image[b, c, i, j + 1] - image[b, c, i, j]) ** 2
    assert float(variation(image)) == pytest.approx(total / 2 / 2, rel=1e-12)
    assert float(variation(255 * image)) == pytest.approx(255**2 * total / 4, rel=1e-12)
    assert float(variation(image + 0.3)) == pytest.approx(total / 4, rel=1e-9)
    assert torch.autograd.gradcheck(variation, (image.requires_grad_(),))
    assert float(variation(torch.ones(1, 3, 1, 1))) == 0


def test_wrong_input_is_refused() -> None:
    guide = draw(2, 3, 8, 9)
    M = MattingLaplacian(guide)
    for call in (M.loss, M.product):
        for wrong in (guide[:1], guide[..., :8], guide[:, :, :7]):
            with pytest.raises(ValueError, match=r"expected \(2, C, 8, 9\) as the guide's"):
                call(wrong)
        with pytest.raises(ValueError, match=r"is torch\.uint8; expected floating point"):
            call(guide.byte())
    with pytest.raises(ValueError, match=r"guide has shape \(3, 8, 9\); expected \(N, C, H, W\)"):
        MattingLaplacian(guide[0])
    with pytest.raises(ValueError, match=r"guide is torch\.uint8; expected floating point"):
        MattingLaplacian(guide.byte())
    with pytest.raises(ValueError, match="expected at least 9 x 9 pixels"):
        MattingLaplacian(guide, radius=4)
    for radius, eps in ((0, 1e-7), (1, 0.0), (1, -1.0), (1, math.nan), (1, math.inf)):
        with pytest.raises(ValueError, match="expected 1 or more, and a positive number"):
            MattingLaplacian(guide, radius=radius, eps=eps)
    with pytest.raises(ValueError, match="form is 'dense'; expected 'sparse', 'free' or None"):
        MattingLaplacian(guide, form="dense")
    with pytest.raises(ValueError, match="expected floating point"):
        photorealism.variation(guide.byte())
