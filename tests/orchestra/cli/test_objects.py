import os
from pathlib import Path

import pytest

from orchestra.cli.objects import broadcast_json, broadcast_text, readable_file
from orchestra.cli.running import UsageError
from orchestra.messages import Outcome
from orchestra.node.handles import Transfer, TransferControl
from transfers.ids import TransferName
from transfers.planners import Mechanism


def transfer() -> Transfer:
    control = TransferControl(lambda: None)
    return Transfer(TransferName("x"), Mechanism.CORNET, "cornet: because", 32_000_000, 262_144, control)


OUTCOME = Outcome(TransferName("x"), 2.0, {"n1": 1.5, "n2": 2.0}, {"n9": "lost: connection closed"}, "")


def test_json_has_the_keys_of_the_contract_in_order() -> None:
    told = broadcast_json(transfer(), OUTCOME, 3)
    assert list(told.items()) == [
        ("transfer", "x"),
        ("mechanism", "cornet"),
        ("reason", "cornet: because"),
        ("size_bytes", 32_000_000),
        ("block_size_bytes", 262_144),
        ("receivers", 3),
        ("completion_s", 2.0),
        ("node_completion_s", {"n1": 1.5, "n2": 2.0}),
        ("failed", {"n9": "lost: connection closed"}),
    ]


def test_text_tells_speeds_and_every_node() -> None:
    text = broadcast_text(transfer(), OUTCOME, 3)
    assert "32.0 MB to 2 of 3 receivers by cornet in 2.0 s" in text
    assert "cornet: because" in text
    assert "16.0 MB/s to each, 32.0 MB/s in all" in text
    assert "n1  1.5 s" in text


def test_text_of_nothing_moved_divides_by_nothing() -> None:
    nobody = Outcome(TransferName("x"), 0.0, {}, {"n1": "not joined"}, "")
    assert "0 of 1 receivers" in broadcast_text(transfer(), nobody, 1)


def test_files_that_cannot_be_sent_are_wrong_usage(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path, tmp_path / "missing", fifo, "a\0b"):
        with pytest.raises(UsageError, match="--file"):
            readable_file(str(path), "--file")


def test_an_empty_file_can_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert readable_file(str(path), "--file") == path
