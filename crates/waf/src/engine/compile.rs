//! From directives to rules: chains made whole, marks turned into places, exclusions applied.

use std::collections::HashMap;

use zentinel_modsec::engine::CtlDirective;
use zentinel_modsec::parser::{
    Action, ControlAction, DataAction, Directive, DisruptiveAction, FlowAction, MetadataAction, OperatorName,
    OperatorSpec, RuleIdSelector, Selection, SetVarSpec, SetVarValue, UpdateTargetById, VariableName,
};
use zentinel_modsec::transformations::TransformationPipeline;

use super::decode::pipeline;
use super::program::{Flow, Link, Program, Rule, Test, Then};
use crate::RulesError;

/// Directives, with the file and line of each.
pub(super) fn compile(directives: &[Directive], places: &[String]) -> Result<Program, RulesError> {
    let mut compiler = Compiler::new(directives);
    let mut rest = directives.iter().zip(places);
    while let Some((directive, place)) = rest.next() {
        let refused = |reason| RulesError::Rule { place: place.clone(), reason };
        let Some(first) = compiler.take(directive).map_err(refused)? else { continue };
        let id = id(first).ok_or_else(|| refused("a rule without `id`".to_owned()))?;
        let mut links = vec![compiler.link(directive, Some(id)).map_err(refused)?];
        let mut is_chain = continues(first);
        while is_chain {
            let Some((next @ Directive::SecRule(rule), place)) = rest.next() else {
                return Err(refused("its chain has no end".to_owned()));
            };
            let refused = |reason| RulesError::Rule { place: place.clone(), reason };
            links.push(compiler.link(next, None).map_err(refused)?);
            is_chain = continues(&rule.actions);
        }
        compiler.add(id, first, links);
    }
    Ok(compiler.finish())
}

struct Compiler<'a> {
    phases: [Vec<Rule>; 2],
    marks: HashMap<&'a str, [usize; 2]>,
    /// Rules that go on at a mark: phase, place, mark.
    skips: Vec<(usize, usize, &'a str)>,
    blind: Vec<u32>,
    removed: Vec<RuleIdSelector>,
    updates: Vec<&'a UpdateTargetById>,
    /// Rules by tag.
    tagged: HashMap<&'a str, Vec<u32>>,
}

impl<'a> Compiler<'a> {
    fn new(directives: &'a [Directive]) -> Self {
        let (mut removed, mut updates, mut tagged) = (Vec::new(), Vec::new(), HashMap::new());
        for directive in directives {
            match directive {
                Directive::SecRuleRemoveById(ids) => removed.extend(ids),
                Directive::SecRuleUpdateTargetById(update) => updates.push(update),
                Directive::SecRule(rule) => {
                    let Some(id) = id(&rule.actions) else { continue };
                    for action in &rule.actions {
                        if let Action::Metadata(MetadataAction::Tag(tag)) = action {
                            tagged.entry(tag.as_str()).or_insert_with(Vec::new).push(id);
                        }
                    }
                }
                _ => {}
            }
        }
        let (phases, marks) = ([Vec::new(), Vec::new()], HashMap::new());
        Self { phases, marks, skips: Vec::new(), blind: Vec::new(), removed, updates, tagged }
    }

