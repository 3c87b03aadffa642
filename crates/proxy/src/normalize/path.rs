//! One canonical path (RFC 3986 section 6.2.2), made once, before routing.
//!
//! **Rewritten:** percent-encoded unreserved characters are decoded and hex digits upper-cased; `//` is merged and
//! plain `.` and `..` segments are resolved, each remembered in [`Oddities`] so that a route can refuse it.
//!
//! **Refused for everybody** (two readings): bad percent escapes, encoded or raw backslash, NUL and control
//! characters, raw bytes that no URI may hold, dot segments behind encodings or path parameters, `..` above the
//! root, `..` together with `//`, double encodings, ill-formed UTF-8, and characters that some servers fold into
//! ASCII (full-width slash, dotless i, soft hyphen).
//!
//! **Refused unless the route allows it:** `;` (also encoded), `%2F`, and `%3F` or `%23`.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

/// What was unusual about a path that still has one reading.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Oddities {
    /// A `?` or `#` behind an encoding.
    pub encoded_delimiter: bool,
    /// A slash behind an encoding, kept as `%2F`.
    pub encoded_slash: bool,
    /// A run of slashes, merged into one.
    pub double_slash: bool,
    /// A plain `.` or `..` segment, resolved.
    pub dot_segment: bool,
    /// A path parameter (RFC 3986 section 3.3).
    pub semicolon: bool,
}

/// The one path that router, policy, limiter, log and upstream see.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CanonicalPath<'a> {
    /// Starts with a slash; visible ASCII only.
    pub path: Cow<'a, str>,
    /// What a route may refuse.
    pub oddities: Oddities,
}

/// Why a path has no single reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PathError {
    /// A `..` climbs above the root.
    #[error("`..` climbs above the root")]
    AboveRoot,
    /// A backslash, raw or encoded.
    #[error("backslash")]
    Backslash,
    /// A percent sign without two hexadecimal digits.
    #[error("bad percent escape")]
    BadEscape,
    /// A control character, raw or encoded.
    #[error("control character")]
    Control,
    /// `..` together with `//`: merging first and resolving first differ.
    #[error("`..` together with `//`")]
    DotsAndSlashes,
    /// An encoding behind an encoding.
    #[error("double percent encoding")]
    DoubleEncoding,
    /// A dot segment behind an encoding or a path parameter.
    #[error("hidden dot segment")]
    HiddenDots,
    /// Bytes that are not UTF-8, overlong forms included.
    #[error("ill-formed UTF-8")]
    IllFormed,
    /// A character that some servers fold into ASCII.
    #[error("character that folds into ASCII")]
    Lookalike,
    /// A byte that no URI may hold unencoded.
    #[error("character that must be encoded")]
    RawCharacter,
    /// The path does not start with a slash.
    #[error("path without a leading slash")]
    Relative,
}

/// The canonical form of the path of a request target.
///
/// # Errors
/// When the path has two readings; see the module's list.
pub fn canonical_path(raw: &str) -> Result<CanonicalPath<'_>, PathError> {
    if !raw.starts_with('/') {
        return Err(PathError::Relative);
    }
    if is_plain(raw.as_bytes()) {
        return Ok(CanonicalPath { path: Cow::Borrowed(raw), oddities: Oddities::default() });
    }
    let mut oddities = Oddities::default();
    let decoded = decode_unreserved(raw.as_bytes(), &mut oddities)?;
    let path = resolve(&decoded, &mut oddities)?;
    Ok(CanonicalPath { path: Cow::Owned(path), oddities })
}

/// True when the bytes are canonical as they stand: the common case, decided in one pass without allocating.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in path {
        let plain = match byte {
            b'/' | b'.' => previous != b'/',
            _ => is_segment_byte(byte),
        };
        if !plain {
            return false;
        }
        previous = byte;
    }
    true
}

/// pchar of RFC 3986 without `;` and `%`.
const fn is_segment_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// A dot that came out of an encoding, marked until its segment is judged; never part of a path that passes.
const HIDDEN_DOT: u8 = 0x01;

