//! What a route says of itself is what happens: where requests go, what is changed on the way there and back, where callers are
//! sent, and which pages may read what comes back. Nothing of it grants anything: a permit is needed all the same.

use serde_json::{Value, json};
use testkit::{Ask, Gateway, Reply, Upstream};

use crate::scene::{API, Scene};

const PAGE: &str = "https://app.example.com";

/// A plain route for everybody with these changes.
fn route(scene: &Scene, change: &Value) -> Value {
    let mut config = scene.plain();
    for (key, value) in change.as_object().unwrap() {
        config["routes"][0][key] = value.clone();
    }
    config
}

#[test]
fn fields_are_removed_and_set_both_ways_and_refusals_stay_as_they_are() {
    let scene = Scene::new();
    let config = route(
        &scene,
        &json!({ "headers": {
            "remove": ["cookie", "x-debug"],
            "response": { "set": { "cache-control": "no-store", "x-frame-options": "SAMEORIGIN" }, "remove": ["content-type"] },
        } }),
    );
    let gateway = scene.site.start(&config);
    let ask = Ask::get(API, "/").header("cookie", "a=b").header("X_Debug", "1").header("x-kept", "1");
    let reply = gateway.ask(ask);
    assert_eq!(reply.status, 200);
    for name in ["cookie", "x-debug", "x_debug"] {
        assert!(reply.upstream_saw(name).is_empty(), "{name}: {}", reply.text());
    }
    assert_eq!(reply.upstream_saw("x-kept"), ["1"]);
    assert_eq!(
        (reply.header("cache-control"), reply.header("x-frame-options")),
        (vec!["no-store".to_owned()], vec!["SAMEORIGIN".to_owned()])
    );
    assert!(reply.header("content-type").is_empty());
    let refused = gateway.ask(Ask::get(API, "/a;b"));
    assert_eq!((refused.status, refused.header("content-type")), (400, vec!["application/json".to_owned()]));
}

