"""Attaching from other processes: real ones, with real deaths."""

import gc
import mmap
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from tests.transfers.store.processes import StoreProcess, store_process
from transfers.errors import (
    AuthenticationFailed,
    ConnectFailed,
    LocalProtocolError,
    RemoteProtocolError,
    UnknownTransfer,
    WaitTimeout,
)
from transfers.ids import TransferName
from transfers.manifest import ObjectKey
from transfers.store.attach import attach
from transfers.store.protocol import (
    PROTOCOL_VERSION,
    SERVER_CODEC,
    Absent,
    Found,
    Hello,
    new_address,
    socket_name,
)

MIB = 1 << 20


@pytest.fixture
def owner() -> Iterator[StoreProcess]:
    with store_process(16 * MIB) as made:
        yield made


def test_importing_attach_loads_neither_trio_nor_scikit_learn() -> None:
    program = (
        "import sys, transfers.store.attach\n"
        "print([name for name in ('trio', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_another_process_sees_the_bytes_read_only(owner: StoreProcess) -> None:
    owner.do("put", "weights/1", 3 * MIB + 5, 7)
    with attach(owner.address) as attachment:
        assert attachment.names() == ["weights/1"]
        view = attachment.get("weights/1")
        array = view.array()
        assert array.shape == (3 * MIB + 5,)
        assert np.all(array == 7)
        assert view.buffer.readonly
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_the_descriptor_that_is_passed_cannot_be_mapped_for_writing(owner: StoreProcess) -> None:
    owner.do("put", "a", MIB, 1)
    with attach(owner.address) as attachment:
        loan = attachment.borrow(ObjectKey(TransferName("a")))
        with pytest.raises(PermissionError):
            mmap.mmap(loan.descriptor, mmap.PAGESIZE)
        os.close(loan.descriptor)


def test_what_is_absent_or_unknown_is_said(owner: StoreProcess) -> None:
    with attach(owner.address) as attachment:
        with pytest.raises(UnknownTransfer, match="nothing"):
            attachment.get("nothing")
        assert attachment.names() == []
    with pytest.raises(LocalProtocolError, match="closed"):
        attachment.names()
    with pytest.raises(ConnectFailed, match="no store"):
        attach(new_address())
    with pytest.raises(ValueError, match="address="):
        attach("/tmp/socket")


def test_readers_share_one_copy() -> None:
    size = 64 * MIB
    with store_process(2 * size) as owner:
        owner.do("put", "a", size, 1)
        readers = [StoreProcess(MIB) for _ in range(3)]
        try:
            assert [reader.do("read", owner.address, "a") for reader in readers] == [size] * 3
            total = sum(process.do("shared_kib") for process in [owner, *readers]) * 1024
        finally:
            for reader in readers:
                reader.end()
    assert size * 0.95 <= total <= size * 1.1 + 4 * MIB


def test_a_view_survives_the_death_of_the_store() -> None:
    with store_process(16 * MIB) as owner:
        owner.do("put", "a", 8 * MIB, 9)
        attachment = attach(owner.address)
        array = attachment.get("a").array()
        owner.kill()
        assert np.all(array == 9)
        with pytest.raises(ConnectFailed):
            attachment.get("a")
        attachment.close()


def test_memory_is_not_used_again_while_another_process_looks(owner: StoreProcess) -> None:
    owner.do("put", "a", 8 * MIB, 1)
    attachment = attach(owner.address)
    array = attachment.get("a").array()
    owner.do("release", "a")
    assert owner.do("lingering") == 8 * MIB
    owner.do("put", "b", 8 * MIB, 2)
    assert np.all(array == 1)
    attachment.close()
    assert owner.do("lingering") == 8 * MIB
    del array
    gc.collect()
    wait_for_lingering(owner, 0)
    owner.do("put", "c", 8 * MIB, 3)


def wait_for_lingering(owner: StoreProcess, bytes_: int) -> None:
    """The store learns of a dropped lease when its loop comes round: some answers later at most."""
    for _ in range(1000):
        if owner.do("lingering") == bytes_:
            return
    raise AssertionError(f"{owner.do('lingering')} bytes linger, not {bytes_}")


def test_a_lease_ends_with_its_view_while_attached(owner: StoreProcess) -> None:
    owner.do("put", "a", MIB, 1)
    with attach(owner.address) as attachment:
        view = attachment.get("a")
        again = attachment.get("a")
        owner.do("release", "a")
        del view
        assert attachment.names() == []
        assert owner.do("lingering") == MIB
        del again
        wait_for_lingering(owner, 0)


def test_a_lease_ends_with_a_killed_reader(owner: StoreProcess) -> None:
    owner.do("put", "a", MIB, 1)
    with store_process(MIB) as reader:
        reader.do("read", owner.address, "a")
        owner.do("release", "a")
        assert owner.do("lingering") == MIB
        reader.kill()
        wait_for_lingering(owner, 0)


def test_a_forked_child_does_not_end_its_parents_lease(owner: StoreProcess) -> None:
    owner.do("put", "a", MIB, 1)
    attachment = attach(owner.address)
    view = attachment.get("a")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            del view
            try:
                attachment.names()
            except LocalProtocolError:
                status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    owner.do("release", "a")
    assert attachment.names() == []
    assert owner.do("lingering") == MIB
    assert view.array()[0] == 1
    attachment.close()


def test_an_empty_object_can_be_attached(owner: StoreProcess) -> None:
    owner.do("put", "a", 0, 1)
    with attach(owner.address) as attachment:
        assert attachment.get("a").array().shape == (0,)


def test_threads_may_share_an_attachment(owner: StoreProcess) -> None:
    for value in range(4):
        owner.do("put", str(value), MIB, value)
    wrong: list[int] = []
    with attach(owner.address) as attachment:

        def read(value: int) -> None:
            for _ in range(50):
                if attachment.get(str(value)).array()[-1] != value:
                    wrong.append(value)

        threads = [threading.Thread(target=read, args=(value,)) for value in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


# -- objects that a store has from another one ---------------------------------------------------


def test_an_adopted_object_can_be_read_and_lent_on_without_a_copy() -> None:
    size = 4 * MIB
    with store_process(16 * MIB) as first, store_process(MIB) as second:
        first.do("put", "a", size, 5)
        assert second.do("adopt", first.address, "a", size, 5)
        with attach(second.address) as attachment:
            array = attachment.get("a").array()
            assert np.all(array == 5)
            first.kill()
            assert np.all(attachment.get("a").array() == 5)


def test_the_death_of_a_store_between_does_not_end_the_first_ones_lease() -> None:
    size = 4 * MIB
    with store_process(16 * MIB) as first, store_process(MIB) as second:
        first.do("put", "a", size, 5)
        second.do("adopt", first.address, "a", size, 5)
        attachment = attach(second.address)
        array = attachment.get("a").array()
        second.kill()
        first.do("release", "a")
        assert first.do("lingering") == size
        assert np.all(array == 5)
        attachment.close()
        assert first.do("lingering") == size
        del array
        wait_for_lingering(first, 0)


def test_a_store_between_that_releases_keeps_the_lease_for_its_readers() -> None:
    size = 4 * MIB
    with store_process(16 * MIB) as first, store_process(MIB) as second:
        first.do("put", "a", size, 5)
        second.do("adopt", first.address, "a", size, 5)
        attachment = attach(second.address)
        view = attachment.get("a")
        second.do("release", "a")
        first.do("release", "a")
        assert first.do("lingering") == size
        second.end()
        assert first.do("lingering") == size
        assert view.array()[-1] == 5
        del view
        attachment.close()
        wait_for_lingering(first, 0)


def test_an_adopted_object_is_given_back_when_released() -> None:
    with store_process(16 * MIB) as first, store_process(MIB) as second:
        first.do("put", "a", MIB, 5)
        second.do("adopt", first.address, "a", MIB, 5)
        assert first.do("leases") == 1
        first.do("release", "a")
        second.do("release", "a")
        wait_for_lingering(first, 0)


# -- stores that misbehave -----------------------------------------------------------------------


class FalseStore:
    """Answers each message of one client with the messages that it is told to send."""

    def __init__(self, *answers: list[tuple[bytes, tuple[int, ...]]]) -> None:
        self.address = new_address()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(socket_name(self.address))
        self._listener.listen(1)
        self._answers = answers
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        sock, _ = self._listener.accept()
        with sock:
            for messages in self._answers:
                sock.recv(1000)
                for data, descriptors in messages:
                    socket.send_fds(sock, [data], list(descriptors))
            sock.recv(1000)
            sock.recv(1000)

    def close(self) -> None:
        self._thread.join(timeout=10)
        self._listener.close()
        assert not self._thread.is_alive()


HELLO: list[tuple[bytes, tuple[int, ...]]] = [(SERVER_CODEC.encode(Hello(PROTOCOL_VERSION)), ())]


def found(request: int, offset_bytes: int, size_bytes: int) -> bytes:
    return SERVER_CODEC.encode(Found(request, 1, offset_bytes, size_bytes, 0, "bytes", "", ()))


def open_descriptors() -> int:
    """Of this process, without what earlier tests have left to the collector."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("offset_bytes", "size_bytes"),
    [
        (0, 5 * mmap.PAGESIZE),
        (mmap.PAGESIZE, 4 * mmap.PAGESIZE),
        (1, 10),
        (-mmap.PAGESIZE, 10),
        (0, -1),
        (0, 10),
    ],
)
def test_a_place_that_cannot_be_is_refused_and_no_descriptor_stays(
    offset_bytes: int, size_bytes: int
) -> None:
    before = open_descriptors()
    file = os.memfd_create("unsealed")
    os.ftruncate(file, 4 * mmap.PAGESIZE)
    store = FalseStore(HELLO, [(found(1, offset_bytes, size_bytes), (file,))])
    with attach(store.address) as attachment, pytest.raises(RemoteProtocolError):
        attachment.get("a")
    store.close()
    os.close(file)
    assert open_descriptors() == before


def test_an_answer_without_a_descriptor_is_refused() -> None:
    store = FalseStore(HELLO, [(found(1, 0, 10), ())])
    with attach(store.address) as attachment, pytest.raises(RemoteProtocolError, match="descriptor"):
        attachment.get("a")
    store.close()


def test_garbage_for_an_answer_is_refused() -> None:
    store = FalseStore(HELLO, [(b"\xc1garbage", ())])
    with attach(store.address) as attachment, pytest.raises(RemoteProtocolError):
        attachment.get("a")
    store.close()


def test_another_version_is_refused() -> None:
    store = FalseStore([(SERVER_CODEC.encode(Hello(99)), ())])
    with pytest.raises(AuthenticationFailed, match="version"):
        attach(store.address)
    store.close()


def test_a_store_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FalseStore()
    monkeypatch.setattr("transfers.store.attach.is_same_user", lambda uid: False)
    with pytest.raises(AuthenticationFailed, match="another user"):
        attach(store.address)
    store.close()


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one() -> None:
    before = open_descriptors()
    file = os.memfd_create("late")
    absent = SERVER_CODEC.encode(Absent(2, "really"))
    store = FalseStore(HELLO, [], [(found(1, 0, 10), (file,)), (absent, ())])
    with attach(store.address) as attachment:
        with pytest.raises(WaitTimeout):
            attachment.get("a", timeout=0.01)
        with pytest.raises(UnknownTransfer, match="really"):
            attachment.get("b")
    store.close()
    os.close(file)
    assert open_descriptors() == before
