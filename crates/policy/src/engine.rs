//! One generation of policies over one list of routes and one of scopes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};

use cedar_policy::{Entities, EntityUid, Request, Schema};

use identity::sha256;

use crate::action::{self, Action};
use crate::context::context;
use crate::decide::DenialReason;
use crate::facts::{Facts, RouteFacts, RouteIndex, ScopeIndex};
use crate::index::{Index, meet};
use crate::names::{EntityType, PRINCIPALS};
use crate::partial::{self, Part, Partial, Stock};
use crate::reads::Reads;
use crate::resource::Resource;
use crate::schema::ClaimSchema;
use crate::shadow::{Counters, ShadowCount};
use crate::source::{self, PolicySource, Problem, Rule};
use crate::subject::Subject;
use crate::validate;
use crate::verdict::{Findings, Verdict};

/// One generation of policies, immutable and shared by all cores. Put it in an `Arc`.
pub struct Engine {
    generation: Arc<Generation>,
    requests: Sender<Slot>,
}

/// The half of an [`Engine`] that evaluates partially, off the traffic cores.
pub struct Compiler {
    generation: Arc<Generation>,
    requests: Receiver<Slot>,
}

/// What the two halves share.
pub(crate) struct Generation {
    pub(crate) serial: u64,
    revision: [u8; 32],
    pub(crate) claims: ClaimSchema,
    pub(crate) rules: Vec<Rule>,
    pub(crate) index: Index,
    schema: Schema,
    /// The routes in the order of their indices, and then the scopes.
    resources: Vec<Resource>,
    routes: usize,
    /// The entities of all actions and of their groups.
    actions: Entities,
    uids: Vec<EntityUid>,
    /// What any policy reads.
    reads: Reads,
    partials: Vec<Cell>,
    residuals: Stock,
    shadows: Counters,
    warnings: Vec<Problem>,
}

/// The place of the partial evaluation for one (resource, principal type, action).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Slot {
    resource: u32,
    kind: EntityType,
    action: Action,
}

#[derive(Debug, Default)]
struct Cell {
    is_asked_for: AtomicBool,
    /// Boxed: most cells stay empty, and there are dozens for each route.
    partial: OnceLock<Box<Partial>>,
}

impl Engine {
    /// An engine that decides over `routes` by the policies in `sources`. No policies is valid: it denies everything.
    ///
    /// # Errors
    /// Every problem of every file: syntax, templates, types and names that the schema does not know, policies that
    /// can never apply, double ids. What is wrong with claims or labels has the path `schema`.
    pub fn compile(
        sources: &[PolicySource],
        claims: &ClaimSchema,
        routes: Vec<RouteFacts>,
    ) -> Result<(Self, Compiler), Vec<Problem>> {
        Self::compile_granting(sources, claims, routes, &[])
    }

    /// The same, where minted tokens may carry `scopes`; each should stand there once.
    ///
    /// # Errors
    /// As [`Engine::compile`].
    pub fn compile_granting(
        sources: &[PolicySource],
        claims: &ClaimSchema,
        routes: Vec<RouteFacts>,
        scopes: &[String],
    ) -> Result<(Self, Compiler), Vec<Problem>> {
        let generation = Arc::new(Generation::new(sources, claims, routes, scopes)?);
        let (sender, receiver) = channel();
        let compiler = Compiler { generation: Arc::clone(&generation), requests: receiver };
        Ok((Self { generation, requests: sender }, compiler))
    }

    /// The handle of the route called `name`.
    #[must_use]
    pub fn route(&self, name: &str) -> Option<RouteIndex> {
        let mut routes = self.generation.resources.iter().take(self.generation.routes);
        let position = routes.position(|route| route.name == name)?;
        u32::try_from(position).ok().map(RouteIndex)
    }

    /// The handle of the scope called `name`.
    #[must_use]
    pub fn scope(&self, name: &str) -> Option<ScopeIndex> {
        let routes = self.generation.routes;
        let position = self.generation.resources.iter().skip(routes).position(|scope| scope.name == name)?;
        u32::try_from(routes + position).ok().map(ScopeIndex)
    }

    /// Stands for these very policies: a generation that was made from the same texts has the same.
    #[must_use]
    pub fn revision(&self) -> [u8; 32] {
        self.generation.revision
    }

