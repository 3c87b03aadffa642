//! Public keys on a listener.

use std::sync::Arc;

use bytes::Bytes;
use tls::SlotWriter;

use super::{Rig, Scene};

#[test]
fn keys_are_there_for_everybody_once_there_are_any() {
    let mut writer = SlotWriter::empty();
    let scene = Scene { policy: "", keys: Some(writer.reader()), ..Scene::default() };
    let rig = Rig::start(&scene);
    let answer = rig.ask_for("GET", "/keys", "");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("TOKEN_SIGNING_UNAVAILABLE"), "{answer}");
    writer.publish(Arc::new(Bytes::from_static(b"{\"keys\":[]}")));
    let answer = rig.ask_for("GET", "/keys", "");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"keys\":[]}"), "{answer}");
    assert!(answer.contains("content-type: application/jwk-set+json"), "{answer}");
    assert!(answer.contains("cache-control: max-age=300"), "{answer}");
    let head = rig.ask_for("HEAD", "/keys", "");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(rig.ask_for("POST", "/keys", "").starts_with("HTTP/1.1 405"));
    assert!(rig.ask("").starts_with("HTTP/1.1 403"), "nothing else is");
}
