"""TensorFlow's checkpoints: the authors' own, and whatever can be wrong with one."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from enhancelib.weights import WeightsError, formats, tensorflow
from tests import bundles


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return bundles.write(tmp_path / "net", bundles.dped(1, 4))


def index(prefix: Path) -> Path:
    return Path(f"{prefix}.index")


def data(prefix: Path, shard: int = 0, shards: int = 1) -> Path:
    return Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}")


def one_table(prefix: Path, pairs: list[tuple[bytes, bytes]], **options: int) -> Path:
    index(prefix).write_bytes(bundles.table(pairs, **options))
    return prefix


# 123456789 is the check value of every CRC catalogue; 32 zeros are RFC 3720's example
@pytest.mark.parametrize(
    ("content", "checksum"),
    [(b"", 0), (b"123456789", 0xE3069283), (b"\0" * 32, 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43)],
)
def test_checksums_of_the_standard(content: bytes, checksum: int) -> None:
    assert tensorflow._crc32c(content) == checksum
    assert bundles.crc32c(content) == checksum


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 63, 64, 65, 999, 4097])
def test_lanes_give_the_checksum_of_the_definition(length: int) -> None:
    content = np.random.default_rng(length).bytes(length)
    assert tensorflow._crc32c(content) == bundles.crc32c(content)


def test_the_authors_checkpoint_holds_what_the_npz_holds(assets: Path) -> None:
    folder = assets / "weights" / "dped"
    found = tensorflow.read(folder / "iphone_orig.index")
    assert {name.partition("/")[0] for name in found} == {"generator"}
    with np.load(folder / "iphone_orig.npz") as stored:
        assert {name.removeprefix("generator/") for name in found} == set(stored.files)
        for name, value in found.items():
            assert value.dtype == np.float32
            assert np.array_equal(value, stored[name.removeprefix("generator/")])


@pytest.mark.parametrize(("shards", "per_block"), [(1, 1000), (1, 3), (3, 1000), (2, 1)])
def test_shards_and_blocks_make_no_difference(shards: int, per_block: int, tmp_path: Path) -> None:
    arrays = bundles.dped(2, 3)
    prefix = bundles.write(tmp_path / "net.ckpt", arrays, shards=shards, per_block=per_block)
    found = tensorflow.read(index(prefix))
    assert sorted(found) == sorted(arrays)
    assert all(np.array_equal(found[name], value) for name, value in arrays.items())
    for path in (prefix, index(prefix), data(prefix, shards - 1, shards)):
        assert tensorflow.index(path) == index(prefix)
        assert sorted(formats.read(path).tensors) == sorted(arrays)


def test_numbers_of_every_size_and_shape(tmp_path: Path) -> None:
    arrays = {
        "a": np.array(1.5, np.float32),
        "b": np.array([[1, 2**40, -3]], np.int64),
        "c": np.array([0.1, 1e300]),
        "d": np.array([True, False]),
        "e": np.zeros((0, 3), np.float32),
        "f": np.arange(3, dtype=np.float16),
        "g": np.array([-5], np.int32),
        "h": np.arange(200, dtype=np.uint8),
    }
    found = tensorflow.read(index(bundles.write(tmp_path / "net", arrays)))
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert np.array_equal(found[name], value)


def test_text_is_left_out(tmp_path: Path) -> None:
    prefix = bundles.write(tmp_path / "net", {"W1": np.ones(2, np.float32)})
    content = data(prefix).read_bytes()
    pairs = [
        (b"", bundles.header(1)),
        (b"W1", bundles.entry(1, (2,), 0, 0, content)),
        (b"_CHECKPOINTABLE_OBJECT_GRAPH", bundles.entry(7, (), 0, 8, b"any text")),
    ]
    assert list(tensorflow.read(index(one_table(prefix, pairs)))) == ["W1"]


def test_a_path_of_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"x")
    assert tensorflow.index(tmp_path / "net.pth") is None
    assert tensorflow.index(tmp_path / "absent") is None
    assert tensorflow.index(tmp_path) is None
    with pytest.raises(WeightsError, match=r"absent\.index: no such file"):
        formats.read(tmp_path / "absent.index")


def test_half_a_checkpoint_is_refused(prefix: Path) -> None:
    content = data(prefix).read_bytes()
    data(prefix).unlink()
    with pytest.raises(WeightsError, match=r"net\.data-00000-of-00001 is not beside it; a Tensor"):
        formats.read(prefix)
    data(prefix).write_bytes(content)
    index(prefix).unlink()
    with pytest.raises(WeightsError, match=r"of-00001: net\.index is not beside it; a TensorFlow"):
        formats.read(data(prefix))
    with pytest.raises(WeightsError, match=r"net: no such file"):
        formats.read(prefix)


@pytest.mark.parametrize("part", [0.0, 0.05, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_index_is_refused(part: float, prefix: Path) -> None:
    content = index(prefix).read_bytes()
    index(prefix).write_bytes(content[: int(part * len(content))])
    sentence = "empty" if part == 0 else "truncated or no TensorFlow index"
    with pytest.raises(WeightsError, match=rf"net\.index: .*{sentence}"):
        formats.read(prefix)


@pytest.mark.parametrize("lost", [1, 100])
def test_a_truncated_data_file_is_refused(lost: int, prefix: Path) -> None:
    content = data(prefix).read_bytes()
    data(prefix).write_bytes(content[:-lost])
    told = rf"of-00001 is truncated: {len(content) - lost} bytes, 'generator/\w+' ends at \d+"
    with pytest.raises(WeightsError, match=told):
        formats.read(prefix)


def test_every_altered_byte_is_noticed(prefix: Path) -> None:
    content = index(prefix).read_bytes()
    for position in range(0, len(content) - 48, 7):
        altered = bytearray(content)
        altered[position] ^= 0x40
        index(prefix).write_bytes(bytes(altered))
        with pytest.raises(WeightsError, match=r"damaged|truncated|compressed"):
            formats.read(prefix)
    index(prefix).write_bytes(content)
    stored = bytearray(data(prefix).read_bytes())
    stored[1234] ^= 1
    data(prefix).write_bytes(bytes(stored))
    with pytest.raises(WeightsError, match=r"damaged: 'generator/\w+' does not have its checksum"):
        formats.read(prefix)


def test_noise_is_refused(prefix: Path) -> None:
    random = np.random.default_rng(0)
    tail = index(prefix).read_bytes()[-8:]
    for size in (1, 47, 48, 200, 4096):
        for end in (b"", tail):  # with the magic number the parser goes on
            index(prefix).write_bytes(random.bytes(size) + end)
            with pytest.raises(WeightsError, match=r"net\.index: .*(truncated|damaged)"):
                formats.read(prefix)


ENTRY = bundles.entry(1, (2,), 0, 0, b"\0" * 8)


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([(b"W", ENTRY)], "its table has no header entry"),
        ([], "its table has no header entry"),
        ([(b"", bundles.header(1, big_endian=True)), (b"W", ENTRY)], "big-endian"),
        ([(b"W", bundles.entry(1, (3,), 0, 0, b"\0" * 8))], r"'W' has 8 bytes; \(3,\) of float32"),
        ([(b"W", bundles.entry(8, (2,), 0, 0, b"\0" * 8))], "'W' has TensorFlow's type 8"),
        ([(b"W", bundles.entry(1, (2,), 0, 9, b"\0" * 8))], "truncated: 8 bytes, 'W' ends at 17"),
        ([(b"W", bundles.entry(1, (2,), 1, 0, b"\0" * 8))], "net.data-00001-of-00001 is not bes"),
        ([(b"W", bundles.entry(1, (2**64 - 1,), 0, 0, b"\0" * 8))], "'W' has 8 bytes"),
        ([(b"W", ENTRY + bundles.field(7, b""))], "'W' is partitioned into slices"),
        ([(b"W", ENTRY + b"\xff")], "a number does not end"),
        ([(b"W", b"\x0f")], "a field has the wire type 7"),
        ([(b"W", ENTRY + b"\x3a\x7f")], "a field leaves its message"),
    ],
)
def test_odd_tables_have_their_sentence(
    pairs: list[tuple[bytes, bytes]], sentence: str, tmp_path: Path
) -> None:
    data(tmp_path / "net").write_bytes(b"\0" * 8)
    whole = "header" in sentence or "big" in sentence
    one_table(tmp_path / "net", pairs if whole else [(b"", bundles.header(1)), *pairs])
    with pytest.raises(WeightsError, match=rf"net\.index: .*{sentence}"):
        formats.read(tmp_path / "net")


def test_a_compressed_table_is_refused(tmp_path: Path) -> None:
    one_table(tmp_path / "net", [(b"", bundles.header(1))], compression=1)
    with pytest.raises(WeightsError, match=r"the index is compressed \(kind 1; 1 is Snappy\)"):
        formats.read(tmp_path / "net")


def test_a_block_that_lies_about_its_entries_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # right checksums around wrong content, which only a writer of our own produces
    for content, sentence in (
        (b"\x05\x01\x00k" + struct.pack("<II", 0, 1), "an entry leaves its block"),
        (b"\x00\x70\x00k" + struct.pack("<II", 0, 1), "an entry leaves its block"),
        (b"\x00\x00\x00" + struct.pack("<I", 9), "shorter than its own table"),
    ):
        monkeypatch.setattr(bundles, "block", lambda *_, content=content, **__: content)
        one_table(tmp_path / "net", [(b"", b"")])
        with pytest.raises(WeightsError, match=sentence):
            formats.read(tmp_path / "net")
