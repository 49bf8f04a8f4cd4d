"""The store in one process: taking in, reading out, letting go, and its limits."""

import errno
import mmap
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from transfers.blocks import BlockLayout
from transfers.errors import LocalProtocolError, StoreFull
from transfers.ids import BlockIndex, TransferName
from transfers.manifest import ContentType, Manifest, ObjectKey, block_checksum, make_manifest
from transfers.store import Store, arena
from transfers.store.segment import PAGE_BYTES, Segment

MIB = 1 << 20


def key(name: str) -> ObjectKey:
    return ObjectKey(TransferName(name))


def manifest_of(name: str, data: bytes, block_size_bytes: int) -> Manifest:
    layout = BlockLayout(len(data), block_size_bytes)
    return make_manifest(key(name), layout, memoryview(data), ContentType())


def put(store: Store, name: str, size_bytes: int, value: int = 1) -> None:
    store.put(key(name), memoryview(bytes([value]) * size_bytes), MIB)


# -- taking in -----------------------------------------------------------------------------------


def test_an_object_put_is_complete_and_has_its_manifest() -> None:
    data = os.urandom(100_000)
    store = Store(MIB)
    stored = store.put(key("a"), memoryview(data), 4096, ContentType())
    assert stored.complete
    assert stored.manifest == manifest_of("a", data, 4096)
    assert bytes(stored.view().buffer) == data
    assert store.get(key("a")) is stored
    store.close()


def test_an_array_put_comes_back_as_it_was() -> None:
    array = np.arange(600.0).reshape(20, 30)
    store = Store(MIB)
    stored = store.put(key("a"), array.data, 1000, ContentType("array", "<f8", (20, 30)))
    assert np.array_equal(stored.view().array(), array)
    store.close()


def test_data_that_is_not_contiguous_is_refused_and_nothing_is_kept() -> None:
    store = Store(MIB)
    with pytest.raises(ValueError, match="contiguous"):
        store.put(key("a"), memoryview(b"abcd")[::2], 10)
    assert store.statistics().reserved_bytes == 0
    store.close()


def test_blocks_received_one_by_one_make_the_object() -> None:
    data = os.urandom(10_000)
    store = Store(MIB)
    stored = store.create(manifest_of("a", data, 4096))
    for number in (2, 0, 1):
        index = BlockIndex(number)
        block = stored.block(index)
        block[:] = data[number * 4096 : (number + 1) * 4096]
        assert block_checksum(block) == stored.manifest.checksums[number]
        assert not stored.complete
        with pytest.raises(LocalProtocolError, match="not held"):
            stored.readable(index)
        stored.mark_stored(index)
        assert bytes(stored.readable(index)) == data[number * 4096 : (number + 1) * 4096]
    assert stored.complete
    assert bytes(stored.view().buffer) == data
    store.close()


def test_a_stored_block_cannot_be_written_again() -> None:
    store = Store(MIB)
    stored = store.create(manifest_of("a", bytes(10), 4))
    stored.mark_stored(BlockIndex(1))
    with pytest.raises(LocalProtocolError, match="cannot change"):
        stored.block(BlockIndex(1))
    store.close()


@pytest.mark.parametrize("index", [-1, 3])
def test_a_block_that_does_not_exist_is_refused(index: int) -> None:
    store = Store(MIB)
    stored = store.create(manifest_of("a", bytes(10), 4))
    for ask in (stored.block, stored.readable, stored.mark_stored):
        with pytest.raises(ValueError, match="block"):
            ask(BlockIndex(index))
    store.close()


def test_an_incomplete_object_has_no_view_and_says_what_is_missing() -> None:
    store = Store(MIB)
    stored = store.create(manifest_of("a", bytes(10), 4))
    stored.mark_stored(BlockIndex(1))
    with pytest.raises(LocalProtocolError, match="blocks 0, 2 are missing"):
        stored.view()
    store.close()


def test_an_empty_object_is_complete_at_once_and_takes_no_memory() -> None:
    store = Store(MIB)
    for stored in (
        store.put(key("a"), memoryview(b""), MIB),
        store.create(manifest_of("b", b"", MIB)),
    ):
        assert stored.complete
        assert stored.view().nbytes == 0
    assert store.statistics().reserved_bytes == 0
    store.release(key("a"))
    store.close()


def test_a_key_in_use_is_refused() -> None:
    store = Store(MIB)
    put(store, "a", 10)
    with pytest.raises(LocalProtocolError, match="already"):
        store.create(manifest_of("a", b"other", 4))
    with pytest.raises(LocalProtocolError, match="already"):
        put(store, "a", 10)
    assert [stored.manifest.key for stored in store.objects()] == [key("a")]
    store.close()


def test_objects_can_be_put_by_several_threads_at_once() -> None:
    store = Store(64 * MIB, recycle_bytes=4 * MIB)

    def work(value: int) -> None:
        for turn in range(10):
            name = f"{value}/{turn}"
            put(store, name, 2 * MIB + turn, value)
            stored = store.get(key(name))
            assert stored is not None
            assert bytes(stored.view().buffer) == bytes([value]) * (2 * MIB + turn)
            store.release(key(name))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, value) for value in range(1, 5)]:
            done.result()
    statistics = store.statistics()
    assert (statistics.reserved_bytes, statistics.lingering_bytes, statistics.objects) == (0, 0, 0)
    assert statistics.recycled_bytes <= 4 * MIB
    store.close()


