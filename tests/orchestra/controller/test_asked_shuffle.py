"""Shuffles that a node asks for without taking part, in the controller's core alone."""

from random import Random
from typing import TypeVar

import pytest

from orchestra.controller.core import ControllerConfig, ControllerCore
from orchestra.controller.members import SessionId
from orchestra.messages import (
    AskStatus,
    CancelTransfer,
    Denied,
    Granted,
    Join,
    Leave,
    Outcome,
    PartitionPut,
    RunShuffle,
    Status,
    TakePart,
    ToController,
    ToNode,
)
from transfers.ids import NodeName, TransferName

A, B, ASKS = NodeName("a"), NodeName("b"), NodeName("asks")
SHUFFLE = TransferName("s")
SESSIONS = {A: SessionId(1), B: SessionId(2), ASKS: SessionId(3)}
MessageT = TypeVar("MessageT")


class Desk:
    """A core, and what it has told whom."""

    def __init__(self) -> None:
        self.core = ControllerCore(ControllerConfig(), Random(1))
        self.now = 0.0
        self.told: dict[SessionId, list[ToNode]] = {session: [] for session in SESSIONS.values()}
        for name in (A, B, ASKS):
            self.say(
                name, Join(name, name, f"127.0.0.1:{SESSIONS[name]}", "host", "", name != ASKS, False, ())
            )

    def say(self, name: NodeName, message: ToController) -> None:
        self.core.receive(SESSIONS[name], message, self.now)
        self.take()

    def take(self) -> None:
        for session, message in self.core.take_output():
            if message is not None:
                self.told[session].append(message)

    def heard(self, name: NodeName, kind: type[MessageT]) -> list[MessageT]:
        return [message for message in self.told[SESSIONS[name]] if isinstance(message, kind)]

    def ask(self, sizes: dict[NodeName, dict[NodeName, int]], timeout_s: float = 60.0) -> None:
        self.say(ASKS, RunShuffle(7, SHUFFLE, sizes, timeout_s))


def test_every_participant_is_told_its_part() -> None:
    desk = Desk()
    desk.ask({A: {B: 5, A: 0}, B: {B: 3}})
    assert desk.heard(ASKS, Granted) == [Granted(7)]
    assert desk.heard(A, TakePart) == [TakePart(SHUFFLE, (A, B), (B, A), {B: 5}, {}, 60.0)]
    assert desk.heard(B, TakePart) == [TakePart(SHUFFLE, (A, B), (B, A), {B: 3}, {A: 5, B: 3}, 60.0)]


def test_empty_partitions_alone_are_a_shuffle_that_ends() -> None:
    desk = Desk()
    desk.ask({A: {B: 0}})
    assert desk.heard(ASKS, Outcome) == []
    desk.now = 2.0
    desk.say(A, PartitionPut(SHUFFLE, B, None))
    assert desk.heard(ASKS, Outcome) == [Outcome(SHUFFLE, 2.0, {B: 2.0}, {}, "")]
    assert len(desk.heard(B, Outcome)) == 1


@pytest.mark.parametrize(
    ("sizes", "timeout_s", "reason"),
    [
        ({}, 60.0, "at least one"),
        ({A: {}}, 60.0, "at least one"),
        ({A: {B: -1}}, 60.0, "negative"),
        ({A: {NodeName("zed"): 1}}, 60.0, "zed"),
        ({ASKS: {B: 1}}, 60.0, "asks"),
        ({A: {B: 1}}, 0.0, "timeout"),
    ],
)
def test_what_cannot_run_is_denied(
    sizes: dict[NodeName, dict[NodeName, int]], timeout_s: float, reason: str
) -> None:
    desk = Desk()
    desk.ask(sizes, timeout_s)
    (denied,) = desk.heard(ASKS, Denied)
    assert reason in denied.reason
    assert desk.heard(A, TakePart) == desk.heard(B, TakePart) == []


def test_a_name_in_use_is_denied() -> None:
    desk = Desk()
    desk.ask({A: {B: 1}})
    desk.ask({A: {B: 1}})
    (denied,) = desk.heard(ASKS, Denied)
    assert "'s'" in denied.reason


def test_a_participant_that_gives_up_ends_it_with_its_reason() -> None:
    desk = Desk()
    desk.ask({A: {B: 1}})
    desk.say(B, CancelTransfer(SHUFFLE, "no room"))
    (outcome,) = desk.heard(ASKS, Outcome)
    assert outcome.failed == {B: "no room"}


def test_a_participant_that_is_lost_ends_it_by_name() -> None:
    desk = Desk()
    desk.ask({A: {B: 1}})
    desk.core.closed(SESSIONS[A], "connection closed", 1.0)
    desk.take()
    (outcome,) = desk.heard(ASKS, Outcome)
    assert outcome.failed == {A: "lost: connection closed"}


def test_the_asker_can_cancel_it() -> None:
    desk = Desk()
    desk.ask({A: {B: 1}})
    desk.say(ASKS, CancelTransfer(SHUFFLE))
    for name in (A, B, ASKS):
        (outcome,) = desk.heard(name, Outcome)
        assert "cancelled by asks" in outcome.reason


def test_it_ends_when_the_asker_is_gone() -> None:
    desk = Desk()
    desk.ask({A: {B: 1}})
    desk.say(ASKS, Leave())
    (outcome,) = desk.heard(A, Outcome)
    assert "asks" in outcome.reason


def test_a_command_is_not_shown_while_it_asks_nor_after_it_has_left() -> None:
    desk = Desk()
    desk.say(ASKS, AskStatus(1))
    desk.say(A, AskStatus(2))
    desk.say(ASKS, Leave())
    desk.say(A, AskStatus(3))
    (asked,) = desk.heard(ASKS, Status)
    before, after = desk.heard(A, Status)
    assert b'"asks"' not in asked.text
    assert b'"asks"' in before.text
    assert b'"asks"' not in after.text
