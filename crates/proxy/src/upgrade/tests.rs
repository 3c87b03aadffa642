use http::Request;
use http::response::Builder;

use super::*;

const KEY_OF_RFC: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT_OF_RFC: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", KEY_OF_RFC),
];

fn websocket() -> Vec<Protocol> {
    vec![Protocol::parse("WebSocket").unwrap()]
}

fn head(method: &str, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri("/chat");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut request = request.body(()).unwrap();
    // As hyper marks what could be an upgrade.
    let mark = hyper::upgrade::on(&mut request);
    request.extensions_mut().insert(mark);
    request.into_parts().0
}

/// What becomes of a handshake in which one field is another one, or none.
fn with(name: &str, values: &[&str]) -> Result<bool, String> {
    let mut fields: Vec<_> = HANDSHAKE.into_iter().filter(|(known, _)| *known != name).collect();
    fields.extend(values.iter().map(|value| (name, *value)));
    let asked = asked(&mut head("GET", &fields));
    allowed(&asked, &websocket()).map(|upgrade| upgrade.is_some()).map_err(|refusal| refusal.to_string())
}

#[test]
fn a_handshake_by_the_book_is_allowed_where_the_route_says_so() {
    let parse = || asked(&mut head("GET", &HANDSHAKE));
    assert!(allowed(&parse(), &websocket()).unwrap().is_some());
    assert!(allowed(&parse(), &[]).unwrap().is_none());
    assert!(allowed(&parse(), &[Protocol::parse("spdy/3.1").unwrap()]).unwrap().is_none());
    assert_eq!(with("upgrade", &["WEBSOCKET"]), Ok(true));
    assert_eq!(with("connection", &["close", "uPGRADE"]), Ok(true));
    assert_eq!(with("content-length", &["0"]), Ok(true));
}

#[test]
fn what_is_no_upgrade_is_ignored() {
    assert_eq!(with("upgrade", &[]), Ok(false));
    assert_eq!(with("upgrade", &["irc/6.9"]), Ok(false));
    assert_eq!(with("connection", &[]), Ok(false));
    assert_eq!(with("connection", &["keep-alive, upgrades"]), Ok(false));
    let mut old = head("GET", &HANDSHAKE);
    old.version = Version::HTTP_10;
    assert!(allowed(&asked(&mut old), &websocket()).unwrap().is_none());
}

#[test]
fn what_has_two_readings_is_refused() {
    for (name, values) in [
        ("upgrade", vec!["websocket, h2c"]),
        ("upgrade", vec!["websocket", "websocket"]),
        ("upgrade", vec!["h2c", "websocket"]),
        ("upgrade", vec!["websocket,"]),
        ("upgrade", vec!["web socket"]),
        ("upgrade", vec!["websocket/"]),
        ("upgrade", vec!["h2c"]),
        ("upgrade", vec!["TLS/1.2"]),
        ("upgrade", vec![""]),
        ("sec-websocket-version", vec![]),
        ("sec-websocket-version", vec!["777"]),
        ("sec-websocket-version", vec!["13, 8"]),
        ("sec-websocket-version", vec!["13", "13"]),
        ("sec-websocket-key", vec![]),
        ("sec-websocket-key", vec!["short"]),
        ("sec-websocket-key", vec!["dGhlIHNhbXBsZSBub25jZQ"]),
        ("sec-websocket-key", vec![KEY_OF_RFC, KEY_OF_RFC]),
        ("content-length", vec!["1"]),
        ("transfer-encoding", vec!["chunked"]),
    ] {
        assert!(with(name, &values).is_err(), "{name}: {values:?}");
    }
    let post = allowed(&asked(&mut head("POST", &HANDSHAKE)), &websocket());
    assert!(matches!(post, Err(Refusal::Upgrade(UpgradeError::Method))));
}

