//! No request smuggling: what has two framings is refused with 400 and the connection closed, and nothing of it reaches the
//! service; what RFC 9112 lets a recipient read in one way only arrives rewritten into that one form.
//!
//! The service is a recorder that keeps every byte and reads strictly: whatever it is sent must be whole requests with one
//! framing each, and never what an attacker hid in another one.

mod h2;
mod recorder;

use serde_json::{Value, json};
use testkit::{Gateway, Wire, eventually};

use crate::scene::{API, Scene};
use recorder::Recorder;

/// What must become of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// 400 (or another refusal of what cannot be read), the connection is closed, not one byte arrives.
    Refused,
    /// The head may be on its way when the fault is found: 400 and closed, and what arrives is never a whole request.
    CutOff,
    /// One request arrives, in one form.
    OneForm,
}
use Fate::{CutOff, OneForm, Refused};

/// The field lines and the body of a `POST /x`, and what must become of it. `GET /hidden` is what must never arrive.
const HTTP1: [(&str, &str, &str, Fate); 53] = [
    ("both framings", "Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG", OneForm),
    ("both, the other way round", "Transfer-Encoding: chunked\r\nContent-Length: 3", HIDDEN, OneForm),
    ("two lengths", "Content-Length: 5\r\nContent-Length: 6", "hello!", Refused),
    (
        "two lengths, one of them 0",
        "Content-Length: 0\r\nContent-Length: 44",
        "GET /hidden HTTP/1.1\r\n\r\n",
        Refused,
    ),
    ("equal lengths", "Content-Length: 5\r\nContent-Length: 5", "hello", OneForm),
    ("a list of lengths", "Content-Length: 5, 6", "hello!", Refused),
    ("a negative length", "Content-Length: -5", "hello", Refused),
    ("a length with a plus", "Content-Length: +5", "hello", Refused),
    ("a length in hex", "Content-Length: 0x5", "hello", Refused),
    ("a length with a point", "Content-Length: 5.0", "hello", Refused),
    ("a length of words", "Content-Length: five", "hello", Refused),
    ("a length of nothing", "Content-Length: ", "hello", Refused),
    ("a length with a space in it", "Content-Length: 1 0", "hello", Refused),
    ("a length beyond 64 bits", "Content-Length: 18446744073709551621", "hello", Refused),
    ("a length after a tab", "Content-Length:\t5", "hello", OneForm),
    ("a space before the colon of a length", "Content-Length : 5", "hello", Refused),
    ("a space before the colon of a coding", "Transfer-Encoding : chunked", HIDDEN, Refused),
    ("another coding", "Transfer-Encoding: gzip", HIDDEN, Refused),
    ("chunked is not the last coding", "Transfer-Encoding: chunked, gzip", HIDDEN, Refused),
    ("identity after chunked", "Transfer-Encoding: chunked, identity", HIDDEN, Refused),
    ("chunked twice", "Transfer-Encoding: chunked, chunked", HIDDEN, Refused),
    ("two coding fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", HIDDEN, Refused),
    ("a coding in quotes", "Transfer-Encoding: \"chunked\"", HIDDEN, Refused),
    ("a coding with a prefix", "Transfer-Encoding: xchunked", HIDDEN, Refused),
    ("a coding with a suffix", "Transfer-Encoding: chunkedx", HIDDEN, Refused),
    ("a coding with a parameter", "Transfer-Encoding: chunked;q=1", HIDDEN, Refused),
    ("a coding after a vertical tab", "Transfer-Encoding: \x0bchunked", HIDDEN, Refused),
    ("a coding before a NUL", "Transfer-Encoding: chunked\0", HIDDEN, Refused),
    ("an empty coding", "Transfer-Encoding:", HIDDEN, Refused),
    ("a coding in upper case", "tRANSFER-eNCODING: CHUNKED", HIDDEN, OneForm),
    ("a coding on a folded line", "Transfer-Encoding:\r\n chunked", HIDDEN, Refused),
    ("a folded line", "X-A: b\r\n\tc\r\nContent-Length: 5", "hello", Refused),
    ("a fold before the first field", " X-A: b\r\nContent-Length: 5", "hello", Refused),
    ("a bare CR in a value", "X-A: b\rTransfer-Encoding: chunked", HIDDEN, Refused),
    ("a bare LF after a value", "X-A: b\nTransfer-Encoding: chunked\r\nContent-Length: 5", HIDDEN, OneForm),
    ("a NUL in a value", "X-A: b\0c\r\nContent-Length: 5", "hello", Refused),
    ("a CR in a name", "X\r-A: b\r\nContent-Length: 5", "hello", Refused),
    ("a line without a colon", "Nothing\r\nContent-Length: 5", "hello", Refused),
    ("an empty name", ": b\r\nContent-Length: 5", "hello", Refused),
    ("a second Host", "Host: other.example\r\nContent-Length: 5", "hello", Refused),
    ("no chunk size", CHUNKED, "\r\nhello\r\n0\r\n\r\n", CutOff),
    ("a chunk size of words", CHUNKED, "zz\r\nhello\r\n0\r\n\r\n", CutOff),
    ("a chunk size with 0x", CHUNKED, "0x5\r\nhello\r\n0\r\n\r\n", CutOff),
    ("a negative chunk size", CHUNKED, "-5\r\nhello\r\n0\r\n\r\n", CutOff),
    ("a chunk size beyond 64 bits", CHUNKED, "10000000000000005\r\nhello\r\n0\r\n\r\n", CutOff),
    ("a chunk longer than its size", CHUNKED, "3\r\nhello\r\n0\r\n\r\n", CutOff),
    ("a chunk shorter than its size", CHUNKED, "7\r\nhello\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n", CutOff),
    ("a bare LF after the data of a chunk", CHUNKED, "5\r\nhello\n0\r\n\r\n", CutOff),
    ("a bare CR after a chunk size", CHUNKED, "5\rhello\r\n0\r\n\r\n", CutOff),
    (
        "a bare LF in a chunk extension",
        CHUNKED,
        "5;a\nhello\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n",
        CutOff,
    ),
    ("a chunk extension", CHUNKED, "5;a=b;c=\"d\"\r\nhello\r\n0\r\n\r\n", OneForm),
    (
        "trailers that frame",
        CHUNKED,
        "5\r\nhello\r\n0\r\nContent-Length: 44\r\nTransfer-Encoding: gzip\r\nHost: b\r\n\r\n",
        OneForm,
    ),
    ("a bare LF in a trailer", CHUNKED, "5\r\nhello\r\n0\r\nX-A: b\nGET /hidden HTTP/1.1\r\n\r\n", CutOff),
];
const CHUNKED: &str = "Transfer-Encoding: chunked";
/// A chunked message that ends before what an attacker hides.
const HIDDEN: &str = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: api.example.com\r\nX: x\r\n\r\n";

