"""The head start of a small broadcast: it is sent before anything is planned.

Owns who has what of it, and the messages that send it. Must not know what is done when it does not suffice:
the transfer controller then plans for whatever is missing, as for any broadcast. Pure.

Theory of operation. Receivers get the bytes with the word of the object where those are few
(`orchestra.small`); else word goes to all of them and one order a block to the source, which pushes it down a
tree (`transfers.net.push`). The planner, which costs more than all of this, is made only when it is needed:
when somebody is lost, fails or falls silent, or when nothing has come for `PATIENCE_S`. Who comes when all
others are through follows one who holds it.
"""

from collections.abc import Iterable

from orchestra.messages import Begin, Deliver, PushBlock, ToNode
from orchestra.small import goes_in_messages, routes
from transfers.blocks import BlockSet
from transfers.ids import BlockIndex, NodeName
from transfers.manifest import Manifest
from transfers.planners.events import Stored

PATIENCE_S = 1.0
"""How long nothing may come before the rest is planned for (the design's silence of a suspect)."""

MOST_PATIENCE_S = 10.0
"""The same where other small objects of the source are getting on, which share its port (a guess: 64 of 256
KiB take 3 s at 50 Mbit/s)."""

PATIENCE_SHARE = 0.5
"""Of the time that a broadcast may stand still, the part after which it is planned for in any case (a guess:
the plan has as long to bring what the head start did not)."""


class HeadStart:
    """One small broadcast before it has a plan.

    Args:
        manifest: of the object.
        source: who holds it.
        content: its bytes, where the proposal brought them along, else empty.
        receivers: to whom bytes are to move, each with its data address.
        now: when it begins.

    Attributes:
        holds: blocks of everyone to whom bytes move, or who has said that it holds the object.
        pushed: whether receivers pass it on to each other; else the messages that start it bring it to all.
        source_gone: whether the source has been let go of.
        got_on_at_s: when it last brought anything, or somebody came whom it is to bring it to.
    """

    def __init__(
        self,
        manifest: Manifest,
        source: NodeName,
        content: bytes,
        receivers: Iterable[tuple[NodeName, str]],
        now: float,
    ) -> None:
        self._manifest = manifest
        self._source = source
        self._content = content
        self._receivers = dict(receivers)
        self.pushed = not goes_in_messages(content, manifest.layout.size_bytes, len(self._receivers))
        self.holds = {name: BlockSet(manifest.layout.count) for name in self._receivers}
        self.source_gone = False
        self.got_on_at_s = now
        self._lacking = dict.fromkeys(name for name, held in self.holds.items() if not held.complete)

    def messages(self) -> list[tuple[NodeName, ToNode]]:
        """What starts it."""
        manifest = self._manifest
        word = Begin(manifest) if self.pushed else Deliver(manifest, self._content, self._source)
        said: list[tuple[NodeName, ToNode]] = []
        if self.pushed:
            found = routes(list(self._receivers.values()), manifest.layout.count)
            said += [
                (self._source, PushBlock(manifest.key, BlockIndex(block), route))
                for block, route in enumerate(found)
            ]
        said += [(name, word) for name in self._receivers]
        self._content = b""
        return said

    def knows(self, name: NodeName) -> bool:
        """Whether a node holds it or has a part in it."""
        return (name == self._source and not self.source_gone) or name in self.holds

    @property
    def complete(self) -> bool:
        """Whether everyone to whom bytes move has all of them."""
        return not self._lacking

    def is_late(self, bytes_s: float, others_at_s: float, now: float) -> bool:
        """Whether it has brought nothing for too long.

        On slow links it takes its time, and while others that the same node sends get on.

        Args:
            bytes_s: how long its bytes should take.
            others_at_s: when anything last got on of those others.
        """
        patience_s = max(PATIENCE_S, 2 * bytes_s)
        alone_s, together_s = now - self.got_on_at_s, now - max(self.got_on_at_s, others_at_s)
        return together_s >= patience_s or alone_s >= max(MOST_PATIENCE_S, patience_s)

    def can_spare(self, name: NodeName) -> bool:
        """Whether nobody is the worse for it if a node goes: all are through, and others hold the object."""
        holders = len(self.holds) + (not self.source_gone)
        return self.complete and holders > self.knows(name)

    def forget(self, name: NodeName) -> None:
        """A node that can be spared is gone."""
        self.holds.pop(name, None)
        self._lacking.pop(name, None)
        self.source_gone = self.source_gone or name == self._source

    def note(self, node: NodeName, records: Iterable[Stored], now: float) -> None:
        """Blocks have come somewhere."""
        held = self.holds.get(node)
        if held is not None:
            self.got_on_at_s = now
            for record in records:
                held.add(record.block)
            if held.complete:
                self._lacking.pop(node, None)

    def admit(self, name: NodeName, now: float) -> NodeName | None:
        """A node comes late, and lacks it: who can give it all of it, None while nobody is known to."""
        if not self.complete:
            return None
        holders = [*self.holds] if self.source_gone else [self._source]
        if not holders:
            return None
        self.got_on_at_s = now  # patience begins
        self.holds[name] = BlockSet(self._manifest.layout.count)
        if self._manifest.layout.count:
            self._lacking[name] = None
        return holders[0]

    def note_holder(self, node: NodeName, now: float) -> None:
        """A node holds all of it."""
        self.got_on_at_s = now
        if node != self._source:
            self.holds[node] = BlockSet.full(self._manifest.layout.count)
            self._lacking.pop(node, None)
