"""One HTTP request over https, and the three ways in which it fails."""

import email.utils
import http.client
import ipaddress
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import IO, Any
from urllib.parse import urlsplit

from calico.errors import CalicoError

_TIMEOUT_S = 30.0
_MAX_WAIT_S = 120.0
_TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_HINTS = {
    401: "the publisher asks for a login, or for terms to be accepted",
    403: "the publisher asks for terms to be accepted, or the link has expired",
    404: "the file is no longer there",
    410: "the file is no longer there",
}


class RefusedError(CalicoError):
    """The server's last word: asking again would not help."""


class UnreachableError(CalicoError):
    """No connection came about."""


class TransientError(CalicoError):
    """The connection broke or the server is busy; `wait_s` is how long it asks to be left alone."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        """Keep the time to wait beside the message."""
        super().__init__(message)
        self.wait_s = wait_s


def open_url(url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    """Send a GET request and follow redirects; nothing but https, except on this machine.

    Raises:
        RefusedError: a wrong scheme, certificate or status.
        UnreachableError: no connection.
        TransientError: the connection broke, or a status that may pass.
    """
    check_scheme(url)
    proxies = urllib.request.ProxyHandler({} if _is_loopback(url) else None)
    opener = urllib.request.build_opener(proxies, _Redirects)
    # Compressed on the way, a file would have another size and other ranges.
    fixed = {"User-Agent": "calico", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers={**fixed, **headers})
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            raise _status_fault(error) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise RefusedError(f"its certificate is not valid ({error.reason.verify_message})") from error
        raise UnreachableError(f"no connection ({_reason(error.reason)})") from error
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"no answer ({_reason(error)})") from error
    return response


def read_block(response: http.client.HTTPResponse, num_bytes: int) -> bytes:
    """Read up to `num_bytes`; b"" at the end.

    Raises:
        TransientError: the connection broke.
    """
    try:
        return response.read(num_bytes)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TransientError(f"the connection broke ({_reason(error)})") from error


def check_scheme(url: str) -> None:
    """Refuse an address that is neither https nor on this machine.

    Raises:
        RefusedError: names the address.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme != "https" and not (scheme == "http" and _is_loopback(url)):
        raise RefusedError(f"{url!r} is not an https address")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to https only, and never from the network to this machine."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        try:
            check_scheme(newurl)
        except RefusedError as error:
            raise RefusedError(f"it redirects to {newurl!r}, which is not an https address") from error
        if _is_loopback(newurl) and not _is_loopback(req.full_url):
            raise RefusedError(f"it redirects to {newurl!r}, which is this machine")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _status_fault(error: urllib.error.HTTPError) -> CalicoError:
    message = f"HTTP status {error.code} ({error.reason})"
    if error.code not in _TRANSIENT_STATUSES:
        hint = _HINTS.get(error.code)
        return RefusedError(f"{message}: {hint}" if hint else message)
    wait_s = _retry_after_s(error.headers.get("Retry-After"))
    if wait_s > _MAX_WAIT_S:
        return RefusedError(f"{message}: it asks to come back in {wait_s:.0f} s")
    return TransientError(message, wait_s)


def _retry_after_s(value: str | None) -> float:
    """Read seconds or a date; 0 where the header is missing or garbled."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
