from typing import Any

from orchestra.cli.status import links_text, means_text, status_text, table

SHARING = {"priority": -1, "weight": 2.5, "granted_bytes_per_s": 2e5}
POLICY = {"policy": "fair", "enforcement": {"means": "auto", "without_pacing": []}}


def test_columns_are_as_wide_as_their_cells() -> None:
    assert table(("a", "bb"), [("long", "x")]) == ["a     bb", "long  x"]


def test_text_shows_nodes_and_transfers() -> None:
    text = status_text(
        {
            "nodes": {"n1": {"address": "127.0.0.1:7", "host": "h" * 40, "state": "joined"}},
            "transfers": {
                "x": {
                    "kind": "broadcast",
                    "mechanism": "",
                    "state": "waiting",
                    "progress": 0.5,
                    "failed": {"n9": "lost"},
                    **SHARING,
                }
            },
            **POLICY,
        }
    )
    assert "policy fair, kept by pacing" in text
    assert "n1    joined  127.0.0.1:7" in text
    assert "waiting  50%       -1        2.5     1.6 Mbit/s  -          -     -    n9: lost" in text


def test_text_says_by_what_means_rates_are_kept() -> None:
    by_number = {"means": "connections", "without_pacing": []}
    assert means_text({"enforcement": by_number}) == "kept by numbers of connections"
    said = means_text({"enforcement": {"means": "auto", "without_pacing": ["n2"]}})
    assert said == "kept by pacing, but by connections in shuffles with n2, whose kernel does not pace"
    said = means_text({"enforcement": {"means": "pacing", "without_pacing": ["n2"]}})
    assert said == "kept by pacing; flows from n2, whose kernel does not pace, are not kept"


def test_text_shows_what_was_predicted_and_how_far_off_that_was() -> None:
    done = {
        "kind": "broadcast",
        "mechanism": "chain",
        "state": "done",
        "progress": 1.0,
        "failed": {},
        "predicted_s": 5.5,
        "completion_s": 5.0,
        "prediction_error": 0.1,
        **SHARING,
        "granted_bytes_per_s": 0.0,
    }
    text = status_text({"nodes": {}, "transfers": {"x": done}, **POLICY})
    assert "nothing   5.5 s      5.0 s  +10%  -" in text


def test_text_says_what_was_measured_of_links() -> None:
    links: dict[str, Any] = {
        "rate_bytes_per_s": 6.25e6,
        "slowest_bytes_per_s": 1.25e6,
        "spread": 0.8,
        "transfers": 3,
        "predictions": 2,
        "median_prediction_error": 0.041,
        "small_predictions": 7,
        "median_small_prediction_error": 0.3,
    }
    assert links_text(links) == (
        "links 50.0 Mbit/s, measured over 3 transfers, spread 80%, the slowest 10.0 Mbit/s; "
        "predictions off by 4% (median of 2); of small objects by 30% (median of 7)"
    )
    even = {**links, "slowest_bytes_per_s": 6.25e6, "spread": 0.0, "transfers": 1}
    assert links_text(even).startswith("links 50.0 Mbit/s, measured over 1 transfer; predictions")
    nothing = {**dict.fromkeys(links), "transfers": 0, "predictions": 0}
    assert links_text(nothing) == "links not measured yet"


def test_text_of_an_empty_cluster_says_so() -> None:
    text = status_text({"nodes": {}, "transfers": {}, **POLICY})
    assert "no nodes" in text
    assert "no transfers" in text
