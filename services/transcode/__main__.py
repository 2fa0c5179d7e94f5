"""Runs the transcode service alone: `python -m services.transcode`."""

from services.runtime import process
from services.transcode.app import serve

if __name__ == "__main__":
    process.run({"transcode": serve})
