"""The simulated network as a whole: who reaches whom, who dies, and that a run repeats itself."""

from mmap import mmap
from random import Random

import pytest
import trio

from orchestra.simulation.fabric import Fabric
from orchestra.simulation.running import StuckSimulation, simulate
from orchestra.simulation.world import Delays, World, host_name, host_number
from tests.orchestra.simulation.worlds import BULK, connected, in_world, read_all, some_bytes
from transfers.errors import ConnectFailed, StreamBroken


@pytest.mark.parametrize("host", [0, 1, 254, 255, 256, 70_000])
def test_every_host_has_an_address_of_its_own(host: int) -> None:
    assert host_number(f"{host_name(host)}:1") == host


@pytest.mark.parametrize("address", ["127.0.0.1:1", "10.0.0:1", "10.0.0.x:1", "somewhere:1"])
def test_other_addresses_belong_to_no_host(address: str) -> None:
    async def body(world: World) -> None:
        with pytest.raises(ConnectFailed, match="no such host"):
            await world.process(0).connect(address, 1)

    assert host_number(address) is None
    in_world(body)


def test_nobody_listens_on_another_hosts_address() -> None:
    async def body(world: World) -> None:
        with pytest.raises(ConnectFailed, match="not an address of"):
            await world.process(0).listen(f"{host_name(1)}:0")

    in_world(body)


@pytest.mark.parametrize(
    ("what", "hosts"), [("cut", (0, 1)), ("cut", (1, 0)), ("clog", (1,)), ("clog", (0,))]
)
def test_what_does_not_pass_cannot_be_connected_until_its_timeout(what: str, hosts: tuple[int, ...]) -> None:
    async def body(world: World) -> float:
        listener = await world.process(1).listen(f"{host_name(1)}:0")
        world.change(what, *hosts)
        with pytest.raises(ConnectFailed, match="no answer within 3 s"):
            await world.process(0).connect(listener.address, 3)
        return trio.current_time()

    assert in_world(body) == pytest.approx(3.0)


def test_a_connection_comes_about_when_the_way_is_mended_in_time() -> None:
    async def body(world: World) -> None:
        listener = await world.process(1).listen(f"{host_name(1)}:0")
        world.change("cut", 1, 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.process(0).connect, listener.address, 3)
            await trio.sleep(1)
            world.change("mend", 1, 0)
            await listener.accept()
        assert trio.current_time() < 1.2

    in_world(body)


def test_a_process_that_is_killed_ends_all_its_streams_and_listens_no_more() -> None:
    async def body(world: World) -> None:
        mortal = world.process(1)
        listener = await mortal.listen(f"{host_name(1)}:0")
        stream = await world.process(0).connect(listener.address, 5)
        served = await listener.accept()
        waiting = await world.process(2).connect(listener.address, 5)  # nobody has accepted it yet
        await served.send_all(b"one word")
        mortal.kill()
        assert await read_all(stream, 100) == b"one word"
        assert await read_all(waiting, 1) == b""
        with pytest.raises(StreamBroken):
            await served.send_all(b"x")
        with pytest.raises(ConnectFailed, match="connection refused"):
            await world.process(0).connect(listener.address, 1)
        with pytest.raises(ConnectFailed):
            await mortal.connect(listener.address, 1)

    in_world(body)


def test_death_behind_a_cut_is_heard_of_when_it_is_mended() -> None:
    async def body(world: World) -> None:
        mortal = world.process(1)
        listener = await mortal.listen(f"{host_name(1)}:0")
        stream = await world.process(0).connect(listener.address, 5)
        world.change("cut", 1, 0)
        mortal.kill()
        with trio.move_on_after(10) as patience:
            await read_all(stream, 1)
        assert patience.cancelled_caught
        world.change("mend", 1, 0)
        assert await read_all(stream, 1) == b""

    in_world(body)


def test_messages_of_several_streams_come_in_the_order_of_their_arrival_times() -> None:
    async def body(world: World) -> list[tuple[float, int]]:
        heard: list[tuple[float, int]] = []

        async def listen(number: int) -> None:
            one, other = await connected(world, number, 0)
            one.prefer_low_delay()
            await one.send_all(b"x")
            await read_all(other, 1)
            heard.append((trio.current_time(), number))

        async with trio.open_nursery() as nursery:
            for number in range(1, 6):
                nursery.start_soon(listen, number)
        return heard

    heard = in_world(body, hosts=6, delays=Delays(0.05, jitter=1.0))
    assert heard == sorted(heard)
    assert len({at_s for at_s, _ in heard}) == 5


def test_what_no_fault_is_is_refused() -> None:
    async def body(world: World) -> None:
        with pytest.raises(ValueError, match="what='explode' is no fault"):
            world.change("explode", 1)

    in_world(body)


@pytest.mark.parametrize(
    ("control_s", "jitter", "name"), [(-1.0, 0.5, "control_s"), (0.02, 1.5, "jitter"), (0.02, -0.1, "jitter")]
)
def test_delays_that_cannot_be_are_refused(control_s: float, jitter: float, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Delays(control_s, jitter)


async def traffic(world: World) -> str:
    """Something of everything, for its digest."""

    async def move(sender: int, receiver: int, count: int) -> None:
        one, other = await connected(world, sender, receiver)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, some_bytes(count))
            assert await read_all(other, count) == some_bytes(count)

    async with trio.open_nursery() as nursery:
        for sender in range(4):
            for receiver in range(4):
                nursery.start_soon(move, sender, receiver, 10 + 30_000 * (sender + receiver))
        await trio.sleep(0.05)
        world.change("slow", 2, share=0.3)
    return world.trace_digest


def test_the_same_seed_gives_the_same_run_and_another_another() -> None:
    digests = [in_world(traffic, delays=Delays(), seed=seed) for seed in (1, 2, 1)]
    assert digests[0] == digests[2]
    assert digests[0] != digests[1]


def test_references_stand_for_bytes_only_where_they_arrive_at_their_own_place() -> None:
    async def main() -> list[str]:
        world = World(Fabric([1e6] * 2), Random(1), keeps_references=True)
        data = bytearray(some_bytes(BULK))
        async with trio.open_nursery() as nursery:
            await nursery.start(world.run)
            one, other = await connected(world, 0, 1)
            for target in (memoryview(data), memoryview(bytearray(BULK)), memoryview(mmap(-1, BULK))):
                async with trio.open_nursery() as moving:
                    moving.start_soon(one.send_all, memoryview(data))
                    got = 0
                    while got < BULK:
                        got += await other.receive_some_into(target[got:])
                said.append(len(world.complaints))
            nursery.cancel_scope.cancel()
        return world.complaints

    said: list[int] = []
    complaints = simulate(main, seed=1, limit_s=100)
    assert said[:2] == [0, 0], "its own place, and a buffer that is no store's"
    assert complaints
    assert all("arrived at a wrong place" in complaint for complaint in complaints)


def test_a_run_that_takes_too_long_is_stuck_and_names_its_seed() -> None:
    with pytest.raises(StuckSimulation, match=r"not done after 5 virtual seconds \(seed 7\)"):
        simulate(trio.sleep_forever, seed=7, limit_s=5)
