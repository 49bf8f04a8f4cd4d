"""Listens in on every stream of a simulated network, and reads by itself what is said on data connections.

Owns a second, independent reading of the wire: 4-byte lengths and msgpack, the handshake, asks and answers,
and the raw bytes of blocks. Must not know nodes, stores or plans, so that it shares no mistake with them.

Theory of operation. Every write is heard before it is sent, in order, once for each direction of a stream. A
direction begins with the handshake, by which the side that connects is told from the one that listens; the
first frame after it says whether it is a data connection. From then on a block may be announced only where
the other direction has asked for it more often than it was announced before, or pushed by the side that
connects, once on each connection; and what follows must be as long as announced, and be the source's bytes.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from orchestra.simulation.streams import Way
from orchestra.simulation.world import equal_bytes
from transfers.codec import Packable, unpack
from transfers.errors import RemoteProtocolError

_LENGTH_BYTES = 4
_CLIENT_SAYS = ("Ask", "Withdraw", "Push")
_SERVER_SAYS = ("BlockHeader", "BlockArriving", "Unavailable")
_IDLE_BYTES = 4
"""After a block that was passed on while it arrived."""

Key = tuple[str, str]
"""Transfer and part."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an object is known to be."""

    data: memoryview
    block_size_bytes: int

    def block(self, index: int) -> memoryview:
        """The bytes of one block; empty where there is none."""
        if index < 0:
            return self.data[:0]
        return self.data[index * self.block_size_bytes : (index + 1) * self.block_size_bytes]


@dataclass(slots=True)
class _Side:
    """One direction of one stream."""

    buffer: bytearray = field(default_factory=bytearray)
    opening: bool = True
    connects: bool = False
    is_data: bool | None = None
    asked: Counter[tuple[Key, int]] = field(default_factory=Counter)
    answered: Counter[tuple[Key, int]] = field(default_factory=Counter)
    pushed: set[tuple[Key, int]] = field(default_factory=set)
    raw_left: int = 0
    idle_left: int = 0
    raw_due: memoryview | None = None
    wrong: bool = False