#[test]
fn two_framings_are_refused_or_become_one() {
    let (scene, recorder) = (Scene::new(), Recorder::start());
    let gateway = scene.site.start(&before(&recorder, scene.plain()));
    let mut failed = Vec::new();
    for (name, fields, body, fate) in HTTP1 {
        let request =
            format!("POST /x HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n{fields}\r\n\r\n{body}");
        let (answer, arrived) = ask(&gateway, &recorder, request.as_bytes());
        if let Err(why) = judge(fate, &answer, &arrived) {
            failed.push(format!("{name}: {why}\n   answer: {answer:?}\n   arrived: {:?}", arrived.text()));
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), HTTP1.len(), failed.join("\n"));
    assert_eq!(victim(&gateway, &recorder), 200, "an innocent request gets its own answer");
    // What clients do wrong is no reason to leave the service out.
    assert!(gateway.metrics().contains("portcullis_upstream_ejections_total{upstream=\"app\"} 0"));
}

/// The whole collection of `tests/attacks`, read by the strict recorder.
#[test]
fn no_case_of_the_collection_arrives_in_two_forms() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/attacks/http1_framing.json");
    let file: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let (scene, recorder) = (Scene::new(), Recorder::start());
    let mut config = before(&recorder, scene.plain());
    // Cases that leave a message half sent end by this.
    config["listeners"]["edge"]["limits"] = json!({ "idle": "1s", "header_timeout": "1s" });
    let gateway = scene.site.start(&config);
    let mut failed = Vec::new();
    for case in file["cases"].as_array().unwrap().iter().filter(|case| case["raw"].is_string()) {
        // Said last, so that the connection ends where nothing is wrong.
        let raw =
            case["raw"].as_str().unwrap().replace("Host: {H}\r\n", "Host: {H}\r\nConnection: close\r\n");
        let raw = raw.replace("{H}", API).replace("{ID}", case["id"].as_str().unwrap());
        let bytes: Vec<u8> = raw.chars().map(|byte| u8::try_from(u32::from(byte)).unwrap()).collect();
        let outcomes = case["expect"]["outcome"].to_string();
        let (answer, arrived) = ask(&gateway, &recorder, &bytes);
        let most = case["expect"]["max_backend_requests"].as_u64().unwrap_or(1);
        let whole = arrived.requests();
        let verdict = match whole {
            Err(why) => Err(format!("in two forms: {why}")),
            Ok(whole) if whole as u64 > most => Err(format!("{whole} requests arrived")),
            Ok(whole) if whole > 0 && !outcomes.contains("accepted") && !outcomes.contains("normalized") => {
                Err("it arrived".to_owned())
            }
            Ok(_) => Ok(()),
        };
        if let Err(why) = verdict {
            failed.push(format!(
                "{}: {why}\n   answer: {answer:?}\n   arrived: {:?}",
                case["id"],
                arrived.text()
            ));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(victim(&gateway, &recorder), 200, "an innocent request gets its own answer");
}

#[test]
fn nothing_of_http2_becomes_something_else_in_http1() {
    let (scene, recorder) = (Scene::new(), Recorder::start());
    let gateway = scene.site.start(&before(&recorder, scene.tls("off")));
    let trust = scene.client();
    let mut failed = Vec::new();
    for case in h2::cases() {
        let before = recorder.mark();
        let ended = h2::send(gateway.address("edge"), &trust, &case);
        let arrived = recorder.since(before);
        let verdict = match (case.fate, arrived.requests()) {
            (_, Err(why)) => Err(why),
            (Refused, Ok(_)) if !arrived.text().is_empty() => Err("something arrived".to_owned()),
            (CutOff, Ok(count)) if count > 0 => Err("a whole request arrived".to_owned()),
            (OneForm, Ok(1)) if ended.status == Some(200) => Ok(()),
            (OneForm, Ok(count)) => Err(format!("{count} requests arrived")),
            (Refused | CutOff, _) if !ended.is_refused() => Err("not refused".to_owned()),
            (Refused | CutOff, _) => Ok(()),
        };
        if let Err(why) = verdict {
            failed.push(format!("{}: {why}; {ended:?}\n   arrived: {:?}", case.name, arrived.text()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn before(recorder: &Recorder, mut config: Value) -> Value {
    config["upstreams"]["app"]["endpoints"] = json!([recorder.url()]);
    config
}

/// Sends bytes on a connection of their own; the answer up to its close, and what arrived at the service.
fn ask(gateway: &Gateway, recorder: &Recorder, bytes: &[u8]) -> (String, recorder::Arrived) {
    let before = recorder.mark();
    let mut wire = Wire::plain(gateway.address("edge")).unwrap();
    // It may be refused before all of it was read.
    wire.send(bytes).ok();
    let answer = wire.read_to_close();
    let made = gateway.metric("portcullis_upstream_connects_total{upstream=\"app\",result=\"ok\"}");
    eventually("the service has read all that came", || recorder.is_idle(made).then_some(()));
    (answer, recorder.since(before))
}

fn judge(fate: Fate, answer: &str, arrived: &recorder::Arrived) -> Result<(), String> {
    let status = answer.get(9..12).unwrap_or_default();
    let whole = arrived.requests()?;
    match fate {
        Refused | CutOff if !answer.contains("HTTP/1.1 ") => Err("no answer".to_owned()),
        Refused | CutOff if !status.starts_with("40") && status != "501" => Err(format!("answered {status}")),
        Refused | CutOff if answer.matches("HTTP/1.1 ").count() != 1 => Err("answered twice".to_owned()),
        Refused if !arrived.text().is_empty() => Err("something arrived".to_owned()),
        CutOff if whole > 0 => Err("a whole request arrived".to_owned()),
        OneForm if whole != 1 => Err(format!("{whole} requests arrived")),
        OneForm if arrived.text().contains("hidden") => Err("what was hidden arrived".to_owned()),
        OneForm if status != "200" => Err(format!("answered {status}")),
        Refused | CutOff | OneForm => Ok(()),
    }
}

fn victim(gateway: &Gateway, recorder: &Recorder) -> u16 {
    let request = format!("GET /victim HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n\r\n");
    let (answer, arrived) = ask(gateway, recorder, request.as_bytes());
    assert!(arrived.text().starts_with("GET /victim HTTP/1.1\r\n"), "{:?}", arrived.text());
    answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
}
