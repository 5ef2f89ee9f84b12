from calico.reporting.differences import find_difference, model_differences, order_finding
from calico.reporting.paper_results import METRICS

MODELS = ("calico", "glamm", "lisa")


def test_a_difference_is_found_in_either_direction(metrics):
    metrics["differences"]["calico"]["lisa"]["mean"]["mIoU"]["interval"] = [-0.01, 0.06]
    forth = find_difference(metrics, "calico", "lisa", task="mean", metric="mIoU")
    back = find_difference(metrics, "lisa", "calico", task="mean", metric="mIoU")
    assert (forth.points, forth.range, forth.is_settled) == ("+2.0", "-1.0 to +6.0", False)
    assert (back.points, back.range, back.is_settled) == ("-2.0", "-6.0 to +1.0", False)


def test_nothing_has_no_sign(metrics):
    nothing = {"difference": 0.0, "interval": [-0.0004, 0.0004], "p": 1.0}
    metrics["differences"]["calico"]["lisa"]["mean"]["mIoU"] = nothing
    back = find_difference(metrics, "lisa", "calico", task="mean", metric="mIoU")
    assert (back.points, back.range) == ("0.0", "0.0 to 0.0")


def test_a_range_without_zero_settles_it_either_way(metrics):
    assert find_difference(metrics, "calico", "glamm", task="mean", metric="SS").is_settled
    assert find_difference(metrics, "glamm", "calico", task="mean", metric="SS").is_settled


def test_every_two_models_are_compared_in_every_task(metrics):
    table = model_differences(metrics, MODELS)
    assert [group.title for group in table.groups] == [
        "Common objects",
        "Common parts",
        "Unique parts",
        "Mean of the three tasks",
    ]
    for group in table.groups:
        assert [row.title for row in group.rows] == [
            "CALICO minus GLaMM",
            "CALICO minus LISA",
            "GLaMM minus LISA",
        ]
        assert [row.cells[0].text for row in group.rows] == ["+20.0", "+2.0", "-18.0"]
        assert [row.cells[0].is_best for row in group.rows] == [True, False, True]
    assert [column.title for column in table.columns] == list(METRICS)


def test_an_order_that_chance_explains_is_not_settled(metrics):
    finding = order_finding(metrics, MODELS)
    assert finding.startswith(
        "mIoU over the three tasks: CALICO 60.0, LISA 58.0, GLaMM 40.0; the first is 2.0 points "
        "(-3.0 to +7.0) ahead of the second, so this run does not settle their order."
    )
    assert finding.count("does not settle") == 2


def test_a_paired_difference_settles_an_order_though_intervals_overlap(metrics):
    metrics["differences"]["calico"]["lisa"]["mean"]["mIoU"]["interval"] = [0.01, 0.03]
    assert metrics["intervals"]["calico"]["mean"]["mIoU"][0] < metrics["intervals"]["lisa"]["mean"]["mIoU"][1]
    finding = order_finding(metrics, MODELS)
    assert "2.0 points (+1.0 to +3.0) ahead of the second, more than the chance of the test pairs." in finding