class Wiretap:
    """Hears all writes; see the module.

    Args:
        complain: who hears of what must not be.
        on_block_bytes: who hears of raw bytes of blocks that are written.

    Attributes:
        contents: what objects are known to be; others are not compared.
    """

    def __init__(
        self, complain: Callable[[str], None], on_block_bytes: Callable[[Way, int], None] | None = None
    ) -> None:
        self.contents: dict[Key, Content] = {}
        self._complain = complain
        self._on_block_bytes = on_block_bytes
        self._sides: WeakKeyDictionary[Way, _Side] = WeakKeyDictionary()

    def heard(self, way: Way, data: bytes | memoryview) -> None:
        """Something is written."""
        side = self._sides.get(way)
        if side is None:
            side = self._sides[way] = _Side()
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        at = 0
        while at < len(view) and side.is_data is not False:
            if side.raw_left:
                part = view[at : at + side.raw_left]
                self._raw(way, side, part)
                at += len(part)
            elif side.idle_left:
                part = view[at : at + side.idle_left]
                side.idle_left -= len(part)
                at += len(part)
            else:
                at += self._frame(way, side, view[at:])

    def carries_blocks(self, way: Way) -> bool:
        """Whether blocks are sent in this direction, as far as is known yet."""
        side = self._sides.get(way)
        return side is not None and side.is_data is True and not side.connects

    def finish(self) -> None:
        """Nothing is under way any more: no direction that can still be written may end inside anything."""
        for way, side in self._sides.items():
            if (
                way.torn is None
                and side.is_data is not False
                and (side.raw_left or side.idle_left or side.buffer)
            ):
                where = f"{side.raw_left} bytes before the end of a block" if side.raw_left else "in a frame"
                self._complain(f"{_who(way)}: stopped {where}")

    # -- frames ----------------------------------------------------------------------------------

    def _frame(self, way: Way, side: _Side, view: memoryview) -> int:
        """Take what belongs to the frame that has begun; how much that was."""
        buffer = side.buffer
        length = int.from_bytes(buffer[:_LENGTH_BYTES], "big") if len(buffer) >= _LENGTH_BYTES else 0
        due = _LENGTH_BYTES + length - len(buffer)
        if len(buffer) < _LENGTH_BYTES:
            due = _LENGTH_BYTES - len(buffer)
        taken = min(due, len(view))
        buffer += view[:taken]
        if len(buffer) >= _LENGTH_BYTES:
            length = int.from_bytes(buffer[:_LENGTH_BYTES], "big")
            if len(buffer) == _LENGTH_BYTES + length:
                body = bytes(buffer[_LENGTH_BYTES:])
                buffer.clear()
                self._message(way, side, body)
        return taken

    def _message(self, way: Way, side: _Side, body: bytes) -> None:
        try:
            message = unpack(body)
        except RemoteProtocolError as bad:
            self._complain(f"{_who(way)}: a frame of {len(body)} bytes cannot be read: {bad}")
            side.is_data = False
            return
        match message:
            case (str() as tag, tuple() as fields):
                if side.opening:
                    self._handshake(way, side, tag)
                elif side.is_data is None:
                    side.is_data = tag in (_CLIENT_SAYS if side.connects else _SERVER_SAYS)
                if side.is_data:
                    self._data_message(way, side, tag, fields)
            case _:
                self._complain(f"{_who(way)}: a frame that is no message")
                side.is_data = False

    def _handshake(self, way: Way, side: _Side, tag: str) -> None:
        match tag:
            case "Hello":
                side.connects = True
            case "Challenge" | "Refusal":
                pass
            case "Proof" | "Welcome":
                side.opening = False
            case _:
                self._complain(f"{_who(way)}: {tag} before the handshake is through")
                side.is_data = False

    # -- data connections --------------------------------------------------------------------------

    def _data_message(self, way: Way, side: _Side, tag: str, fields: tuple[Packable, ...]) -> None:
        match tag, fields:
            case "Ask", ((str() as transfer, str() as part), tuple() as blocks) if side.connects:
                for block in blocks:
                    if isinstance(block, int):
                        side.asked[(transfer, part), block] += 1
            case "Withdraw", _ if side.connects:
                pass
            case "BlockHeader" | "BlockArriving", (
                (str() as transfer, str() as part),
                int() as block,
                int() as length,
            ):
                self._header(way, side, (transfer, part), block, length)
                side.idle_left = _IDLE_BYTES if tag == "BlockArriving" else 0
            case "Push", (
                (str() as transfer, str() as part),
                int() as block,
                int() as length,
                str(),
                tuple(),
            ) if side.connects:
                if ((transfer, part), block) in side.pushed:
                    self._complain(f"{_who(way)}: pushes block {block} of {transfer} twice")
                side.pushed.add(((transfer, part), block))
                self._body_due(way, side, (transfer, part), block, length)
            case "Unavailable", ((str() as transfer, str() as part), tuple() as blocks):
                for block in blocks:
                    if isinstance(block, int) and not self._asks(way)[(transfer, part), block]:
                        self._complain(f"{_who(way)}: refuses block {block} of {transfer}, never asked for")
            case _:
                self._complain(f"{_who(way)}: {tag} on a data connection")

    def _header(self, way: Way, side: _Side, key: Key, block: int, length: int) -> None:
        what = f"block {block} of {'/'.join(filter(None, key))}"
        asks = self._asks(way)[key, block]
        side.answered[key, block] += 1
        times = side.answered[key, block]
        if times > asks:
            self._complain(f"{_who(way)}: {what} is sent {times} times and was asked for {asks} times")
        self._body_due(way, side, key, block, length)

    def _body_due(self, way: Way, side: _Side, key: Key, block: int, length: int) -> None:
        """A block's raw bytes come next."""
        what = f"block {block} of {'/'.join(filter(None, key))}"
        content = self.contents.get(key)
        side.raw_due = None if content is None else content.block(block)
        if side.raw_due is not None and len(side.raw_due) != length:
            self._complain(f"{_who(way)}: {what} is announced with {length} bytes, not {len(side.raw_due)}")
            side.raw_due = None
        side.raw_left = max(0, length)

    def _raw(self, way: Way, side: _Side, part: memoryview) -> None:
        if self._on_block_bytes is not None:
            self._on_block_bytes(way, len(part))
        if side.raw_due is not None:
            at = len(side.raw_due) - side.raw_left
            if not equal_bytes(part, side.raw_due[at : at + len(part)]):
                if not way.world.corrupted:
                    self._complain(f"{_who(way)}: sends other bytes than the source has")
                    side.raw_due = None
                side.wrong = True
        side.raw_left -= len(part)
        if not side.raw_left:
            # Parts are passed on before a block is checked, its end only after that.
            if side.wrong and side.raw_due is not None:
                self._complain(f"{_who(way)}: sends other bytes than the source has, to the end of a block")
            side.wrong = False

    def _asks(self, way: Way) -> Counter[tuple[Key, int]]:
        """What the other direction has asked for."""
        back = None if way.back is None else self._sides.get(way.back)
        return Counter() if back is None else back.asked


def _who(way: Way) -> str:
    return f"host {way.sender} to host {way.receiver}"