# -- files ---------------------------------------------------------------------------------------


def test_a_file_is_read_by_path_or_descriptor(tmp_path: Path) -> None:
    data = os.urandom(10_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    store = Store(MIB)
    by_path = store.put_file(key("a"), path, len(data), 4096)
    with path.open("rb") as file:
        by_descriptor = store.put_file(key("b"), file.fileno(), len(data), 4096)
        assert file.tell() == 0
    assert bytes(by_path.view().buffer) == bytes(by_descriptor.view().buffer) == data
    assert by_path.manifest.checksums == manifest_of("a", data, 4096).checksums
    store.close()


def test_a_file_that_shrinks_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(5000))
    store = Store(MIB)
    with pytest.raises(LocalProtocolError, match="shrank while it was read: 5000 of 9000"):
        store.put_file(key("a"), path, 9000, 4096)
    assert store.get(key("a")) is None
    assert store.statistics().reserved_bytes == 0
    store.put_file(key("a"), path, 5000, 4096)
    store.close()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    store = Store(MIB)
    with pytest.raises(IsADirectoryError):
        store.put_file(key("a"), tmp_path, 10, 4)
    store.close()


# -- limits --------------------------------------------------------------------------------------


def test_the_limit_is_kept_and_room_comes_back() -> None:
    store = Store(4 * MIB)
    put(store, "a", 3 * MIB)
    with pytest.raises(StoreFull, match="b needs 2097152 bytes; 3145728 of the store's 4194304"):
        put(store, "b", 2 * MIB)
    put(store, "c", MIB)
    store.release(key("a"))
    put(store, "b", 2 * MIB)
    assert store.statistics().reserved_bytes == 3 * MIB
    store.close()


def test_scattered_free_ranges_do_not_make_the_store_full() -> None:
    store = Store(8 * MIB)
    for number in range(8):
        put(store, str(number), MIB)
    for number in range(0, 8, 2):
        store.release(key(str(number)))
    put(store, "wide", 4 * MIB, value=9)
    statistics = store.statistics()
    assert statistics.reserved_bytes == 8 * MIB
    assert statistics.recycled_bytes == 0
    assert bytes(store.get(key("1")).view().buffer[:1]) == b"\x01"  # type: ignore[union-attr]
    store.close()


def test_memory_that_the_host_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "available_bytes", lambda: arena.MEMORY_MARGIN_BYTES + MIB)
    store = Store(8 * MIB)
    put(store, "a", MIB)
    with pytest.raises(StoreFull, match="the host has"):
        put(store, "b", 2 * MIB)
    assert store.statistics().reserved_bytes == MIB
    store.close()


def test_a_kernel_without_memory_is_a_full_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store(8 * MIB)
    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(StoreFull, match="No space left"):
        store.create(manifest_of("a", bytes(MIB), MIB))
    monkeypatch.undo()
    assert store.statistics().reserved_bytes == 0
    put(store, "a", 8 * MIB)
    store.close()


@pytest.mark.parametrize(("limit", "recycle"), [(0, None), (-1, None), (MIB, -1)])
def test_limits_that_make_no_sense_are_refused(limit: int, recycle: int | None) -> None:
    with pytest.raises(ValueError, match="_bytes"):
        Store(limit, recycle)


def test_the_default_limit_is_a_share_of_memory() -> None:
    store = Store()
    assert (
        PAGE_BYTES < store.statistics().limit_bytes < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    )
    store.close()


# -- letting go ----------------------------------------------------------------------------------


def blocks_of_memory(store: Store) -> int:
    """Bytes that the kernel has put behind the store."""
    return os.fstat(store._arena.segment.readonly_fd).st_blocks * 512


def test_released_memory_is_used_again() -> None:
    store = Store(16 * MIB, recycle_bytes=8 * MIB)
    put(store, "a", 4 * MIB)
    place = store.get(key("a")).place.offset_bytes  # type: ignore[union-attr]
    store.release(key("a"))
    assert store.statistics().recycled_bytes == 4 * MIB
    assert blocks_of_memory(store) == 4 * MIB
    put(store, "b", 4 * MIB)
    assert store.get(key("b")).place.offset_bytes == place  # type: ignore[union-attr]
    assert blocks_of_memory(store) == 4 * MIB
    store.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere warm memory is asked for again")
