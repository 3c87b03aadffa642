//! On a route with `waf` the OWASP core rule set looks requests through after policy permitted them: attacks are refused, or logged, ordinary
//! requests arrive as they were sent, and who waits for the rules keeps nobody else waiting.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use testkit::{Ask, Connection, Gateway, Protocol, Reply, eventually};

use crate::scene::{API, Scene};

/// Stands beside each attack: it must not be seen anywhere.
const CANARY: &str = "zq9canary";
const INJECTION: &str = "1'%20or%201=1--%20-";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

fn rule_set() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/servers/coreruleset"))
}

fn route(name: &str, waf: Option<Value>) -> Value {
    let mut route = json!({
        "name": name, "on": ["edge"], "path": format!("/{name}/**"), "authenticate": "none", "upstream": "app"
    });
    if let Some(waf) = waf {
        route["waf"] = waf;
    }
    route
}

fn config(scene: &Scene, waf: &Value) -> Value {
    let mut config = scene.plain();
    config["waf"] = waf.clone();
    config["routes"] = json!([
        route("block", Some(json!({ "mode": "block" }))),
        route("strict", Some(json!({ "mode": "block", "paranoia": 4 }))),
        route("detect", Some(json!({ "mode": "detect", "body": "1KiB" }))),
        route("small", Some(json!({ "mode": "block", "body": "1KiB" }))),
        route("other", None),
    ]);
    config["telemetry"] = json!({
        "access_log": { "to": { "file": scene.site.path("access.log") } },
        "log": { "level": "trace", "format": "json" },
    });
    config
}

fn start(scene: &Scene) -> Gateway {
    scene.site.start(&config(scene, &json!({ "rules": rule_set(), "time": "30s" })))
}

fn asking(method: &str, path: &str) -> Ask {
    Ask::new(method, API, path).header("user-agent", "curl/8.5.0").header("accept", "*/*")
}

fn post(path: &str, kind: &str, body: &str) -> Ask {
    asking("POST", path).header("content-type", kind).body(body.to_owned())
}

