"""The discriminator's counts and sizes; the critic's Eq. 5, its hidden phi, its running scale."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from enhancelib import features as networks
from enhancelib import models, photos
from enhancelib.models.accounting import parameters
from enhancelib.models.prad import Critic, Discriminator


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def patches(name: str, count: int = 4, side: int = 64) -> Tensor:
    whole = photos.load(name)
    return torch.stack(
        [whole[:, 20 + 30 * k :, 40 + 25 * k :][:, :side, :side] for k in range(count)]
    )


def frozen(channels: int = 6) -> nn.Module:
    """Stands for relu1_2: frozen filters and a ReLU, with values in the hundreds."""
    conv = nn.Conv2d(3, channels, 3, padding=1).requires_grad_(False)
    conv.weight.uniform_(-100, 100, generator=draw(7))
    conv.bias.zero_()  # type: ignore[union-attr]
    return nn.Sequential(conv, nn.ReLU())


def critic(**options: Any) -> Critic:
    given = {"phi_channels": 6, "generator": draw(), **options}
    return Critic(given.pop("phi", frozen()), **given)


# prad.md 3.2
@pytest.mark.parametrize(
    ("channels", "published"), [(3, 7_371_713), (6, 7_389_137), (9, 7_406_561), (70, 7_760_849)]
)
def test_parameter_counts(channels: int, published: int) -> None:
    assert parameters(Discriminator(channels)) == published
    assert parameters(Discriminator(channels, norm="instance")) == published
    assert parameters(Discriminator(channels, norm="none")) == published - 2 * 640


def test_maps_have_the_sizes_of_the_paper() -> None:
    network, sides, x = Discriminator(3), [], torch.zeros(1, 3, 100, 100)
    for layer in network.features:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            sides.append(tuple(x.shape[1:]))
    assert sides == [(48, 25, 25), (128, 13, 13), (192, 13, 13), (192, 13, 13), (128, 7, 7)]


def test_the_norm_comes_after_the_activation_and_not_on_the_first_layer() -> None:
    kinds = [type(layer).__name__ for layer in Discriminator(3).features]
    assert kinds == ["Conv2d", "LeakyReLU"] + ["Conv2d", "LeakyReLU", "BatchNorm2d"] * 4
    official = [
        x for x in Discriminator(norm="instance").features if isinstance(x, nn.InstanceNorm2d)
    ]
    assert {(layer.eps, layer.affine) for layer in official} == {(1e-3, True)}
    slopes = {x.negative_slope for x in Discriminator().modules() if isinstance(x, nn.LeakyReLU)}
    assert slopes == {0.2}


@pytest.mark.parametrize("side", [17, 64, 96, 100, 131])
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_other_sizes_give_one_score_each(side: int, norm: str) -> None:
    scores = Discriminator(3, norm=norm)(patches("astronaut", 2, side))  # type: ignore[arg-type]
    assert scores.shape == (2,)
    assert bool(scores.isfinite().all())


def test_the_score_is_raw() -> None:
    network = Discriminator(3, generator=draw()).eval()
    with torch.no_grad():
        network.score[2].bias.fill_(-40.0)  # type: ignore[union-attr, operator]
        assert float(network(patches("coffee")).max()) < -30


def test_options_make_the_discriminator_again() -> None:
    network = Discriminator(9, norm="instance")
    again = models.build("prad.discriminator", **network.options)
    again.load_state_dict(network.state_dict())


@pytest.mark.parametrize(
    ("judges", "channels", "published"),
    [("pair", 70, 7_760_849), ("pair_without_phi", 6, 7_389_137), ("image", 3, 7_371_713)],
)
def test_what_each_critic_sees(judges: Any, channels: int, published: int) -> None:
    made = Critic(frozen(64), judges=judges)
    assert made.discriminator.channels == channels
    assert parameters(made) == published  # phi is not among them
    x, y = patches("astronaut", 2), patches("coffee", 2)
    assert made.inputs(x, y).shape == (2, channels, 64, 64)
    assert made(x, y).shape == (2,)


def test_equation_5() -> None:
    made, source, image = critic().eval(), patches("astronaut"), patches("coffee")
    phi = frozen()
    made.deviation.fill_(37.0)
    made.updates.fill_(1)
    expected = torch.cat((source, image, phi(image) / 37), dim=1)
    torch.testing.assert_close(made.inputs(source, image), expected)
    with torch.no_grad():
        torch.testing.assert_close(made(source, image), made.discriminator(expected))
    without = critic(judges="pair_without_phi").inputs(source, image)
    assert torch.equal(without, torch.cat((source, image), dim=1))
    assert torch.equal(critic(judges="image").inputs(source, image), image)


def test_inputs_change_nothing() -> None:
    made = critic()
    before = copy.deepcopy(made.state_dict())
    made.inputs(patches("astronaut"), patches("coffee"))
    assert all(torch.equal(before[key], value) for key, value in made.state_dict().items())


def test_before_the_first_update_phi_has_unit_deviation() -> None:
    own = critic().inputs(patches("astronaut"), patches("coffee"))[:, 6:]
    assert float(own.std(correction=0)) == pytest.approx(1.0)


def test_phi_is_hidden_and_its_scale_is_not() -> None:
    made = critic()
    inside = set(made.state_dict()) - {
        f"discriminator.{k}" for k in made.discriminator.state_dict()
    }
    assert inside == {"deviation", "updates"}
    assert len(list(made.parameters())) == len(list(made.discriminator.parameters()))
    assert not any(isinstance(module, nn.ReLU) for module in made.modules())


def test_the_scale_follows_real_pictures_while_training() -> None:
    made, phi = critic(), frozen()
    source, first, second = patches("astronaut"), patches("coffee"), 0.2 * patches("chelsea")
    a, b = (float(phi(x).std(correction=0)) for x in (first, second))
    made(source, second)  # an enhanced picture moves nothing
    assert int(made.updates) == 0
    made(source, first, update=True)
    assert float(made.deviation) == pytest.approx(a)  # the first batch sets it
    made(source, second, update=True)
    assert float(made.deviation) == pytest.approx(0.9 * a + 0.1 * b)
    made.eval()(source, first, update=True)
    assert float(made.deviation) == pytest.approx(0.9 * a + 0.1 * b)
    assert int(made.updates) == 2


def test_the_scale_is_saved_and_restored() -> None:
    made = critic()
    made(patches("astronaut"), patches("coffee"), update=True)
    again = critic(generator=draw(5))
    again.load_state_dict(made.state_dict())
    x, y = patches("chelsea"), patches("coffee")
    with torch.no_grad():
        assert torch.equal(again.eval()(x, y), made.eval()(x, y))


def test_an_update_between_forward_and_backward_is_harmless() -> None:
    made = critic()
    made(patches("astronaut"), patches("coffee"), update=True)
    fake = patches("chelsea").requires_grad_()
    score = made(patches("astronaut"), fake)
    made(patches("astronaut"), patches("coffee"), update=True)
    score.sum().backward()
    assert fake.grad is not None


def test_gradients_reach_the_picture_also_through_phi() -> None:
    source, image = patches("astronaut"), patches("coffee").requires_grad_()
    made = critic().eval()
    (whole,) = torch.autograd.grad(made(source, image).sum(), image)
    joined = made.inputs(source, image)
    cut_off = torch.cat((joined[:, :6], joined[:, 6:].detach()), dim=1)
    (direct,) = torch.autograd.grad(made.discriminator(cut_off).sum(), image)
    assert bool(whole.isfinite().all())
    assert float((whole - direct).norm()) > 0.1 * float(whole.norm())


def test_the_source_and_phi_are_looked_at() -> None:
    made, blank = critic().eval(), critic(phi=lambda x: torch.zeros(len(x), 6, *x.shape[2:])).eval()
    blank.load_state_dict(made.state_dict())
    x, y = patches("astronaut"), patches("coffee")
    with torch.no_grad():
        scores = made(x, y)
        assert not torch.allclose(made(y, y), scores, atol=1e-4)  # another picture's source
        assert not torch.allclose(blank(x, y), scores, atol=1e-4)
        alone = critic(judges="image").eval()
        assert torch.equal(alone(x, y), alone(y, y))


def test_batch_norm_learns_while_training_and_keeps_in_eval() -> None:
    made, x, y = critic(), patches("astronaut"), patches("coffee")
    norm = made.discriminator.features[4]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    before = norm.running_mean.clone()
    made(x, y, update=True)
    moved = norm.running_mean.clone()
    assert not torch.equal(moved, before)
    made.eval()
    with torch.no_grad():
        together = made(x, y)
        apart = torch.cat([made(x[k : k + 1], y[k : k + 1]) for k in range(4)])
    assert torch.equal(norm.running_mean, moved)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


def test_maps_of_another_size_are_brought_to_the_pictures() -> None:
    made = critic(phi=lambda x: torch.nn.functional.avg_pool2d(x, 2), phi_channels=3)
    assert made.inputs(patches("astronaut"), patches("coffee")).shape == (4, 9, 64, 64)


def test_a_phi_without_values_gives_no_nan() -> None:
    made = critic(phi=lambda x: torch.zeros(len(x), 6, *x.shape[2:]))
    assert bool(made(patches("astronaut"), patches("coffee"), update=True).isfinite().all())


def test_one_step_tells_real_from_fake() -> None:
    """An update on (real, fake) raises the difference of their scores."""
    made, source = critic(norm="none"), patches("astronaut")
    real, fake = source.sqrt(), source
    optimiser = torch.optim.Adam(made.parameters(), 1e-4)
    gaps = []
    for _ in range(3):
        gap = (made(source, real, update=True) - made(source, fake)).mean()
        optimiser.zero_grad()
        (-gap).backward()
        optimiser.step()
        gaps.append(float(gap.detach()))
    assert gaps[2] > gaps[1] > gaps[0]


def test_it_judges_with_the_vgg19(features: Path) -> None:
    vgg = networks.load("vgg19")
    made = Critic(lambda image: vgg(image, ("relu1_2",))["relu1_2"], generator=draw())
    image = patches("coffee", 2).requires_grad_()
    made(patches("astronaut", 2), image, update=True).sum().backward()
    assert float(made.deviation) > 10  # hundreds of units before it is divided
    assert image.grad is not None
    assert float(image.grad.abs().sum()) > 0
    seen = made.inputs(patches("astronaut", 2), image.detach())
    assert float(seen[:, 6:].std(correction=0)) == pytest.approx(1, rel=1e-3)
    assert not any(parameter.requires_grad for parameter in vgg.parameters())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"judges": "triple"}, "judges is 'triple'; expected one of 'pair'"),
        ({"phi": None}, "phi is missing"),
        ({"norm": "weight"}, "norm is 'weight'; expected one of 'batch', 'instance', 'none'"),
        ({"phi_channels": -6}, "channels is 0; expected an integer of at least 1"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        critic(**options)


def test_wrong_pictures_are_refused() -> None:
    made, x = critic(), patches("coffee")
    with pytest.raises(ValueError, match=r"source is \(3, 3, 64, 64\), image is \(4, 3, 64, 64\)"):
        made(x[:3], x)
    with pytest.raises(ValueError, match=r"image has shape \(4, 1, 64, 64\); expected \(B, 3"):
        made.inputs(x[:, :1], x[:, :1])
    with pytest.raises(ValueError, match="expected 5 channels"):
        critic(phi_channels=5)(x, x)
    with pytest.raises(ValueError, match="more than 16 pixels"):
        Discriminator(3, norm="instance")(x[..., :16, :16])