fn decode_unreserved(raw: &[u8], oddities: &mut Oddities) -> Result<Vec<u8>, PathError> {
    let mut out = Vec::with_capacity(raw.len());
    let mut text = Vec::new();
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            match byte {
                b';' => oddities.semicolon = true,
                b'\\' => return Err(PathError::Backslash),
                0..0x20 | 0x7f => return Err(PathError::Control),
                b'/' => {}
                _ if is_segment_byte(byte) => {}
                _ => return Err(PathError::RawCharacter),
            }
            flush_text(&mut text)?;
            out.push(byte);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return Err(PathError::BadEscape) };
        rest = tail;
        let value = hex(*high)? << 4 | hex(*low)?;
        if value >= 0x80 {
            text.push(value);
        } else {
            flush_text(&mut text)?;
        }
        match value {
            b'.' => out.push(HIDDEN_DOT),
            _ if is_unreserved(value) => out.push(value),
            b'\\' => return Err(PathError::Backslash),
            0..0x20 | 0x7f => return Err(PathError::Control),
            _ => {
                match value {
                    b'/' => oddities.encoded_slash = true,
                    b';' => oddities.semicolon = true,
                    b'?' | b'#' => oddities.encoded_delimiter = true,
                    _ => {}
                }
                out.extend([b'%', hex_digit(value >> 4), hex_digit(value & 15)]);
            }
        }
    }
    flush_text(&mut text)?;
    if out.windows(5).any(|w| w.starts_with(b"%25") && w.iter().skip(3).all(u8::is_ascii_hexdigit)) {
        return Err(PathError::DoubleEncoding);
    }
    Ok(out)
}

const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}

fn hex(digit: u8) -> Result<u8, PathError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(PathError::BadEscape),
    }
}

/// Judges a finished run of encoded non-ASCII bytes.
fn flush_text(text: &mut Vec<u8>) -> Result<(), PathError> {
    if text.is_empty() {
        return Ok(());
    }
    let run = std::str::from_utf8(text).map_err(|_| PathError::IllFormed)?;
    if run.chars().any(folds_into_ascii) {
        return Err(PathError::Lookalike);
    }
    text.clear();
    Ok(())
}

/// Compatibility normalisation (NFKC), simple case mapping, or being ignorable makes ASCII, or nothing, of it.
fn folds_into_ascii(character: char) -> bool {
    let ignorable = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
    let mut upper = character.to_uppercase();
    let mut lower = character.to_lowercase();
    ignorable
        || character.is_control()
        || character.nfkc().any(|c| c.is_ascii())
        || (upper.len() == 1 && upper.next().is_some_and(|c| c.is_ascii()))
        || (lower.len() == 1 && lower.next().is_some_and(|c| c.is_ascii()))
}

fn resolve(decoded: &[u8], oddities: &mut Oddities) -> Result<String, PathError> {
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut climbs = false;
    let body = decoded.get(1..).unwrap_or_default();
    let mut pieces = body.split(|b| *b == b'/').peekable();
    let mut ends_in_slash = false;
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        ends_in_slash = false;
        match judge_segment(piece)? {
            Segment::Empty => {
                ends_in_slash = true;
                oddities.double_slash |= !last;
            }
            Segment::Current => {
                oddities.dot_segment = true;
                ends_in_slash = true;
            }
            Segment::Parent => {
                oddities.dot_segment = true;
                climbs = true;
                ends_in_slash = true;
                segments.pop().ok_or(PathError::AboveRoot)?;
            }
            Segment::Named => segments.push(piece),
        }
    }
    if climbs && oddities.double_slash {
        return Err(PathError::DotsAndSlashes);
    }
    let mut path = String::with_capacity(decoded.len());
    for segment in &segments {
        path.push('/');
        path.extend(segment.iter().map(|b| if *b == HIDDEN_DOT { '.' } else { char::from(*b) }));
    }
    if ends_in_slash || segments.is_empty() {
        path.push('/');
    }
    Ok(path)
}

enum Segment {
    Current,
    Empty,
    Named,
    Parent,
}

fn judge_segment(piece: &[u8]) -> Result<Segment, PathError> {
    match piece {
        b"" => return Ok(Segment::Empty),
        b"." => return Ok(Segment::Current),
        b".." => return Ok(Segment::Parent),
        _ => {}
    }
    // A name cut at a parameter or an encoded delimiter is what some servers see of this segment.
    let name = piece.split(|b| matches!(b, b';' | b'%')).next().unwrap_or_default();
    let dots = |s: &[u8]| !s.is_empty() && s.len() <= 2 && s.iter().all(|b| matches!(*b, b'.' | HIDDEN_DOT));
    let is_cut = name.len() < piece.len() && (piece.contains(&b';') || has_escape(piece, name.len()));
    if dots(piece) || (is_cut && (dots(name) || name.is_empty() && piece.contains(&b';'))) {
        return Err(PathError::HiddenDots);
    }
    Ok(Segment::Named)
}

