import pytest

from tests.unit.transcode.sources import sample_clip


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Five seconds of 320 x 180 at 25 frames a second, with sound."""
    return sample_clip(tmp_path_factory.mktemp("sample"), frame_count=125)
