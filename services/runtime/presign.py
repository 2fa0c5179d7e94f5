"""Presigned S3 URLs: AWS Signature Version 4 in the query string.

Signing is on the hot path: a video of 1 GB needs about a hundred URLs at once, and a general SDK spends a third of a
millisecond on each, nearly all of it on what is the same for every part. Here the derived key is kept for its day, and
what the parts of one upload share is encoded once; each URL costs one SHA-256 and one HMAC.

Source: "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" in the Amazon S3 API reference.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urlsplit

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
"""S3 alone allows it: the body of a presigned request is not known when it is signed."""
_UNRESERVED: Final = "-_.~"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LONGEST: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whose rights a URL carries; `session_token` is set for temporary ones."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


class Presigner:
    """Signs requests for one endpoint, region and set of credentials. Pure but for the clock, and safe in threads."""

    def __init__(
        self, *, endpoint_url: str, region: str, credentials: Callable[[], Credentials], path_style: bool = True
    ) -> None:
        """Takes in where requests go.

        Args:
            endpoint_url: `http(s)://host[:port]` as clients reach it.
            region: for instance `us-east-1`.
            credentials: whose rights the URLs carry; asked each time, since temporary ones are renewed.
            path_style: whether the bucket is the first component of the path, or the first label of the host.

        Raises:
            ValueError: the URL has no scheme or host, or a path.
        """
        parts = urlsplit(endpoint_url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"not an endpoint: {endpoint_url!r}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        is_default = parts.port in {None, _DEFAULT_PORTS[parts.scheme]}
        self._scheme = parts.scheme
        self._host = host if is_default else f"{host}:{parts.port}"
        self._region = region
        self._credentials = credentials
        self._path_style = path_style

    def sign(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        expires_in: timedelta,
        now: datetime | None = None,
    ) -> str:
        """The URL of one request.

        Args:
            method: for instance `PUT`.
            bucket: its name.
            key: the object's key, unencoded.
            query: further parameters, unencoded.
            headers: what the client must send exactly so, by lower-case name; `host` is added.
            expires_in: from one second to seven days.
            now: when it is signed; the clock's time by default.
        """
        return self._signing(method, bucket, key, header_names=tuple(headers), expires_in=expires_in, now=now).url(
            query, headers
        )

    def sign_parts(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Mapping[int, Mapping[str, str]],
        *,
        expires_in: timedelta,
        now: datetime | None = None,
    ) -> dict[int, str]:
        """URLs to PUT the parts of one upload to, by number.

        Args:
            bucket: its name.
            key: the object's key, unencoded.
            upload_id: the upload.
            parts: by number, the headers that must be sent exactly so, as in `sign`; all parts with the same names.
            expires_in: from one second to seven days.
            now: when it is signed; the clock's time by default.
        """
        if not parts:
            return {}
        names = tuple(next(iter(parts.values())))
        signing = self._signing("PUT", bucket, key, header_names=names, expires_in=expires_in, now=now)
        upload = quote(upload_id, safe=_UNRESERVED)
        return {
            number: signing.url_of(f"&partNumber={number}&uploadId={upload}", headers)
            for number, headers in parts.items()
        }

    def _signing(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        header_names: tuple[str, ...],
        expires_in: timedelta,
        now: datetime | None,
    ) -> "_Signing":
        if not timedelta(seconds=1) <= expires_in <= _LONGEST:
            raise ValueError(f"a URL lives for one second to seven days, not {expires_in}")
        credentials = self._credentials()
        at = (now or datetime.now(UTC)).astimezone(UTC)
        date, timestamp = at.strftime("%Y%m%d"), at.strftime("%Y%m%dT%H%M%SZ")
        scope = f"{date}/{self._region}/s3/aws4_request"
        path = quote(f"/{bucket}/{key}" if self._path_style else f"/{key}", safe=f"/{_UNRESERVED}")
        host = self._host if self._path_style else f"{bucket}.{self._host}"
        signed_headers = ";".join(sorted(("host", *header_names)))
        parameters = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{credentials.access_key_id}/{scope}",
            "X-Amz-Date": timestamp,
            "X-Amz-Expires": str(int(expires_in.total_seconds())),
            "X-Amz-SignedHeaders": signed_headers,
        }
        if credentials.session_token:
            parameters["X-Amz-Security-Token"] = credentials.session_token
        return _Signing(
            url_prefix=f"{self._scheme}://{host}{path}?",
            request_prefix=f"{method}\n{path}\n",
            parameters=_canonical_query(parameters),
            host_header=f"host:{host}\n",
            request_suffix=f"\n{signed_headers}\n{_PAYLOAD}",
            text_prefix=f"{_ALGORITHM}\n{timestamp}\n{scope}\n",
            key=_derived_key(credentials.secret_access_key, date, self._region),
        )


@dataclass(frozen=True, slots=True)
class _Signing:
    """Everything that requests of one method, object, moment and set of header names share, already encoded."""

    url_prefix: str
    request_prefix: str
    parameters: str
    host_header: str
    request_suffix: str
    text_prefix: str
    key: bytes

    def url(self, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
        """The URL with these parameters, for a request with these headers."""
        encoded = _pairs(query)
        # Upper case sorts before lower case, so only parameters of that kind could come among the X-Amz ones.
        merged = "&".join(sorted([*self.parameters.split("&"), *encoded], key=lambda pair: pair.partition("=")[0]))
        return self._finished(merged, self._canonical(headers))

    def url_of(self, later_query: str, headers: Mapping[str, str]) -> str:
        """The URL with parameters that sort after `X-Amz-…` and are encoded, for a request with these headers."""
        return self._finished(f"{self.parameters}{later_query}", self._canonical(headers))

    def _canonical(self, headers: Mapping[str, str]) -> str:
        lines = [f"{name}:{' '.join(value.split())}\n" for name, value in headers.items()]
        return "".join(sorted([*lines, self.host_header], key=lambda line: line.partition(":")[0]))

    def _finished(self, query: str, headers: str) -> str:
        request = f"{self.request_prefix}{query}\n{headers}{self.request_suffix}"
        text = f"{self.text_prefix}{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self.key, text.encode(), "sha256").hex()
        return f"{self.url_prefix}{query}&X-Amz-Signature={signature}"


def _canonical_query(parameters: Mapping[str, str]) -> str:
    return "&".join(sorted(_pairs(parameters), key=lambda pair: pair.partition("=")[0]))


def _pairs(parameters: Mapping[str, str]) -> list[str]:
    return [f"{quote(name, safe=_UNRESERVED)}={quote(value, safe=_UNRESERVED)}" for name, value in parameters.items()]


@lru_cache(maxsize=64)
def _derived_key(secret_access_key: str, date: str, region: str) -> bytes:
    """The key of one day, region and service; the same for every request of that day."""
    derived = f"AWS4{secret_access_key}".encode()
    for step in (date, region, "s3", "aws4_request"):
        derived = hmac.digest(derived, step.encode(), "sha256")
    return derived