def test_memory_that_is_there_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved: list[int] = []
    fallocate = os.posix_fallocate

    def note(fd: int, offset: int, length: int) -> None:
        reserved.append(length)
        fallocate(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", note)
    store = Store(16 * MIB, recycle_bytes=8 * MIB)
    put(store, "a", 4 * MIB)
    store.release(key("a"))
    put(store, "b", 3 * MIB)
    assert reserved == [4 * MIB]
    put(store, "c", 2 * MIB)
    assert reserved == [4 * MIB, 2 * MIB], "partly warm is not warm"
    store.close()


def test_free_memory_beyond_its_limit_goes_back_to_the_kernel() -> None:
    store = Store(16 * MIB, recycle_bytes=MIB)
    put(store, "a", 4 * MIB)
    store.release(key("a"))
    assert store.statistics().recycled_bytes == MIB
    assert blocks_of_memory(store) == MIB
    store.close()


def test_a_view_outlives_the_release_and_keeps_its_bytes() -> None:
    store = Store(4 * MIB)
    put(store, "a", 2 * MIB, value=7)
    stored = store.get(key("a"))
    assert stored is not None
    part = stored.view().array()[100:200].reshape(10, 10)[::2]
    store.release(key("a"))
    assert store.get(key("a")) is None
    assert store.statistics().lingering_bytes == 2 * MIB
    put(store, "b", 2 * MIB, value=9)
    with pytest.raises(StoreFull):
        put(store, "c", MIB)
    assert np.all(part == 7)
    del part
    assert store.statistics().lingering_bytes == 0
    put(store, "c", MIB)
    store.close()


def test_a_block_being_sent_or_received_keeps_its_memory() -> None:
    store = Store(4 * MIB)
    stored = store.create(manifest_of("a", bytes(MIB), MIB // 2))
    stored.block(BlockIndex(0))[:] = bytes(MIB // 2)
    stored.mark_stored(BlockIndex(0))
    sending, receiving = stored.readable(BlockIndex(0)), stored.block(BlockIndex(1))
    store.release(key("a"))
    del sending
    assert store.statistics().lingering_bytes == MIB
    del receiving
    assert store.statistics().lingering_bytes == 0
    store.close()


def test_a_released_object_gives_out_nothing() -> None:
    store = Store(MIB)
    put(store, "a", 10)
    stored = store.get(key("a"))
    assert stored is not None
    store.release(key("a"))
    store.release(key("a"))
    for ask in (stored.block, stored.readable, stored.mark_stored):
        with pytest.raises(LocalProtocolError, match="released"):
            ask(BlockIndex(0))
    with pytest.raises(LocalProtocolError, match="released"):
        stored.view()
    with pytest.raises(LocalProtocolError, match="released"):
        stored.reset()
    store.close()


def test_an_object_can_be_received_anew_unless_someone_looks() -> None:
    store = Store(MIB)
    put(store, "a", 10, value=3)
    stored = store.get(key("a"))
    assert stored is not None
    view = stored.view()
    with pytest.raises(LocalProtocolError, match="in use"):
        stored.reset()
    assert bytes(view.buffer) == b"\x03" * 10
    del view
    stored.reset()
    assert not stored.complete
    stored.block(BlockIndex(0))[:] = b"\x04" * 10
    stored.mark_stored(BlockIndex(0))
    assert bytes(stored.view().buffer) == b"\x04" * 10
    store.close()


def test_a_closed_store_takes_nothing_and_its_views_stay() -> None:
    store = Store(MIB)
    put(store, "a", 10, value=3)
    view = store.get(key("a")).view()  # type: ignore[union-attr]
    store.close()
    store.close()
    assert bytes(view.buffer) == b"\x03" * 10
    assert list(store.objects()) == []
    with pytest.raises(LocalProtocolError, match="closed"):
        put(store, "b", 10)


def test_views_cannot_be_made_writable() -> None:
    store = Store(MIB)
    put(store, "a", 10)
    stored = store.get(key("a"))
    assert stored is not None
    view = stored.view()
    assert view.buffer.readonly
    assert stored.readable(BlockIndex(0)).readonly
    array = view.array()
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    store.close()


# -- the memory itself ---------------------------------------------------------------------------


def test_the_descriptor_for_others_cannot_be_mapped_for_writing() -> None:
    segment = Segment(16 * PAGE_BYTES)
    with pytest.raises(PermissionError):
        mmap.mmap(segment.readonly_fd, PAGE_BYTES)
    with pytest.raises(OSError, match=r"not permitted|Invalid"):
        os.ftruncate(segment.readonly_fd, 0)
    segment.close()


def test_the_store_cannot_shrink_under_its_readers() -> None:
    segment = Segment(16 * PAGE_BYTES)
    with pytest.raises(PermissionError):
        os.ftruncate(segment._fd, 0)
    segment.close()


def test_without_memfd_a_private_file_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = Store(4 * MIB)
    assert list(tmp_path.iterdir()) == []
    put(store, "a", MIB, value=5)
    assert bytes(store.get(key("a")).view().buffer) == b"\x05" * MIB  # type: ignore[union-attr]
    with pytest.raises(PermissionError):
        mmap.mmap(store._arena.segment.readonly_fd, PAGE_BYTES)
    store.close()


def test_a_limit_on_address_space_is_a_full_store() -> None:
    program = (
        "import resource\n"
        "from transfers.errors import StoreFull\n"
        "from transfers.store import Store\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))\n"
        "try:\n    Store(1 << 33)\n"
        "except StoreFull as full:\n    print(full)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "address space" in done.stdout
