//! Proxies in front, and proxies that ask: who is believed must be said.

use std::path::Path;

use proxy::upstream::ProxyHeader;
use proxy::validate::Protocol;

use super::{problems, read};
use crate::config::model::ProxyProtocol;

const ASKED: &str = r#"
version: 1
listeners:
  edge: { bind: 127.0.0.1:1, proxy_protocol: required, trusted_proxies: [10.0.0.0/8] }
  ask: { bind: 127.0.0.1:2, trusted_proxies: [127.0.0.1], validate: { routes_of: edge } }
  envoy: { bind: 127.0.0.1:3, trusted_proxies: [127.0.0.1], validate: { routes_of: edge, protocol: ext_authz } }
  tls:
    bind: 127.0.0.1:4
    tls: { certificates: [edge], client: { mode: required, trust: [mesh] } }
    validate: { routes_of: edge, protocol: forward_auth }
certificates: { edge: { files: { certificate: a, key: b } } }
trust: { mesh: { files: { ca: c }, names: dns } }
routes:
  - { name: a, on: [edge], path: /a, authenticate: none, respond: { status: 200 } }
policies: { directory: policies }
"#;

fn changed(from: &str, to: &str) -> String {
    assert_eq!(ASKED.matches(from).count(), 1, "{from}");
    problems(&ASKED.replacen(from, to, 1))
}

#[test]
fn listeners_say_whom_they_believe_and_by_whose_routes_they_judge() {
    let (config, problems) = read("portcullis.yaml", ASKED.to_owned(), Path::new("/etc/portcullis"));
    assert_eq!(problems.to_string(), "");
    let listeners = config.unwrap().listeners;
    assert_eq!(listeners["edge"].proxy_protocol, ProxyProtocol::Required);
    assert_eq!(listeners["ask"].proxy_protocol, ProxyProtocol::Off);
    let protocol = |name: &str| listeners[name].validate.as_ref().map(|asking| asking.protocol);
    assert_eq!(protocol("edge"), None);
    assert_eq!(
        (protocol("ask"), protocol("tls")),
        (Some(Protocol::ForwardAuth), Some(Protocol::ForwardAuth))
    );
    assert_eq!(protocol("envoy"), Some(Protocol::ExtAuthz));
    assert_eq!(listeners["ask"].validate.as_ref().unwrap().routes_of.as_str(), "edge");
}

#[test]
fn a_listener_that_would_believe_anybody_is_refused() {
    for (from, to, message) in [
        (
            "required, trusted_proxies: [10.0.0.0/8]",
            "required",
            "no proxy is trusted to say whose connection it passes on",
        ),
        ("bind: 127.0.0.1:2, trusted_proxies: [127.0.0.1]", "bind: 127.0.0.1:2", "anybody could ask"),
        ("mode: required, trust", "mode: optional, trust", "anybody could ask"),
    ] {
        let told = changed(from, to);
        assert!(told.contains(message) && told.lines().count() == 1, "{told}");
    }
}

#[test]
fn a_listener_that_answers_other_proxies_has_nothing_else_to_do() {
    for (from, to, message) in [
        ("validate: { routes_of: edge } }", "validate: { routes_of: envoy } }", "`envoy` has no routes"),
        ("validate: { routes_of: edge } }", "validate: { routes_of: ask } }", "`ask` has no routes"),
        ("validate: { routes_of: edge } }", "validate: { routes_of: egde } }", "did you mean `edge`?"),
        (
            "validate: { routes_of: edge } }",
            "redirect: https, validate: { routes_of: edge } }",
            "`validate` and `redirect`",
        ),
        ("on: [edge]", "on: [edge, ask]", "`ask` answers other proxies, it has no routes"),
        ("protocol: ext_authz", "protocol: envoy", "protocol"),
    ] {
        let told = changed(from, to);
        assert!(told.contains(message), "{to}: {told}");
    }
}

#[test]
fn clients_are_announced_on_connections_that_they_do_not_share() {
    let with = |keys: &str| {
        let upstreams =
            format!("upstreams: {{ app: {{ endpoints: [\"http://127.0.0.1:9\"], {keys} }} }}\nroutes:");
        let text =
            ASKED.replacen("routes:", &upstreams, 1).replace("respond: { status: 200 }", "upstream: app");
        read("portcullis.yaml", text, Path::new("/etc/portcullis"))
    };
    for (keys, header) in [
        ("proxy_protocol: v1", Some(ProxyHeader::V1)),
        ("proxy_protocol: v2, protocol: http1", Some(ProxyHeader::V2)),
        ("proxy_protocol: off, protocol: http2", None),
    ] {
        let (config, problems) = with(keys);
        assert_eq!(problems.to_string(), "", "{keys}");
        assert_eq!(config.unwrap().upstreams["app"].proxy_protocol, header, "{keys}");
    }
    let (_, problems) = with("protocol: http2, proxy_protocol: v2");
    let told = problems.to_string();
    assert!(told.contains("none can be announced") && told.contains("expected `protocol: http1`"), "{told}");
    let (_, problems) = with("proxy_protocol: v3");
    assert!(problems.to_string().contains("proxy_protocol"), "{problems}");
}