    /// What is worth a word in the log though nothing is wrong: Cedar's warnings about look-alike names, policies that
    /// no scope narrows down when they are many, and policies that name a route which there is not.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.generation.warnings
    }

    /// How many policies are enforced, and how many are `@shadow`.
    #[must_use]
    pub fn policy_count(&self) -> (usize, usize) {
        let shadows = self.generation.rules.iter().filter(|rule| rule.is_shadow).count();
        (self.generation.rules.len() - shadows, shadows)
    }

    /// What the `@shadow` policies would have done so far.
    #[must_use]
    pub fn shadow_counters(&self) -> Vec<ShadowCount> {
        self.generation.shadows.read(&self.generation.rules)
    }

    pub(crate) fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Asks the compiler for `slot`, once. Should the compiler be gone, plain evaluation simply goes on.
    pub(crate) fn request(&self, slot: Slot) {
        let Some(cell) = self.generation.cell(slot) else { return };
        if !cell.is_asked_for.load(Ordering::Relaxed) && !cell.is_asked_for.swap(true, Ordering::Relaxed) {
            let _ = self.requests.send(slot);
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.generation.fmt(f)
    }
}

impl Compiler {
    /// Serves the engine's deciders until the engine is dropped. Give it a thread of its own.
    pub fn run(self) {
        while let Ok(slot) = self.requests.recv() {
            // The last owner is this compiler: what still waits in the channel is for nobody.
            if Arc::strong_count(&self.generation) == 1 {
                return;
            }
            self.generation.fill(slot);
        }
    }

    /// Serves what is asked for by now, for callers that have only one thread.
    pub(crate) fn serve_waiting(&self) {
        for slot in self.requests.try_iter() {
            self.generation.fill(slot);
        }
    }
}

impl fmt::Debug for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.generation.fmt(f)
    }
}

impl Generation {
    fn new(
        sources: &[PolicySource],
        claims: &ClaimSchema,
        routes: Vec<RouteFacts>,
        scopes: &[String],
    ) -> Result<Self, Vec<Problem>> {
        let broken = |message: String| {
            vec![Problem { path: "schema".into(), line: 1, column: 1, message, help: None }]
        };
        let schema = crate::schema::parse(claims).map_err(broken)?;
        if let Some(key) = routes.iter().flat_map(|route| route.labels.keys()).find(|key| key.contains('=')) {
            return Err(broken(format!(
                "the label `{key}` has a `=` in its key, so `key=value` has two readings"
            )));
        }
        let (read, mut problems) = source::read(sources);
        let (found, mut warnings) = validate::validate(sources, &read, &schema);
        problems.extend(found);
        if !problems.is_empty() {
            problems.sort();
            return Err(problems);
        }
        let rules: Vec<Rule> = read.into_iter().map(|(_, rule)| rule).collect();
        let index = Index::new(&rules).ok_or_else(|| broken("policies could not be indexed".to_owned()))?;
        warnings.extend(validate::unscoped(&rules, index.unscoped()));
        warnings.extend(validate::unknown_routes(&rules, &routes));
        warnings.extend(validate::unknown_scopes(&rules, scopes));
        let count = routes.len();
        let routes = routes.into_iter().map(|facts| Resource::new(EntityType::Route, facts));
        let resources: Option<Vec<Resource>> =
            routes.chain(scopes.iter().map(|name| Resource::scope(name))).collect();
        let resources = resources.ok_or_else(|| broken("routes could not be made entities".to_owned()))?;
        let actions = schema.action_entities().map_err(|error| broken(error.to_string()))?;
        Ok(Self {
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
            revision: revision(sources),
            claims: claims.clone(),
            index,
            schema,
            actions,
            uids: action::ALL.into_iter().map(Action::uid).collect(),
            partials: std::iter::repeat_with(Cell::default)
                .take(resources.len() * CELLS_PER_RESOURCE)
                .collect(),
            residuals: Stock::default(),
            shadows: Counters::new(&rules),
            reads: rules.iter().fold(Reads::NOTHING, |reads, rule| reads | rule.reads),
            rules,
            resources,
            routes: count,
            warnings,
        })
    }

    /// The slot of a request; `None` if the route is not one of this generation.
    pub(crate) fn slot(&self, route: RouteIndex, subject: &Subject, facts: &Facts<'_>) -> Option<Slot> {
        let is_known = usize::try_from(route.0).is_ok_and(|place| place < self.routes);
        is_known.then(|| Slot { resource: route.0, kind: subject.kind(), action: Action::of(facts.method) })
    }

    /// The slot of a grant; `None` if the scope is not one of this generation.
    pub(crate) fn grant_slot(&self, scope: ScopeIndex, subject: &Subject) -> Option<Slot> {
        let is_known =
            usize::try_from(scope.0).is_ok_and(|p| (self.routes..self.resources.len()).contains(&p));
        is_known.then(|| Slot { resource: scope.0, kind: subject.kind(), action: Action::Grant })
    }

    /// What the compiler found for `slot`, if it has been there.
    pub(crate) fn partial(&self, slot: Slot) -> Option<&Partial> {
        self.cell(slot)?.partial.get().map(Box::as_ref)
    }

