//! One path that values are read from, and the lease that keeps them alive.

use std::time::Duration;

use secrets::{Cause, ExposeSecret, Lease, Reading, Reference, SecretString, StoreError};
use tokio::time::Instant;

use super::budget::Budget;
use super::lender::Lender;
use crate::error::{Rejection, SourceError};
use crate::plan::LONGEST;

/// One path, read once for all references into it.
pub(super) struct Place {
    /// All into this path.
    references: Vec<Reference>,
    /// What serves.
    current: Option<Held>,
    /// What was read and does not serve yet: another place, or the check, has not come so far.
    staged: Option<Held>,
    /// Whether the lease that was acquired last was refused with its values: the plan does not call for another one.
    is_refused: bool,
    /// When the value should be looked at again; none while a loan keeps it.
    pub(super) again: Option<Duration>,
    /// How often in a row a value that was due to change had not.
    overdue: u32,
}

/// A reading with the lease that keeps it alive.
pub(super) struct Held {
    reading: Reading,
    loan: Option<Loan>,
}

/// A lease in hand.
#[derive(Clone, Debug)]
pub(super) struct Loan {
    store: String,
    lease: Lease,
    pub(super) ends: Instant,
    acquired: Instant,
    /// How long it lived when it was acquired.
    whole: Duration,
    /// A renewal gave less than it lived at first: the store lets it end.
    is_last: bool,
}

/// What to do with a loan.
enum Renewal {
    Kept,
    Replace,
}

impl Place {
    /// The places of these references.
    pub(super) fn all(references: &[Reference]) -> Vec<Self> {
        let mut places: Vec<Self> = Vec::new();
        for reference in references {
            match places.iter_mut().find(|place| place.holds(reference)) {
                Some(place) => place.references.push(reference.clone()),
                None => places.push(Self {
                    references: vec![reference.clone()],
                    current: None,
                    staged: None,
                    is_refused: false,
                    again: None,
                    overdue: 0,
                }),
            }
        }
        places
    }

    /// Whether the reference points into it.
    pub(super) fn holds(&self, reference: &Reference) -> bool {
        self.references.first().is_some_and(|own| own.shares_reading(reference))
    }

    /// What this reference points to, by what is staged, else by what serves.
    ///
    /// # Errors
    /// Nothing, or an empty value.
    pub(super) fn value(&self, reference: &Reference) -> Result<SecretString, SourceError> {
        match self.staged.as_ref().or(self.current.as_ref()) {
            Some(held) => value(&held.reading, reference),
            None => Err(Rejection::Empty(reference.to_string()).into()),
        }
    }

    /// The lease under what serves.
    pub(super) fn loan(&self) -> Option<&Loan> {
        self.current.as_ref()?.loan.as_ref()
    }

    /// Renews the loan, or reads anew and stages it.
    ///
    /// # Errors
    /// Why what serves is neither renewed nor replaced; it stays.
    pub(super) async fn freshen(
        &mut self,
        lender: &impl Lender,
        budget: &mut Budget,
        refresh: Duration,
    ) -> Result<(), SourceError> {
        if self.staged.as_ref().is_some_and(|staged| staged.is_fresh(lender)) {
            return Ok(());
        }
        self.drop_staged(lender).await;
        let mut is_planned = !self.is_refused;
        if let Some(loan) = self.current.as_mut().and_then(|held| held.loan.as_mut()) {
            match loan.renew(lender).await? {
                Renewal::Kept => return Ok(()),
                Renewal::Replace => is_planned &= loan.is_due(lender),
            }
        }
        if !is_planned {
            budget.spend(Instant::now())?;
        }
        let Some(reference) = self.references.first() else { return Ok(()) };
        let asked = Instant::now();
        let reading = lender.read(reference).await?;
        let loan = reading.lease.clone().map(|lease| Loan::new(reference.store(), lease, asked));
        self.again = loan.is_none().then(|| self.look_again(&reading, refresh));
        self.staged = Some(Held { reading, loan });
        Ok(())
    }

    /// What is staged serves from now on; the loan of what served is returned.
    pub(super) fn commit(&mut self) -> Option<Loan> {
        let staged = self.staged.take()?;
        self.is_refused = false;
        self.current.replace(staged)?.loan
    }

    /// Drops what is staged, with its lease: it may not serve.
    pub(super) async fn refuse(&mut self, lender: &impl Lender) {
        self.is_refused = self.staged.as_ref().is_some_and(|staged| staged.loan.is_some());
        self.drop_staged(lender).await;
    }

    async fn drop_staged(&mut self, lender: &impl Lender) {
        if let Some(loan) = self.staged.take().and_then(|staged| staged.loan) {
            loan.revoke(lender).await;
        }
    }

