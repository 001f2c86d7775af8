"""Whether a tracking store can be used, asked before anything is: what is wrong with its URI, its file, its server, in one line."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import unquote

import psutil

from fashion_ml.errors import InputError
from fashion_ml.runtime.language import marked, tr, translated
from fashion_ml.runtime.redact import first_line, without_credentials

FIELD = "MLFLOW_TRACKING_URI"
_SQLITE = re.compile(r"(?P<scheme>sqlite(?:\+\w+)?:///)(?P<path>[^?]+)(?P<query>\?.*)?")
_SECONDS = 10
_LOCAL = marked("unset it for a local store")
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def sqlite_file(uri: str) -> Path | None:
    """The file of an sqlite store, as it is read from the working folder; None for other stores."""
    found = _SQLITE.fullmatch(uri)
    return Path(unquote(found["path"])) if found and found["path"] != ":memory:" else None


def with_whole_path(uri: str, folder: Path) -> str:
    """A relative sqlite URI as seen from a folder; other URIs as they are."""
    found, file = _SQLITE.fullmatch(uri), sqlite_file(uri)
    if not found or file is None or file.is_absolute() or set(str(folder)) & set("%?#"):  # what those mean differs by version
        return uri
    return f"{found['scheme']}{folder}/{found['path'].removeprefix('./')}{found['query'] or ''}"


def meant_by_mlflow_run(uri: str, run_id: str) -> str:
    """A relative sqlite URI from the folder where `mlflow run DIR` was called: it starts the project in DIR, where another file is meant.

    That folder is the first of this process's and its parents' whose file holds the run. The URI as it is where there is none.
    """
    file = sqlite_file(uri)
    if file is None or file.is_absolute():
        return uri
    for folder in _folders():
        if _holds(folder / file, run_id):
            return with_whole_path(uri, folder)
    return uri


def _folders() -> Iterator[Path]:
    yield Path.cwd()
    for parent in psutil.Process().parents():
        try:
            yield Path(parent.cwd())
        except (psutil.Error, OSError):  # someone else's, or gone
            continue


def _holds(file: Path, run_id: str) -> bool:
    if not file.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
            return store.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (run_id,)).fetchone() is not None
    except sqlite3.Error:
        return False


def check_uri(uri: str) -> None:
    """InputError at once for a store that cannot work; MLflow itself would try for minutes, or make folders on the way."""
    scheme = uri.partition(":")[0].partition("+")[0].lower()
    if uri.startswith(("http://", "https://")):
        _check_server(uri)
    elif scheme == "sqlite":
        _check_file(uri)
    elif scheme in ("postgresql", "mysql", "mssql"):
        _check_database(uri)


def _check_server(uri: str) -> None:
    from http.client import HTTPException
    from ssl import SSLError
    from urllib.error import HTTPError, URLError
    from urllib.parse import urlsplit
    from urllib.request import urlopen

    try:
        parts = urlsplit(uri)
        host = parts.netloc.rpartition("@")[2]
        urlopen(f"{parts.scheme}://{host}{parts.path.rstrip('/')}/health", timeout=_SECONDS).close()
    except HTTPError:
        return  # something answers: let MLflow say what is wrong
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, URLError) and isinstance(error.reason, SSLError):
            return  # MLflow has settings of its own for certificates
        raise InputError(
            tr(
                "{field}: {without_credentials!r} does not answer ({first_line}); start that server, or {local}",
                field=FIELD,
                without_credentials=without_credentials(uri),
                first_line=first_line(error),
                local=translated(_LOCAL),
            )
        ) from error


def _check_file(uri: str) -> None:
    file = sqlite_file(uri)
    if file is None:
        raise InputError(
            tr(
                "{field}: {uri!r} is kept in memory and lost at the end; give a file, such as sqlite:///mlflow.db",
                field=FIELD,
                uri=uri,
            )
        )
    folder = file.absolute().parent
    if file.is_dir():
        raise InputError(
            tr(
                "{field}: {file!r} is a folder; give a file, such as sqlite:///{file_2}/mlflow.db",
                field=FIELD,
                file=str(file),
                file_2=file,
            )
        )
    if not folder.is_dir():
        raise InputError(
            tr(
                "{field}: {uri!r} is in a folder that does not exist; make {folder}, or give another path",
                field=FIELD,
                uri=uri,
                folder=folder,
            )
        )
    if not file.exists() and not _takes_files(folder):
        raise InputError(
            tr(
                "{field}: {uri!r} cannot be made, {folder} takes no files; give a path that can be written",
                field=FIELD,
                uri=uri,
                folder=folder,
            )
        )
    if file.exists() and not os.access(file, os.R_OK):
        raise InputError(
            tr(
                "{field}: {file!r} cannot be read by this user; change its permissions, or give another path",
                field=FIELD,
                file=str(file),
            )
        )


def _takes_files(folder: Path) -> bool:
    """By making one: permissions alone say nothing of mounts that are read-only, or full, or of systems such as /proc."""
    try:
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _check_database(uri: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    shown, timed = without_credentials(uri), not uri.startswith("mssql")
    try:
        engine = create_engine(uri, connect_args={"connect_timeout": _SECONDS} if timed else {})
    except ImportError as error:
        fix = f"pip install {error.name}"
        if uri.startswith("postgresql"):
            fix = tr("pip install 'fashion-ml[postgres]' and write postgresql+psycopg://…")
        raise InputError(
            tr(
                "{field}: {shown!r} needs the driver {name}, which is not installed; {fix}",
                field=FIELD,
                shown=shown,
                name=error.name,
                fix=fix,
            )
        ) from error
    except (SQLAlchemyError, ValueError) as error:
        raise InputError(
            tr(
                "{field}: {shown!r} is no URL of a database ({first_line}); mend it, or {local}",
                field=FIELD,
                shown=shown,
                first_line=first_line(error),
                local=translated(_LOCAL),
            )
        ) from error
    check_answers(uri, FIELD, translated(_LOCAL))
    try:
        engine.connect().close()
    except Exception as error:  # each driver has its own
        raise InputError(
            tr(
                "{field}: {shown!r} does not let us in ({first_line}); start that server and check its user and "
                "password, or {local}",
                field=FIELD,
                shown=shown,
                first_line=first_line(error)[:200],
                local=translated(_LOCAL),
            )
        ) from error
    finally:
        engine.dispose()


def check_answers(uri: str, field: str, instead: str) -> None:
    """InputError within ten seconds where nobody listens at a database's URL, in all its addresses together; what is no URL is said by others.

    Connections to PostgreSQL that are opened later give up as soon, where PGCONNECT_TIMEOUT does not say otherwise.
    """
    import socket

    from sqlalchemy.engine import make_url

    os.environ.setdefault("PGCONNECT_TIMEOUT", str(_SECONDS))
    try:
        url = make_url(uri)
        host, port = url.host or "", url.port or _PORTS.get(url.get_backend_name(), 0)
    except Exception:
        return
    if not host or not port or host.startswith("/") or "," in host:
        return
    until = time.monotonic() + _SECONDS
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for number, address in enumerate(addresses, 1):
            left = (until - time.monotonic()) / (len(addresses) - number + 1)
            try:
                socket.create_connection((str(address[4][0]), port), timeout=max(left, 0.1)).close()
                return
            except OSError:
                if number == len(addresses):
                    raise
    except OSError as error:
        why = first_line(error)
        raise InputError(
            tr(
                "{field}: {without_credentials!r} does not let us in ({why}); start that server, or {instead}",
                field=field,
                without_credentials=without_credentials(uri),
                why=why,
                instead=instead,
            )
        ) from error


@contextmanager
def asked(uri: str) -> Iterator[None]:
    """Around a request: InputError where the store at a URI does not answer, does not allow it, or is none."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        if "disk is full" in str(error):
            raise  # the command line has a line for that
        raise InputError(f"{FIELD}: {what_is_wrong(uri, error)}") from error