fn counted(gateway: &Gateway, route: &str, result: &str) -> f64 {
    gateway.metric(&format!(r#"portcullis_waf_requests_total{{route="{route}",result="{result}"}}"#))
}

fn is_blocked(reply: &Reply) -> bool {
    (reply.status, reply.code().as_str()) == (403, "WAF_BLOCKED")
}

/// An attack on a route in the query, in JSON, in a form and in a field; with the rule that finds it.
fn attacks(route: &str) -> [(Ask, u32); 4] {
    [
        (asking("GET", &format!("/{route}/?q={CANARY}{INJECTION}")), 942_100),
        (
            post(
                &format!("/{route}/"),
                JSON,
                &format!(r#"{{"a":[{{"b":"{CANARY} <script>alert(1)</script>"}}]}}"#),
            ),
            941_100,
        ),
        (post(&format!("/{route}/"), FORM, &format!("a={CANARY}&b={INJECTION}")), 942_100),
        (
            asking("GET", &format!("/{route}/"))
                .header("x-a", &format!("${{jndi:ldap://{CANARY}.example.com/a}}")),
            944_150,
        ),
    ]
}

#[test]
fn attacks_are_refused_where_the_route_blocks_and_logged_where_it_detects() {
    let scene = Scene::new();
    let gateway = start(&scene);
    for (ask, rule) in attacks("block") {
        let reply = gateway.ask(ask);
        assert!(is_blocked(&reply), "{} {}", reply.status, reply.text());
        assert!(!reply.text().contains(&rule.to_string()), "a client is not told which: {}", reply.text());
    }
    assert!(scene.upstream.requests().is_empty());
    for (ask, _) in attacks("detect") {
        assert_eq!(gateway.ask(ask).status, 200);
    }
    let seen = scene.upstream.requests();
    assert_eq!(seen[1]["body"], json!(format!(r#"{{"a":[{{"b":"{CANARY} <script>alert(1)</script>"}}]}}"#)));
    for (ask, _) in attacks("other") {
        assert_eq!(gateway.ask(ask).status, 200);
    }
    assert_eq!((counted(&gateway, "block", "blocked"), counted(&gateway, "detect", "detected")), (4.0, 4.0));

    let mut records =
        eventually("all are logged", || Some(gateway.access_log()).filter(|all| all.len() == 12));
    // Each core writes its own.
    records.sort_by_key(|record| record["time"].to_string());
    for (place, (_, rule)) in attacks("block").into_iter().chain(attacks("detect")).enumerate() {
        let record = &records[place];
        assert!(record["waf_rules"].as_array().unwrap().contains(&json!(rule.to_string())), "{record}");
        assert!(record["waf_score"].as_u64().unwrap() >= 5, "{record}");
        assert_eq!(record["code"], if place < 4 { json!("WAF_BLOCKED") } else { Value::Null });
    }
    assert!(records[8..].iter().all(|record| record["waf_rules"].is_null()));
    let said = gateway.everything_said();
    let line = said.lines().find(|line| line.contains(CANARY));
    assert!(line.is_none(), "what was found shows in: {}", line.unwrap_or_default());
}

#[test]
fn ordinary_requests_arrive_as_they_were_sent_and_a_higher_level_lets_fewer_pass() {
    let scene = Scene::new();
    let gateway = start(&scene);
    let body = r#"{"item":"a book","count":2,"note":"by Friday, please"}"#;
    for (ask, sent) in [
        (asking("GET", "/block/?page=2&sort=-created"), 0),
        (post("/block/", JSON, body), body.len()),
        (post("/block/", FORM, "item=a+book&count=2"), 19),
    ] {
        let reply = gateway.ask(ask);
        assert_eq!((reply.status, &reply.json()["bytes"]), (200, &json!(sent)), "{}", reply.text());
    }
    assert_eq!(counted(&gateway, "block", "passed"), 3.0);

    let unknown = || post("/block/", "application/x-tea", "a");
    assert!(is_blocked(&gateway.ask(unknown())), "a type that nobody reads is none that the rules allow");

    let odd = |route: &str| asking("GET", &format!("/{route}/?q=~a%5Eb*c"));
    assert_eq!(gateway.ask(odd("block")).status, 200);
    assert!(is_blocked(&gateway.ask(odd("strict"))));
}

#[test]
fn it_is_the_same_over_http2() {
    let scene = Scene::new();
    let mut config = config(&scene, &json!({ "rules": rule_set(), "time": "30s" }));
    let tls = scene.tls("off");
    config["listeners"] = tls["listeners"].clone();
    config["certificates"] = tls["certificates"].clone();
    let gateway = scene.site.start(&config);
    let mut client = Connection::tls(gateway.address("edge"), &scene.client(), API, Protocol::H2).unwrap();
    for (ask, _) in attacks("block") {
        assert!(is_blocked(&client.send(ask).unwrap()));
    }
    let reply = client.send(post("/block/", JSON, r#"{"a":1}"#)).unwrap();
    assert_eq!((reply.status, &reply.json()["body"]), (200, &json!(r#"{"a":1}"#)));
    // The rules know no such type; a call is no attack for that.
    let call =
        asking("POST", "/block/a.B/C").header("content-type", "application/grpc").header("te", "trailers");
    assert_eq!(client.send(call.body("\0\0\0\0\0")).unwrap().status, 200);
}

#[test]
fn a_body_that_is_larger_than_what_is_looked_at_is_refused_or_passes_whole() {
    let scene = Scene::new();
    let gateway = start(&scene);
    let text = format!("a={}", "x".repeat(3_000));
    let announced = gateway.ask(post("/small/", FORM, &text));
    assert_eq!((announced.status, announced.code().as_str()), (413, "BODY_TOO_LARGE"));
    assert_eq!(gateway.ask(post("/detect/", FORM, &text)).json()["bytes"], json!(text.len()));

    let chunked = |route: &str| {
        let head = format!(
            "POST /{route}/ HTTP/1.1\r\nHost: {API}\r\nUser-Agent: a\r\nAccept: */*\r\nContent-Type: {FORM}\r\n\
             Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        let chunks: String = text
            .as_bytes()
            .chunks(500)
            .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))
            .collect();
        gateway.exchange(&format!("{head}{chunks}0\r\n\r\n"))
    };
    assert!(chunked("small").starts_with("HTTP/1.1 413"));
    let passed = chunked("detect");
    assert!(passed.starts_with("HTTP/1.1 200") && passed.contains(&text), "{passed}");
    assert_eq!(
        (counted(&gateway, "small", "too_large"), counted(&gateway, "detect", "too_large")),
        (2.0, 2.0)
    );
}

#[test]
fn while_the_rules_are_at_work_other_routes_answer_and_who_blocks_says_that_it_cannot_judge() {
    let scene = Scene::new();
    let waf = json!({ "rules": rule_set(), "threads": 1, "queue": 1, "time": "100ms" });
    let gateway = scene.site.start(&config(&scene, &waf));
    let fields: Vec<String> =
        (0..900).map(|field| format!("\"f{field}\":\"{}\"", "hello ".repeat(20))).collect();
    let slow = format!("{{{}}}", fields.join(","));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = || {
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let reply = gateway.ask(post("/block/", JSON, &slow));
                seen.push((reply.status, reply.code()));
            }
            seen
        };
        let floods: Vec<_> = (0..4).map(|_| scope.spawn(flood)).collect();
        let answered = || (0..20).filter(|_| gateway.ask(asking("GET", "/other/")).status == 200).count();
        eventually("some could not be judged in time", || {
            (counted(&gateway, "block", "timeout") >= 1.0 && counted(&gateway, "block", "busy") >= 1.0)
                .then_some(())
        });
        assert_eq!(answered(), 20, "another route");
        assert_eq!(gateway.ask(asking("GET", "/detect/")).status, 200, "who only detects lets pass");
        stop.store(true, Ordering::Relaxed);
        for flood in floods {
            let seen = flood.join().unwrap();
            assert!(seen.iter().all(|seen| *seen == (503, "WAF_UNAVAILABLE".to_owned())), "{seen:?}");
        }
    });
    eventually("it judges again", || (gateway.ask(asking("GET", "/block/")).status == 200).then_some(()));
}

#[test]
fn rules_that_change_are_taken_and_rules_that_are_wrong_leave_those_that_serve() {
    let scene = Scene::new();
    let directory = scene.site.path("crs");
    fs::create_dir(&directory).unwrap();
    symlink(rule_set().join("rules"), directory.join("rules")).unwrap();
    let setup = fs::read_to_string(rule_set().join("crs-setup.conf.example")).unwrap();
    let write = |own: &str| fs::write(directory.join("crs-setup.conf"), format!("{setup}\n{own}\n")).unwrap();
    write("");
    let gateway = scene.site.start(&config(&scene, &json!({ "rules": "crs", "time": "30s" })));
    let teapot = || gateway.ask(asking("GET", "/block/?kind=teapot"));
    assert_eq!(teapot().status, 200);

    write("SecRule ARGS:kind \"@streq teapot\" \"id:1000,phase:2,deny\"");
    eventually("the new rule counts", || is_blocked(&teapot()).then_some(()));
    let record = eventually("it is named", || {
        gateway.access_log().into_iter().find(|record| record["waf_rules"] == json!(["1000"]))
    });
    assert_eq!(record["code"], json!("WAF_BLOCKED"));

    write("SecRule ARGS:kind \"@rx (\" \"id:1000,phase:2,deny\"");
    let line = setup.lines().count() + 2;
    let place = format!("crs-setup.conf:{line}: ");
    eventually("the mistake is told with its place", || gateway.output().contains(&place).then_some(()));
    assert!(is_blocked(&teapot()), "what served goes on");
    let finished = scene.site.portcullis(&["check", "-c", "portcullis.yaml"]);
    assert!(finished.stderr.contains(&place), "{}{}", finished.stdout, finished.stderr);
}
