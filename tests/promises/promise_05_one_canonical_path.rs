//! Router, policy, log and upstream use the same bytes; what has two readings gets 400 unless the route allows it.

use serde_json::json;
use testkit::{Ask, eventually};

use crate::scene::{API, Scene};

#[test]
fn router_policy_log_and_upstream_use_the_same_bytes() {
    let scene = Scene::without_policy();
    scene
        .site
        .policy("one", r#"permit(principal, action, resource) when { context.path == "/api/orders/1" };"#);
    let mut config = scene.plain();
    config["routes"][0]["path"] = json!("/api/orders/**");
    let gateway = scene.site.start(&config);
    let spellings = [
        "/api/orders/1",
        "/x/../api/orders/1",
        "/api//orders/./1",
        "/%61pi/orders/1",
        "//api/orders/1",
        "/./api/orders/1",
    ];
    for spelling in spellings {
        let answer = gateway.exchange(&format!(
            "GET {spelling}?q=%2F..%2F HTTP/1.1\r\nhost: {API}\r\nconnection: close\r\n\r\n"
        ));
        assert!(answer.starts_with("HTTP/1.1 200"), "{spelling}: {answer}");
    }
    for request in scene.upstream.requests() {
        assert_eq!(request["target"], "/api/orders/1?q=%2F..%2F");
    }
    let logged = eventually("every request is logged", || {
        let log = gateway.access_log();
        (log.len() >= spellings.len()).then_some(log)
    });
    for record in logged {
        assert_eq!(record["path"], "/api/orders/1", "{record:#}");
    }
}

#[test]
fn a_denied_prefix_is_denied_in_every_spelling() {
    let scene = Scene::without_policy();
    scene.site.policy(
        "admin",
        r#"permit(principal, action, resource) unless { context.path == "/admin" || context.path like "/admin/*" };"#,
    );
    let gateway = scene.site.start(&scene.plain());
    let spellings = [
        "/admin",
        "/admin/",
        "//admin/x",
        "/./admin/x",
        "/x/../admin/x",
        "/%61dmin/x",
        "/%61%64%6d%69%6e",
        "/x//../admin",
        "/public/..//admin/x",
        "/admin//x",
        "/admin/.",
        "/public/%2e%2e/admin/x",
        "/public/.%2e/admin/x",
        "/public%2f..%2fadmin",
        "/public/..;/admin/x",
        "/public/..%3b/admin/x",
        "/public/..%5cadmin/x",
        "/public/..\\admin/x",
        "/admin%00/x",
        "/admin;x/y",
        "/public/..%c0%af/admin",
        "/%2e/admin",
        "/public/%252e%252e/admin/x",
        "http://api.example.com/admin/x",
        "/admin#x",
        "/admin%20",
        "/admin%09/x",
        "/public/..%2fadmin/x",
        "/ADMIN/../admin/x",
        "/public/%ef%bc%8e%ef%bc%8e/admin",
    ];
    for spelling in spellings {
        let answer =
            gateway.exchange(&format!("GET {spelling} HTTP/1.1\r\nhost: {API}\r\nconnection: close\r\n\r\n"));
        let status = answer.get(9..12).unwrap_or("none").to_owned();
        if status == "200" {
            let target = scene.upstream.requests().last().unwrap()["target"].as_str().unwrap().to_owned();
            assert!(
                !target.to_ascii_lowercase().contains("admin") || target.starts_with("/admin%"),
                "{spelling} -> {target}"
            );
        } else {
            assert!(status == "403" || status == "400" || status == "none", "{spelling}: {answer}");
        }
    }
}

#[test]
fn what_has_two_readings_is_refused() {
    let scene = Scene::new();
    let gateway = scene.site.start(&scene.plain());
    let ambiguous = [
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00b",
        "/a;b",
        "/a%3bb",
        "/%2e%2e/a",
        "/a/%2e%2e/b",
        "/a/.%2e/b",
        "/a/%2e/b",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a%c0%ae",
        "/a%c0%af",
        "/a%e0%80%af",
        "/a%252e%252e",
        "/a%252fb",
        "/a%255cb",
        "/a%250ab",
        "/a%0d%0ab",
        "/a%01",
        "/a%7f",
        "/a%u002f",
    ];
    for path in ambiguous {
        let answer =
            gateway.exchange(&format!("GET {path} HTTP/1.1\r\nhost: {API}\r\nconnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 400"), "{path}: {answer}");
    }
    assert_eq!(scene.upstream.requests().len(), 0);
}

#[test]
fn a_route_may_tighten_and_may_allow() {
    let scene = Scene::new();
    let mut config = scene.plain();
    let route = |name: &str, paths: serde_json::Value| json!({ "name": name, "on": ["edge"], "path": format!("/{name}/**"), "authenticate": "none", "upstream": "app", "paths": paths });
    config["routes"] = json!([
        route("strict", json!({ "double_slash": "refuse", "dot_segments": "refuse" })),
        route("loose", json!({ "semicolon": "allow", "encoded_slash": "allow" })),
    ]);
    let gateway = scene.site.start(&config);
    for (path, status) in [
        ("/strict/a", 200),
        ("/strict//a", 400),
        ("/strict/x/../a", 400),
        ("/strict/a;b", 400),
        ("/loose//a", 200),
        ("/loose/a;b", 200),
        ("/loose/a%2Fb", 200),
        ("/loose/..%2fstrict/a", 400),
    ] {
        let answer =
            gateway.exchange(&format!("GET {path} HTTP/1.1\r\nhost: {API}\r\nconnection: close\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
}

#[test]
fn a_stripped_prefix_is_checked_again() {
    let scene = Scene::new();
    let mut config = scene.plain();
    config["routes"][0]["path"] = json!("/api/**");
    config["routes"][0]["rewrite"] = json!({ "strip_prefix": "/api" });
    let gateway = scene.site.start(&config);
    for (path, target) in [("/api/x?y=1", "/x?y=1"), ("/api", "/"), ("/api/", "/"), ("/api//x", "/x")] {
        let reply = gateway.ask(Ask::get(API, path));
        assert_eq!(reply.json()["target"], target, "{path}: {}", reply.text());
    }
}
