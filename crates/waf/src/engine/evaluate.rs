//! Runs the rules over one request.

use std::time::Instant;

use zentinel_modsec::engine::TransactionControls;
use zentinel_modsec::engine::ruleset::RuleEngineMode;
use zentinel_modsec::parser::{OperatorSpec, SetVarSpec, SetVarValue};
use zentinel_modsec::variables::{
    Collection as _, MutableCollection as _, RequestData, ResponseData, TxCollection, VariableResolver,
};

use super::program::{Flow, Found, Link, Program, Rule, Test, Then};
use super::subject;
use crate::{Judged, MOST_ARGUMENTS, Request, Strictness, TOO_MANY_ARGUMENTS, Verdict};

pub(super) fn inspect(
    program: &Program,
    request: &Request,
    strictness: Strictness,
    deadline: Instant,
) -> Judged {
    let mut run = Run {
        data: subject::head(request),
        answer: ResponseData::new(),
        tx: TxCollection::new(),
        controls: TransactionControls::default(),
        matched: Vec::new(),
        rules: Vec::new(),
        end: None,
        deadline,
    };
    run.tx.set("route_paranoia".to_owned(), strictness.paranoia.to_string());
    run.tx.set("route_threshold".to_owned(), strictness.threshold.to_string());
    let [first, second] = &program.phases;
    let result = run.look(request, first, second);
    match result {
        Ok(()) => Judged::Verdict(run.verdict()),
        Err(Stop::TimeUp) => Judged::TimeUp,
        Err(Stop::Failed(reason)) => Judged::Failed(reason),
    }
}

/// Why there is no verdict.
enum Stop {
    TimeUp,
    Failed(String),
}

/// How it ended before all rules were asked.
#[derive(Clone, Copy, Eq, PartialEq)]
enum End {
    Allowed,
    Denied,
}

struct Run {
    data: RequestData,
    answer: ResponseData,
    tx: TxCollection,
    controls: TransactionControls,
    /// What the last test found: names and values.
    matched: Vec<(String, String)>,
    /// Rules that matched and score, or decided.
    rules: Vec<u32>,
    end: Option<End>,
    deadline: Instant,
}

impl Run {
    fn look(&mut self, request: &Request, first: &[Rule], second: &[Rule]) -> Result<(), Stop> {
        if subject::arguments(&self.data) > MOST_ARGUMENTS {
            self.deny(TOO_MANY_ARGUMENTS);
            return Ok(());
        }
        self.phase(first)?;
        if self.end.is_some() {
            return Ok(());
        }
        if self.controls.request_body_access() {
            let forced = self.controls.request_body_processor().map(str::to_owned);
            if let Err(rule) = subject::body(&mut self.data, request, forced.as_deref()) {
                self.deny(rule);
                return Ok(());
            }
        }
        if subject::arguments(&self.data) > MOST_ARGUMENTS {
            self.deny(TOO_MANY_ARGUMENTS);
            return Ok(());
        }
        self.phase(second)
    }

    fn deny(&mut self, rule: u32) {
        self.rules.push(rule);
        self.end = Some(End::Denied);
    }

    fn verdict(self) -> Verdict {
        let score = |name: &str| {
            let values = self.tx.get(name)?;
            values.first()?.parse().ok()
        };
        Verdict {
            is_attack: self.end == Some(End::Denied),
            score: score("blocking_inbound_anomaly_score").unwrap_or_default(),
            rules: self.rules,
        }
    }

    fn phase(&mut self, rules: &[Rule]) -> Result<(), Stop> {
        let mut place = 0;
        while let Some(rule) = rules.get(place) {
            if self.controls.engine_mode(RuleEngineMode::On) == RuleEngineMode::Off {
                return Ok(());
            }
            if Instant::now() >= self.deadline {
                return Err(Stop::TimeUp);
            }
            place += 1;
            if !self.rule(rule)? {
                continue;
            }
            if rule.scores {
                self.rules.push(rule.id);
            }
            match rule.then {
                Then::Deny if self.controls.engine_mode(RuleEngineMode::On) == RuleEngineMode::On => {
                    // That the sum is too large is no finding of its own.
                    if !rule.scores && rule.id / 1000 != BLOCKING_EVALUATION {
                        self.rules.push(rule.id);
                    }
                    self.end = Some(End::Denied);
                    return Ok(());
                }
                Then::Allow => {
                    self.end = Some(End::Allowed);
                    return Ok(());
                }
                Then::Deny | Then::Nothing => {}
            }
            if let Flow::To(next) = rule.flow {
                place = next;
            }
        }
        Ok(())
    }

    /// True if all links of its chain hold.
    fn rule(&mut self, rule: &Rule) -> Result<bool, Stop> {
        if self.controls.is_rule_removed(Some(&rule.name)) {
            return Ok(false);
        }
        let last = rule.links.len().saturating_sub(1);
        for (place, link) in rule.links.iter().enumerate() {
            // Only the first link has a number: exclusions are about what it looks at.
            let name = (place == 0).then_some(rule.name.as_str());
            if !self.link(link, name, place == last)? {
                return Ok(false);
            }
        }
        for control in rule.links.iter().flat_map(|link| &link.controls) {
            self.controls.apply(control.clone());
        }
        Ok(true)
    }