#[test]
fn an_extended_connect_is_a_get_if_it_can_be_read_and_never_passes_unasked() {
    let connect = |protocol: &'static str, fields: &[(&str, &str)]| {
        let mut head = head("CONNECT", fields);
        head.extensions.insert(hyper::ext::Protocol::from_static(protocol));
        (asked(&mut head), head)
    };
    let (upgrade, head) = connect("websocket", &HANDSHAKE);
    assert_eq!(head.method, Method::GET);
    assert!(!head.headers.contains_key(SEC_WEBSOCKET_KEY), "there is none over HTTP/2");
    assert!(matches!(allowed(&upgrade, &[]), Err(Refusal::MethodUnsupported)));
    assert!(allowed(&upgrade, &websocket()).unwrap().is_some());
    for (protocol, fields) in [("websocket", &[][..]), ("connect-udp", &HANDSHAKE), ("h2c", &HANDSHAKE)] {
        let (upgrade, head) = connect(protocol, fields);
        assert!(matches!(upgrade, Some(Err(_))), "{protocol}");
        assert_eq!(head.method, Method::CONNECT, "{protocol}");
    }
    let mut plain = self::head("CONNECT", &HANDSHAKE);
    assert!(asked(&mut plain).is_none());
    assert_eq!(plain.method, Method::CONNECT);
}

fn answer(status: u16, fields: &[(&str, &str)]) -> (StatusCode, HeaderMap) {
    let add = |answer: Builder, (name, value): &(&str, &str)| answer.header(*name, *value);
    let answer = fields.iter().fold(Builder::new().status(status), add).body(()).unwrap();
    (answer.status(), answer.headers().clone())
}

#[test]
fn an_answer_that_agrees_to_something_else_is_none() {
    let mut upgrade = asked(&mut head("GET", &HANDSHAKE)).unwrap().unwrap();
    let mut headers = HeaderMap::new();
    upgrade.ask(&mut headers, || panic!("the client has a key"));
    assert_eq!(
        [&headers[CONNECTION], &headers[UPGRADE], &headers[SEC_WEBSOCKET_KEY]],
        ["Upgrade", "websocket", KEY_OF_RFC]
    );
    let agrees =
        [("connection", "upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-accept", ACCEPT_OF_RFC)];
    let is_answered = |(status, headers): (StatusCode, HeaderMap)| upgrade.is_answered(status, &headers);
    assert!(is_answered(answer(101, &agrees)));
    for (at, instead) in [(0, "keep-alive"), (1, "h2c"), (1, "websocket, h2c"), (2, KEY_OF_RFC)] {
        let mut fields = agrees;
        fields[at].1 = instead;
        assert!(!is_answered(answer(101, &fields)), "{instead}");
        let (status, mut headers) = answer(101, &agrees);
        headers.remove(agrees[at].0);
        assert!(!is_answered((status, headers)), "without {}", agrees[at].0);
    }
    for status in [200, 403, 426, 500] {
        assert!(is_answered(answer(status, &[])), "{status} is an answer over HTTP/1.1");
    }
}

#[test]
fn over_http2_no_success_but_the_upgrade_is_an_answer() {
    let mut head = head("CONNECT", &HANDSHAKE);
    head.extensions.insert(hyper::ext::Protocol::from_static("websocket"));
    let mut upgrade = asked(&mut head).unwrap().unwrap();
    let mut headers = HeaderMap::new();
    upgrade.ask(&mut headers, || *b"the sample nonce");
    assert_eq!(headers[SEC_WEBSOCKET_KEY], KEY_OF_RFC);
    let agrees =
        [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", ACCEPT_OF_RFC)];
    let (status, mut headers) = answer(101, &agrees);
    assert!(upgrade.is_answered(status, &headers));
    for (status, is_answer) in [(200, false), (204, false), (299, false), (302, true), (403, true)] {
        let (status, headers) = answer(status, &agrees);
        assert_eq!(upgrade.is_answered(status, &headers), is_answer, "{status}");
    }
    headers.remove(CONNECTION);
    headers.remove(UPGRADE);
    let (status, stream) = upgrade.tell(&mut headers);
    assert_eq!((status, stream.is_some(), headers.len()), (StatusCode::OK, true, 0));
}

#[test]
fn protocols_that_carry_requests_are_none() {
    for text in ["h2c", "H2C", "http/2.0", "HTTP", "tls/1.0", "TLS", "h2", "h3", "connect-udp", "connect-ip"]
    {
        assert_eq!(Protocol::parse(text), Err(ProtocolError::CarriesRequests), "{text}");
    }
    for text in ["", "/", "a/", "/1", "a/b/c", "a b", "a,b", "wébsocket", "a\n"] {
        assert_eq!(Protocol::parse(text), Err(ProtocolError::Malformed), "{text}");
    }
    assert_eq!(Protocol::parse("SPDY/3.1").unwrap().to_string(), "spdy/3.1");
}
