//! h2spec's cases against the gateway over TLS: what RFC 9113's predecessor and RFC 7541 demand of an HTTP/2 server.
//! `make conformance` runs them too, beside testssl, sslscan and slowhttptest, which take minutes.

use std::path::Path;
use std::process::Command;

use testkit::run;

use crate::scene::Scene;

#[test]
fn h2spec_finds_no_failure() {
    let h2spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/servers/h2spec");
    assert!(h2spec.exists(), "no {}: `make servers` builds it", h2spec.display());
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.tls("off"));
    let port = gateway.address("edge").port().to_string();
    let finished = run(Command::new(h2spec).args([
        "--strict",
        "--tls",
        "--insecure",
        "--timeout",
        "10",
        "--host",
        "127.0.0.1",
        "--path",
        "/download-100000",
        "--port",
        &port,
    ]));
    let last = finished.stdout.lines().next_back().unwrap_or_default();
    assert_eq!(last, "146 tests, 146 passed, 0 skipped, 0 failed", "{}{}", finished.stdout, finished.stderr);
    assert_eq!(finished.code, 0);
}
