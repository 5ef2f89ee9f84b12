from calico.core.files import write_json
from calico.reporting import costs

MODELS = ["calico", "glamm", "lisa"]


def test_cost_table_puts_ours_above_the_papers(profile, metrics):
    table = costs.cost_table(profile, metrics, MODELS)
    ours, papers = table.groups
    assert ours.title == "This run: CPU, test"
    assert [cell.text for cell in ours.rows[0].cells] == [
        "60.0", "8", "1.50 G", "330 ms", "330 ms", "330 ms", "330 ms", "0.75 GB",
    ]  # fmt: skip
    assert [cell.text for cell in papers.rows[2].cells[:4]] == ["55.5", "256", "44.0 T", "5.5 s"]
    assert ours.rows[0].cells[2].detail == "1.51 G by DeepSpeed"
    assert all(len(row.cells) == len(table.columns) for group in table.groups for row in group.rows)


def test_phase_table_has_every_task_and_their_mean(profile):
    profile["models"]["lisa"] = {
        **profile["models"]["lisa"],
        "latency": {
            task: {**times, "per_token": 0.0125 * number}
            for number, (task, times) in enumerate(profile["models"]["lisa"]["latency"].items())
        },
    }
    table = costs.phase_table(profile, MODELS)
    assert [group.title for group in table.groups] == [
        "common objects",
        "common parts",
        "unique parts",
        "mean of the three",
    ]
    calico, _, lisa = table.groups[2].rows
    assert [cell.text for cell in calico.cells] == ["20.0 ms", "60.0 ms", "10.0 ms", "10.0 ms", "25.0", "2.0"]
    assert lisa.cells[2].text == "25.0 ms"
    assert len(calico.cells) == len(table.columns)


def test_parameter_table_leaves_open_what_a_model_lacks(profile):
    lisa = profile["models"]["lisa"]
    profile["models"]["calico"] = {
        **lisa,
        "parameters": {"cem": {"total": 5, "trainable": 5}, **lisa["parameters"]},
    }
    components, total = costs.parameter_table(profile, MODELS).groups
    cem = next(row for row in components.rows if row.title == "cem")
    assert [cell.text for cell in cem.cells] == ["5", "5", *["\N{EN DASH}"] * 7]
    assert [cell.text for cell in total.rows[0].cells[:3]] == ["1,000", "100", "1.50 G"]


def test_stage_table_is_in_the_order_of_the_pipeline(run_path):
    stages, total = costs.stage_table(run_path).groups
    assert [row.title for row in stages.rows] == ["acquire", "unify", "finetune/lisa"]
    assert [cell.text for cell in stages.rows[0].cells] == ["2 min 30 s", "0.50 GB"]
    assert total.rows[0].cells[0].text == "7 min 31 s"


def test_stage_table_shows_a_stage_that_it_does_not_know_last(tmp_path):
    for stage in ("new", "evaluate"):
        write_json(tmp_path / stage / "stage.json", {"stage": stage, "seconds": 1, "peak_gb": 1})
    write_json(tmp_path / "report" / "stage.json", {"stage": "report", "seconds": 1, "peak_gb": 1})
    stages, _ = costs.stage_table(tmp_path).groups
    assert [row.title for row in stages.rows] == ["evaluate", "new"]
