"""The inside of a node: hears what the controller says and hands it to whom it is for.

Owns what this node takes part in: its link to the controller, its objects, its broadcasts, shuffles and
waits. What users may do with it stands in `orchestra.node.node`.
"""

import secrets

import trio

from orchestra.messages import (
    AskOutcome,
    AskStatus,
    CancelTransfer,
    Denied,
    Granted,
    Join,
    Joined,
    LetGo,
    NotJoined,
    Outcome,
    PartitionEmpty,
    PlaceFilled,
    PlaceLost,
    PlaceTaken,
    Planned,
    Progress,
    Status,
    StillHere,
    TakePart,
    ToController,
    ToNode,
    Want,
)
from orchestra.node.handles import TransferControl
from orchestra.node.link import ControllerLink
from orchestra.node.objects import NodeObjects
from orchestra.node.shuffle import Shuffle
from orchestra.node.synthetic import take_part
from transfers.errors import RemoteProtocolError
from transfers.ids import NodeName, TransferName
from transfers.manifest import ObjectKey
from transfers.store import host_id

REQUEST_TIMEOUT_S = 30.0
"""Longest wait for the controller's answer where nothing else is waited for (a guess)."""

MOST_SMALL_AT_ONCE = 64
"""Small broadcasts of one node that are under way at a time; more wait, so that those who want thousands do
not fill the controller's queues, and other transfers' messages do not stand behind theirs (a guess)."""
SMALL_TURN_S = 1.0
"""How long one of them counts after the last that was through: where all hang, for a receiver that is dead,
they do not hold up the others (the time after which such are planned for)."""
MOST_SMALL_TURN_S = 10.0
"""How long one counts at most, also while others are through (a guess: by then the controller has lost its
patience, too, and has planned for it)."""


