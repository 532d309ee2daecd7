"""No password or token comes out, whichever way a store takes it; and what is none stays readable."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sweeps.process import logging_to
from sweeps.record.secrets import LogFormatter, without_secret


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:hunter2@db:5432/x",
        "postgresql://me:hun@ter2@db:5432/x",
        "postgresql://me:hun#ter2@db/x",
        "postgresql://me:hun?ter2@db/x",
        "postgresql://db/x?user=me&password=hunter2",
        "postgresql+psycopg2://me:hun%40ter2@db/x?sslmode=require&sslpassword=hunter2",
        "https://hunter2@mlflow.example",
        "https://mlflow.example/?token=hunter2&x=1",
        "https://store.example/c?sv=2024&sig=hunter2",
        "s3://bucket/sweeps?X-Amz-Signature=hunter2&access_key=hunter2",
        "mssql+pyodbc:///?odbc_connect=Driver%3DX%3BPWD%3Dhunter2",
        "host=db user=me password=hunter2 dbname=x",
        "cannot reach 'postgresql://me:hunter2@db/x': refused",
    ],
)
def test_a_secret_is_hidden(text: str) -> None:
    assert "hunter2" not in without_secret(text) and "ter2" not in without_secret(text)
    assert "***" in without_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/me/mlflow.db",
        "postgresql://me@db:5432/x",
        "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=ab&orderByKey=metrics.x",
        "val/token_accuracy is nan at step 2",
        "see http://127.0.0.1:5000 @ home",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secret(text) == text


def test_the_password_of_a_known_uri_is_hidden_where_it_stands_alone() -> None:
    uri = "postgresql://me:hun%40ter2@db/x"
    text = "login of me with hun@ter2 failed (hun%40ter2)"
    assert without_secret(text, uri) == "login of me with *** failed (***)"


def test_the_log_of_a_launch_holds_no_password(tmp_path: Path) -> None:
    """Not even in the traceback of another package's error."""
    with logging_to(tmp_path / "driver.log"):
        try:
            raise OSError("postgresql://me:hunter2@db/x: no such host")
        except OSError:
            logging.getLogger("some.package").exception("%s broke", "s3://key:hunter2@bucket")
    text = (tmp_path / "driver.log").read_text()
    assert "no such host" in text and "hunter2" not in text


def test_a_log_message_of_a_known_uri_holds_its_password_nowhere() -> None:
    record = logging.LogRecord("sqlalchemy", logging.ERROR, "", 0, "login with %s failed", ("hunter2",), None)
    assert "login with *** failed" in LogFormatter("postgresql://me:hunter2@db/x").format(record)
