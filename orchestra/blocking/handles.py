"""What `orchestra.blocking` puts into users' hands: the async handles, without await.

Owns names and signatures, which are those of the async classes (a test compares them). Must not know how
calls reach the loop. Attributes are read where they lie: they are set once, before anyone sees a handle.
A forked child may read them, and map ``node.store``, but every method refuses there.
"""

import subprocess
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import orchestra.cluster
import orchestra.controller.serving
import orchestra.node.handles
import orchestra.node.node
import orchestra.node.shuffle
from orchestra.blocking.context import Context
from orchestra.blocking.portal import Branch
from orchestra.messages import Outcome
from orchestra.node.handles import TransferProgress
from orchestra.node.node import DEFAULT_TIMEOUT_S
from orchestra.node.shuffle import LostPlace
from transfers.ids import NodeName, TransferName
from transfers.planners import Mechanism
from transfers.store.view import ObjectView


class WatchedTransfer:
    """A transfer that this node has asked for, as `orchestra.node.handles.WatchedTransfer`.

    Attributes:
        name: of the transfer.
    """

    def __init__(self, branch: Branch, twin: orchestra.node.handles.WatchedTransfer) -> None:
        self.name: TransferName = twin.name
        self._branch = branch
        self._twin = twin

    def progress(self) -> TransferProgress:
        """How far it is, as the controller said last. Does not wait."""
        self._branch.portal.check()
        return self._twin.progress()

    def wait(self) -> Outcome:
        """Wait until everyone is through; as `orchestra.Transfer.wait`.

        Raises:
            TransferFailed: naming the nodes that do not hold what was for them, also when only some do not.
            ControllerLost: when nobody can tell any more.
        """
        return self._branch.call(self._twin.wait)

    def wait_outcome(self) -> Outcome:
        """Wait until everyone is through or has failed; as `orchestra.Transfer.wait_outcome`.

        Raises:
            ControllerLost: when nobody can tell any more.
        """
        return self._branch.call(self._twin.wait_outcome)

    def cancel(self) -> None:
        """End it; as `orchestra.Transfer.cancel`."""
        self._branch.call(self._twin.cancel)


class Transfer(WatchedTransfer):
    """One broadcast of this node, as `orchestra.Transfer`.

    Attributes:
        mechanism: how it is carried out.
        reason: why so, in one sentence with the numbers.
        size_bytes, block_size_bytes: of the object.
    """

    def __init__(self, branch: Branch, twin: orchestra.node.handles.Transfer) -> None:
        super().__init__(branch, twin)
        self.mechanism: Mechanism = twin.mechanism
        self.reason: str = twin.reason
        self.size_bytes: int = twin.size_bytes
        self.block_size_bytes: int = twin.block_size_bytes


class Shuffle:
    """One node's part in one shuffle, as `orchestra.Shuffle`.

    Attributes:
        name, mappers, reducers, timeout_s: as given.
        place: as whom this node takes part: itself, or a lost mapper or reducer.
    """

    def __init__(self, branch: Branch, twin: orchestra.node.shuffle.Shuffle) -> None:
        self.name: TransferName = twin.name
        self.mappers: tuple[NodeName, ...] = twin.mappers
        self.reducers: tuple[NodeName, ...] = twin.reducers
        self.timeout_s: float = twin.timeout_s
        self.place: NodeName = twin.place
        self._branch = branch
        self._twin = twin

    @property
    def node(self) -> NodeName:
        """This node."""
        return self._twin.node

    @property
    def due(self) -> tuple[NodeName, ...]:
        """In the place of a lost mapper, the reducers for whom something is to be put; else all."""
        return self._twin.due

    @property
    def lost(self) -> tuple[LostPlace, ...]:
        """Places that are free now, as far as this node has heard; none unless it is replaceable."""
        return self._twin.lost

    @property
    def over(self) -> bool:
        """Whether its outcome is known here."""
        return self._twin.over

    def put(self, partitions: Mapping[str, Any]) -> None:
        """Give this node's partitions, by reducer; as `orchestra.Shuffle.put`.

        Raises:
            ValueError: for a name that is no reducer, or values that cannot travel.
            LocalProtocolError: when this node is no mapper, or has put that partition already.
            StoreFull: when the partition has no room, and none will come or has come within the timeout.
            TransferFailed: when the shuffle fails meanwhile.
        """
        self._branch.call(lambda: self._twin.put(partitions))

    def finish(self) -> None:
        """Declare this mapper's partitions complete: those not put are empty."""
        self._branch.call_sync(self._twin.finish)

    def partitions(self) -> Iterator[tuple[str, ObjectView]]:
        """Every mapper's partition for this node, each as soon as it is here; empty ones are left out.

        Yields:
            the mapper's name and a read-only view of its bytes.

        Raises:
            TransferFailed: naming who was lost or held it up.
            LocalProtocolError: when this node is no reducer.
            ControllerLost: when nobody can tell any more.
        """
        source = cast("AsyncGenerator[tuple[str, ObjectView], None]", self._twin.partitions())
        return self._branch.iterate(source)

    def wait(self) -> Outcome:
        """Wait until every reducer has every partition; as `orchestra.Shuffle.wait`.

        Raises:
            TransferFailed: naming who was lost or held it up.
            ControllerLost: when nobody can tell any more.
        """
        return self._branch.call(self._twin.wait)

    def wait_lost(self) -> LostPlace:
        """Wait until a place is free; as `orchestra.Shuffle.wait_lost`.

        Raises:
            LocalProtocolError: when the shuffle is not replaceable, or is over.
            TransferFailed: when it fails.
            ControllerLost: when nobody can tell any more.
        """
        return self._branch.call(self._twin.wait_lost)


