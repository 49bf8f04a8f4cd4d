from pathlib import Path

import pytest

from orchestra.cli.running import UsageError
from orchestra.cli.shuffling import _text, checked_matrix, read_matrix, shuffle_json
from orchestra.messages import Outcome
from orchestra.node.handles import TransferControl, WatchedTransfer
from transfers.ids import TransferName


def test_a_matrix_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('{"n1": {"n2": 5, "n3": 0}, "n2": {}}')
    assert read_matrix(str(path)) == {"n1": {"n2": 5, "n3": 0}, "n2": {}}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "Expecting value"),
        ("{", "Expecting"),
        ("[]", "must be"),
        ("3", "must be"),
        ("{}", "at least one reducer"),
        ('{"n1": {}}', "at least one reducer"),
        ('{"n1": 3}', "'n1'"),
        ('{"n1": {"n2": -1}}', "-1"),
        ('{"n1": {"n2": 1.5}}', "1.5"),
        ('{"n1": {"n2": true}}', "true"),
        ('{"n1": {"n2": "5"}}', "'n2'"),
        ('{"n1": {"n2": null}}', "null"),
        ('{"n1": {"n2": 99999999999999999999}}', "99999999999999999999"),
        ('{"n1": {"n2": 1, "n2": 2}}', "'n2' stands twice"),
        ('{"a/b": {"n2": 1}}', "a/b"),
        ("[" * 100_000, "deep"),
        ('{"n1": {"n2": 1}}\udcff', "m.json"),
    ],
)
def test_a_bad_matrix_is_wrong_usage_that_says_where(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UsageError, match="--matrix") as bad:
        read_matrix(str(path))
    assert complaint in str(bad.value)


def test_a_missing_matrix_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--matrix"):
        read_matrix(str(tmp_path / "missing"))


def test_names_are_checked() -> None:
    with pytest.raises(ValueError, match="node name"):
        checked_matrix({"n1": {"": 1}})


def test_json_has_the_keys_of_the_contract_in_order() -> None:
    running = WatchedTransfer(TransferName("s"), TransferControl(lambda: None))
    outcome = Outcome(TransferName("s"), 1.25, {"n2": 1.0}, {}, "")
    assert list(shuffle_json(running, "fair", 7, outcome).items()) == [
        ("transfer", "s"),
        ("scheduling", "fair"),
        ("bytes", 7),
        ("completion_s", 1.25),
        ("reducer_completion_s", {"n2": 1.0}),
    ]


def test_json_tells_of_flows_when_asked_and_of_places_that_were_taken() -> None:
    running = WatchedTransfer(TransferName("s"), TransferControl(lambda: None))
    flows = {"n1": {"n2": 1.0}}
    outcome = Outcome(TransferName("s"), 1.0, {"n2": 1.0}, {}, "", {"n1": "n3"}, flows)
    told = shuffle_json(running, "weighted", 7, outcome, flows=True)
    assert told["flow_completion_s"] == flows
    assert told["replaced"] == {"n1": "n3"}
    assert "n1 was lost, n3 took its place" in _text(running, 7, outcome)


@pytest.mark.parametrize(("failed", "reason"), [({"n2": "lost"}, ""), ({}, "cancelled")])
def test_a_shuffle_that_failed_has_no_speed(failed: dict[str, str], reason: str) -> None:
    running = WatchedTransfer(TransferName("s"), TransferControl(lambda: None))
    assert _text(running, 7, Outcome(TransferName("s"), 2.0, {}, failed, reason)) == "s: failed after 2.0 s"
