//! Values of one credential: a password, a user with a password, a token; with the leases that keep them alive.
//!
//! References into one path share one reading and one lease. What has no lease is read again; a lease is renewed, and acquired anew
//! when the store lets it end, lost it, or when the login under it was replaced: the new values are handed out first, the former
//! lease is revoked when [`Source::retire`] says that nobody uses it. **Refused:** a field that is not there, an empty value, what the
//! check refuses; what serves stays, with its lease. Leases acquired after a refusal, or sooner than half of the former one's life,
//! count against a budget, so that no failure makes credentials in a loop.

mod budget;
#[cfg(test)]
mod fake;
mod lender;
mod place;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrets::{ExposeSecret, Reference, SecretString, Stores};
use tokio::time::Instant;

use self::budget::Budget;
pub use self::lender::Lender;
use self::place::{Loan, Place};
use crate::error::{Rejection, SourceError};
use crate::plan::after;
use crate::source::{Life, Obtained, Source};

/// What a [`Values`] reads.
#[derive(Clone, Debug)]
pub struct ValuesSpec {
    /// The values of one credential, in the order in which they are handed out.
    pub references: Vec<Reference>,
    /// What has no lease is read again this often.
    pub refresh: Duration,
    /// How many leases may be acquired within an hour beyond the plan.
    pub mints_per_hour: u32,
}

/// Why values cannot be used as what they are for.
type Check = Box<dyn Fn(&[SecretString]) -> Result<(), String> + Send + Sync>;

/// The values of one credential.
pub struct Values<L = Arc<Stores>> {
    lender: L,
    references: Vec<Reference>,
    refresh: Duration,
    budget: Budget,
    places: Vec<Place>,
    check: Check,
    /// Leases that the values before the last ones depend on.
    former: Vec<Loan>,
    last: Option<Vec<SecretString>>,
}

impl<L: Lender> Values<L> {
    /// Nothing is read here.
    #[must_use]
    pub fn new(lender: L, spec: ValuesSpec) -> Self {
        Self {
            lender,
            places: Place::all(&spec.references),
            references: spec.references,
            refresh: spec.refresh,
            budget: Budget::new(spec.mints_per_hour),
            check: Box::new(|_| Ok(())),
            former: Vec::new(),
            last: None,
        }
    }

    /// Refuses values for which `check` says why they cannot be used (without quoting them).
    #[must_use]
    pub fn checked(
        mut self,
        check: impl Fn(&[SecretString]) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.check = Box::new(check);
        self
    }

    /// The values that the readings in hand give, checked.
    fn values(&self) -> Result<Vec<SecretString>, SourceError> {
        let place = |one: &Reference| self.places.iter().find(|place| place.holds(one));
        let values: Vec<_> = self
            .references
            .iter()
            .filter_map(|one| place(one).map(|place| place.value(one)))
            .collect::<Result<_, _>>()?;
        (self.check)(&values).map_err(Rejection::Unfit)?;
        Ok(values)
    }

    fn life(&self, now: SystemTime) -> Life {
        let at = Instant::now();
        let left = |loan: &Loan| loan.ends.saturating_duration_since(at);
        let leased = self.places.iter().filter_map(Place::loan).map(left).min();
        let again = self.places.iter().filter_map(|place| place.again).min();
        Life {
            obtained: now,
            begins: now,
            ends: leased.map(|left| after(now, left)),
            // Values of both kinds: the lease is looked at with the rest, at its two thirds at the latest.
            again_in: again.map(|again| leased.map_or(again, |left| again.min(left.mul_f64(RENEW_AT)))),
        }
    }
}

impl<L: Lender> Source for Values<L> {
    type Material = Vec<SecretString>;

    async fn obtain(
        &mut self,
        held: Option<&Life>,
        now: SystemTime,
    ) -> Result<Obtained<Vec<SecretString>>, SourceError> {
        let started = Instant::now();
        for place in &mut self.places {
            place.freshen(&self.lender, &mut self.budget, self.refresh).await?;
        }
        let values = match self.values() {
            Ok(values) => values,
            Err(refusal) => {
                for place in &mut self.places {
                    place.refuse(&self.lender).await;
                }
                return Err(refusal);
            }
        };
        self.former.extend(self.places.iter_mut().filter_map(Place::commit));
        let now = after(now, started.elapsed());
        let life = self.life(now);
        let is_same = held.is_some() && self.last.as_ref().is_some_and(|last| same(last, &values));
        Ok(match (is_same, life.ends) {
            (true, Some(_)) => Obtained::Extended(life),
            (true, None) => Obtained::Unchanged(life),
            (false, _) => {
                self.last = Some(values.clone());
                Obtained::New(values, life)
            }
        })
    }

    fn is_superseded(&self) -> bool {
        self.places.iter().filter_map(Place::loan).any(|loan| loan.is_superseded(&self.lender))
    }

    async fn retire(&mut self) {
        let mut left = Vec::new();
        while let Some(loan) = self.former.pop() {
            if !loan.revoke(&self.lender).await && loan.ends > Instant::now() {
                left.push(loan);
            }
        }
        self.former = left;
    }

    async fn close(&mut self) {
        let loans = self.places.iter_mut().flat_map(Place::take_loans);
        for loan in self.former.drain(..).chain(loans) {
            loan.revoke(&self.lender).await;
        }
    }
}

fn same(one: &[SecretString], other: &[SecretString]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| one.expose_secret() == other.expose_secret())
}

const RENEW_AT: f64 = 2.0 / 3.0;

#[cfg(test)]
mod tests;
