from __future__ import annotations

import gzip

import numpy as np
import pytest

from trm.data.base import DataError
from trm.data.boards.csv_files import read_csv, write_csv
from trm.data.boards.rules import Puzzles
from trm.data.sudoku.rules import SudokuRules

HEADER = "source,question,answer,rating"


def good_rows(puzzles, count=3):
    boards, solutions = puzzles[4]
    return [
        f"x,{''.join(map(str, p)).replace('0', '.')},{''.join(map(str, s))},{i}"
        for i, (p, s) in enumerate(zip(boards[:count].tolist(), solutions[:count].tolist(), strict=True))
    ]


def write(path, lines, end="\r\n"):
    path.write_bytes(end.join([*lines, ""]).encode())
    return path


def test_every_rating_of_32_bits_is_read(puzzles, tmp_path):
    ratings = ["2147483647", "0", ""]
    rows = [replaced(row, 3, lambda _, r=r: r) for row, r in zip(good_rows(puzzles), ratings, strict=True)]
    assert read_csv(write(tmp_path / "a.csv", [HEADER, *rows]), SudokuRules(4)).ratings.tolist() == [
        2**31 - 1,
        0,
        -1,
    ]


def test_rows_come_as_they_stand(puzzles, tmp_path):
    read = read_csv(write(tmp_path / "a.csv", [HEADER, *good_rows(puzzles)]), SudokuRules(4))
    assert (read.boards == puzzles[4][0][:3]).all()
    assert (read.solutions == puzzles[4][1][:3]).all()
    assert read.ratings.tolist() == [0, 1, 2]
    assert read.groups.tolist() == [0, 1, 2, 3]
    assert read.boards.dtype == read.solutions.dtype == np.uint8


@pytest.mark.parametrize("size", [4, 6, 9])
@pytest.mark.parametrize("rating", [-1, 7])
def test_what_is_written_is_read(puzzles, size, rating, tmp_path):
    boards, solutions = puzzles[size]
    puzzles = Puzzles.single(boards, solutions, np.full(100, rating, np.int32))
    write_csv(tmp_path / "a.csv", puzzles, SudokuRules(size), "me")
    assert (tmp_path / "a.csv").read_bytes().startswith(b"source,question,answer,rating\r\nme,")
    read = read_csv(tmp_path / "a.csv", SudokuRules(size))
    for field in ("boards", "solutions", "ratings", "groups"):
        assert (getattr(read, field) == getattr(puzzles, field)).all()


def test_forms_of_the_file(puzzles, tmp_path):
    rows = good_rows(puzzles)
    plain = read_csv(write(tmp_path / "a.csv", [HEADER, *rows]), SudokuRules(4))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    quoted = [row.replace("x,", '"x, quoted",', 1) for row in rows]
    swapped = [",".join(row.split(",")[k] for k in (2, 1)) for row in rows]
    forms = [
        tmp_path / "b.csv.gz",
        write(tmp_path / "lf.csv", [HEADER, *rows], end="\n"),
        write(tmp_path / "blank.csv", [HEADER, rows[0], "", *rows[1:], ""]),
        write(tmp_path / "bom.csv", ["\ufeff" + HEADER, *rows]),
        write(tmp_path / "zeros.csv", [HEADER, *(row.replace(".", "0") for row in rows)]),
        write(tmp_path / "quoted.csv", [HEADER, *quoted]),
        write(tmp_path / "two.csv", ["answer,question", *swapped]),
    ]
    for form in forms:
        read = read_csv(form, SudokuRules(4))
        assert (read.boards == plain.boards).all(), form
        assert (read.solutions == plain.solutions).all(), form
    assert (read_csv(forms[6], SudokuRules(4)).ratings == -1).all()


def test_duplicates_are_fine(puzzles, tmp_path):
    rows = good_rows(puzzles)
    assert len(read_csv(write(tmp_path / "a.csv", [HEADER, *rows, *rows]), SudokuRules(4))) == 6


def replaced(row, column, value):
    fields = row.split(",")
    fields[column] = value(fields[column])
    return ",".join(fields)


def contradiction(row):
    """The first clue made another digit."""
    fields = row.split(",")
    cell = next(i for i, char in enumerate(fields[1]) if char != ".")
    fields[1] = fields[1][:cell] + str(int(fields[1][cell]) % 4 + 1) + fields[1][cell + 1 :]
    return ",".join(fields)


