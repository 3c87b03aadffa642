//! What is kept of an order, and when it is renewed. Pure but for its names in the state directory.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tls::Credential;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::order::Issued;
use super::renewal::Answer;
use super::state::slug;
use crate::source::Life;

/// A certificate with its key as it lies on disk.
#[derive(Deserialize, Serialize, Zeroize, ZeroizeOnDrop)]
pub(super) struct Kept {
    directory: String,
    names: Vec<String>,
    pub(super) certificate: String,
    key: String,
    /// Seconds since 1970, as all times here.
    begins: u64,
    ends: u64,
    renew_at: u64,
    /// Whether `renew_at` was chosen from a window that the server suggested.
    suggested: bool,
    /// When the server is asked again for its window; never if it knows of none.
    ask_at: Option<u64>,
}

/// What is kept, read and checked.
pub(super) struct Loaded {
    pub(super) kept: Kept,
    pub(super) credential: Arc<Credential>,
}

impl Kept {
    pub(super) fn new(
        directory: String,
        names: Vec<String>,
        issued: Issued,
        credential: &Credential,
    ) -> Self {
        let (begins, ends) = (seconds(credential.not_before()), seconds(credential.not_after()));
        Self {
            directory,
            names,
            certificate: issued.chain,
            key: issued.key.to_string(),
            begins,
            ends,
            renew_at: begins + (ends - begins) / 3 * 2,
            suggested: false,
            ask_at: None,
        }
    }

    /// Whether it is what is asked for now: from this server, for these names.
    pub(super) fn is_for(&self, directory: &str, names: &[String]) -> bool {
        self.directory == directory && self.names == names
    }

    /// Whether it is for one of these names.
    pub(super) fn names_any_of(&self, names: &[String]) -> bool {
        self.names.iter().any(|own| names.contains(own))
    }

    /// With its pair, if that is valid now. What a file says of times is believed as far as the certificate allows.
    pub(super) fn load(mut self, now: SystemTime) -> Option<Loaded> {
        let credential = Credential::from_pem(self.certificate.as_bytes(), self.key.as_bytes(), now).ok()?;
        (self.begins, self.ends) = (seconds(credential.not_before()), seconds(credential.not_after()));
        self.renew_at = self.renew_at.min(self.ends);
        self.ask_at = self.ask_at.map(|at| at.min(self.ends));
        Some(Loaded { kept: self, credential: Arc::new(credential) })
    }

    pub(super) fn renew_at(&self) -> SystemTime {
        time(self.renew_at)
    }

    /// Whether it is time to ask the server for its window again.
    pub(super) fn asks_again(&self, now: SystemTime) -> bool {
        self.ask_at.is_some_and(|at| at <= seconds(now))
    }

    /// Takes in what the server says about renewal (RFC 9773 section 4.2); `random` is in `0.0..1.0`.
    pub(super) fn answered(&mut self, answer: Answer, now: SystemTime, random: f64) {
        let asked = seconds(now);
        match answer {
            Answer::Unsupported => self.ask_at = None,
            Answer::Silent => self.ask_at = Some(asked + SILENT.as_secs()),
            Answer::Window { start, end, again } => {
                // A choice that still lies in the window stands: else every look would draw lots anew.
                if !(self.suggested && (start..=end).contains(&self.renew_at)) {
                    let width = Duration::from_secs(end.saturating_sub(start)).mul_f64(random);
                    self.renew_at = start.saturating_add(width.as_secs());
                    self.suggested = true;
                }
                // Never so late that one failure would be too many.
                self.renew_at = self.renew_at.min(self.ends - (self.ends - self.begins) / 10);
                self.ask_at = Some(asked + again.clamp(AGAIN_LEAST, AGAIN_MOST).as_secs());
            }
        }
    }
}

impl Loaded {
    /// Until it is to be renewed, or the server to be asked again.
    pub(super) fn life(&self, now: SystemTime) -> Life {
        let due = self.kept.ask_at.map_or(self.kept.renew_at, |at| at.min(self.kept.renew_at));
        Life {
            obtained: now,
            begins: self.credential.not_before(),
            ends: Some(self.credential.not_after()),
            again_in: Some(time(due).duration_since(now).unwrap_or_default()),
        }
    }
}

/// The file of an entry's certificate.
pub(super) fn file(entry: &str) -> String {
    format!("certificate-{}.json", slug(entry))
}

