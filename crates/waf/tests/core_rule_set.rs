//! The core rule set's own cases (needs `make servers`): which rules match a request at paranoia 4, and what is decided at
//! the levels that routes use. `make conformance` shows the figure; here it must not fall.

#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::Value;
use waf::{Judged, Request, Rules, Strictness, Verdict};

/// Of the cases of CRS 4.25, those that agree. `WAF_CASES=1 cargo test -p waf -- --nocapture` lists the others.
const AGREED: usize = 4_457;

#[derive(Deserialize)]
struct Cases {
    rule_id: u32,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    test_id: u32,
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
struct Stage {
    input: Input,
    #[serde(default)]
    output: Output,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Input {
    method: Option<String>,
    uri: Option<String>,
    version: Option<String>,
    headers: BTreeMap<String, Value>,
    data: Option<String>,
    encoded_request: Option<String>,
    autocomplete_headers: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Output {
    log: Log,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Log {
    expect_ids: Vec<u32>,
    no_expect_ids: Vec<u32>,
}

#[test]
fn the_rule_sets_own_cases_agree_as_often_as_before() {
    let directory = rule_set_with(CASES_SETUP);
    let rules = Rules::load(directory.path()).unwrap();
    let (mut agreed, mut all, mut left_out) = (0, 0, 0);
    let mut differing: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for file in case_files() {
        let text = fs::read_to_string(&file).unwrap();
        // One file is a comment as a whole.
        if text.lines().all(|line| line.is_empty() || line.starts_with(['#', '-'])) {
            continue;
        }
        let cases: Cases =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for (case, stage) in
            cases.tests.iter().flat_map(|case| case.stages.iter().map(move |stage| (case, stage)))
        {
            let Log { expect_ids, no_expect_ids } = &stage.output.log;
            let request =
                request(&stage.input).filter(|_| !(expect_ids.is_empty() && no_expect_ids.is_empty()));
            let Some(request) = request else {
                left_out += 1;
                continue;
            };
            all += 1;
            let Verdict { rules: matched, .. } = judge(&rules, &request, 4);
            let agrees = expect_ids.iter().all(|id| matched.contains(id))
                && no_expect_ids.iter().all(|id| !matched.contains(id));
            if agrees {
                agreed += 1;
            } else {
                let what = format!("{}: +{expect_ids:?} -{no_expect_ids:?} {matched:?}", case.test_id);
                differing.entry(cases.rule_id).or_default().push(what);
            }
        }
    }
    if std::env::var_os("WAF_CASES").is_some() {
        for (rule, cases) in &differing {
            println!("{rule} ({}):\n  {}", cases.len(), cases.join("\n  "));
        }
    }
    println!("core rule set: {agreed} of {all} cases agree, {left_out} left out");
    assert!(agreed >= AGREED, "{agreed} of {all} cases agree; it was {AGREED}");
}

fn form(target: &str, kind: &'static str, body: &str) -> Request {
    let fields = [
        ("host", "api.example.com"),
        ("user-agent", "curl/8.5.0"),
        ("accept", "application/json"),
        ("content-type", kind),
    ];
    let fields = fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Request {
        method: Method::POST,
        target: target.to_owned(),
        version: "HTTP/1.1",
        client: IpAddr::from([192, 0, 2, 1]),
        host: None,
        fields: fields.into_iter().collect(),
        length: Some(body.len() as u64),
        body: Bytes::from(body.to_owned()),
    }
}

#[test]
fn ordinary_requests_pass_and_attacks_do_not_wherever_they_are() {
    let rules = Rules::load(&rule_set()).unwrap();
    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";
    for (target, kind, body) in [
        ("/orders?page=2&sort=-created", JSON, r#"{"item":"a book","count":2,"note":"by Friday, please"}"#),
        ("/orders", FORM, "item=a+book&count=2"),
        ("/orders", "application/xml", "<order><item>a book</item></order>"),
        ("/orders", JSON, ""),
    ] {
        let verdict = judge(&rules, &form(target, kind, body), 1);
        assert_eq!((verdict.is_attack, verdict.score), (false, 0), "{target} {body} {verdict:?}");
    }
    for (target, kind, body, rule) in [
        ("/?q=1'%20or%201=1--%20-", JSON, "{}", 942_100),
        ("/", JSON, r#"{"a":{"b":["1' or 1=1-- -"]}}"#, 942_100),
        ("/", FORM, "a=%3Cscript%3Ealert(1)%3C%2Fscript%3E", 941_100),
        ("/", "application/xml", "<a>/etc/passwd</a>", 930_120),
        ("/", "text/odd", r#"{"a":1}"#, 920_420),
        ("/", JSON, r#"{"a":"#, waf::UNREADABLE_BODY),
        ("/", "multipart/form-data", "a=b", waf::UNREADABLE_MULTIPART),
        ("/", FORM, &"a&".repeat(1_001), waf::TOO_MANY_ARGUMENTS),
        ("/backup.sql", JSON, "{}", 920_440),
    ] {
        let verdict = judge(&rules, &form(target, kind, body), 1);
        assert!(verdict.is_attack && verdict.rules.contains(&rule), "{target} {body} {verdict:?}");
    }
}

#[test]
fn a_higher_level_finds_more_and_a_higher_threshold_lets_more_pass() {
    let rules = Rules::load(&rule_set()).unwrap();
    let request = form("/?q=~a^b*c", "application/json", "{}");
    assert!(!judge(&rules, &request, 1).is_attack);
    let strict = judge(&rules, &request, 4);
    assert!(strict.is_attack && strict.score > 0, "{strict:?}");
    let strictness = Strictness { paranoia: 4, threshold: strict.score + 1 };
    let lenient = rules.inspect(&request, strictness, Instant::now() + Duration::from_secs(60));
    assert_eq!(lenient, Judged::Verdict(Verdict { is_attack: false, ..strict }));
    assert_eq!(rules.inspect(&request, strictness, Instant::now()), Judged::TimeUp);
}

#[test]
fn exclusions_beside_the_rule_set_count() {
    let attack = form("/?token=1'%20or%201=1--%20-", "application/json", "{}");
    for exclusion in [
        "SecAction \"id:1000,phase:1,pass,nolog,ctl:ruleRemoveTargetByTag=attack-sqli;ARGS:token\"",
        "SecRule REQUEST_FILENAME \"@streq /\" \"id:1000,phase:1,pass,nolog,ctl:ruleRemoveByTag=attack-sqli\"",
        "SecRuleRemoveById 942000-942999",
    ] {
        let rules = Rules::load(rule_set_with(exclusion).path()).unwrap();
        assert_eq!(judge(&rules, &attack, 1), Verdict::default(), "{exclusion}");
    }
}

#[test]
fn a_rule_that_cannot_be_kept_is_refused_with_its_place() {
    let reason = |line: &str| {
        let directory = rule_set_with(&format!("# a comment\n\n{line}"));
        let whole = Rules::load(directory.path()).unwrap_err().to_string();
        let shown = whole.strip_prefix(&format!("{}/", directory.path().display())).unwrap().to_owned();
        let (place, reason) = shown.split_once(": ").unwrap();
        let (file, at) = place.split_once(':').unwrap();
        let text = fs::read_to_string(directory.path().join(file)).unwrap();
        assert_eq!(text.lines().nth(at.parse::<usize>().unwrap() - 1), line.lines().next(), "{whole}");
        reason.to_owned()
    };
    for (line, expected) in [
        ("SecRule ARGS \"@rx (\" \"id:1000,deny\"", "unclosed group"),
        ("SecRule ARGS \"@rx a\" \\\n    \"id:1000,deny,chain\"", "its chain has no end"),
        ("SecRule ARGS \"@geoLookup\" \"id:1000,deny\"", "not supported"),
        ("SecRule ARGS \"@nothing\" \"id:1000,deny\"", "nothing"),
        ("SecRule ARGS \"@rx a\" \"deny\"", "without `id`"),
        ("SecRuleRemoveByTag attack-sqli", "`SecRuleRemoveByTag` is not supported"),
        ("SecRule ARGS \"@rx a\" \"id:1000,ctl:nothing=On\"", "`ctl:nothing`"),
        ("SecRule ARGS \"@rx a\" \"id:1000,t:turnAround\"", "turnAround"),
    ] {
        let reason = reason(line);
        assert!(reason.contains(expected), "{line}: {reason}");
    }
    let empty = tempfile::tempdir().unwrap();
    let missing = Rules::load(empty.path()).unwrap_err().to_string();
    assert!(missing.contains("crs-setup.conf` is missing"), "{missing}");
}

fn judge(rules: &Rules, request: &Request, paranoia: u8) -> Verdict {
    let deadline = Instant::now() + Duration::from_secs(60);
    match rules.inspect(request, Strictness { paranoia, threshold: 5 }, deadline) {
        Judged::Verdict(verdict) => verdict,
        other => {
            Verdict { is_attack: true, score: 0, rules: vec![format!("{other:?}").len().try_into().unwrap()] }
        }
    }
}

fn request(input: &Input) -> Option<Request> {
    if input.encoded_request.is_some() {
        return None;
    }
    let mut fields = HeaderMap::new();
    for (name, value) in &input.headers {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        fields.append(
            HeaderName::try_from(name.as_str()).ok()?,
            HeaderValue::from_bytes(value.as_bytes()).ok()?,
        );
    }
    let mut body = input.data.clone().unwrap_or_default();
    // As go-ftw sends them.
    if fields.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/form-data")) {
        body = body.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    let mut length = None;
    if input.autocomplete_headers.unwrap_or(true) {
        fields.entry("connection").or_insert(HeaderValue::from_static("close"));
        if !body.is_empty() && !fields.contains_key("content-length") {
            length = Some(body.len() as u64);
        }
    }
    Some(Request {
        method: Method::from_bytes(input.method.as_deref().unwrap_or("GET").as_bytes()).ok()?,
        target: input.uri.clone().unwrap_or_else(|| "/".to_owned()),
        version: match input.version.as_deref() {
            Some("HTTP/1.0") => "HTTP/1.0",
            Some("HTTP/2.0" | "HTTP/2") => "HTTP/2.0",
            None | Some("HTTP/1.1") => "HTTP/1.1",
            Some(_) => return None,
        },
        client: IpAddr::from([127, 0, 0, 1]),
        host: None,
        fields,
        length,
        body: Bytes::from(body),
    })
}

fn case_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for kind in fs::read_dir(rule_set().join("tests")).unwrap().flatten() {
        if kind.file_name().to_string_lossy().starts_with("REQUEST-") {
            files.extend(fs::read_dir(kind.path()).unwrap().flatten().map(|file| file.path()));
        }
    }
    files.sort();
    files
}

fn rule_set() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers/coreruleset")
}

/// The rule set, with these lines at the end of its set-up.
fn rule_set_with(lines: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let setup = fs::read_to_string(rule_set().join("crs-setup.conf.example")).unwrap();
    fs::write(directory.path().join("crs-setup.conf"), format!("{setup}\n{lines}\n")).unwrap();
    std::os::unix::fs::symlink(rule_set().join("rules"), directory.path().join("rules")).unwrap();
    directory
}

/// What the cases expect to be set, by the rule set's `tests/regression/README.md`.
const CASES_SETUP: &str = r#"SecAction "id:900005,phase:1,nolog,pass,\
    ctl:ruleRemoveById=910000,\
    setvar:tx.crs_validate_utf8_encoding=1,\
    setvar:tx.arg_name_length=100,\
    setvar:tx.arg_length=400,\
    setvar:tx.total_arg_length=64000,\
    setvar:tx.max_num_args=255,\
    setvar:tx.max_file_size=64100,\
    setvar:tx.combined_file_sizes=65535""#;