class Member:
    """One node's part in its cluster.

    Attributes:
        name: of the node.
        allow_pickle: whether this cluster lets ``.object()`` unpickle.
        link: to the controller.
        objects: what it holds and serves.
        store_address: where others of this host can map its store, empty if not shared.
        paces: whether its kernel paces sockets.
        controls: its broadcasts that are under way.
        shuffles: those it takes part in, by name and place.
        wants: how many wait here for a broadcast.
    """

    def __init__(self, name: NodeName, *, receives: bool, saves: bool) -> None:
        self.name = name
        self.allow_pickle = False
        self.link: ControllerLink
        self.objects: NodeObjects
        self.store_address = ""
        self.paces = True
        self.controls: dict[TransferName, TransferControl] = {}
        self.shuffles: dict[TransferName, dict[NodeName, Shuffle]] = {}
        self.wants: dict[TransferName, int] = {}
        self._small = trio.Semaphore(MOST_SMALL_AT_ONCE)
        self._small_turns: dict[trio.CancelScope, float] = {}  # each with when it ends at the latest
        self._receives = receives
        self._saves = saves
        self._incarnation = secrets.token_hex(8)
        self._data_address = ""
        self._abandoned: dict[TransferName, None] = {}
        self._nursery: trio.Nursery | None = None

    def attach_parts(
        self, link: ControllerLink, objects: NodeObjects, data_address: str, store_address: str
    ) -> None:
        """Put together what `orchestra.node.joining.join` has made."""
        self.link = link
        self.objects = objects
        self._data_address = data_address
        self.store_address = store_address

    # -- for the node, its objects and its shuffles ----------------------------------------------

    def tell(self, message: ToController) -> None:
        """Queue a message for the controller."""
        self.link.send(message)

    def arrived(self, key: ObjectKey) -> None:
        """An object is complete on this node."""
        for shuffle in self.shuffles_named(key.transfer):
            shuffle.hear_arrival(key.part)

    def takes_part(self, transfer: TransferName) -> bool:
        """Whether this node takes part in a shuffle of that name."""
        return transfer in self.shuffles

    def shuffles_named(self, name: TransferName) -> list[Shuffle]:
        """This node's parts in a shuffle: one, and one more for each place of another that it has taken."""
        return list(self.shuffles.get(name, {}).values())

    def enter(self, shuffle: Shuffle) -> bool:
        """Take part from now on; False if it does so already, in that place."""
        places = self.shuffles.setdefault(shuffle.name, {})
        return places.setdefault(shuffle.place, shuffle) is shuffle

    def leave(self, shuffle: Shuffle) -> None:
        """Take part no longer."""
        places = self.shuffles[shuffle.name]
        del places[shuffle.place]
        if not places:
            del self.shuffles[shuffle.name]
        shuffle.leave(list(places))

    def abandon(self, name: TransferName) -> None:
        """End a transfer of this node. The last words about it are still to come."""
        self._abandoned[name] = None
        self.link.send(CancelTransfer(name))

    async def let_pass(self, name: TransferName) -> None:
        """Before a name is used again: let the last words pass about what was abandoned under it."""
        if name in self._abandoned:
            await self.link.request(AskStatus, REQUEST_TIMEOUT_S)
            self._abandoned.pop(name, None)

    async def wait_small_turn(self, control: TransferControl) -> None:
        """Before a small broadcast: wait until few enough are under way. It counts until it is over."""
        await self._small.acquire()
        if self._nursery is None:
            self._small.release()
        else:
            self._nursery.start_soon(self._end_small_turn, control)

    async def _end_small_turn(self, control: TransferControl) -> None:
        try:
            patience = trio.CancelScope(deadline=trio.current_time() + SMALL_TURN_S)
            self._small_turns[patience] = trio.current_time() + MOST_SMALL_TURN_S
            with patience:
                await control.over.wait()
                for other, latest_s in self._small_turns.items():
                    other.deadline = min(trio.current_time() + SMALL_TURN_S, latest_s)
        finally:
            del self._small_turns[patience]
            self._small.release()

    @property
    def lost_because(self) -> str:
        """What to say when the controller has been lost for good."""
        return f"controller {self.link.address} lost: {self.link.lost_because}"

    async def wait_or_lost(self, done: trio.Event) -> None:
        """Wait for an event, or for the controller to be lost for good."""
        async with trio.open_nursery() as nursery:

            async def watch(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch, done)
            nursery.start_soon(watch, self.link.lost)

    # -- for the link (`LinkOwner`) --------------------------------------------------------------

    def make_join(self) -> Join:
        """The opening message, with the inventory of this moment."""
        return Join(
            name=self.name,
            incarnation=self._incarnation,
            data_address=self._data_address,
            host=host_id(),
            store_address=self.store_address,
            receives=self._receives,
            saves=self._saves,
            inventory=self.objects.inventory(),
            paces=self.paces,
        )

    def joined(self, message: Joined) -> None:
        """The controller has taken this node in, for the first time or again."""
        self.allow_pickle = message.allow_pickle
        self.objects.forget_budgets()  # who has come anew is told again
        self.objects.limit_port(message.port_rate_bytes_per_s)
        self.objects.say_again()
        for transfer in self.wants:
            self.link.send(Want(transfer))
        for transfer in self._abandoned:
            self.link.send(CancelTransfer(transfer))
        for transfer in self.shuffles:
            self.link.send(AskOutcome(transfer))

    @property
    def busy(self) -> bool:
        """Whether this node takes part in a transfer that is under way."""
        sending = any(not control.over.is_set() for control in self.controls.values())
        return sending or bool(self.shuffles) or self.objects.engaged

    @property
    def report_interval_s(self) -> float:
        """How long this node may gather what it reports."""
        return self.objects.report_interval_s

    def hear(self, message: ToNode) -> None:
        """Hand a command to whom it is for."""
        match message:
            case Progress(transfer=transfer):
                self._hear_progress(transfer, message)
            case Outcome(transfer=transfer):
                self._hear_progress(transfer, message)
                self.objects.outcome(transfer)
                for shuffle in self.shuffles_named(transfer):
                    shuffle.hear_outcome(message)
            case PartitionEmpty(transfer=transfer, mapper=mapper, reducer=reducer):
                for shuffle in self.shuffles_named(transfer):
                    if shuffle.place == reducer:
                        shuffle.hear_empty(mapper)
            case PlaceLost(transfer=transfer):
                for shuffle in self.shuffles_named(transfer):
                    shuffle.hear_lost(message)
            case PlaceFilled(transfer=transfer, place=place):
                for shuffle in self.shuffles_named(transfer):
                    shuffle.hear_filled(place)
            case LetGo(transfer=transfer):
                self.objects.hear(message)
                self._abandoned.pop(transfer, None)
                if transfer in self.controls:
                    self.controls.pop(transfer).let_go(message)
            case TakePart():
                self._take_part(message)
            case (
                Joined() | StillHere() | NotJoined() | Planned() | Granted() | Denied() | Status()
                | PlaceTaken()
            ):  # fmt: skip
                raise RemoteProtocolError(f"{type(message).__name__} out of turn")
            case _:
                self.objects.hear(message)

    async def run(self, connect_timeout_s: float, task_status: trio.TaskStatus[None]) -> None:
        """Stay joined; when the controller is lost for good, whoever waits is told."""
        async with trio.open_nursery() as self._nursery:
            try:
                await self.link.run(connect_timeout_s, task_status)
            finally:
                self._nursery = None  # nothing new begins
            why = self.lost_because
            for control in self.controls.values():
                control.lose(why)
            for name in self.shuffles:
                for shuffle in self.shuffles_named(name):
                    shuffle.lose(why)

    def _take_part(self, message: TakePart) -> None:
        """Take part from this moment on, so that partitions that follow find their shuffle."""
        name = message.transfer
        shuffle = Shuffle(
            *(self, name, message.mappers, message.reducers, message.timeout_s, message.terms),
            message.place,
        )
        if self._nursery is None or not self.enter(shuffle):
            self.link.send(CancelTransfer(name, "takes part in another shuffle of this name"))
            return
        if message.attempts:
            shuffle.take_place(message.attempts)
        self._nursery.start_soon(self._run_part, shuffle, message)

    async def _run_part(self, shuffle: Shuffle, message: TakePart) -> None:
        try:
            await take_part(self, shuffle, message)
        finally:
            self.leave(shuffle)

    def _hear_progress(self, transfer: TransferName, message: Progress | Outcome) -> None:
        control = self.controls.get(transfer)
        if control is not None:
            control.hear(message)
            if control.over.is_set():
                del self.controls[transfer]
