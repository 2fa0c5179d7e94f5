from deploy.demo import references, stage_durations

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


def test_stages_are_those_of_the_pipeline_in_the_order_they_began() -> None:
    def span(name: str, start_s: int, end_s: int) -> dict[str, object]:
        return {"name": name, "start_ns": start_s * 10**9, "end_ns": end_s * 10**9}

    spans = [span("publish video", 9, 10), span("encode 720p", 3, 8), span("encode", 4, 7), span("probe", 1, 3),
             span("/media.v1.MetadataService/RecordPlan", 3, 4)]  # fmt: skip
    assert list(stage_durations(spans).items()) == [("probe", 2.0), ("encode 720p", 5.0), ("publish video", 1.0)]
