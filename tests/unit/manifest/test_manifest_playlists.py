import dataclasses
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.manifest.playlists import extinf_s, render, target_duration_s
from services.manifest.publication import Publication, Segment, Track
from services.manifest.warming import keys_to_warm
from tests.unit.manifest import samples
from tests.unit.manifest.samples import PREFIX, VIDEO

MULTIVARIANT = """\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="en",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="audio/a2/playlist.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=2830000,AVERAGE-BANDWIDTH=1928000,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=29.970,VIDEO-RANGE=SDR,AUDIO="audio",CLOSED-CAPTIONS=NONE
720p/a1/playlist.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=6430000,AVERAGE-BANDWIDTH=4328000,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1920x1080,FRAME-RATE=29.970,VIDEO-RANGE=SDR,AUDIO="audio",CLOSED-CAPTIONS=NONE
1080p/a1/playlist.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1030000,AVERAGE-BANDWIDTH=728000,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=640x360,FRAME-RATE=29.970,VIDEO-RANGE=SDR,AUDIO="audio",CLOSED-CAPTIONS=NONE
360p/a1/playlist.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=39961,AVERAGE-BANDWIDTH=23977,CODECS="avc1.64001f",RESOLUTION=1280x720,VIDEO-RANGE=SDR,URI="720p/a1/iframes.m3u8"
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=39961,AVERAGE-BANDWIDTH=23977,CODECS="avc1.64001f",RESOLUTION=1920x1080,VIDEO-RANGE=SDR,URI="1080p/a1/iframes.m3u8"
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=39961,AVERAGE-BANDWIDTH=23977,CODECS="avc1.64001f",RESOLUTION=640x360,VIDEO-RANGE=SDR,URI="360p/a1/iframes.m3u8"
"""

PICTURE = """\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:4
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI="init.mp4"
#EXTINF:4.004000,
seg_00000.m4s
#EXTINF:4.004000,
seg_00001.m4s
#EXTINF:2.002000,
seg_00002.m4s
#EXT-X-ENDLIST
"""

SOUND = """\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:4
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI="init.mp4"
#EXTINF:4.010667,
seg_00000.m4s
#EXTINF:3.989333,
seg_00001.m4s
#EXTINF:2.010000,
seg_00002.m4s
#EXT-X-ENDLIST
"""

KEY_FRAMES = """\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:4
#EXT-X-MEDIA-SEQUENCE:0
#EXT-X-PLAYLIST-TYPE:VOD
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-I-FRAMES-ONLY
#EXT-X-MAP:URI="init.mp4"
#EXTINF:4.004000,
#EXT-X-BYTERANGE:10000@0
seg_00000.m4s
#EXTINF:4.004000,
#EXT-X-BYTERANGE:10000@0
seg_00001.m4s
#EXTINF:2.002000,
#EXT-X-BYTERANGE:10000@0
seg_00002.m4s
#EXT-X-ENDLIST
"""


def test_the_multivariant_playlist_to_the_byte() -> None:
    playlist = render(VIDEO).multivariant
    assert playlist.s3_key == f"{PREFIX}/main.m3u8"
    assert playlist.data.decode() == MULTIVARIANT


def test_media_playlists_to_the_byte() -> None:
    media = render(VIDEO).media
    assert media["720p"].s3_key == f"{PREFIX}/720p/a1/playlist.m3u8"
    assert media["720p"].data.decode() == PICTURE
    assert media["audio"].s3_key == f"{PREFIX}/audio/a2/playlist.m3u8"
    assert media["audio"].data.decode() == SOUND


def test_key_frame_playlists_to_the_byte() -> None:
    key_frames = render(VIDEO).key_frames
    assert list(key_frames) == ["1080p", "720p", "360p"]
    assert key_frames["1080p"].s3_key == f"{PREFIX}/1080p/a1/iframes.m3u8"
    assert key_frames["1080p"].data.decode() == KEY_FRAMES


def test_what_is_named_is_written_before_what_names_it() -> None:
    written: set[str] = set(VIDEO.objects)
    for playlist in render(VIDEO).in_order:
        folder = playlist.s3_key.rpartition("/")[0]
        assert {f"{folder}/{uri}" for uri in uris(playlist.data)} <= written
        written.add(playlist.s3_key)