    /// All loans, for the end.
    pub(super) fn take_loans(&mut self) -> impl Iterator<Item = Loan> {
        let held = [self.staged.take(), self.current.take()];
        held.into_iter().flatten().filter_map(|held| held.loan)
    }

    /// After the change that the store announces, or by `refresh` in case somebody changes it by hand.
    fn look_again(&mut self, reading: &Reading, refresh: Duration) -> Duration {
        let Some(changes_in) = reading.changes_in else { return refresh };
        let is_same = self.current.as_ref().is_some_and(|last| same(&last.reading, reading));
        if changes_in > CHANGE_MARGIN || !is_same {
            self.overdue = 0;
            return refresh.min(changes_in + CHANGE_MARGIN);
        }
        // A store that cannot make its change says for long that it is just about to.
        self.overdue = self.overdue.saturating_add(1);
        refresh.min(CHANGE_MARGIN.saturating_mul(2_u32.saturating_pow(self.overdue)))
    }
}

impl Held {
    /// Whether it can wait a while yet; what has no lease is read again, which costs nothing.
    fn is_fresh(&self, lender: &impl Lender) -> bool {
        let lives = |loan: &Loan| !loan.is_superseded(lender) && loan.acquired.elapsed() < loan.whole / 2;
        self.loan.as_ref().is_some_and(lives)
    }
}

impl Loan {
    fn new(store: &str, lease: Lease, asked: Instant) -> Self {
        Self {
            store: store.to_owned(),
            ends: asked + lease.duration.min(LONGEST),
            acquired: asked,
            whole: lease.duration,
            is_last: !lease.is_renewable,
            lease,
        }
    }

    /// Whether its time came by the plan: its login was replaced, or it lived for half of its time at least. Never at once.
    fn is_due(&self, lender: &impl Lender) -> bool {
        let lived = self.acquired.elapsed();
        lived >= SHORTEST && (self.is_superseded(lender) || lived >= self.whole / 2)
    }

    /// Gives it back; true if it is gone.
    pub(super) async fn revoke(&self, lender: &impl Lender) -> bool {
        match lender.revoke(&self.store, &self.lease).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "a lease was not given back");
                false
            }
        }
    }

    pub(super) fn is_superseded(&self, lender: &impl Lender) -> bool {
        self.lease.login < lender.login(&self.store)
    }

    async fn renew(&mut self, lender: &impl Lender) -> Result<Renewal, StoreError> {
        let asked = Instant::now();
        if self.is_superseded(lender) {
            return Ok(Renewal::Replace);
        }
        if self.is_last {
            let left = self.ends.saturating_duration_since(asked);
            // Tried early (after a wake, or beside a value that is read often): not yet.
            let is_due = left <= self.lease.duration.mul_f64(REPLACE_AT) || left < self.whole / 3;
            return Ok(if is_due { Renewal::Replace } else { Renewal::Kept });
        }
        match lender.renew(&self.store, &self.lease).await {
            Ok(lease) => {
                self.ends = asked + lease.duration.min(LONGEST);
                self.is_last = lease.duration + TOLERANCE < self.whole || !lease.is_renewable;
                self.lease = lease;
                let is_at_the_end = self.is_last && self.lease.duration < self.whole / 3;
                Ok(if is_at_the_end { Renewal::Replace } else { Renewal::Kept })
            }
            // Gone, or the store does not renew such leases (or not for us): it is replaced like one that cannot be renewed.
            Err(StoreError { cause: Cause::LeaseLost, .. }) => Ok(Renewal::Replace),
            Err(StoreError { cause, .. }) if cause.is_configuration() => {
                tracing::warn!(store = self.store, %cause, "a lease is not renewed but replaced");
                Ok(Renewal::Replace)
            }
            Err(error) => Err(error),
        }
    }
}

/// What a reading has for a reference.
fn value(reading: &Reading, reference: &Reference) -> Result<SecretString, SourceError> {
    let value = reading.value(reference)?;
    if value.expose_secret().is_empty() {
        return Err(Rejection::Empty(reference.to_string()).into());
    }
    Ok(value)
}

/// Whether two readings hold the same.
fn same(one: &Reading, other: &Reading) -> bool {
    one.fields.len() == other.fields.len()
        && one.fields.iter().zip(&other.fields).all(|((name, value), (other_name, other_value))| {
            name == other_name && value.expose_secret() == other_value.expose_secret()
        })
}

/// A lease that is useless sooner is no plan but a mistake, whatever it says of its life.
const SHORTEST: Duration = Duration::from_secs(5);
/// A static credential is read when it has changed, not just before.
const CHANGE_MARGIN: Duration = Duration::from_secs(1);
/// What a renewal may give less without having reached the end: the time that the answer took.
const TOLERANCE: Duration = Duration::from_secs(2);
/// Part of the last stretch that is left when its turn comes; the plan's jitter stays above it.
const REPLACE_AT: f64 = 0.45;
