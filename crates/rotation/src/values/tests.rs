use std::path::Path;
use std::sync::Mutex;

use secrets::Cause;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fake::Fake;
use super::*;
use crate::script::start;
use crate::{Keeper, Sink};

fn references(all: &[&str]) -> Vec<Reference> {
    all.iter().map(|text| Reference::parse(text, Path::new("/")).unwrap()).collect()
}

const DATABASE: [&str; 2] = ["vault:main/db/creds/app#username", "vault:main/db/creds/app#password"];

fn values(fake: &Fake, all: &[&str]) -> Values<Fake> {
    let spec =
        ValuesSpec { references: references(all), refresh: Duration::from_secs(60), mints_per_hour: 3 };
    Values::new(fake.clone(), spec)
}

fn texts(values: &[SecretString]) -> Vec<String> {
    values.iter().map(|value| value.expose_secret().to_owned()).collect()
}

/// What the gateway would show upstreams now.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<String>>>);

impl Shown {
    fn user(&self) -> Option<String> {
        self.0.lock().unwrap().first().cloned()
    }
}

impl Sink<Vec<SecretString>> for Shown {
    fn publish(&mut self, material: Vec<SecretString>, _life: &Life) {
        *self.0.lock().unwrap() = texts(&material);
    }

    fn confirmed(&mut self, _life: &Life) {}

    fn failed(&mut self, _error: &SourceError, _next: SystemTime) {}
}

struct Run {
    shown: Shown,
    wake: watch::Sender<u64>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Run {
    fn new(fake: &Fake, all: &[&str]) -> Self {
        let (shown, wake, stop) = (Shown::default(), watch::Sender::new(0), CancellationToken::new());
        let keeper = Keeper::new(values(fake, all), Arc::clone(&fake.1), wake.subscribe());
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run(shown.clone(), stop.clone()));
        Self { shown, wake, stop, tasks }
    }

    fn wake(&self) {
        self.wake.send_modify(|wakes| *wakes += 1);
    }