/// The lock of an entry's orders.
pub(super) fn lock(entry: &str) -> String {
    format!("certificate-{}.lock", slug(entry))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// RFC 9773 section 4.3.2: limits on what the server asks for.
const AGAIN_LEAST: Duration = Duration::from_secs(60);
const AGAIN_MOST: Duration = Duration::from_secs(24 * 3600);
/// A server that knows of windows and did not answer.
const SILENT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    /// Valid for 100 000 s from 1 000 000 on.
    fn kept() -> Kept {
        Kept {
            directory: "https://ca.test/dir".to_owned(),
            names: vec!["a.test".to_owned()],
            certificate: String::new(),
            key: String::new(),
            begins: 1_000_000,
            ends: 1_100_000,
            renew_at: 1_066_666,
            suggested: false,
            ask_at: None,
        }
    }

    fn window(start: u64, end: u64) -> Answer {
        Answer::Window { start, end, again: Duration::from_secs(6 * 3600) }
    }

    #[test]
    fn a_time_is_drawn_from_the_servers_window_and_stands_while_it_lies_in_it() {
        let (mut kept, now) = (kept(), time(1_000_100));
        kept.answered(window(1_050_000, 1_060_000), now, 0.5);
        assert_eq!((kept.renew_at, kept.ask_at), (1_055_000, Some(1_000_100 + 6 * 3600)));
        kept.answered(window(1_050_000, 1_060_000), now, 0.9);
        assert_eq!(kept.renew_at, 1_055_000);
        assert!(!kept.asks_again(time(1_021_699)) && kept.asks_again(time(1_021_700)));
        // The server wants it back at once.
        kept.answered(window(900_000, 900_100), now, 0.5);
        assert!(kept.renew_at() < now);
    }

    #[test]
    fn no_window_renews_later_than_nine_tenths_of_the_life_and_no_server_is_asked_hot_or_never() {
        let (mut kept, now) = (kept(), time(1_000_100));
        kept.answered(Answer::Window { start: 2_000_000, end: 3_000_000, again: Duration::ZERO }, now, 0.5);
        assert_eq!((kept.renew_at, kept.ask_at), (1_090_000, Some(1_000_160)));
        kept.answered(Answer::Window { start: 0, end: u64::MAX, again: Duration::MAX }, now, 0.999);
        assert_eq!((kept.renew_at, kept.ask_at), (1_090_000, Some(1_000_100 + 86_400)));
    }

    #[test]
    fn a_server_without_windows_leaves_two_thirds_and_is_not_asked_again() {
        let (mut kept, now) = (kept(), time(1_000_100));
        kept.answered(Answer::Silent, now, 0.5);
        assert_eq!((kept.renew_at, kept.ask_at), (1_066_666, Some(1_003_700)));
        kept.answered(Answer::Unsupported, now, 0.5);
        assert_eq!((kept.renew_at, kept.ask_at), (1_066_666, None));
    }

    #[test]
    fn times_in_a_file_that_no_clock_can_hold_end_with_the_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let certificate = params.self_signed(&key).unwrap().pem();
        let (ends, now) = (1_775_001_600, time(1_770_000_000));
        let mut odd = kept();
        (odd.begins, odd.ends, odd.renew_at, odd.ask_at) = (u64::MAX, 0, u64::MAX, Some(u64::MAX));
        (odd.certificate, odd.key) = (certificate, key.serialize_pem());
        let mut loaded = odd.load(now).unwrap();
        assert_eq!(loaded.kept.renew_at(), time(ends));
        assert!(loaded.life(now).again_in.is_some());
        loaded.kept.answered(window(1_771_000_000, 1_771_000_000), now, 0.5);
        assert_eq!(loaded.kept.renew_at(), time(1_771_000_000));
    }

    #[test]
    fn what_was_kept_for_another_server_or_other_names_is_not_what_is_asked_for() {
        let (kept, names) = (kept(), ["a.test".to_owned(), "b.test".to_owned()]);
        assert!(kept.is_for("https://ca.test/dir", &names[..1]));
        assert!(!kept.is_for("https://other.test/dir", &names[..1]));
        assert!(!kept.is_for("https://ca.test/dir", &names));
        assert!(!kept.is_for("https://ca.test/dir", &names[1..]));
    }
}
