"""`python -m services.upload`."""

from services.runtime import process
from services.upload.app import serve

if __name__ == "__main__":
    process.run({"upload": serve})
