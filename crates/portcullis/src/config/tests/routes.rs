//! What a route can do, and what a person reads when it cannot.

use proxy::compress::{Coding, MediaRange};
use proxy::route::Sticky;

use super::super::model::*;
use super::*;

const WHOLE: &str = r#"
version: 1
listeners: { edge: { bind: "127.0.0.1:8080" } }
identity: { jwt: { staff: { issuer: https://id.example.com, audience: [gateway], jwks: discover, algorithms: [ES256] } } }
upstreams:
  orders: { endpoints: ["http://127.0.0.1:1"] }
  orders-next: { endpoints: ["http://127.0.0.1:2"] }
  keyed: { endpoints: ["http://127.0.0.1:3"], credentials: { field: { name: x-api-key, value: file:key.txt } } }
  shadow: { endpoints: ["http://127.0.0.1:4"] }
routes:
  - name: shop
    on: [edge]
    path: /shop/**
    authenticate: { any: [staff] }
    split:
      to: [{ upstream: orders, weight: 95 }, { upstream: orders-next, weight: 5 }]
      when: [{ field: x-canary, value: "1", upstream: keyed }]
      sticky: principal
    headers: { set: { x-who: "{principal}" }, remove: [cookie, x-debug], response: { set: { cache-control: no-store }, remove: [server] } }
    cors: { origins: ["https://app.example.com", "http://localhost:3000"], fields: [authorization], credentials: true, max_age: 5m }
    mirror: { upstream: shadow, share: 10% }
    idempotency: { ttl: 1h, required: true }
  - { name: moved, on: [edge], host: old.example.com, path: /**, authenticate: none, redirect: { status: 308, to: "https://{host}:8443{path}{query}" } }
policies: { directory: policies }
"#;

/// The answer to the whole file with a change in it.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(WHOLE.matches(from).count(), 1, "{from}");
    problems(&WHOLE.replacen(from, to, 1))
}

#[test]
fn what_a_route_does_is_read() {
    let (config, problems) = read("portcullis.yaml", WHOLE.to_owned(), Path::new("/etc/portcullis"));
    assert_eq!(problems.to_string(), "");
    let routes = config.unwrap().routes;
    let Action::Forward { to: Target::Split(split), .. } = &routes[0].action else { panic!() };
    let weights: Vec<_> = split.weights.iter().map(|(name, weight)| (name.as_str(), weight.get())).collect();
    assert_eq!(weights, [("orders", 95), ("orders-next", 5)]);
    assert_eq!((split.sticky, split.when[0].upstream.as_str()), (Some(Sticky::Principal), "keyed"));
    assert_eq!(routes[0].remove_fields, ["cookie", "x-debug"]);
    assert_eq!((routes[0].answer_fields.set.len(), routes[0].answer_fields.remove.len()), (1, 1));
    let mirror = routes[0].mirror.as_ref().unwrap();
    assert_eq!((mirror.share, mirror.concurrency.get(), mirror.body), (10, 64, 65_536));
    let (bounds, required) = routes[0].idempotency.unwrap();
    assert_eq!(
        (bounds.ttl.as_secs(), bounds.entries, bounds.bytes, required),
        (3_600, 10_000, 64 << 20, true)
    );
    let cors = routes[0].cors.as_ref().unwrap();
    assert_eq!(
        (cors.origins.as_ref().unwrap().len(), cors.credentials, cors.max_age.as_secs()),
        (2, true, 300)
    );
    assert!(matches!(&routes[1].action, Action::Redirect { status, .. } if status.as_u16() == 308));
}

#[test]
fn fields_that_are_not_the_routes_to_change_are_refused() {
    insta::assert_snapshot!(
        [
            changed(
                "[cookie, x-debug]",
                "[authorization, x-forwarded-for, content-length, content-encoding]"
            ),
            changed("[cookie, x-debug]", "[x-who, cookie, Cookie]"),
            changed(
                "set: { cache-control: no-store }",
                "set: { set-cookie: a, x-request-id: a, date: \" a\" }"
            ),
            changed("remove: [server]", "remove: [cache-control, transfer-encoding]"),
        ]
        .join("\n")
    );
}

#[test]
fn redirects_that_lead_who_knows_where_are_refused() {
    insta::assert_snapshot!(
        [
            changed("host: old.example.com, ", ""),
            changed("https://{host}:8443{path}{query}", "https://{host}.example.com{path}"),
            changed("https://{host}:8443{path}{query}", "/{path}"),
            changed("https://{host}:8443{path}{query}", "https://example.com/{user}"),
            changed("status: 308", "status: 200"),
            changed("redirect: {", "respond: { status: 200 }, redirect: {"),
            changed("redirect: {", "rewrite: { strip_prefix: / }, redirect: {"),
        ]
        .join("\n")
    );
}

#[test]
fn splits_that_split_nothing_are_refused() {
    insta::assert_snapshot!(
        [
            changed("{ upstream: orders-next, weight: 5 }", "{ upstream: orders, weight: 5 }"),
            changed("{ upstream: orders-next, weight: 5 }", "{ upstream: orders-nxt, weight: 0 }"),
            changed("[{ upstream: orders, weight: 95 }, { upstream: orders-next, weight: 5 }]", "[]"),
            changed("upstream: keyed }]", "upstream: nobody }]"),
            changed("field: x-canary", "field: x-who"),
            changed("field: x-canary", "field: x-forwarded-user"),
            changed("field: x-canary", "field: authorization"),
            changed("{ any: [staff] }", "none"),
            changed("x-who: ", "x-api-key: "),
            changed("    split:", "    upstream: orders\n    split:"),
        ]
        .join("\n")
    );
}

#[test]
fn cors_that_opens_more_than_it_says_is_refused() {
    insta::assert_snapshot!(
        [
            changed("[\"https://app.example.com\", \"http://localhost:3000\"]", "[\"*\"]"),
            changed(
                "\"http://localhost:3000\"]",
                "\"*\", https://app.example.com, https://other.example.com/]"
            ),
            changed("fields: [authorization]", "fields: [\"*\"]"),
            changed("max_age: 5m", "max_age: 2d"),
            changed("remove: [server]", "remove: [access-control-allow-origin]"),
            changed("[\"https://app.example.com\", \"http://localhost:3000\"]", "[]"),
        ]
        .join("\n")
    );
}

#[test]
fn mirrors_and_keys_that_cannot_be_meant_are_refused() {
    insta::assert_snapshot!(
        [
            changed("upstream: shadow, share: 10%", "upstream: orders, share: 0%"),
            changed("upstream: shadow, share: 10%", "upstream: shadow, body: 17MiB"),
            changed("ttl: 1h, required: true", "ttl: 8d, memory: 4MiB"),
            changed("{ any: [staff] }", "none"),
            changed("redirect: {", "mirror: { upstream: shadow }, idempotency: {}, redirect: {"),
        ]
        .join("\n")
    );
}

#[test]
fn what_is_compressed_is_read_with_its_defaults_and_must_be_an_upstreams_answer() {
    let with = |compress: &str| {
        let text = WHOLE.replacen("    mirror: {", &format!("    compress: {compress}\n    mirror: {{"), 1);
        let (config, problems) = read("portcullis.yaml", text, Path::new("/etc/portcullis"));
        assert_eq!(problems.to_string(), "", "{compress}");
        config.unwrap().routes[0].compress.clone().unwrap()
    };
    let default = with("{}");
    assert_eq!(
        (default.codings.as_slice(), default.min_bytes),
        ([Coding::Brotli, Coding::Gzip].as_slice(), 1024)
    );
    assert!(default.types.contains(&MediaRange::Kind("text/".into())));
    assert!(default.types.contains(&MediaRange::One("application/json".into())));
    let own = with("{ encodings: [gzip], types: [\"image/*\"], min_size: 512B }");
    let types = vec![MediaRange::Kind("image/".into())];
    assert_eq!(own, Compress { codings: vec![Coding::Gzip], types, min_bytes: 512 });
    for (said, told) in [
        ("{ encodings: [zstd] }", "`br`"),
        ("{ encodings: [br, br] }", "the same encoding a second time"),
        ("{ encodings: [] }", "encoding"),
        ("{ types: [json] }", "expected a media type such as `application/json`"),
        ("{ types: [text/event-stream] }", "it is never compressed"),
        ("{ min_size: 0B }", "a size of zero"),
        ("true", "compress"),
    ] {
        let problems = changed("    mirror: {", &format!("    compress: {said}\n    mirror: {{"));
        assert!(problems.contains(told) && problems.lines().count() == 1, "{said}: {problems}");
    }
    let nowhere = changed("redirect: {", "compress: {}, redirect: {");
    assert!(nowhere.contains("answers of upstreams are compressed, and there is none"), "{nowhere}");
}