    /// True if something of what it looks at passes its test. What follows it in a chain may depend on all that does; the last
    /// one needs no second.
    fn link(&mut self, link: &Link, rule: Option<&str>, is_last: bool) -> Result<bool, Stop> {
        if link.variables.is_empty() {
            self.sets(&link.sets);
            return Ok(true);
        }
        let values = self.values(link, rule);
        let later = match &link.test {
            Test::Later(spec) => {
                let argument = self.filled(&spec.argument);
                let spec = OperatorSpec { negated: spec.negated, name: spec.name, argument };
                Some(Test::fixed(&spec).map_err(|_| Stop::Failed(FILLED.to_owned()))?)
            }
            _ => None,
        };
        let test = later.as_ref().unwrap_or(&link.test);
        let mut found = Vec::new();
        'values: for (name, value) in values {
            for form in &link.forms {
                let text = form.apply(&value);
                let groups = match (test.look(&text), link.is_negated) {
                    (Some(Found { groups }), false) => groups,
                    (None, true) => Vec::new(),
                    _ => continue,
                };
                let one = (name, text.into_owned());
                self.matched = vec![one.clone()];
                if link.captures {
                    for (place, group) in groups.into_iter().enumerate() {
                        self.tx.set(place.to_string(), group);
                    }
                }
                self.sets(&link.sets);
                found.push(one);
                if is_last {
                    break 'values;
                }
                continue 'values;
            }
        }
        let is_found = !found.is_empty();
        if is_found {
            self.matched = found;
        }
        Ok(is_found)
    }

    fn values(&self, link: &Link, rule: Option<&str>) -> Vec<(String, String)> {
        let last = self.matched.last().map(|(_, value)| value.as_str());
        let resolver = VariableResolver::new(&self.data, &self.answer, &self.tx, last, &self.matched, &[]);
        let filters = self.controls.has_target_removals(rule);
        let mut values = Vec::new();
        for variable in &link.variables {
            let mut found = resolver.resolve(variable);
            if filters {
                found.retain(|(name, _)| !self.controls.is_target_removed(rule, variable, name));
            }
            if variable.count_mode {
                values.push((String::new(), found.len().to_string()));
            } else {
                values.append(&mut found);
            }
        }
        values
    }

    fn sets(&mut self, sets: &[SetVarSpec]) {
        for set in sets {
            let key = self.filled(&set.key);
            let text = match &set.value {
                SetVarValue::String(text) => text.clone(),
                SetVarValue::Macro(text) => self.filled(text),
                SetVarValue::Int(number) => number.to_string(),
                SetVarValue::Increment(by) => format!("+{by}"),
                SetVarValue::Decrement(by) => format!("-{by}"),
                SetVarValue::Delete => {
                    self.tx.delete(&key);
                    continue;
                }
            };
            // What came out of a request must not be taken for a sum.
            let sum = match &set.value {
                SetVarValue::Macro(raw) => raw.starts_with(['+', '-']),
                SetVarValue::Increment(_) | SetVarValue::Decrement(_) => true,
                _ => false,
            };
            match (sum, text.get(..1), text.get(1..).and_then(|number| number.trim().parse().ok())) {
                (true, Some("+"), Some(by)) => self.tx.increment(&key, by),
                (true, Some("-"), Some(by)) => self.tx.decrement(&key, by),
                (true, ..) => {}
                (false, ..) => self.tx.set(key, text),
            }
        }
    }

    /// A text with what its `%{…}` stand for; what is not known is empty.
    fn filled(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("%{") {
            let Some((name, after)) = after.split_once('}') else { break };
            filled.push_str(before);
            filled.push_str(&self.value(&name.to_ascii_lowercase()));
            rest = after;
        }
        filled.push_str(rest);
        filled
    }

    fn value(&self, name: &str) -> String {
        let one =
            |values: Option<Vec<&str>>| values.and_then(|values| values.first().map(|v| (*v).to_owned()));
        let last = self.matched.last();
        match name.split_once('.') {
            Some(("tx", key)) => one(self.tx.get(key)).unwrap_or_default(),
            Some(("request_headers", key)) => one(self.data.headers.get(key)).unwrap_or_default(),
            Some(("args", key)) => one(self.data.args_post.get(key))
                .or_else(|| one(self.data.args_get.get(key)))
                .unwrap_or_default(),
            None if name == "matched_var" => last.map(|(_, value)| value.clone()).unwrap_or_default(),
            None if name == "matched_var_name" => last.map(|(name, _)| name.clone()).unwrap_or_default(),
            None if name == "remote_addr" => self.data.client_ip.clone(),
            None if name == "request_method" => self.data.method.clone(),
            _ => String::new(),
        }
    }
}

/// The rules that compare the score with the threshold.
const BLOCKING_EVALUATION: u32 = 949;
/// What it was filled with is the request's, and not for a log.
const FILLED: &str = "a test that depends on the request cannot be made";