/// True when the escape at `at` is one of `%2F %3B %3F %23`, which end a segment for some servers.
fn has_escape(piece: &[u8], at: usize) -> bool {
    matches!(piece.get(at..at + 3), Some(b"%2F" | b"%3B" | b"%3F" | b"%23"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(raw: &str) -> Result<String, PathError> {
        canonical_path(raw).map(|c| c.path.into_owned())
    }

    #[test]
    fn plain_paths_stay_as_they_are_and_are_not_copied() {
        for path in ["/", "/a", "/a/", "/a/b.c", "/...", "/a/..b", "/a:b@c/d=e,f", "/.well-known/x"] {
            let got = canonical_path(path).unwrap();
            assert_eq!(got.path, path);
        }
        assert!(matches!(canonical_path("/a/b.c").unwrap().path, Cow::Borrowed(_)));
    }

    #[test]
    fn equivalent_spellings_become_one() {
        assert_eq!(canonical("/%61dm%69n").unwrap(), "/admin");
        assert_eq!(canonical("/a%2db%7E").unwrap(), "/a-b~");
        assert_eq!(canonical("/a%c3%a9").unwrap(), "/a%C3%A9");
        assert_eq!(canonical("//a///b/").unwrap(), "/a/b/");
        assert_eq!(canonical("/a/./b/../c").unwrap(), "/a/c");
        assert_eq!(canonical("/a/..").unwrap(), "/");
        assert_eq!(canonical("/a/.").unwrap(), "/a/");
        assert_eq!(canonical("/a%20b").unwrap(), "/a%20b");
        assert_eq!(canonical("/x%2e5").unwrap(), "/x.5");
    }

    #[test]
    fn oddities_are_remembered() {
        assert!(canonical_path("//").unwrap().oddities.double_slash);
        assert!(canonical_path("/a//b").unwrap().oddities.double_slash);
        assert!(!canonical_path("/a%20/").unwrap().oddities.double_slash);
        assert!(canonical_path("/a/../b").unwrap().oddities.dot_segment);
        assert!(canonical_path("/a;x=1/b").unwrap().oddities.semicolon);
        assert!(canonical_path("/a%3bx").unwrap().oddities.semicolon);
        assert!(canonical_path("/a%2fb").unwrap().oddities.encoded_slash);
        assert!(canonical_path("/a%3fb").unwrap().oddities.encoded_delimiter);
    }

    #[test]
    fn two_readings_are_refused() {
        use PathError::*;
        for (path, want) in [
            ("/..", AboveRoot),
            ("/a/../../b", AboveRoot),
            ("/a\\b", Backslash),
            ("/a%5cb", Backslash),
            ("/%zz", BadEscape),
            ("/%2", BadEscape),
            ("/%", BadEscape),
            ("/%00", Control),
            ("/%0d%0a", Control),
            ("/a//../b", DotsAndSlashes),
            ("/%252e", DoubleEncoding),
            ("/%25%32%65", DoubleEncoding),
            ("/%2561", DoubleEncoding),
            ("/a/%2e%2e/b", HiddenDots),
            ("/a/.%2e/b", HiddenDots),
            ("/%2e/b", HiddenDots),
            ("/a/..;/b", HiddenDots),
            ("/a/..;x=1/b", HiddenDots),
            ("/a/..%3b/b", HiddenDots),
            ("/a/..%2fb", HiddenDots),
            ("/a/%2e%2e%2fb", HiddenDots),
            ("/;/b", HiddenDots),
            ("/%c0%ae", IllFormed),
            ("/%ff", IllFormed),
            ("/%e0%80%af", IllFormed),
            ("/%ef%bc%8f", Lookalike),
            ("/adm%C4%B1n", Lookalike),
            ("/admin%C2%AD", Lookalike),
            ("/a b", RawCharacter),
            ("/a<b", RawCharacter),
            ("/a|b", RawCharacter),
            ("/\u{e9}", RawCharacter),
            ("a", Relative),
            ("*", Relative),
        ] {
            assert_eq!(canonical(path), Err(want), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn canonical_is_a_fixed_point(raw in "/[a-c./;%2eE5fF+ -]{0,24}") {
            if let Ok(once) = canonical_path(&raw) {
                let again = canonical_path(&once.path).unwrap();
                proptest::prop_assert_eq!(&again.path, &once.path);
                proptest::prop_assert!(!once.path.contains("//"));
                proptest::prop_assert!(!once.path.split('/').any(|s| s == "." || s == ".."));
            }
        }
    }
}
