"""What a decision costs, as a script: what it shows, and what it prints."""

from random import Random

import pytest

from examples.benchmarks import policy_decisions
from examples.benchmarks.policy_decisions import RACKS, mixed
from schedulers import POLICIES, Broadcast, Shuffle


def test_the_mixed_scene_has_200_transfers_of_both_kinds_on_ports_that_are_there() -> None:
    demands = mixed(Random(3))
    assert len(demands) == 200
    assert sum(isinstance(demand, Broadcast) for demand in demands) == 20
    assert max(len(demand.egress) for demand in demands if isinstance(demand, Shuffle)) > RACKS / 3
    assert max(int(demand.ports.max()) for demand in demands) < 2 * RACKS


def test_it_prints_a_row_a_policy_for_every_scene(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(policy_decisions, "MANY", 5)
    assert policy_decisions.main(["--repeats", "1"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line and "(" in line[20:]]
    assert [row for row in rows if row in POLICIES] == [*POLICIES] * 3
