from deploy.demo import Stages, references

BASE = "http://edge.test/a1/main.m3u8"


def test_finds_what_a_playlist_refers_to_once_and_in_order() -> None:
    playlist = (
        "#EXTM3U\n# a comment\n"
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",URI="audio/playlist.m3u8"\n'
        "#EXT-X-STREAM-INF:BANDWIDTH=1\n720p/playlist.m3u8\n\n"
        "#EXT-X-STREAM-INF:BANDWIDTH=2\n720p/playlist.m3u8\n"
    )
    assert references(playlist, BASE) == [
        "http://edge.test/a1/audio/playlist.m3u8",
        "http://edge.test/a1/720p/playlist.m3u8",
    ]


def test_each_stage_has_its_own_duration() -> None:
    stages = Stages(10.0, {"uploaded": 12.0, "published": 15.5})
    assert list(stages.lines()) == ["uploaded 2.0 s", "published 3.5 s", "together 5.5 s"]
