//! An answer of an upstream says the same in whatever pieces it comes, and never more than came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::upstream::Reading;

/// Status, body, number of trailers, whether it is whole and its connection goes on, and what came behind it; none without a head.
type Read = Option<(u16, Vec<u8>, usize, bool, bool, Vec<u8>)>;

fn read(bytes: &[u8], piece: usize, is_to_head: bool) -> Result<Read, ()> {
    let mut reading = Reading::default();
    let mut pieces = bytes.chunks(piece);
    let response = loop {
        if let Some(response) = reading.head(is_to_head).map_err(drop)? {
            break response;
        }
        let Some(next) = pieces.next() else { return Ok(None) };
        reading.feed(next);
    };
    let (mut body, mut trailers) = (Vec::new(), 0);
    loop {
        while let Some(frame) = reading.frame().map_err(drop)? {
            match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers += frame.into_trailers().unwrap().len(),
            }
        }
        match pieces.next() {
            Some(next) => reading.feed(next),
            None => break,
        }
    }
    let goes_on = reading.may_go_on();
    let is_whole = reading.close();
    Ok(Some((response.status().as_u16(), body, trailers, is_whole, goes_on, reading.into_rest().to_vec())))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, answer)) = bytes.split_first() else { return };
    let is_to_head = how & 1 == 1;
    let at_once = read(answer, answer.len().max(1), is_to_head);
    let in_pieces = read(answer, usize::from(how >> 1).max(1), is_to_head);
    // What is too large by a few bytes may be seen as such sooner in one piece.
    if answer.len() < 8 * 1024 {
        assert_eq!(at_once, in_pieces);
    }
    if let Ok(Some((_, body, _, is_whole, goes_on, rest))) = at_once {
        assert!(body.len() + rest.len() <= answer.len(), "more than came");
        assert!(is_whole || !goes_on);
        assert!(!is_to_head || body.is_empty(), "an answer to HEAD has no body");
    }
});