    /// What plain Cedar finds on the policies whose scope can match. `None` if the request cannot be put to Cedar.
    pub(crate) fn find_plainly(&self, slot: Slot, subject: &Subject, facts: &Facts<'_>) -> Option<Findings> {
        self.find_whole(slot, subject, facts, self.reads, &self.entities(slot, subject)?)
    }

    /// The same with the entities at hand, for policies that read no more than `reads`.
    pub(crate) fn find_whole(
        &self,
        slot: Slot,
        subject: &Subject,
        facts: &Facts<'_>,
        reads: Reads,
        entities: &Entities,
    ) -> Option<Findings> {
        let resource = self.resource(slot)?;
        let request = self.cedar_request(slot, subject, facts, reads)?;
        let groups = self.index.by_principal(&resource.keys).flat_map(|by| meet(by, subject.keys()));
        let mut findings = Findings::default();
        self.index.evaluate(groups, &request, entities, &mut findings)?;
        Some(findings)
    }

    /// Adds what Cedar finds on what remains of the policies. `None` if the request cannot be put to Cedar.
    pub(crate) fn find_in(
        &self,
        part: &Part,
        slot: Slot,
        subject: &Subject,
        facts: &Facts<'_>,
        mut findings: Findings,
    ) -> Option<Findings> {
        if part.by_principal.is_empty() {
            return Some(findings);
        }
        let request = self.cedar_request(slot, subject, facts, part.reads)?;
        let groups = meet(&part.by_principal, subject.keys());
        if part.reads.contains(Reads::RESOURCE) {
            let entities = self.entities(slot, subject)?;
            self.index.evaluate(groups, &request, &entities, &mut findings)?;
        } else {
            self.index.evaluate(groups, &request, subject.entities()?, &mut findings)?;
        }
        Some(findings)
    }

    /// The verdict on what was found; a request that could not be put to Cedar is denied.
    pub(crate) fn verdict(&self, findings: Option<Findings>) -> Verdict {
        match findings {
            Some(findings) => Verdict::new(&self.rules, &findings),
            None => Verdict::denied(DenialReason::PolicyError),
        }
    }

    /// The request as Cedar takes it, with what `reads` names of its context.
    pub(crate) fn cedar_request(
        &self,
        slot: Slot,
        subject: &Subject,
        facts: &Facts<'_>,
        reads: Reads,
    ) -> Option<Request> {
        let action = self.uids.get(slot.action.number())?.clone();
        let resource = self.resource(slot)?.uid.clone();
        Request::new(subject.uid().clone(), action, resource, context(facts, reads)?, None).ok()
    }

    /// All that exists for a request: its principal, its route, and every action (a policy may speak of another
    /// action than the request's).
    pub(crate) fn entities(&self, slot: Slot, subject: &Subject) -> Option<Entities> {
        let resource = self.resource(slot)?.entity.clone();
        let principal = subject.entities()?.iter().cloned();
        self.actions.clone().add_entities(principal.chain([resource]), None).ok()
    }

    /// Counts what the shadows of a verdict would have done.
    pub(crate) fn count(&self, verdict: &Verdict) {
        self.shadows.add(verdict.shadows());
    }

    /// From here on all policies stay whole.
    #[cfg(test)]
    pub(crate) fn use_up_residuals(&self) {
        self.residuals.use_up();
    }

    fn fill(&self, slot: Slot) {
        let (Some(cell), Some(resource)) = (self.cell(slot), self.resource(slot)) else { return };
        cell.partial.get_or_init(|| {
            let (rules, index, schema, stock) = (&self.rules, &self.index, &self.schema, &self.residuals);
            partial::evaluate(rules, index, schema, stock, resource, slot.kind, slot.action).into()
        });
    }

    fn resource(&self, slot: Slot) -> Option<&Resource> {
        self.resources.get(usize::try_from(slot.resource).ok()?)
    }

    fn cell(&self, slot: Slot) -> Option<&Cell> {
        let first = usize::try_from(slot.resource).ok()?.checked_mul(CELLS_PER_RESOURCE)?;
        self.partials.get(first + slot.kind.number() * action::ALL.len() + slot.action.number())
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("serial", &self.serial)
            .field("policies", &self.rules.len())
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

fn revision(sources: &[PolicySource]) -> [u8; 32] {
    let digests: Vec<[u8; 32]> = sources.iter().map(|source| sha256(source.text.as_bytes())).collect();
    sha256(digests.as_flattened())
}

const CELLS_PER_RESOURCE: usize = PRINCIPALS.len() * action::ALL.len();

static SERIAL: AtomicU64 = AtomicU64::new(1);
