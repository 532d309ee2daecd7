"""The file system `bucket://PATH`: a local folder behind a URL, in place of `s3://`, which needs a server.

`file://` cannot be one, as such a URL is its folder. fsspec finds it by the entry point beside it, in every
process with this folder on its path.
"""

from __future__ import annotations

from fsspec.implementations.local import LocalFileSystem


class Bucket(LocalFileSystem):
    protocol = "bucket"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(str(path).removeprefix("bucket://")))
