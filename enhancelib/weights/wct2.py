"""WCT2 from its released pair of files, encoder and decoder, given as {"encoder": ..., ...}.

Known layouts: the released state dicts (`conv1_1.weight`, `pool1.LL.weight`, and in a cat5 decoder
`conv3_4_2.weight`), and our own. The Haar filters stored beside the convolutions are checked and
left out: they are no parameters.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from enhancelib.models.wct2 import HAAR
from enhancelib.weights import scopes
from enhancelib.weights.formats import WeightsError

_FILTER = re.compile(r"(?:encoder\.pool|decoder\.recon_block)\d\.(LL|LH|HL|HH)\.weight")
_AFTER_UNPOOL = re.compile(r"decoder\.(conv3_4|conv2_2|conv1_2)_2\.")
_BANDS = ("LL", "LH", "HL", "HH")


def convert(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Recognise the option, and give every convolution its place.

    Args:
        tensors: The tensors of both files, as `encoder.key` and `decoder.key`.

    Returns:
        (options for `build("wct2", ...)`, its state dict).

    Raises:
        WeightsError: If there is no decoder, or a stored Haar filter is another one.

    Example:
        >>> from enhancelib import models
        >>> convert(models.build("wct2", option="sum").state_dict())[0]
        {'option': 'sum'}
        >>> import torch
        >>> convert({"conv1_1.weight": torch.zeros(64, 3, 3, 3)})
        Traceback (most recent call last):
        enhancelib.weights.formats.WeightsError: holds no decoder of WCT2; give both files: ...
    """
    found = scopes.own(tensors, "encoder.conv0.weight") or {}
    state = {_AFTER_UNPOOL.sub(r"decoder.\1.", key): value for key, value in found.items()}
    if "decoder.conv3_4.weight" not in state:
        raise WeightsError(
            "holds no decoder of WCT2; give both files: {'encoder': 'wave_encoder_cat5_l4.pth', "
            "'decoder': 'wave_decoder_cat5_l4.pth'}"
        )
    for key in [key for key in state if _FILTER.fullmatch(key)]:
        _check(key, state.pop(key))
    wide = state["decoder.conv3_4.weight"].shape[1] > state["decoder.conv3_4.weight"].shape[0]
    return {"option": "cat5" if wide else "sum"}, state


def _check(key: str, stored: Tensor) -> None:
    band = _BANDS.index(key.split(".")[-2])
    expected = torch.tensor(HAAR[band]).expand(stored.shape[0], 1, 2, 2)
    if stored.shape != expected.shape or not torch.allclose(stored, expected, atol=1e-6):
        raise WeightsError(f"key {key!r} is another filter than the Haar transform's {HAAR[band]}")
