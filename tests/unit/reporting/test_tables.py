import pytest

from calico.reporting import tables


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (tables.percent, 0.7349, "73.5"),
        (tables.percent, 0.0, "0.0"),
        (tables.percent_range, (0.481, 0.564), "48.1 to 56.4"),
        (tables.operations, 16_672_036_660_224, "16.67 T"),
        (tables.operations, 1_120_000_000, "1.12 G"),
        (tables.operations, 196_608, "196.61 k"),
        (tables.seconds, 0.3904, "390 ms"),
        (tables.seconds, 1.04, "1.0 s"),
        (tables.seconds, 130.4, "2 min 10 s"),
        (tables.seconds, 239.7, "4 min 00 s"),
        (tables.count, 2_509_552, "2,509,552"),
        (tables.count, 2.0, "2"),
        (tables.count, 2.099, "2.10"),
        (tables.joined, ["a"], "a"),
        (tables.joined, ["a", "b", "c"], "a, b and c"),
    ],
)
def test_writing_of_numbers(write, value, text):
    assert write(value) == text
