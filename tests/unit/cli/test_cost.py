"""``qff cost``: the table, its JSON, and what it refuses."""

import json

from qiskit_qff.cli.main import run


def test_cost_lists_every_strategy(trained, capsys) -> None:
    model = str(trained / "run")
    assert run(["cost", model, "--backend", "aer", "--atoms", "Cu5Au3", "--frames", "9", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["atoms"] == {"29": 5, "79": 3}
    assert {(entry["strategy"], entry["quantity"]) for entry in result["costs"]} == {
        (strategy, quantity)
        for strategy in ("environment", "density", "operator")
        for quantity in ("once", "energy", "forces", "gradient")
    }
    assert "two-qubit depth" in captured.err
