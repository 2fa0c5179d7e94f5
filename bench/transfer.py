"""boto3's transfer manager as a program: `python -m bench.transfer FILE BUCKET KEY`; settings as of any AWS tool."""

import os
import sys

import boto3
from botocore.config import Config


def main() -> int:
    _, path, bucket, key = sys.argv
    if os.environ["SIGN_PAYLOAD"] == "yes":
        config = Config(s3={"addressing_style": "path"})
    else:
        config = Config(s3={"addressing_style": "path", "payload_signing_enabled": False})
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], config=config)
    client.upload_file(path, bucket, key)
    return 0


if __name__ == "__main__":
    sys.exit(main())