#[test]
fn callers_are_sent_where_the_route_says_with_a_permit_only() {
    let scene = Scene::without_policy();
    scene
        .site
        .policy("most", r#"permit(principal, action, resource) unless { context.path like "/private/*" };"#);
    let mut config = route(
        &scene,
        &json!({
            "host": "old.example.com", "redirect": { "status": 308, "to": "https://{host}:8443/moved{path}{query}" },
        }),
    );
    config["routes"][0].as_object_mut().unwrap().remove("upstream");
    config["routes"].as_array_mut().unwrap().push(json!({
        "name": "login", "on": ["edge"], "path": "/account/**", "authenticate": "none",
        "redirect": { "status": 303, "to": "https://login.example.com/?back={path}{query}" },
    }));
    config["upstreams"] = json!({});
    let gateway = scene.site.start(&config);
    let moved = gateway.ask(Ask::new("POST", "old.example.com:80", "/a/b?c=d").body("x"));
    assert_eq!(
        (moved.status, moved.header("location")),
        (308, vec!["https://old.example.com:8443/moved/a/b?c=d".to_owned()])
    );
    let login = gateway.ask(Ask::get("anything.example", "/account/1?a=b&c=//evil.example"));
    assert_eq!(
        login.header("location"),
        ["https://login.example.com/?back=/account/1%3Fa%3Db%26c%3D//evil.example"]
    );
    let refused = gateway.ask(Ask::get("old.example.com", "/private/x"));
    assert_eq!(
        (refused.status, refused.code().as_str(), refused.header("location").len()),
        (403, "POLICY_NO_PERMIT", 0)
    );
}

/// The upstream that answered.
fn side(reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["upstream"].as_str().unwrap().to_owned()
}

#[test]
fn a_split_sends_its_share_to_each_side_and_a_caller_stays_on_his() {
    let scene = Scene::new();
    let next = Upstream::named("next");
    let mut config = scene.tokens();
    config["upstreams"]["next"] = json!({ "endpoints": [next.url()] });
    config["routes"][0].as_object_mut().unwrap().remove("upstream");
    let to = json!([{ "upstream": "app", "weight": 50 }, { "upstream": "next", "weight": 50 }]);
    config["routes"][0]["split"] = json!({ "to": to, "sticky": "principal", "when": [{ "field": "x-canary", "value": "1", "upstream": "next" }] });
    let each = json!({ "name": "each", "on": ["edge"], "path": "/each/**", "authenticate": "none", "split": { "to": to } });
    config["routes"].as_array_mut().unwrap().push(each);
    let gateway = scene.site.start(&config);
    let mut connection = gateway.connect();
    let mut sides = Vec::new();
    for caller in 0..24 {
        let token = scene.token(&format!("caller-{caller}"));
        let ask = || Ask::get(API, "/").bearer(&token);
        let first = side(&connection.send(ask()).unwrap());
        for _ in 0..3 {
            assert_eq!(side(&connection.send(ask()).unwrap()), first, "a caller stays where he is");
        }
        assert_eq!(side(&connection.send(ask().header("x-canary", "1")).unwrap()), "next");
        sides.push(first);
    }
    assert!(sides.contains(&"upstream".to_owned()) && sides.contains(&"next".to_owned()), "{sides:?}");
    let each: Vec<_> = (0..64).map(|_| side(&connection.send(Ask::get(API, "/each/x")).unwrap())).collect();
    let count = each.iter().filter(|side| *side == "next").count();
    assert!((8..=56).contains(&count), "each request on its own: {count} of 64");
    for name in ["app", "next"] {
        let counted = gateway
            .metric(&format!(r#"portcullis_upstream_requests_total{{upstream="{name}",result="ok"}}"#));
        assert!(counted > 20.0, "{name}: {counted}");
    }
}

#[test]
fn the_token_of_a_split_is_for_the_side_that_gets_it() {
    use base64::Engine as _;
    let scene = Scene::new();
    let next = Upstream::named("next");
    let mut config = scene.tokens();
    config["upstreams"]["next"] = json!({ "endpoints": [next.url()] });
    config["identity"]["tokens"] = json!({ "internal": { "issuer": "https://gw.internal" } });
    config["routes"][0].as_object_mut().unwrap().remove("upstream");
    config["routes"][0]["token"] = json!("internal");
    config["routes"][0]["split"] = json!({
        "to": [{ "upstream": "app", "weight": 1 }], "when": [{ "field": "x-canary", "value": "1", "upstream": "next" }],
    });
    let gateway = scene.site.start(&config);
    let ask = || Ask::get(API, "/").bearer(&scene.token("alice"));
    for (ask, name) in [(ask(), "app"), (ask().header("x-canary", "1"), "next"), (ask(), "app")] {
        let token = gateway.ask(ask).upstream_saw("authorization").remove(0);
        let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(token.split('.').nth(1).unwrap())
            .unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&claims).unwrap()["aud"], json!(name));
    }
}

/// A preflight of a page at `origin`.
fn preflight(gateway: &Gateway, origin: &str, method: &str, fields: &str) -> Reply {
    let ask = Ask::new("OPTIONS", API, "/").header("origin", origin);
    gateway.ask(
        ask.header("access-control-request-method", method).header("access-control-request-headers", fields),
    )
}

#[test]
fn a_page_of_a_named_origin_may_ask_without_a_proof_and_gets_nothing_without_one() {
    let scene = Scene::new();
    let mut config = scene.tokens();
    config["routes"][0]["methods"] = json!(["GET", "PUT"]);
    config["routes"][0]["cors"] = json!({
        "origins": [PAGE], "fields": ["authorization"], "expose": ["x-request-id"], "credentials": true, "max_age": "5m",
    });
    let gateway = scene.site.start(&config);
    let granted = preflight(&gateway, PAGE, "PUT", "authorization");
    assert_eq!(granted.status, 204, "{}", granted.text());
    for (name, value) in [
        ("access-control-allow-origin", PAGE),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "authorization"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "300"),
    ] {
        assert_eq!(granted.header(name), [value], "{name}");
    }
    for (origin, method, fields) in [
        ("https://evil.example", "PUT", "authorization"),
        ("null", "PUT", "authorization"),
        (PAGE, "PUT", "x-other"),
    ] {
        let refused = preflight(&gateway, origin, method, fields);
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (403, "CORS_REFUSED"),
            "{origin} {method} {fields}"
        );
    }
    assert!(scene.upstream.requests().is_empty(), "a preflight ends here");

    let ask = || Ask::new("PUT", API, "/").header("origin", PAGE);
    let refused = gateway.ask(ask());
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (401, "TOKEN_MISSING"),
        "a preflight grants nothing"
    );
    assert_eq!(refused.header("access-control-allow-origin"), [PAGE], "the page reads why");
    let answered = gateway.ask(ask().bearer(&scene.token("alice")));
    assert_eq!(
        (answered.status, answered.header("access-control-allow-origin")),
        (200, vec![PAGE.to_owned()])
    );
    assert_eq!(
        (answered.header("access-control-expose-headers"), answered.header("vary")),
        (vec!["x-request-id".to_owned()], vec!["origin".to_owned()])
    );
    let other = gateway
        .ask(Ask::get(API, "/").header("origin", "https://evil.example").bearer(&scene.token("alice")));
    assert_eq!((other.status, other.header("access-control-allow-origin").len()), (200, 0));
    assert_eq!(other.header("vary"), ["origin"]);
}
