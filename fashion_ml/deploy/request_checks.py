"""What a request to a served model is refused for before MLflow reads it: its host, path and kind, and names that nobody knows."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fashion_ml.deploy.request_rows import FORMS, check_body, has_many_values, named_columns, too_many_values
from fashion_ml.errors import InputError
from fashion_ml.runtime.json_file import DoubledKeyError, parsed_mapping

JSON = "application/json"
_PATHS = ("/invocations", "/ping", "/health", "/version")
"""What MLflow's protocol has; its application has pages beside these, which load scripts from elsewhere."""
_HERE = ("localhost", "127.0.0.1", "[::1]")
_BODY = (*FORMS, "params")


def hosts_of(host: str, names: Sequence[str]) -> tuple[str, ...]:
    """Names that a server at an address answers to, in lower case: this machine's own, the address, and those that are given."""
    at = f"[{host}]" if ":" in host else host
    return tuple(dict.fromkeys(one.lower() for one in (*_HERE, at, *names) if one))


@dataclass(frozen=True)
class Known:
    """What requests may name."""

    params: tuple[str, ...]
    columns: tuple[str, ...]
    hosts: tuple[str, ...]
    """In lower case, without ports; empty where any is answered."""
    any_address: bool = False
    """Whether addresses that are numbers are answered too: a page elsewhere cannot have one of this machine's."""
    pictures: tuple[str, ...] = ()
    """Which of the columns hold files in base64."""

    def wrong_place(self, scope: Mapping[str, Any]) -> tuple[int, str] | None:
        """Status and text for a path that is none, and a host that is not this server's, which a page elsewhere may have given our address."""
        hosts = _all_of(scope, b"host")  # one of HTTP/1.0 may have none
        if self.hosts and (strange := next((host for host in hosts if not self._is_ours(host)), None)) is not None:
            names = ", ".join(self.hosts)
            return (
                400,
                f"Host: {strange[:80] or 'nothing'} is not this server's; ask {names}, or name it where the server starts (--names)",
            )
        if scope["path"] not in _PATHS:
            return 404, f"path: {scope['path'][:80]} is not there; ask {', '.join(_PATHS)}"
        return None

    def wrong_body(self, scope: Mapping[str, Any], body: bytes) -> tuple[int, str] | None:
        """Status and text for a body that MLflow need not look at, or of which it would pass over a part in silence."""
        kinds = [kind.partition(";")[0].strip().lower() for kind in _all_of(scope, b"content-type")]
        if kinds != [JSON]:  # of two MLflow takes the first
            return 415, f"Content-Type: {', '.join(kinds)[:80] or 'none'} is not accepted; send {JSON}"
        if has_many_values(body):
            return 400, too_many_values()
        try:
            tree = parsed_mapping(body, once=True)
        except DoubledKeyError as error:
            return 400, f"body: {error}; give it once"
        except ValueError as error:
            form = '{"dataframe_records": [...], "params": {...}}'
            return 400, f"body: it is no JSON object ({str(error)[:200]}); send {form}"
        params = tree.get("params")
        for field, given, known in (
            ("body", tree, _BODY),
            ("params", params if isinstance(params, dict) else (), self.params),
            ("columns", named_columns(tree), self.columns),
        ):
            if known and (strange := next((name for name in given if name not in known), None)) is not None:
                return 400, f"{field}: {str(strange)[:80]!r} is not known; there are {', '.join(known)}"
        try:
            check_body(tree, self.columns, self.pictures)
        except InputError as error:
            return 400, "; ".join(error.problems)
        return None

    def _is_ours(self, host: str) -> bool:
        name = host.rsplit(":", 1)[0] if ":" in host.rpartition("]")[2] else host
        if name.lower() in self.hosts:
            return True
        try:
            return self.any_address and bool(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            return False


def _all_of(scope: Mapping[str, Any], name: bytes) -> list[str]:
    """The values of a header, which may come more than once."""
    return [value.decode("latin-1") for given, value in scope["headers"] if given == name]