def test_a_silent_video_names_no_sound() -> None:
    playlists = render(samples.publication(samples.picture("720p", 1280, 720, 1_000_000)))
    text = playlists.multivariant.data.decode()
    assert "AUDIO" not in text
    assert 'CODECS="avc1.64001f",' in text


def test_several_tracks_of_sound_have_names_of_their_own_and_one_is_the_default() -> None:
    sounds = [
        dataclasses.replace(samples.sound(language), label=label, init_s3_key=f"{PREFIX}/{label}/a1/init.mp4")
        for label, language in (("audio", "en"), ("audio-2", "fr"), ("audio-3", "en"), ("audio-4", ""))
    ]
    text = render(samples.publication(PICTURE_720P, *sounds)).multivariant.data.decode()
    found = re.findall(r'#EXT-X-MEDIA:.*NAME="([^"]*)".*DEFAULT=(\w+).*URI="([^"]*)"', text)
    assert found == [
        ("en", "YES", "audio/a1/playlist.m3u8"),
        ("fr", "NO", "audio-2/a1/playlist.m3u8"),
        ("en 2", "NO", "audio-3/a1/playlist.m3u8"),
        ("audio-4", "NO", "audio-4/a1/playlist.m3u8"),
    ]


def test_a_track_in_pieces_is_one_playlist_over_all_their_folders() -> None:
    segments = tuple(
        Segment(f"{PREFIX}/video-00{chunk}/a{chunk}/720p/seg_0000{chunk}.m4s", 1_000, 120_120, 400)
        for chunk in (1, 2, 3)
    )
    init = f"{PREFIX}/video-001/a1/720p/init.mp4"
    playlists = render(samples.publication(dataclasses.replace(PICTURE_720P, init_s3_key=init, segments=segments)))
    for playlist in (playlists.media["720p"], playlists.key_frames["720p"]):
        assert playlist.s3_key.startswith(f"{PREFIX}/video-001/a1/720p/")
        assert [line for line in playlist.data.decode().splitlines() if line.endswith(".m4s")] == [
            "seg_00001.m4s",
            "../../../video-002/a2/720p/seg_00002.m4s",
            "../../../video-003/a3/720p/seg_00003.m4s",
        ]


def test_sound_of_unknown_language_has_a_name_and_no_language() -> None:
    playlists = render(samples.publication(samples.picture("720p", 1280, 720, 1_000_000), samples.sound("")))
    text = playlists.multivariant.data.decode()
    assert 'NAME="audio",DEFAULT=YES' in text
    assert "LANGUAGE" not in text


def test_without_key_frame_chunks_there_is_no_key_frame_playlist() -> None:
    track = samples.picture("720p", 1280, 720, 1_000_000)
    track = dataclasses.replace(track, segments=samples.segments("720p", (120_120,), 9, 0))
    playlists = render(samples.publication(track))
    assert playlists.key_frames == {}
    assert b"I-FRAME" not in playlists.multivariant.data


def test_a_short_last_key_frame_does_not_blow_up_the_peak() -> None:
    items = samples.segments("720p", (120_000, 120_000, 1_000), 50_000, 10_000)
    playlists = render(samples.publication(dataclasses.replace(PICTURE_720P, segments=items)))
    [line] = [line for line in playlists.multivariant.data.decode().splitlines() if "I-FRAME" in line]
    # 2 key frames in 4.033 s, not 1 in 0.033 s
    assert "BANDWIDTH=39670,AVERAGE-BANDWIDTH=29876," in line