    /// The actions of a directive that is a rule.
    fn take(&mut self, directive: &'a Directive) -> Result<Option<&'a [Action]>, String> {
        match directive {
            Directive::SecRule(rule) => Ok(Some(&rule.actions)),
            Directive::SecAction(action) => Ok(Some(&action.actions)),
            Directive::SecMarker(mark) => {
                self.marks.insert(&mark.name, self.phases.each_ref().map(Vec::len));
                Ok(None)
            }
            Directive::SecRuleUpdateTargetById(update) if update.replaced.is_some() => {
                Err("a target cannot take another's place".to_owned())
            }
            Directive::SecRuleUpdateActionById { .. } => {
                Err("`SecRuleUpdateActionById` is not supported".to_owned())
            }
            Directive::Unknown(name) if !is_harmless(name) => Err(format!("`{name}` is not supported")),
            _ => Ok(None),
        }
    }

    fn link(&self, directive: &Directive, id: Option<u32>) -> Result<Link, String> {
        let always =
            OperatorSpec { negated: false, name: OperatorName::UnconditionalMatch, argument: String::new() };
        let (mut variables, operator, actions) = match directive {
            Directive::SecRule(rule) => (rule.variables.clone(), &rule.operator, &rule.actions),
            Directive::SecAction(action) => (Vec::new(), &always, &action.actions),
            _ => return Err("not a rule".to_owned()),
        };
        for variable in &mut variables {
            // Names of the rules' own variables have no case, and are kept in lower case.
            if let (VariableName::Tx, Some(Selection::Regex(pattern))) =
                (variable.name, &mut variable.selection)
            {
                pattern.insert_str(0, "(?i)");
            }
        }
        for update in self.updates.iter().filter(|update| id.is_some_and(|id| selects(&update.ids, id))) {
            for variable in &mut variables {
                variable.exclusions.extend(update.exclusions.iter().cloned());
            }
            variables.extend(update.additions.iter().cloned());
        }
        let has = |wanted: fn(&Action) -> bool| actions.iter().any(wanted);
        let mut link = Link {
            variables,
            test: Test::new(operator)?,
            is_negated: operator.negated,
            forms: forms(actions, has(|action| matches!(action, Action::Flow(FlowAction::MultiMatch))))?,
            sets: Vec::new(),
            controls: Vec::new(),
            captures: has(|action| matches!(action, Action::Data(DataAction::Capture))),
        };
        for action in actions {
            match action {
                Action::Data(DataAction::SetVar(set)) if set.collection.eq_ignore_ascii_case("tx") => {
                    link.sets.push(set.clone());
                }
                Action::Control(control) => link.controls.extend(self.controls(control)?),
                _ => {}
            }
        }
        Ok(link)
    }

    fn controls(&self, control: &ControlAction) -> Result<Vec<CtlDirective>, String> {
        let by_id = |value: String| CtlDirective::parse(&ControlAction { directive: by_id(control), value });
        let rules = |tag: &str| self.tagged.get(tag.trim()).map_or(&[][..], Vec::as_slice);
        match control.directive.to_ascii_lowercase().as_str() {
            // There is no audit log; and what is said of a body's form, its content type says here.
            "auditengine" | "auditlogparts" | "forcerequestbodyvariable" => Ok(Vec::new()),
            "ruleremovebytag" => Ok(rules(&control.value).iter().map(|id| by_id(id.to_string())).collect()),
            "ruleremovetargetbytag" => {
                let (tag, target) = control.value.split_once(';').unwrap_or((&control.value, ""));
                Ok(rules(tag).iter().map(|id| by_id(format!("{id};{target}"))).collect())
            }
            _ => match CtlDirective::parse(control) {
                CtlDirective::Unsupported { directive, reason, .. } => {
                    Err(format!("`ctl:{directive}` is not supported: {reason}"))
                }
                supported => Ok(vec![supported]),
            },
        }
    }

    fn add(&mut self, id: u32, actions: &'a [Action], links: Vec<Link>) {
        let phase = actions.iter().find_map(|action| match action {
            Action::Metadata(MetadataAction::Phase(phase)) => Some(*phase),
            _ => None,
        });
        // The later ones look at answers.
        let phase = match phase {
            Some(1) => 0,
            Some(2) | None => 1,
            Some(_) => return,
        };
        if selects(&self.removed, id) {
            return;
        }
        let is_blind = |link: &Link| {
            !link.variables.is_empty() && !link.variables.iter().any(|v| v.name.is_implemented())
        };
        if links.iter().any(is_blind) {
            self.blind.push(id);
        }
        let scores = links.iter().flat_map(|link| &link.sets).any(adds_to_score);
        let Some(rules) = self.phases.get_mut(phase) else { return };
        let place = rules.len();
        let mut flow = Flow::On;
        let mut then = Then::Nothing;
        for action in actions {
            match action {
                Action::Flow(FlowAction::Skip(count)) => flow = Flow::To(place + 1 + *count as usize),
                Action::Flow(FlowAction::SkipAfter(mark)) => self.skips.push((phase, place, mark)),
                Action::Disruptive(DisruptiveAction::Pass) => then = Then::Nothing,
                Action::Disruptive(
                    DisruptiveAction::Allow | DisruptiveAction::AllowPhase | DisruptiveAction::AllowRequest,
                ) => then = Then::Allow,
                Action::Disruptive(_) => then = Then::Deny,
                _ => {}
            }
        }
        rules.push(Rule { id, name: id.to_string(), links, then, flow, scores });
    }

    fn finish(mut self) -> Program {
        for (phase, place, mark) in self.skips {
            let to = self.marks.get(mark).and_then(|at| at.get(phase).copied()).filter(|to| *to > place);
            if let Some(rule) = self.phases.get_mut(phase).and_then(|rules| rules.get_mut(place)) {
                // A mark that stands before it, or nowhere, ends the phase.
                rule.flow = Flow::To(to.unwrap_or(usize::MAX));
            }
        }
        Program { phases: self.phases, blind: self.blind }
    }
}

/// The same exclusion by number.
fn by_id(control: &ControlAction) -> String {
    let directive = control.directive.to_ascii_lowercase();
    directive.strip_suffix("bytag").map_or(directive.clone(), |kind| format!("{kind}byid"))
}

fn id(actions: &[Action]) -> Option<u32> {
    actions.iter().find_map(|action| match action {
        Action::Metadata(MetadataAction::Id(id)) => u32::try_from(*id).ok(),
        _ => None,
    })
}

fn continues(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Flow(FlowAction::Chain)))
}

/// True of what adds to the score of a paranoia level.
fn adds_to_score(set: &SetVarSpec) -> bool {
    let adds = match &set.value {
        SetVarValue::Macro(value) => value.starts_with('+'),
        SetVarValue::Increment(_) => true,
        _ => false,
    };
    adds && set.key.contains("anomaly_score_pl")
}

fn selects(selectors: &[RuleIdSelector], id: u32) -> bool {
    selectors.iter().any(|selector| selector.matches(u64::from(id)))
}

/// What becomes of a value before it is tested: all steps, and each of them on the way where each is tested.
fn forms(actions: &[Action], each: bool) -> Result<Vec<TransformationPipeline>, String> {
    let mut names = Vec::new();
    for action in actions {
        match action {
            Action::Transformation(name) if name.eq_ignore_ascii_case("none") => names.clear(),
            Action::Transformation(name) => names.push(name.clone()),
            _ => {}
        }
    }
    let shortest = if each { 0 } else { names.len() };
    let steps = (shortest..=names.len()).filter_map(|length| names.get(..length));
    steps.map(pipeline).collect()
}

/// Directives about logs, or about what the gateway's own configuration says.
fn is_harmless(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let kinds = [
        "seccomponentsignature",
        "seccollectiontimeout",
        "secaudit",
        "secdebug",
        "secargumentslimit",
        "secrequestbody",
    ];
    kinds.iter().any(|kind| name.starts_with(kind))
}