class Node:
    """A member of a cluster, as `orchestra.Node`. Threads may share it.

    Attributes:
        name: of this node.
        allow_pickle: whether this cluster lets ``.object()`` unpickle.
        store: where this host's blocks lie, for `orchestra.attach` in other processes; empty if not shared.
    """

    def __init__(self, branch: Branch, twin: orchestra.node.node.Node) -> None:
        self.name: NodeName = twin.name
        self._branch = branch
        self._twin = twin

    @property
    def allow_pickle(self) -> bool:
        return self._twin.allow_pickle

    @property
    def store(self) -> str:
        return self._twin.store

    def broadcast(
        self,
        value: Any,
        name: str | None = None,
        *,
        to: Iterable[str] | None = None,
        wait_for: int = 0,
        mechanism: str = "auto",
        block_size: int | None = None,
        priority: int = 0,
        weight: float = 1.0,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Transfer:
        """Send an object to other nodes; returns once it is under way. As `orchestra.Node.broadcast`.

        Raises:
            ValueError: for a bad argument, by name and value.
            TransferRefused: when the name is in use, or nobody is there to receive.
            StoreFull: when the object has no room in this host's store.
            ControllerLost: when the connection breaks.
        """
        twin = self._branch.call(
            lambda: self._twin.broadcast(
                value,
                name,
                to=to,
                wait_for=wait_for,
                mechanism=mechanism,
                block_size=block_size,
                priority=priority,
                weight=weight,
                timeout=timeout,
            )
        )
        return Transfer(self._branch, twin)

    def broadcast_file(
        self,
        path: str | Path,
        name: str | None = None,
        *,
        to: Iterable[str] | None = None,
        wait_for: int = 0,
        mechanism: str = "auto",
        block_size: int | None = None,
        priority: int = 0,
        weight: float = 1.0,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> Transfer:
        """Send a file to other nodes; as `broadcast`. As `orchestra.Node.broadcast_file`.

        Raises:
            OSError: when the file cannot be read.
        """
        twin = self._branch.call(
            lambda: self._twin.broadcast_file(
                path,
                name,
                to=to,
                wait_for=wait_for,
                mechanism=mechanism,
                block_size=block_size,
                priority=priority,
                weight=weight,
                timeout=timeout,
            )
        )
        return Transfer(self._branch, twin)

    def receive(self, name: str, timeout: float = DEFAULT_TIMEOUT_S) -> ObjectView:
        """Wait for a broadcast, and give a read-only, zero-copy view. As `orchestra.Node.receive`.

        Raises:
            WaitTimeout: when it is not complete here in time.
            TransferFailed: when it ended, for this node, without being complete.
            ControllerLost: when the connection is gone for good.
        """
        return self._branch.call(lambda: self._twin.receive(name, timeout))

    def release(self, name: str) -> None:
        """Let go of an object on every node; as `orchestra.Node.release`.

        Raises:
            UnknownTransfer: when there is no such transfer.
        """
        self._branch.call(lambda: self._twin.release(name))

    def shuffle(
        self,
        name: str,
        *,
        mappers: Iterable[str],
        reducers: Iterable[str],
        scheduling: str = "weighted",
        priority: int = 0,
        weight: float = 1.0,
        timeout: float = DEFAULT_TIMEOUT_S,
        replaceable: bool = False,
        in_place_of: str | None = None,
    ) -> AbstractContextManager[Shuffle]:
        """Take part in a shuffle while the block runs; as `orchestra.Node.shuffle`.

        Raises:
            ValueError: for a bad argument.
            TransferRefused: when the name is in use, or exists with other participants, or the place is not
                free.
            TransferFailed: when the shuffle fails, naming who is to blame.
        """
        return Context(
            lambda: self._branch,
            f"shuffle {name!r}",
            lambda: self._twin.shuffle(
                name,
                mappers=mappers,
                reducers=reducers,
                scheduling=scheduling,
                priority=priority,
                weight=weight,
                timeout=timeout,
                replaceable=replaceable,
                in_place_of=in_place_of,
            ),
            Shuffle,
        )

    def run_shuffle(
        self,
        sizes: Mapping[str, Mapping[str, int]],
        name: str | None = None,
        *,
        scheduling: str = "weighted",
        priority: int = 0,
        weight: float = 1.0,
        replaceable: bool = False,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> WatchedTransfer:
        """Have agents shuffle synthetic bytes among each other; as `orchestra.Node.run_shuffle`.

        Raises:
            ValueError: for a bad argument.
            TransferRefused: when the name is in use, or agents are not there.
            ControllerLost: when the connection breaks.
        """
        twin = self._branch.call(
            lambda: self._twin.run_shuffle(
                sizes,
                name,
                scheduling=scheduling,
                priority=priority,
                weight=weight,
                replaceable=replaceable,
                timeout=timeout,
            )
        )
        return WatchedTransfer(self._branch, twin)

    def pause(self, name: str) -> None:
        """Let nothing of a transfer move until `resume`; as `orchestra.Node.pause`.

        Raises:
            UnknownTransfer: when no such transfer is under way.
        """
        self._branch.call(lambda: self._twin.pause(name))

    def resume(self, name: str) -> None:
        """Let a paused transfer go on; as `orchestra.Node.resume`.

        Raises:
            UnknownTransfer: when no such transfer is under way.
        """
        self._branch.call(lambda: self._twin.resume(name))

    def set_policy(self, policy: str) -> None:
        """Share ports by another policy from now on; as `orchestra.Node.set_policy`.

        Raises:
            ValueError: for a policy that is none.
        """
        self._branch.call(lambda: self._twin.set_policy(policy))

    def status(self) -> bytes:
        """What the controller knows, as JSON text (the form of ``orchestra status --json``)."""
        return self._branch.call(self._twin.status)

    def wait_lost(self) -> str:
        """Wait until the controller is lost for good; why it was. Has no limit but leaving."""
        return self._branch.call(self._twin.wait_lost)


class Controller:
    """A running controller, as `orchestra.Controller`.

    Attributes:
        address: HOST:PORT on which it listens.
    """

    def __init__(self, branch: Branch, twin: orchestra.controller.serving.Controller) -> None:
        self.address: str = twin.address
        self._branch = branch
        self._twin = twin


class LocalCluster:
    """A running cluster on this machine, as `orchestra.LocalCluster`.

    Attributes:
        address: the controller's.
        token: the cluster's secret.
        token_file: a file that holds it, for commands.
        node: this process's node, named ``head``.
        names: of the agents.
        processes: the agents, in the order of ``names``.
    """

    def __init__(self, branch: Branch, twin: orchestra.cluster.LocalCluster) -> None:
        self.address: str = twin.address
        self.token: str = twin.token
        self.token_file: Path = twin.token_file
        self.node = Node(branch, twin.node)
        self.names: list[str] = twin.names
        self.processes: list[subprocess.Popen[bytes]] = twin.processes
        self._twin = twin
