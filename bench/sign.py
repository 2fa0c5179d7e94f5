"""`make bench-sign`: part URLs signed a second, ours against botocore, in turns."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta

import boto3
from botocore.config import Config

from bench.report import Ratio, publish
from services.runtime.presign import Credentials, Presigner

ROUNDS = 5
PARTS = 100
"""Of one upload: 1 GB in parts of 10 MB."""
BUCKET, KEY, UPLOAD_ID, PART_BYTES = (
    "originals",
    "25c/01a20528-c471-725c-abfe-f7512bc3897d/original",
    "u" * 64,
    10 << 20,
)
ENDPOINT, REGION, KEY_ID, SECRET = "http://127.0.0.1:8333", "us-east-1", "bench", "not a secret"


def main() -> int:
    return publish("sign", [measured(ROUNDS)])


def measured(rounds: int) -> Ratio:
    """Both sign all parts of one upload, in turns."""
    presigner = Presigner(endpoint_url=ENDPOINT, region=REGION, credentials=lambda: Credentials(KEY_ID, SECRET))
    client = boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        region_name=REGION,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        config=Config(signature_version="s3v4"),
    )
    sizes = {number: {"content-length": str(PART_BYTES)} for number in range(1, PARTS + 1)}

    def ours() -> None:
        presigner.sign_parts(BUCKET, KEY, UPLOAD_ID, sizes, expires_in=timedelta(hours=1))

    def theirs() -> None:
        for number in sizes:
            client.generate_presigned_url(
                "upload_part",
                Params={
                    "Bucket": BUCKET,
                    "Key": KEY,
                    "UploadId": UPLOAD_ID,
                    "PartNumber": number,
                    "ContentLength": PART_BYTES,
                },
                ExpiresIn=3600,
            )

    rates = [(rate(ours, 100), rate(theirs, 5)) for _ in range(rounds)]
    ours_s, theirs_s = zip(*rates, strict=True)
    return Ratio("sign the part URLs of one upload; botocore", ours_s, theirs_s, "URLs/s", 20)


def rate(sign: Callable[[], None], repeats: int) -> float:
    """URLs a second."""
    sign()
    began_s = time.perf_counter()
    for _ in range(repeats):
        sign()
    return repeats * PARTS / (time.perf_counter() - began_s)


if __name__ == "__main__":
    sys.exit(main())
