//! What routes may ask of the core rule set.

use proxy::inspect::Mode;
use waf::Strictness;

use super::super::model::*;
use super::*;

const WHOLE: &str = r#"
version: 1
listeners: { edge: { bind: "127.0.0.1:8080" } }
upstreams: { app: { endpoints: ["http://127.0.0.1:1"] } }
waf: { rules: crs, threads: 2, queue: 8, time: 500ms }
routes:
  - { name: shop, on: [edge], path: /shop/**, authenticate: none, upstream: app, waf: { mode: block } }
  - { name: forum, on: [edge], path: /forum/**, authenticate: none, upstream: app, waf: { mode: detect, paranoia: 3, threshold: 7, body: 1KiB } }
policies: { directory: policies }
"#;

/// The answer to the whole file with a change in it.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(WHOLE.matches(from).count(), 1, "{from}");
    problems(&WHOLE.replacen(from, to, 1))
}

#[test]
fn a_build_without_the_rules_refuses_what_asks_for_them() {
    let said = problems(WHOLE);
    let expected = "portcullis.yaml:5:6: error: `waf`: this program was built without the core rule set (expected a build with `--features waf`)";
    assert_eq!(said.contains(expected), !waf::IS_BUILT, "{said}");
}

#[test]
fn what_a_route_asks_of_the_rules_is_read() {
    if !waf::IS_BUILT {
        return;
    }
    let (config, problems) = read("portcullis.yaml", WHOLE.to_owned(), Path::new("/etc/portcullis"));
    assert_eq!(problems.to_string(), "");
    let Config { waf, routes, .. } = config.unwrap();
    let rules = waf.unwrap();
    assert_eq!(rules.rules.path, Path::new("/etc/portcullis/crs"));
    assert_eq!((rules.threads.unwrap().get(), rules.queue, rules.time.as_millis()), (2, 8, 500));
    let of = |route: &Route| route.inspection.unwrap();
    let strictness = |paranoia, threshold| Strictness { paranoia, threshold };
    assert_eq!(of(&routes[0]), Inspection { mode: Mode::Block, strictness: strictness(1, 5), body: 131_072 });
    assert_eq!(of(&routes[1]), Inspection { mode: Mode::Detect, strictness: strictness(3, 7), body: 1_024 });
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (from, to, expected) in [
        (
            "waf: { rules: crs, threads: 2, queue: 8, time: 500ms }\n",
            "",
            "`routes[0].waf`: nothing says where the rules are",
        ),
        ("mode: block", "paranoia: 1", "`mode` is missing"),
        ("mode: block", "mode: both", "`routes[0].waf.mode`"),
        ("paranoia: 3", "paranoia: 5", "a whole number from 1 to 4"),
        ("threshold: 7", "threshold: 0", "a whole number from 1 on"),
        ("body: 1KiB", "body: 2MiB", "a size up to `1MiB`"),
        ("time: 500ms", "time: 2m", "a time up to `1m`"),
        (
            "upstream: app, waf: { mode: block }",
            "respond: { status: 200 }, waf: { mode: block }",
            "requests are looked through for an upstream",
        ),
    ] {
        let said = changed(from, to);
        assert!(said.contains(expected), "{to}: {said}");
    }
    let idle = WHOLE.replace(", waf: { mode: block }", "");
    let idle = problems(&idle.replace(", waf: { mode: detect, paranoia: 3, threshold: 7, body: 1KiB }", ""));
    assert!(idle.contains("warning: `waf`: no route asks for these rules"), "{idle}");
}