    async fn stopped(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn references_into_one_path_share_one_reading_and_one_lease() {
    let fake = Fake::new(3600, 86_400);
    let mut source = values(&fake, &DATABASE);
    let Obtained::New(values, life) = source.obtain(None, start()).await.unwrap() else {
        panic!("nothing new")
    };
    assert_eq!(texts(&values), ["user-1", "of user-1"]);
    assert_eq!(life.ends, Some(start() + Duration::from_secs(3600)));
    assert_eq!(fake.with(|state| (state.minted, state.reads)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_until_the_store_lets_it_end_and_then_replaced_before_it_does() {
    let fake = Fake::new(600, 3600);
    let run = Run::new(&fake, &DATABASE);
    for _ in 0..(4 * 3600) {
        pass(1).await;
        let user = run.shown.user().unwrap();
        assert!(fake.is_alive(&user), "{user} ended while it was shown");
    }
    let minted = fake.with(|state| state.minted);
    assert!((4..=6).contains(&minted), "{minted} for four lives of an hour");
    assert_eq!(fake.with(|state| state.revoked.len() as u64), minted - 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_renewed_is_replaced_in_time() {
    let fake = Fake::new(60, 60);
    fake.with(|state| state.renewable = false);
    let run = Run::new(&fake, &DATABASE);
    for _ in 0..6000 {
        pass(1).await;
        assert!(fake.is_alive(&run.shown.user().unwrap()));
    }
    let minted = fake.with(|state| state.minted);
    assert!((135..=168).contains(&minted), "{minted} for a hundred minutes of leases of one");
}

#[tokio::test(start_paused = true)]
async fn a_new_login_moves_the_lease_before_the_former_token_ends() {
    let fake = Fake::new(3600, 86_400);
    let run = Run::new(&fake, &DATABASE);
    pass(100).await;
    fake.with(|state| state.login = 2);
    run.wake();
    pass(5).await;
    fake.end_login(1);
    assert_eq!(run.shown.user().unwrap(), "user-2");
    assert!(fake.is_alive("user-2"));
    pass(3000).await;
    assert_eq!(fake.with(|state| state.minted), 2);
}

#[tokio::test(start_paused = true)]
async fn leases_that_are_lost_at_once_are_not_made_in_a_loop() {
    let fake = Fake::new(8, 86_400);
    fake.with(|state| state.forgets = true);
    let run = Run::new(&fake, &["vault:main/db/creds/app#username"]);
    pass(3600).await;
    // A lease of eight seconds is due after five: what the plan needs is the limit, and what is lost sooner is budgeted.
    let planned = fake.with(|state| state.minted);
    assert!(planned < 3600 / 5, "{planned}");
    drop(run);
    let fake = Fake::new(4, 86_400);
    fake.with(|state| state.forgets = true);
    let _run = Run::new(&fake, &["vault:main/db/creds/app#username"]);
    pass(3600).await;
    let minted = fake.with(|state| state.minted);
    assert!(minted <= 6, "{minted} within an hour");
}

#[tokio::test(start_paused = true)]
async fn an_outage_makes_no_credentials_and_recovery_needs_none() {
    let fake = Fake::new(3600, 86_400);
    let run = Run::new(&fake, &DATABASE);
    pass(2000).await;
    fake.with(|state| state.failing = Some(Cause::Timeout));
    pass(1200).await;
    fake.with(|state| state.failing = None);
    run.wake();
    pass(5).await;
    pass(1000).await;
    assert!(fake.is_alive("user-1"));
    assert_eq!(fake.with(|state| state.minted), 1);
}

#[tokio::test(start_paused = true)]
async fn a_value_without_lease_is_seen_when_it_changes_and_published_only_then() {
    let fake = Fake::new(60, 60);
    let mut source = values(&fake, &["vault:main/kv/app#value"]);
    let Obtained::New(_, life) = source.obtain(None, start()).await.unwrap() else { panic!("nothing new") };
    assert_eq!((life.ends, life.again_in), (None, Some(Duration::from_secs(60))));
    assert!(matches!(source.obtain(Some(&life), start()).await.unwrap(), Obtained::Unchanged(_)));
    fake.with(|state| state.value = "second".to_owned());
    let Obtained::New(values, _) = source.obtain(Some(&life), start()).await.unwrap() else { panic!("old") };
    assert_eq!(texts(&values), ["second"]);
}

#[tokio::test(start_paused = true)]
async fn a_static_credential_is_read_just_after_it_changes_and_one_that_is_stuck_not_in_a_loop() {
    let fake = Fake::new(60, 60);
    let mut source = values(&fake, &["vault:main/kv/app#value"]);
    fake.with(|state| state.changes_in = Some(10));
    let again = async |source: &mut Values<Fake>| match source.obtain(None, start()).await.unwrap() {
        Obtained::New(_, life) | Obtained::Extended(life) | Obtained::Unchanged(life) => {
            life.again_in.unwrap().as_secs()
        }
    };
    assert_eq!(again(&mut source).await, 11);
    fake.with(|state| state.changes_in = Some(0));
    let waits = [again(&mut source).await, again(&mut source).await, again(&mut source).await];
    assert_eq!(waits, [2, 4, 8]);
    for _ in 0..10 {
        again(&mut source).await;
    }
    assert_eq!(again(&mut source).await, 60);
    fake.with(|state| (state.value, state.changes_in) = ("second".to_owned(), Some(86_400)));
    assert_eq!(again(&mut source).await, 60, "somebody may change it by hand");
}

#[tokio::test(start_paused = true)]
async fn an_empty_value_never_replaces_one() {
    let fake = Fake::new(60, 60);
    let mut source = values(&fake, &["vault:main/kv/app#value"]);
    let Obtained::New(_, life) = source.obtain(None, start()).await.unwrap() else { panic!("nothing new") };
    fake.with(|state| state.value = String::new());
    let refused = source.obtain(Some(&life), start()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "what was obtained is refused: the value of `vault:main/kv/app#value` is empty"
    );
    fake.with(|state| state.value = "first".to_owned());
    assert!(matches!(source.obtain(Some(&life), start()).await.unwrap(), Obtained::Unchanged(_)));
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_not_there_is_named_and_its_lease_given_back() {
    let fake = Fake::new(3600, 86_400);
    let mut source = values(&fake, &["vault:main/db/creds/app#token"]);
    let refused = source.obtain(None, start()).await.unwrap_err();
    assert_eq!(refused.to_string(), "store `main`: there is no field `token` at `db/creds/app`");
    assert!(refused.is_configuration());
    assert_eq!(fake.with(|state| state.revoked.clone()), ["lease-1"]);
}

#[tokio::test(start_paused = true)]
async fn values_that_the_check_refuses_leave_what_serves_with_its_lease_and_are_not_made_in_a_loop() {
    let fake = Fake::new(3000, 3000);
    fake.with(|state| state.renewable = false);
    let check = |values: &[SecretString]| match texts(values).first().is_some_and(|user| user == "user-1") {
        true => Ok(()),
        false => Err("the user name holds a colon".to_owned()),
    };
    let mut source = values(&fake, &DATABASE).checked(check);
    let Obtained::New(_, life) = source.obtain(None, start()).await.unwrap() else { panic!("nothing new") };
    for _ in 0..20 {
        pass(140).await;
        let _refused_or_not_due = source.obtain(Some(&life), fake.now()).await;
    }
    assert!(fake.is_alive("user-1"));
    let (minted, alive) = fake.with(|state| (state.minted, state.leases.len()));
    // The one that the plan calls for, and the budget.
    assert_eq!((minted, alive), (5, 1));
    let refused = source.obtain(Some(&life), fake.now()).await.unwrap_err();
    assert_eq!(refused.word(), "budget");
}

#[tokio::test(start_paused = true)]
async fn a_lease_in_hand_waits_for_the_other_path_of_its_credential() {
    let fake = Fake::new(3600, 86_400);
    let mut source = values(&fake, &[DATABASE[0], "vault:main/kv/gone#value"]);
    for _ in 0..50 {
        source.obtain(None, start()).await.unwrap_err();
        pass(20).await;
    }
    assert_eq!(fake.with(|state| state.minted), 1);
    source.close().await;
    assert!(fake.with(|state| state.leases.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn every_lease_is_revoked_when_the_job_stops_or_its_configuration_is_refused() {
    let fake = Fake::new(3600, 86_400);
    let run = Run::new(&fake, &DATABASE);
    pass(10).await;
    run.stopped().await;
    assert_eq!(fake.with(|state| (state.minted, state.revoked.len())), (1, 1));

    let wake = watch::Sender::new(0);
    let mut keeper = Keeper::new(values(&fake, &DATABASE), Arc::clone(&fake.1), wake.subscribe());
    keeper.prepare().await.unwrap();
    keeper.abandon().await;
    assert_eq!(fake.with(|state| (state.minted, state.revoked.len())), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_not_given_back_is_given_back_later() {
    let fake = Fake::new(300, 300);
    fake.with(|state| (state.renewable, state.failing_revocation) = (false, true));
    let run = Run::new(&fake, &DATABASE);
    pass(230).await;
    assert_eq!(fake.with(|state| (state.minted, state.revoked.len())), (2, 0));
    fake.with(|state| state.failing_revocation = false);
    run.stopped().await;
    assert_eq!(fake.with(|state| state.revoked.len()), 2);
}

/// Three days of a database credential under logins that end every twelve hours, leases that end after a day, and outages.
#[tokio::test(start_paused = true)]
async fn seventy_two_hours_of_leases_logins_and_outages_never_show_a_dead_user() {
    let mut random = fastrand::Rng::with_seed(7);
    let fake = Fake::new(3600, 86_400);
    let run = Run::new(&fake, &DATABASE);
    pass(1).await;
    let (mut logins, mut outages) = (0, 0);
    let mut passed = 0;
    while passed < 72 * 3600 {
        let quiet = random.u64(600..3600);
        for _ in 0..quiet / 5 {
            pass(5).await;
            let user = run.shown.user().unwrap();
            assert!(fake.is_alive(&user), "{user} ended while it was shown, after {passed} s");
        }
        passed += quiet;
        if passed > (logins + 1) * 12 * 3600 {
            logins += 1;
            fake.with(|state| state.login += 1);
            run.wake();
            pass(60).await;
            fake.end_login(fake.with(|state| state.login) - 1);
        }
        if random.bool() {
            outages += 1;
            fake.with(|state| state.failing = Some(Cause::Sealed));
            pass(random.u64(60..900)).await;
            fake.with(|state| state.failing = None);
            run.wake();
            pass(5).await;
        }
    }
    assert!(logins >= 5 && outages > 20, "{logins} {outages}");
    let (minted, revoked) = fake.with(|state| (state.minted, state.revoked.len() as u64));
    assert_eq!(minted, 1 + logins, "one for each login, and none for an outage");
    assert_eq!(revoked, minted - 1);
    run.stopped().await;
    assert!(fake.with(|state| state.leases.is_empty()));
}
