//! What a look at a request costs: `cargo bench -p waf` (needs `make servers`).

#![expect(clippy::expect_used, reason = "benchmark")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use waf::{Judged, Request, Rules, Strictness};

fn main() {
    divan::main();
}

static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/servers/coreruleset");
    Rules::load(&directory).expect("`make servers` ran")
});

/// By paranoia level.
#[divan::bench(args = [1, 2, 4])]
fn a_get_without_a_body(bencher: divan::Bencher<'_, '_>, paranoia: u8) {
    look(bencher, &request(Method::GET, "application/json", ""), paranoia);
}

/// By fields of twelve characters.
#[divan::bench(args = [10, 100, 900])]
fn json(bencher: divan::Bencher<'_, '_>, fields: usize) {
    let fields: Vec<String> = (0..fields).map(|field| format!("\"field{field}\":\"hello world!\"")).collect();
    look(bencher, &request(Method::POST, "application/json", &format!("{{{}}}", fields.join(","))), 1);
}

/// One field, by its length.
#[divan::bench(args = [100, 1_000, 10_000, 130_000])]
fn a_form(bencher: divan::Bencher<'_, '_>, length: usize) {
    let text: String = "a=".chars().chain("hello+world+".chars().cycle().take(length)).collect();
    look(bencher, &request(Method::POST, "application/x-www-form-urlencoded", &text), 1);
}

#[divan::bench(sample_count = 5)]
fn reading_the_rules(bencher: divan::Bencher<'_, '_>) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/servers/coreruleset");
    bencher.bench(|| Rules::load(&directory));
}

fn look(bencher: divan::Bencher<'_, '_>, request: &Request, paranoia: u8) {
    let look = || {
        let deadline = Instant::now() + Duration::from_secs(60);
        RULES.inspect(request, Strictness { paranoia, threshold: 5 }, deadline)
    };
    assert!(matches!(look(), Judged::Verdict(verdict) if !verdict.is_attack), "{:?}", look());
    bencher.bench(look);
}

fn request(method: Method, kind: &'static str, body: &str) -> Request {
    let fields = [
        ("host", "api.example.com"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "application/json"),
        ("content-type", kind),
    ];
    let fields = fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Request {
        method,
        target: "/api/v1/orders?page=2&sort=-created".to_owned(),
        version: "HTTP/1.1",
        client: IpAddr::from([192, 0, 2, 1]),
        host: None,
        fields: fields.into_iter().filter(|(name, _)| !body.is_empty() || name != "content-type").collect(),
        length: (!body.is_empty()).then_some(body.len() as u64),
        body: Bytes::from(body.to_owned()),
    }
}
