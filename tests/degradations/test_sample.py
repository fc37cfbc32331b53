"""What every degradation checks before it begins."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from enhancelib.degradations.sample import factor, interval, source


def test_source_prefers_what_is_already_degraded() -> None:
    clean, degraded = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert source({"clean": clean}) is clean
    assert source({"clean": clean, "degraded": degraded}) is degraded


def test_source_refuses() -> None:
    with pytest.raises(ValueError, match="the sample holds nothing; expected 'clean'"):
        source({})
    with pytest.raises(ValueError, match=r"torch.float32 of shape \(3, 4, 4\); expected a float"):
        source({"clean": torch.zeros(3, 4, 4)})
    with pytest.raises(ValueError, match=r"the picture is torch.uint8"):
        source({"clean": torch.zeros(1, 3, 4, 4, dtype=torch.uint8)})


@pytest.mark.parametrize(
    "value", [(1.0, 2.0, 3.0), (1.0,), "25", True, None, float("nan"), (0.0, float("inf")), (2, 1)]
)
def test_interval_refuses(value: Any) -> None:
    with pytest.raises(ValueError, match=r"level is .*; expected a finite number or a pair"):
        interval("level", value)


def test_factor_broadcasts_against_pictures() -> None:
    level = factor(torch.tensor([1.0, 2.0]), torch.zeros(2, 3, 4, 5))
    assert (torch.ones(2, 3, 4, 5) * level)[1].unique().tolist() == [2.0]
