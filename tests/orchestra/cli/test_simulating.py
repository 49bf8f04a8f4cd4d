"""``orchestra simulate``: the contract's JSON, a line for people, and complaints."""

import json

import pytest

from orchestra.cli import main

SMALL = ["simulate", "--receivers", "4", "--size", "4MiB", "--rate", "100Mbit", "--block-size", "128KiB"]


def test_json_has_what_the_contract_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--mechanism", "cornet", "--seed", "3", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["mechanism"] == "cornet"
    assert (out["size_bytes"], out["block_size_bytes"], out["receivers"]) == (4 << 20, 128 << 10, 4)
    assert set(out["node_completion_s"]) == {"n1", "n2", "n3", "n4"}
    assert out["completion_s"] == max(out["node_completion_s"].values())
    assert out["ratio"] == pytest.approx(out["completion_s"] / ((4 << 20) / 12.5e6))
    assert 1 < out["bound_s"] / ((4 << 20) / 12.5e6) <= out["ratio"]
    assert out["failed"] == {}
    assert len(out["trace_digest"]) == 32
    assert {"transfer", "reason"} <= set(out)


@pytest.mark.parametrize("model", ["whole", "planner"])
def test_people_are_told_the_ratio_and_the_model(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--model", model]) == 0
    told = capsys.readouterr()
    assert "x S/W" in told.out
    assert "4 of 4 receivers" in told.out
    assert f"{model} model" in told.err


def test_racks_are_counted_in_receivers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--racks", "2,2", "--uplink", "20Mbit", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bound_s"] == pytest.approx((4 << 20) / 2.5e6)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--racks", "2,3"], "racks"),
        (["--racks", "2,x"], "--racks"),
        (["--uplink", "1Mbit"], "uplink"),
        (["--seed", "-1"], "--seed"),
        (["--control-delay", "no"], "--control-delay"),
    ],
)
def test_bad_arguments_are_named(more: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([*SMALL, *more])
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    told = capsys.readouterr()
    assert named in told.err
    assert told.out == ""
