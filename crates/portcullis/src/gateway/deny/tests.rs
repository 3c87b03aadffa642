use std::time::Duration;

use admin::Deny;

use super::*;
use crate::gateway::wall_clock;

fn token(jti: &str) -> Deny {
    Deny { token: Some(jti.to_owned()), ..Deny::default() }
}

fn lists(state: Option<&Path>) -> DenyLists {
    let mut lists = DenyLists::new();
    let kept = lists.open(state).unwrap();
    lists.adopt(kept, &Living::default(), &Metrics::new(1), wall_clock());
    lists
}

fn denies(lists: &DenyLists, jti: &str) -> bool {
    lists.reader().load().is_some_and(|list| list.denies_token(jti, "any", wall_clock()))
}

fn add(lists: &mut DenyLists, deny: Deny) -> Result<Value, Vec<String>> {
    lists.change(DenyChange::Add(deny), &Metrics::new(1), wall_clock())
}

#[test]
fn without_a_state_file_an_entry_counts_and_it_is_said_that_a_restart_forgets_it() {
    let mut lists = lists(None);
    assert!(lists.reader().load().is_none(), "nobody is asked about an empty list");
    let answer = add(&mut lists, token("a")).unwrap();
    assert_eq!((&answer["kept"], &answer["entries"]), (&json!(false), &json!(1)));
    assert!(answer["reason"].as_str().unwrap().contains("identity.denied.state"));
    assert!(denies(&lists, "a"));
    let remove = DenyChange::Remove(token("a"));
    lists.change(remove.clone(), &Metrics::new(1), wall_clock()).unwrap();
    assert!(lists.reader().load().is_none());
    assert_eq!(lists.change(remove, &Metrics::new(1), wall_clock()).unwrap_err(), ["no such entry"]);
}

#[test]
fn with_a_state_file_a_restart_goes_on_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("denied.json");
    let mut first = lists(Some(&state));
    assert_eq!(add(&mut first, token("a")).unwrap()["kept"], json!(true));
    let ends = wall_clock() + Duration::from_secs(3600);
    let until = jiff::Timestamp::try_from(ends).unwrap().to_string();
    add(&mut first, Deny { until: Some(until), reason: Some("why".to_owned()), ..token("b") }).unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing half written stays");
    let mut second = lists(Some(&state));
    assert!(denies(&second, "a") && denies(&second, "b"));
    assert_eq!(second.listed()["entries"].as_array().unwrap().len(), 2);
    second.look(&Living::default(), &Metrics::new(1), ends);
    assert!(!fs::read_to_string(&state).unwrap().contains("\"b\""), "what is over is forgotten");
}

#[test]
fn a_state_file_that_is_not_understood_stops_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("denied.json");
    fs::write(&state, "{\"denied\": [{\"token\": ").unwrap();
    let error = DenyLists::new().open(Some(&state)).unwrap_err();
    assert!(error.contains("identity.denied.state") && error.contains("line 1"), "{error}");
}

#[test]
fn an_entry_counts_though_it_cannot_be_written_and_is_written_when_it_can_be() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("away").join("denied.json");
    let mut lists = lists(Some(&state));
    let answer = add(&mut lists, token("a")).unwrap();
    assert_eq!(answer["kept"], json!(false));
    assert!(denies(&lists, "a"));
    fs::create_dir(directory.path().join("away")).unwrap();
    lists.look(&Living::default(), &Metrics::new(1), wall_clock());
    assert!(state.exists() && lists.status()["kept"] == json!(true));
}

#[test]
fn an_entry_that_is_over_or_names_nothing_is_refused() {
    let mut lists = lists(None);
    let past = Deny { until: Some("2020-01-01T00:00:00Z".to_owned()), ..token("a") };
    assert!(add(&mut lists, past).unwrap_err()[0].contains("has passed"));
    assert!(add(&mut lists, Deny::default()).unwrap_err()[0].contains("expected one of"));
}
