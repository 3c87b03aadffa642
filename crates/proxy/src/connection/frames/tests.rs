use proptest::prelude::*;

use super::*;

const CLIENT: &[u8; PREFACE] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
    let length = u32::try_from(payload).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.resize(HEADER + payload, 0xff);
    bytes
}

fn begun(now: Instant) -> Frames {
    let mut frames = Frames::new(now);
    assert_eq!(frames.received(CLIENT, now), Ok(()));
    assert!(!frames.is_amid());
    frames
}

fn odd_frames() -> [(Vec<u8>, &'static str); 9] {
    [
        (frame(DATA, 0, 1, 0), "empty_data"),
        (frame(DATA, PADDED, 1, 1), "empty_data"),
        (frame(PRIORITY, 0, 1, 5), "priority"),
        (frame(RST_STREAM, 0, 1, 4), "rst_stream"),
        (frame(SETTINGS, 0, 0, 6), "settings"),
        (frame(PING, 0, 0, 8), "ping"),
        (frame(WINDOW_UPDATE, 0, 0, 4), "window_update"),
        (frame(CONTINUATION, END_HEADERS, 1, 0), "continuation"),
        (frame(0x21, 0, 0, 3), "other"),
    ]
}

#[test]
fn every_kind_of_empty_frame_is_a_flood_when_it_comes_in_masses() {
    let now = Instant::now();
    for (odd, name) in odd_frames() {
        let mut frames = begun(now);
        assert_eq!(frames.received(&odd.repeat(500), now), Ok(()), "{name}");
        assert_eq!(frames.received(&odd, now), Err(name));
    }
}

#[test]
fn requests_alone_are_no_flood() {
    let now = Instant::now();
    let mut frames = begun(now);
    let request = [
        frame(HEADERS, END_HEADERS, 1, 40),
        frame(DATA, 0, 1, 1),
        frame(DATA, PADDED, 1, 2),
        frame(DATA, END_STREAM, 1, 0),
    ]
    .concat();
    assert_eq!(frames.received(&request.repeat(100_000), now), Ok(()));
}

#[test]
fn a_request_that_is_reset_each_time_is_a_flood() {
    let now = Instant::now();
    let mut frames = begun(now);
    let reset = [frame(HEADERS, END_HEADERS | END_STREAM, 1, 40), frame(RST_STREAM, 0, 1, 4)].concat();
    assert_eq!(frames.received(&reset.repeat(501), now), Err("rst_stream"));
}

#[test]
fn a_client_that_pings_for_days_is_welcome() {
    let start = Instant::now();
    let mut frames = begun(start);
    for second in 0..200_000 {
        let pings = frame(PING, 0, 0, 8).repeat(40);
        assert_eq!(frames.received(&pings, start + Duration::from_secs(second)), Ok(()));
    }
}

#[test]
fn time_does_not_pay_for_a_flood_twice() {
    let start = Instant::now();
    let mut frames = begun(start);
    let later = start + Duration::from_secs(10);
    assert_eq!(frames.received(&frame(PING, 0, 0, 8).repeat(1000), later), Ok(()));
    assert_eq!(frames.received(&frame(PING, 0, 0, 8), later), Err("ping"));
}

#[test]
fn a_client_that_opens_windows_for_each_frame_it_gets_is_welcome() {
    let now = Instant::now();
    let mut frames = begun(now);
    for _ in 0..10_000 {
        frames.sent(&frame(DATA, 0, 1, 16_384));
        let windows = [frame(WINDOW_UPDATE, 0, 0, 4), frame(WINDOW_UPDATE, 0, 1, 4)].concat();
        assert_eq!(frames.received(&windows, now), Ok(()));
    }
}

#[test]
fn answers_to_a_flood_do_not_pay_for_it() {
    let now = Instant::now();
    let mut frames = begun(now);
    let mut flooded = Ok(());
    for _ in 0..501 {
        frames.sent(&frame(PING, 1, 0, 8));
        frames.sent(&frame(SETTINGS, 1, 0, 0));
        frames.sent(&frame(RST_STREAM, 0, 1, 4));
        flooded = frames.received(&frame(PING, 0, 0, 8), now);
    }
    assert_eq!(flooded, Err("ping"));
}

#[test]
fn what_is_not_whole_yet_is_known() {
    let now = Instant::now();
    let mut frames = Frames::new(now);
    assert!(frames.is_amid(), "the preface is missing");
    frames.received(CLIENT, now).unwrap();
    frames.received(&frame(HEADERS, 0, 7, 3), now).unwrap();
    assert!(frames.is_amid(), "a CONTINUATION is missing");
    frames.received(&frame(CONTINUATION, END_HEADERS, 7, 3), now).unwrap();
    assert!(!frames.is_amid());
    let ping = frame(PING, 0, 0, 8);
    frames.received(&ping[..12], now).unwrap();
    assert!(frames.is_amid());
    frames.received(&ping[12..], now).unwrap();
    assert!(!frames.is_amid());
}

#[test]
fn goaway_names_the_last_stream_and_never_cuts_a_frame_in_two() {
    let now = Instant::now();
    let mut frames = begun(now);
    frames.received(&frame(HEADERS, END_HEADERS, 0x0102_0305, 3), now).unwrap();
    let answer = frame(DATA, 0, 1, 100);
    frames.sent(&answer[..50]);
    assert_eq!(frames.goaway(), None);
    frames.sent(&answer[50..]);
    assert_eq!(frames.goaway(), Some([0, 0, 8, 7, 0, 0, 0, 0, 0, 1, 2, 3, 5, 0, 0, 0, 0xb]));
}

proptest! {
    #[test]
    fn however_the_bytes_are_cut_the_frames_are_the_same(
        sent in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u32>(), 0_usize..300), 0..40),
        cuts in prop::collection::vec(1_usize..50, 1..200),
    ) {
        let bytes: Vec<u8> =
            sent.iter().flat_map(|&(kind, flags, stream, length)| frame(kind, flags, stream, length)).collect();
        let mut cursor = Cursor { header: [0; HEADER], have: 0, payload: 0 };
        let (mut seen, mut rest) = (Vec::new(), bytes.as_slice());
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, after) = rest.split_at(cut.min(rest.len()));
            cursor.advance(part, |frame| seen.push(frame));
            rest = after;
        }
        let expected: Vec<Frame> = sent
            .into_iter()
            .map(|(kind, flags, stream, length)| Frame { length, kind, flags, stream: stream & 0x7fff_ffff })
            .collect();
        prop_assert_eq!(seen, expected);
        prop_assert!(!cursor.is_amid());
    }

    #[test]
    fn no_bytes_whatever_are_too_odd(
        steps in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..200), 0_u64..2000), 0..50),
    ) {
        let mut now = Instant::now();
        let mut frames = Frames::new(now);
        for (ours, bytes, pause) in steps {
            now += Duration::from_millis(pause);
            if ours {
                frames.sent(&bytes);
            } else {
                frames.received(&bytes, now).ok();
            }
            frames.goaway();
            prop_assert!(frames.level <= BOUND + 200);
        }
    }
}

/// `cargo test --release -p proxy -- --ignored --nocapture frames_cost`
#[test]
#[ignore = "measures"]
fn frames_cost() {
    let now = Instant::now();
    for (name, bytes, count) in [
        ("requests of 40 bytes", frame(HEADERS, END_HEADERS | END_STREAM, 1, 40), 1),
        ("uploads in 16 KiB frames", frame(DATA, 0, 1, 16_384), 1),
    ] {
        let many = bytes.repeat(100);
        let mut frames = begun(now);
        let started = std::time::Instant::now();
        for _ in 0..100_000 {
            frames.received(std::hint::black_box(&many), now).unwrap();
        }
        println!("{name}: {:?} a frame", started.elapsed() / (100_000 * 100 * count));
    }
}