_UNKNOWN, _FORBIDDEN = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"), "PERMISSION_DENIED"


def is_refusal(error: Exception) -> bool:
    """Whether a store does not know the user, or does not allow what was asked."""
    return _code(error) in (*_UNKNOWN, _FORBIDDEN)


def what_is_wrong(uri: str, error: Exception) -> str:
    """Why a store has not done what it was asked, and the fix."""
    shown, code, text = repr(without_credentials(uri)), _code(error), first_line(error)[:200]
    if "MLFLOW_ALLOW_FILE_STORE" in str(error):
        return tr(
            "{shown} is a folder of files, which MLflow no longer takes; give a database, such as "
            "sqlite:///mlflow.db (mlflow migrate-filestore brings old runs over)",
            shown=shown,
        )
    if uri.startswith("databricks"):
        return tr(
            "{shown} has no working credentials here; run databricks auth login (or set DATABRICKS_HOST and "
            "DATABRICKS_TOKEN), or {local}",
            shown=shown,
            local=translated(_LOCAL),
        )
    if uri.startswith(("http://", "https://")):
        if code in _UNKNOWN:
            fix = tr("set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN")
            return tr("{shown} wants another user, password or token (401); {fix}", shown=shown, fix=fix)
        if code == _FORBIDDEN:
            return tr(
                "{shown} does not allow that to this user (403); ask whoever runs it, or use another user or experiment",
                shown=shown,
            )
        if code in ("ENDPOINT_NOT_FOUND", "NOT_FOUND") or "not in a valid JSON format" in str(error):
            return tr("{shown} answers, but as no MLflow server does; check its address and path", shown=shown)
        return tr(
            "{shown} does not do what it is asked ({text}); try again when it does, or {local}",
            shown=shown,
            text=text,
            local=translated(_LOCAL),
        )
    file = sqlite_file(uri)
    if file is not None and "database is locked" in str(error):
        return tr("{file!r} is held by another process that writes to it; try again when that has ended", file=str(file))
    if file is not None and re.search("readonly|read-only", str(error)):
        closed = file if not os.access(file, os.W_OK) else file.parent  # SQLite writes its journal beside the file
        return tr("{file!r} is read-only; make it writable, or give another path", file=str(closed))
    if file is not None:
        return tr(
            "{shown} cannot be used ({text}); move {file} aside, or bring back a copy of it; a new one is made",
            shown=shown,
            text=text,
            file=file,
        )
    return tr("{shown} cannot be used ({text}); mend it, or {local}", shown=shown, text=text, local=translated(_LOCAL))


def _code(error: Any) -> str:
    return str(getattr(error, "error_code", ""))