BAD_ROWS = {
    "short question": (lambda r: replaced(r, 1, lambda q: q[:-1]), "question has 15 characters"),
    "long answer": (lambda r: replaced(r, 2, lambda a: a + "1"), "answer has 17 characters"),
    "letter": (lambda r: replaced(r, 1, lambda q: "z" + q[1:]), "question has 'z' at character 1"),
    "digit too big": (lambda r: replaced(r, 1, lambda q: q[:-1] + "5"), "'5' at character 16"),
    "not ascii": (lambda r: replaced(r, 1, lambda q: "é" + q[1:]), "question has 'é' at character 1"),
    "blank in answer": (lambda r: replaced(r, 2, lambda a: "." + a[1:]), "answer has '.'.*1 to 4"),
    "zero in answer": (lambda r: replaced(r, 2, lambda a: "0" + a[1:]), "answer has '0'.*1 to 4"),
    "clue": (contradiction, "the clue . at row ., column . contradicts the answer"),
    "answer": (lambda r: replaced(r, 2, lambda a: a[1] + a[1:]), "not a solved 4x4 board: row 1 has . twice"),
    "fields": (lambda r: r + ",extra", "5 fields"),
    "few fields": (lambda r: r.rsplit(",", 2)[0], "2 fields"),
    "rating": (lambda r: replaced(r, 3, lambda _: "hard"), "rating is 'hard'.* up to 2147483647"),
    "rating too big": (lambda r: replaced(r, 3, lambda _: "99999999999"), "rating is '99999999999'"),
    "rating too small": (lambda r: replaced(r, 3, lambda _: "-99999999999"), "rating is '-99999999999'"),
    "rating of many digits": (lambda r: replaced(r, 3, lambda _: "9" * 5000), "rating is '9{40}'"),
    "two signs": (lambda r: replaced(r, 3, lambda _: "--5"), "rating is '--5'"),
    "both signs": (lambda r: replaced(r, 3, lambda _: "+-1"), r"rating is '\+-1'.* or leave it empty"),
    "a square": (lambda r: replaced(r, 3, lambda _: "²"), "rating is '²'"),
    "a blank": (lambda r: replaced(r, 3, lambda _: " "), "rating is ' '"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_refused_with_its_place(puzzles, name, tmp_path):
    break_row, message = BAD_ROWS[name]
    rows = good_rows(puzzles)
    path = write(tmp_path / "bad.csv", [HEADER, rows[0], rows[1], break_row(rows[2])])
    with pytest.raises(DataError, match=message) as raised:
        read_csv(path, SudokuRules(4))
    assert str(raised.value).startswith(f"{path}:4: ")
    assert "\n" not in str(raised.value)


BAD_FILES = {
    "empty": (b"", ":1: no column question"),
    "header only": (HEADER.encode(), "contains no puzzle"),
    "columns": (
        b"puzzle,solution\r\n1,2\r\n",
        ":1: no column question and no column answer .*'puzzle,solution'",
    ),
    "one column": (b"question\r\n1\r\n", "no column answer"),
    "binary": (b"\xff\xfe\x00\x01", "not UTF-8"),
    "gzip": (b"\x1f\x8b\x08\x00", "not UTF-8"),
    "long field": (HEADER.encode() + b"\r\n" + b"1" * 200_000, ":2: is not CSV"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused(name, tmp_path):
    content, message = BAD_FILES[name]
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        read_csv(path, SudokuRules(4))
    assert str(raised.value).startswith(str(path))


def test_a_file_that_cannot_be_opened_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read_csv(tmp_path / "none.csv", SudokuRules(9))
    with pytest.raises(DataError, match="cannot be read"):
        read_csv(tmp_path, SudokuRules(9))
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress(HEADER.encode() * 9)[:-12])
    with pytest.raises(DataError, match="cannot be read"):
        read_csv(torn, SudokuRules(9))


def test_the_size_must_fit(puzzles, tmp_path):
    path = write(tmp_path / "a.csv", [HEADER, *good_rows(puzzles)])
    with pytest.raises(DataError, match="9x9 board has 81: correct the row, or set size"):
        read_csv(path, SudokuRules(9))


def test_second_solutions_are_searched_for_in_a_sample(puzzles, tmp_path):
    rows = good_rows(puzzles, 20)
    rows[7] = replaced(rows[7], 1, lambda q: "." * 16)
    read = read_csv(write(tmp_path / "a.csv", [HEADER, "", *rows]), SudokuRules(4))
    with pytest.raises(
        DataError, match=r"a\.csv:10: the puzzle \.{16} has more than one solution.*add clues"
    ):
        SudokuRules(4).check_answers(read)
    found = []
    for most in range(0, 21, 5):
        try:
            SudokuRules(4).check_answers(read, most)
            found.append(False)
        except DataError:
            found.append(True)
    assert found == sorted(found)
    assert not found[0]
    assert found[-1]
