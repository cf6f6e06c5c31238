from dataclasses import dataclass

import pytest

from cosmos_isaac_wm.storage.structured import check_recipe, read, read_rows

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)


@dataclass
class Inner:
    width: int


@dataclass
class Outer:
    inner: Inner
    pairs: tuple[tuple[float, float], ...] = ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "more than 1,000,000 values"),
        ("inner: &inner {width: *inner}", "holds itself"),
        ("[" * 10_000, "more than 64 levels"),
        ("inner: {width: 1}\npairs: 3", r"Expected `array`, got `int` - at `\$\.pairs`"),
        ("inner: {width: wide}", r"Expected `int`, got `str` - at `\$\.inner\.width`"),
        ("inner: {width: 1, heigth: 2}", r"unknown key 'heigth'; expected some of \['width'\]"),
        ("inner:", r"at `\$\.inner`"),
        ("inner: {width", "truncated or damaged"),
        ("", "Expected `object`, got `null`"),
        ("!!python/object/apply:os.system [ls]", "truncated or damaged"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named_with_the_place(tmp_path, text, message):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read(path, Outer)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_what_it_should_be_is_read(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("inner: {width: 3}\npairs: [[1, 2.5]]\n")
    assert read(path, Outer) == Outer(Inner(3), ((1.0, 2.5),))


def test_text_of_another_encoding_is_named(tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match=r"file\.json is no text in UTF-8"):
        read(path, dict[str, str])


def test_a_damaged_table_is_named(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("width\n3\nx\n")
    with pytest.raises(ValueError, match=r"rows\.csv is damaged"):
        read_rows(path, Inner)


@pytest.mark.parametrize("text", [LAUGHS, "- a\n- b\n", "x" * 2**19, "a: [1"])
def test_a_recipe_is_refused_before_it_is_built(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"recipe\.yaml"):
        check_recipe(path)