@pytest.mark.parametrize(
    ("averages_bps", "first"),
    [
        ({"1080p": 4_000_000, "720p": 1_900_000, "360p": 500_000}, "720p"),
        ({"1080p": 4_000_000, "720p": 2_100_000, "360p": 500_000}, "360p"),
        ({"1080p": 900_000, "720p": 500_000}, "1080p"),
        ({"1080p": 9_000_000, "720p": 3_000_000}, "720p"),
    ],
)
def test_players_begin_with_the_best_variant_of_two_megabits(averages_bps: dict[str, int], first: str) -> None:
    tracks = [
        samples.picture(label, int(label[:-1]) * 16 // 9, int(label[:-1]), bps) for label, bps in averages_bps.items()
    ]
    lines = render(samples.publication(*tracks)).multivariant.data.decode().splitlines()
    variants = [line.partition("/")[0] for line in lines if not line.startswith("#")]
    assert variants[0] == first
    assert sorted(variants) == sorted(averages_bps)


PICTURE_720P = samples.picture("720p", 1280, 720, 1_000_000)


@pytest.mark.parametrize(
    "broken",
    [
        samples.publication(),
        samples.publication(samples.sound()),
        samples.publication(dataclasses.replace(PICTURE_720P, segments=())),
        samples.publication(dataclasses.replace(PICTURE_720P, timescale=0)),
        samples.publication(dataclasses.replace(PICTURE_720P, init_s3_key="elsewhere/720p/a1/init.mp4")),
        samples.publication(dataclasses.replace(PICTURE_720P, init_s3_key=f"{PREFIX}/../a2/init.mp4")),
        samples.publication(dataclasses.replace(PICTURE_720P, codecs='avc1"\n#EXT-X-ENDLIST')),
        samples.publication(PICTURE_720P, dataclasses.replace(samples.sound(), language='en"')),
        samples.publication(
            dataclasses.replace(PICTURE_720P, segments=(Segment(f"{PREFIX}/720p/a1/seg\n.m4s", 1, 1, 0),))
        ),
        samples.publication(
            dataclasses.replace(PICTURE_720P, segments=(Segment(f"{PREFIX}/720p/a1/seg_0.m4s", 1, 0, 0),))
        ),
    ],
)
def test_what_no_playlist_can_say_is_refused(broken: Publication) -> None:
    with pytest.raises(ValueError, match=r"track|picture"):
        render(broken)


ticks = st.lists(st.integers(1, 10 * 90_000), min_size=1, max_size=200)
timescales = st.sampled_from([24_000, 30_000, 48_000, 60_000, 90_000, 15_360, 7, 1])


def track_of(durations: list[int], timescale: int) -> Track:
    items = samples.segments("720p", tuple(durations), 1_000, 100)
    return dataclasses.replace(PICTURE_720P, segments=items, timescale=timescale)


@given(ticks, timescales)
def test_no_rounded_duration_exceeds_the_target(durations: list[int], timescale: int) -> None:
    track = track_of(durations, timescale)
    playlist = render(samples.publication(track)).media["720p"].data.decode()
    target_s = int(re.findall(r"#EXT-X-TARGETDURATION:(\d+)\n", playlist)[0])
    printed = [Fraction(text) for text in re.findall(r"#EXTINF:([0-9.]+),", playlist)]
    assert len(printed) == len(durations)
    # Half a microsecond of printing may lift x.4999999 to x.5: the exact duration is what is rounded.
    exact = [Fraction(each, timescale) for each in durations]
    assert all(int(duration_s + Fraction(1, 2)) <= target_s for duration_s in exact)
    assert all(duration_s <= target_s + Fraction(1, 2) + Fraction(1, 10**6) for duration_s in printed)


@given(ticks, timescales)
def test_durations_add_up_and_each_is_exact_to_a_microsecond(durations: list[int], timescale: int) -> None:
    track = track_of(durations, timescale)
    printed = [Fraction(text) for text in extinf_s(track)]
    assert abs(sum(printed) - Fraction(sum(durations), timescale)) <= Fraction(1, 2 * 10**6)
    for text, exact in zip(printed, durations, strict=True):
        assert abs(text - Fraction(exact, timescale)) <= Fraction(1, 10**6)


@given(ticks, ticks)
def test_one_target_duration_for_all_tracks(picture: list[int], sound: list[int]) -> None:
    tracks = [
        track_of(picture, 90_000),
        dataclasses.replace(
            samples.sound(),
            segments=tuple(
                Segment(f"{PREFIX}/audio/a2/seg_{number}.m4s", 1, duration, 0) for number, duration in enumerate(sound)
            ),
        ),
    ]
    playlists = render(samples.publication(*tracks))
    targets = {re.findall(rb"TARGETDURATION:(\d+)", each.data)[0] for each in playlists.media.values()}
    assert targets == {b"%d" % target_duration_s(tracks)}


@given(st.permutations(VIDEO.tracks))
def test_the_same_tracks_give_the_same_variants(tracks: list[Track]) -> None:
    assert render(samples.publication(*tracks)).multivariant == render(VIDEO).multivariant


def uris(playlist: bytes) -> set[str]:
    lines = playlist.decode().splitlines()
    named = {line for line in lines if line and not line.startswith("#")}
    return named | set(re.findall(r'URI="([^"]+)"', playlist.decode()))


def test_codecs_follow_one_another_and_players_start_with_the_one_that_all_know() -> None:
    renditions = [
        dataclasses.replace(samples.picture(f"{side}p{suffix}", side * 16 // 9, side, average_bps), codecs=codecs)
        for suffix, codecs, share in (
            ("", "avc1.64001f", 1.0),
            ("-hevc", "hvc1.1.6.L93.90", 0.6),
            ("-av1", "av01.0.05M.08", 0.5),
        )
        for side, average_bps in ((1080, int(4_200_000 * share)), (720, int(1_800_000 * share)))
    ]
    text = render(samples.publication(*renditions, samples.sound())).multivariant.data.decode()
    variants = re.findall(r'STREAM-INF:BANDWIDTH=.*CODECS="([^"]*)".*RESOLUTION=\d+x(\d+).*\n([^#].*)', text)
    assert [(codecs.split(".")[0], side) for codecs, side, _ in variants] == [
        ("avc1", "720"),
        ("avc1", "1080"),
        ("hvc1", "1080"),
        ("hvc1", "720"),
        ("av01", "1080"),
        ("av01", "720"),
    ]
    assert all(codecs.endswith(",mp4a.40.2") for codecs, _, _ in variants)
    assert [uri for _, _, uri in variants[2:4]] == ["1080p-hevc/a1/playlist.m3u8", "720p-hevc/a1/playlist.m3u8"]
    assert text.count("FRAME-RATE=29.970") == 6
    key_frames = re.findall(r'I-FRAME-STREAM-INF:.*CODECS="([^"]*)".*URI="([^"]*)"', text)
    assert ("av01.0.05M.08", "720p-av1/a1/iframes.m3u8") in key_frames
    assert len(key_frames) == 6


def in_ts(track: Track) -> Track:
    segments = tuple(dataclasses.replace(one, s3_key=one.s3_key.replace(".m4s", ".ts")) for one in track.segments)
    return dataclasses.replace(track, init_s3_key="", init_size_bytes=0, segments=segments)


def test_mpeg_ts_has_no_initialisation_section_and_asks_for_no_more_than_version_4() -> None:
    publication = samples.publication(*map(in_ts, VIDEO.tracks))
    playlists = render(publication)
    assert playlists.multivariant.data.decode() == MULTIVARIANT.replace("VERSION:7", "VERSION:4")
    for label, expected in (("720p", PICTURE), ("audio", SOUND)):
        text = playlists.media[label].data.decode()
        assert text == as_ts(expected)
    assert playlists.key_frames["720p"].data.decode() == as_ts(KEY_FRAMES)
    assert playlists.media["720p"].s3_key == f"{PREFIX}/720p/a1/playlist.m3u8"
    assert "" not in publication.objects
    assert "" not in keys_to_warm(publication, playlists)
    assert len(publication.objects) == len(VIDEO.objects) - len(VIDEO.tracks)


def as_ts(playlist: str) -> str:
    without_map = playlist.replace('#EXT-X-MAP:URI="init.mp4"\n', "")
    return without_map.replace("VERSION:7", "VERSION:4").replace(".m4s", ".ts")


def test_a_track_of_mpeg_ts_outside_its_prefix_is_refused() -> None:
    stray = in_ts(VIDEO.tracks[0])
    elsewhere = tuple(dataclasses.replace(one, s3_key=f"other/{one.s3_key}") for one in stray.segments)
    with pytest.raises(ValueError, match="outside its media's prefix"):
        render(samples.publication(dataclasses.replace(stray, segments=elsewhere)))
