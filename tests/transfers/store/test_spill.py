"""Objects that have no room in memory lie in files, under a limit, and leave none behind."""

import os
from pathlib import Path

import pytest

from transfers.blocks import BlockLayout
from transfers.errors import StoreFull
from transfers.ids import BlockIndex, TransferName
from transfers.manifest import ContentType, ObjectKey, make_manifest
from transfers.store import Store
from transfers.store.spill import Spill

KIB = 1 << 10
MEMORY, FILES = 256 * KIB, 1024 * KIB


def key(name: str) -> ObjectKey:
    return ObjectKey(TransferName(name))


def put(store: Store, name: str, size: int, *, may_spill: bool = True) -> bytes:
    """Put bytes that are this name's own."""
    data = (name.encode() * size)[:size]
    store.put(key(name), memoryview(data), 64 * KIB, may_spill=may_spill)
    return data


def bytes_of(store: Store, name: str) -> bytes:
    held = store.get(key(name))
    assert held is not None
    return bytes(held.view().buffer)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(MEMORY, 0, Spill(tmp_path / "new" / "spill", FILES))


def test_what_has_no_room_in_memory_is_in_a_file_and_reads_as_it_was(store: Store) -> None:
    first = put(store, "first", 200 * KIB)
    assert store.statistics().spilled_bytes == 0
    second = put(store, "second", 200 * KIB)
    large = put(store, "large", 600 * KIB)
    assert store.statistics().spilled_bytes == 800 * KIB
    assert store.statistics().reserved_bytes >= 200 * KIB
    assert [bytes_of(store, name) for name in ("first", "second", "large")] == [first, second, large]


def test_only_what_may_is_spilled(store: Store) -> None:
    put(store, "first", 200 * KIB)
    with pytest.raises(StoreFull, match="second needs"):
        put(store, "second", 200 * KIB, may_spill=False)
    assert store.get(key("second")) is None
    assert store.statistics().spilled_bytes == 0


def test_files_have_a_limit_too_and_both_are_told(store: Store) -> None:
    put(store, "memory", MEMORY)
    put(store, "file", 800 * KIB)
    with pytest.raises(StoreFull) as full:
        put(store, "too much", 300 * KIB)
    assert str(MEMORY) in str(full.value)
    assert f"{800 * KIB} of the {FILES} for spill files are in use" in str(full.value)
    put(store, "just enough", FILES - 800 * KIB)
    store.release(key("file"))
    put(store, "room again", 300 * KIB)


def test_without_files_there_is_memory_alone() -> None:
    store = Store(MEMORY, 0)
    put(store, "first", 200 * KIB)
    with pytest.raises(StoreFull):
        put(store, "second", 200 * KIB)
    store.close()


@pytest.mark.parametrize(
    ("size", "with_files", "without"),
    [(MEMORY, True, True), (MEMORY + 1, True, False), (FILES, True, False), (FILES + 1, False, False)],
)
def test_what_could_ever_be_held(store: Store, size: int, with_files: bool, without: bool) -> None:
    put(store, "in the way", MEMORY)
    assert store.could_hold(size) is with_files
    assert Store(MEMORY, 0).could_hold(size) is without


def test_an_object_is_received_into_a_file_block_by_block(store: Store) -> None:
    data = os.urandom(500 * KIB)
    manifest = make_manifest(key("large"), BlockLayout(len(data), 200 * KIB), memoryview(data), ContentType())
    held = store.create(manifest, may_spill=True)
    for block in (2, 0, 1):
        at = held.manifest.layout.offset(BlockIndex(block))
        target = held.block(BlockIndex(block))
        target[:] = data[at : at + len(target)]
        held.mark_stored(BlockIndex(block))
        del target
    assert held.complete
    assert bytes_of(store, "large") == data
    assert store.statistics().spilled_bytes == len(data)


def test_files_have_no_names(store: Store, tmp_path: Path) -> None:
    put(store, "large", 600 * KIB)
    assert list((tmp_path / "new" / "spill").iterdir()) == []


def test_a_file_is_given_back_when_nobody_looks_at_it_any_more(store: Store) -> None:
    data = put(store, "large", 600 * KIB)
    held = store.get(key("large"))
    assert held is not None
    view = held.view()
    del held
    store.release(key("large"))
    assert store.statistics().spilled_bytes == 600 * KIB
    with pytest.raises(StoreFull):
        put(store, "next", 600 * KIB)
    assert bytes(view.buffer) == data
    del view
    assert store.statistics().spilled_bytes == 0
    put(store, "next", 600 * KIB)


def test_views_outlive_the_store_and_descriptors_do_not(store: Store) -> None:
    before = len(os.listdir("/proc/self/fd"))
    data = put(store, "large", 600 * KIB)
    held = store.get(key("large"))
    assert held is not None
    view = held.view()
    del held
    store.close()
    assert bytes(view.buffer) == data
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_holds_nothing_is_refused(tmp_path: Path, limit: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 byte, got {limit}"):
        Spill(tmp_path, limit)


def test_a_folder_that_cannot_be_is_found_out_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Spill(tmp_path / "file" / "spill", 1000)


def test_a_disk_that_is_full_leaves_the_limit_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(StoreFull, match="No space left on device"):
            put(store, "large", 600 * KIB)
    assert store.statistics().spilled_bytes == 0
    put(store, "large", FILES)
