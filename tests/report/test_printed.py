"""What the papers printed, and which of it is faulty."""

import pytest

from errata.report.printed import UNEDITED, printed, rows, table_faults


def test_a_number_as_printed() -> None:
    found = printed("table2", "Llama2-7B", "ROME", 50, "GSM8K")
    assert found is not None and found.value == 0.0417 and found.faults == ()
    assert printed("table2", "Llama2-7B", "ROME", 0, "MMLU") == printed("table2", "Llama2-7B", UNEDITED, 0, "MMLU")
    assert printed("table2", "Llama2-7B", "ROME", 500, "MMLU") is None
    assert printed("table2", "Mistral-7B", "GRACE", 10, "MMLU") is None, 'printed as "-"'


@pytest.mark.parametrize(
    ("table", "model", "method", "edits", "benchmark", "severities"),
    [
        ("table2", "Llama2-7B", "GRACE", 20, "GSM8K", ["high", "high"]),
        ("table2", "Llama2-7B", "GRACE", 10, "MMLU", []),
        ("table2", "Llama2-7B", "GRACE", 500, "MMLU", ["high"]),
        ("table2", "Mistral-7B", "KN", 1000, "GSM8K", ["low"]),
        ("table3", "Llama2-7B-Chat", UNEDITED, 0, "BBH", ["medium"]),
        ("table3", "Llama2-7B-Chat", UNEDITED, 0, "CSQA", []),
        ("table3", "Mistral-7B-Instruct", "PMET", 5, "BBH", ["high"]),
        ("table3", "Mistral-7B-Instruct", "PMET", 5, "MMLU", []),
        ("table4", "Pythia-1B", "ROME", 10, "MMLU", ["medium"]),
        ("table4", "Pythia-2.8B", "ROME", 50, "GSM8K", ["low"]),
        ("table5", "Mistral-7B", "PMET", 20, "TruthfulQA", ["low"]),
        ("table5", "Mistral-7B", "PMET", 50, "ToxiGen", ["high", "high"]),
        ("table5", "Llama2-7B-Chat", "ROME", 10, "TruthfulQA", []),
        ("table5", "Llama2-7B-Chat", "PMET", 10, "TruthfulQA", ["low"]),
    ],
)
def test_faulty_cells_are_marked_and_no_others(
    table: str, model: str, method: str, edits: int, benchmark: str, severities: list[str]
) -> None:
    """One line of anomalies.csv may hold several methods, each with its edits."""
    found = printed(table, model, method, edits, benchmark)
    assert found is not None and [fault.severity for fault in found.faults] == severities
    assert all(fault.told.startswith(fault.issue) for fault in found.faults)


def test_faults_of_a_table_as_a_whole() -> None:
    assert any("ROME and GRACE missing" in fault.issue for fault in table_faults("table1"))
    assert any("CSQA panels" in fault.issue for fault in table_faults("fig4"))
    assert not table_faults("table3")


def test_every_line_of_the_anomalies_speaks_of_something() -> None:
    """What is said of single cells is found at a cell that is printed."""
    of_cells = [row for row in rows("anomalies") if row["table"] in "12345" and row["benchmark"] not in ("-", "")]
    seen = {
        fault.issue
        for n in range(1, 6)
        for row in rows(f"table{n}")
        if row["value"]
        for found in [printed(f"table{n}", row["model"], row["method"], int(row["edits"]), row["benchmark"])]
        if found is not None
        for fault in found.faults
    }
    assert {row["issue"] for row in of_cells} == seen
