"""From CSV files to typed columns."""

import math

import pytest

from biomeroworker.omero.importing.tables import ImageOfKey, columns_of, read_sheet


@pytest.fixture
def sheet(tmp_path):
    def write(text, image=None, name="a.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_sheet(path, image)

    return write


def kinds(columns):
    return {column.name: column.kind for column in columns}


def test_a_column_has_the_narrowest_type_of_all_its_values(sheet):
    columns = columns_of([sheet("n,r,b,t\n1,1.5,true,x\n2,2,False,\n")], {})
    assert kinds(columns) == {"n": "long", "r": "double", "b": "bool", "t": "string"}
    assert columns[2].values == (True, False)


def test_a_whole_number_beside_an_empty_cell_is_real_because_nothing_is_not_zero(sheet):
    (column, _) = columns_of([sheet("n,x\n1,a\n,b\n")], {})
    assert column.kind == "double"
    assert column.values[0] == 1.0
    assert math.isnan(column.values[1])


@pytest.mark.parametrize("text", ["1_000", "0x10", "1,5", ""])
def test_a_number_of_pythons_syntax_alone_is_text(sheet, text):
    (column, _) = columns_of([sheet(f'n,x\n"{text}",a\n')], {})
    assert column.kind == "string"
    assert column.values == (text,)


def test_a_number_beyond_64_bits_is_real(sheet):
    assert kinds(columns_of([sheet(f"n\n{2**70}\n")], {})) == {"n": "double"}


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_a_line_break_in_a_quoted_cell_is_part_of_the_cell(sheet, line_break):
    read = sheet(f'name,n{line_break}"first{line_break}second",1{line_break}third,2{line_break}')
    assert read.header == ("name", "n")
    assert read.rows == ((f"first{line_break}second", "1"), ("third", "2"))


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_other_line_separators_of_unicode_do_not_split_a_row(sheet, separator):
    read = sheet(f"name,n\na{separator}b,1\nc,2\n")
    assert read.rows == ((f"a{separator}b", "1"), ("c", "2"))


def test_a_quote_that_is_never_closed_makes_no_table(sheet):
    assert sheet('a,b\n1,"' + "x,y\n" * 50_000).rows == ()


def test_a_column_of_keys_becomes_the_images_they_stand_for(sheet):
    keys = {"image-4": ImageOfKey(4, "µ cells.tif"), "image-12": ImageOfKey(12, "b")}
    columns = columns_of([sheet("image,label\nimage-12,1\nimage-4,1\n")], keys)
    assert [(c.name, c.kind, c.values) for c in columns] == [
        ("Image", "image", (12, 4)),
        ("Image Name", "string", ("b", "µ cells.tif")),
        ("label", "long", (1, 1)),
    ]


def test_files_of_different_images_become_one_table_with_a_column_of_images(sheet):
    keys = {"image-1": ImageOfKey(1, "a"), "image-2": ImageOfKey(2, "b")}
    columns = columns_of([sheet("x\n1\n2\n", 1), sheet("x\n3\n", 2, "b.csv")], keys)
    assert columns[0].values == (1, 1, 2)
    assert columns[1].values == ("a", "a", "b")
    assert columns[2].values == (1, 2, 3)


def test_the_users_own_image_column_does_not_hide_the_real_one(sheet):
    columns = columns_of([sheet("Image,x\nA1,1\n", 5)], {"image-5": ImageOfKey(5, "n")})
    assert [column.name for column in columns] == ["Image", "Image Name", "Image (as written)", "x"]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("a;b\n1;2\n", ("a", "b")),
        ("a\tb\n1\t2\n", ("a", "b")),
        ("\ufeffa,b\r\n1,2\r\n\r\n", ("a", "b")),
        ("a,a,\n1,2,3\n", ("a", "a 2", "column 3")),
        ("größe,b\n1,2\n".encode("latin-1"), ("größe", "b")),
    ],
)
def test_what_spreadsheets_write_is_read(sheet, text, header):
    read = sheet(text)
    assert read.header == header
    assert len(read.rows) == 1


def test_short_rows_are_filled(sheet):
    assert sheet("a,b\n1\n").rows == (("1", ""),)
