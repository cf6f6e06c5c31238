import numpy as np

from cosmos_isaac_wm.reporting.comparison import Result, table


def test_the_table_ranks_by_rmse_and_gives_the_reports_figure():
    errors = {"push": np.ones((2, 3))}
    numbers = {"parameters": 1e6, "push_static_rmse_px512": 80.0}
    first, second = (
        Result(name, numbers | {"push_cube_rmse_px512": rmse}, errors)
        for name, rmse in (("rollout", 50.0), ("resnet_rollout", 40.0))
    )
    lines = table([first, second], "push", "cube").splitlines()
    assert lines[2].startswith("| resnet_rollout | 1.00M | 40 |")
    assert lines[3].endswith("| 165 |")
    assert lines[4].startswith("| nothing moves |  | 80 |")


def test_a_result_is_read_back_as_it_was(tmp_path):
    result = Result("rollout", {"parameters": 1e6}, {"push": np.array([[1.0, np.nan]]), "slide": np.ones((2, 3))})
    assert Result.load("rollout", tmp_path / "there") is None
    result.save(tmp_path / "there")
    read = Result.load("rollout", tmp_path / "there")
    assert read.numbers == result.numbers
    assert read.errors.keys() == result.errors.keys()
    np.testing.assert_array_equal(read.errors["push"], result.errors["push"])
