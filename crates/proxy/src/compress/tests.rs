use telemetry::Metrics;

use super::*;

fn rules() -> Compress {
    Compress {
        codings: vec![Coding::Brotli, Coding::Gzip],
        types: vec![MediaRange::Kind("text/".into()), MediaRange::One("application/json".into())],
        min_bytes: 1024,
        series: Metrics::new(1).compression("all"),
    }
}

fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

fn wanted(said: &[(&'static str, &'static str)]) -> Wanted {
    let mut headers = fields(&[("accept-encoding", "gzip")]);
    headers.extend(fields(said));
    rules().wanted(&Method::GET, &headers)
}

/// What becomes of an answer of 4 KiB of JSON with these fields.
fn chosen(status: u16, said: &[(&'static str, &'static str)]) -> (Option<Coding>, HeaderMap) {
    let mut headers = fields(&[("content-type", "application/json; charset=utf-8")]);
    headers.extend(fields(said));
    let status = StatusCode::from_u16(status).unwrap();
    let coding = rules().choose(&wanted(&[]), status, &mut headers, Some(4096));
    (coding, headers)
}

#[test]
fn answers_of_a_listed_type_are_compressed_and_say_so() {
    for status in [200, 201, 404, 500] {
        let (coding, mut headers) =
            chosen(status, &[("etag", "\"v1\""), ("accept-ranges", "bytes"), ("content-length", "4096")]);
        assert_eq!(coding, Some(Coding::Gzip), "{status}");
        mark(Coding::Gzip, &mut headers);
        let expected = fields(&[
            ("content-type", "application/json; charset=utf-8"),
            ("etag", "W/\"v1\""),
            ("vary", "accept-encoding"),
            ("content-encoding", "gzip"),
        ]);
        assert_eq!(headers, expected, "{status}");
    }
    for kind in ["TEXT/HTML", "text/plain ;charset=utf-8", "Application/JSON"] {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        assert!(rules().choose(&wanted(&[]), StatusCode::OK, &mut headers, None).is_some(), "{kind}");
    }
}

#[test]
fn what_must_not_be_changed_passes_as_it_is() {
    for (status, said) in [
        (204, &[][..]),
        (205, &[]),
        (206, &[("content-range", "bytes 0-4095/9999")]),
        (200, &[("content-range", "bytes 0-4095/9999")]),
        (200, &[("content-encoding", "zstd")]),
        (200, &[("content-encoding", "identity, gzip")]),
        (200, &[("cache-control", "public, No-Transform")]),
        (200, &[("set-cookie", "session=1")]),
        (200, &[("content-digest", "sha-256=:AA==:")]),
        (200, &[("repr-digest", "sha-256=:AA==:")]),
        (200, &[("trailer", "content-digest")]),
    ] {
        let (coding, headers) = chosen(status, said);
        assert_eq!(coding, None, "{status} {said:?}");
        assert!(!headers.contains_key(VARY), "{status} {said:?}: it never varies");
    }
    for kind in
        ["image/png", "application/jsonp", "text/event-stream; charset=utf-8", "application/grpc+proto", ""]
    {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        assert_eq!(rules().choose(&wanted(&[]), StatusCode::OK, &mut headers, None), None, "{kind}");
    }
    let untyped = rules().choose(&wanted(&[]), StatusCode::OK, &mut HeaderMap::new(), None);
    assert_eq!(untyped, None, "of what kind it is must be said");
}

#[test]
fn short_answers_pass_as_they_are_unless_that_is_refused() {
    let choose = |said: &'static str, length| {
        let wanted = rules().wanted(&Method::GET, &fields(&[("accept-encoding", said)]));
        let mut headers = fields(&[("content-type", "text/css")]);
        let coding = rules().choose(&wanted, StatusCode::OK, &mut headers, length);
        (coding, headers.contains_key(VARY))
    };
    assert_eq!(choose("br", Some(1024)), (Some(Coding::Brotli), true));
    assert_eq!(choose("br", Some(1023)), (None, true));
    assert_eq!(choose("br", None), (Some(Coding::Brotli), true), "nobody knows how long it becomes");
    assert_eq!(choose("br, identity;q=0", Some(1)), (Some(Coding::Brotli), true));
    assert_eq!(choose("br, identity;q=0", Some(0)), (None, false), "there is nothing");
    assert_eq!(choose("zstd", Some(4096)), (None, true), "another client would get another answer");
}

#[test]
fn a_client_may_refuse_what_changes_the_answer() {
    let wanted = wanted(&[("cache-control", "max-age=0, no-transform")]);
    assert_eq!(wanted.accepted, Accepted::default());
}

#[test]
fn vary_is_added_to_what_is_there() {
    let varies = |value: &'static str| {
        let (_, headers) = chosen(200, &[("vary", value)]);
        headers.get_all(VARY).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(varies("origin"), ["origin", "accept-encoding"]);
    assert_eq!(varies("Origin, Accept-Encoding"), ["Origin, Accept-Encoding"]);
    assert_eq!(varies("*"), ["*"]);
}

#[test]
fn not_modified_names_what_the_client_holds() {
    let tag = |holds: &'static str, etag: &'static str| {
        let mut headers = fields(&[("etag", etag)]);
        let wanted = wanted(&[("if-none-match", holds)]);
        assert_eq!(rules().choose(&wanted, StatusCode::NOT_MODIFIED, &mut headers, None), None);
        assert_eq!(headers[VARY], "accept-encoding");
        headers[ETAG].to_str().unwrap().to_owned()
    };
    assert_eq!(tag("W/\"v1\"", "\"v1\""), "W/\"v1\"", "a compressed one");
    assert_eq!(tag("\"v0\", W/\"v1\"", "\"v1\""), "W/\"v1\"");
    assert_eq!(tag("\"v1\"", "\"v1\""), "\"v1\"", "one as it was");
    assert_eq!(tag("W/\"v1\"", "W/\"v1\""), "W/\"v1\"");
}
