//! One list of what a secret store must do, held against the real Vault (`make servers`, or the program that
//! `PORTCULLIS_TEST_VAULT_BIN` names: another Vault, or OpenBao), against the fake that stands in for it elsewhere, and, as far as it
//! goes, against the embedded store. A store that fails a case here is no store; a fake that does is no fake.

mod certificates;
mod credentials;
mod faults;
mod keys;
mod rig;
mod values;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::rig::Rig;

#[test]
fn the_real_vault_keeps_the_contract() {
    keep(&Rig::real(), &[EVERY_STORE, EVERY_VAULT]);
}

#[test]
fn the_fake_vault_keeps_the_contract() {
    keep(&Rig::fake(), &[EVERY_STORE, EVERY_VAULT]);
}

#[test]
fn the_embedded_store_keeps_its_part_of_the_contract() {
    keep(&Rig::embedded(), &[EVERY_STORE]);
}

type Case = (&'static str, fn(&Rig));

/// Runs all cases and names all that fail.
fn keep(rig: &Rig, lists: &[&[Case]]) {
    let failed = |(name, case): &&Case| {
        println!("case {name}");
        catch_unwind(AssertUnwindSafe(|| case(rig))).is_err()
    };
    let failed: Vec<&str> = lists.iter().copied().flatten().filter(failed).map(|(name, _)| *name).collect();
    assert!(failed.is_empty(), "cases that failed: {failed:#?}");
}

macro_rules! cases {
    ($($module:ident::$case:ident),* $(,)?) => { &[$((stringify!($case), $module::$case)),*] };
}

const EVERY_STORE: &[Case] = cases![
    values::a_value_is_read_as_it_was_stored,
    values::what_is_not_there_is_absent,
    certificates::a_certificate_is_signed_for_our_own_key_and_stands_under_the_authorities,
];

const EVERY_VAULT: &[Case] = cases![
    values::versioned_fields_come_with_their_version_and_without_their_types,
    values::fields_without_versions_are_read_by_the_same_path,
    values::a_deleted_and_a_destroyed_version_are_absent_and_say_so,
    values::the_path_of_the_api_gets_a_hint,
    values::a_mount_that_is_replaced_is_noticed,
    values::a_write_holds_only_against_the_version_it_was_made_from,
    values::a_patch_keeps_the_other_fields_as_they_are,
    values::names_below_a_path_are_listed,
    values::what_a_policy_does_not_allow_is_denied_and_not_absent,
    certificates::the_chain_is_built_from_the_leaf_upwards_without_the_root,
    certificates::a_shorter_life_than_asked_for_is_warned_of,
    certificates::a_name_that_the_role_does_not_allow_is_refused,
    certificates::a_role_and_an_authority_that_are_not_there_are_absent,
    certificates::a_revoked_certificate_is_in_the_list,
    keys::signatures_hold_for_everybody_who_has_the_public_key,
    keys::a_rotated_key_signs_with_its_newest_version_and_tells_all,
    keys::what_is_encrypted_comes_back_and_one_bad_item_fails_alone,
    keys::an_hmac_is_the_same_for_the_same_input_only,
    keys::a_key_that_is_not_there_is_absent_and_one_that_cannot_sign_is_refused,
    credentials::leased_credentials_are_renewed_and_revoked,
    credentials::a_lease_that_is_gone_is_lost_and_may_be_revoked_again,
    credentials::a_renewal_never_passes_the_last_end,
    credentials::static_credentials_stay_until_they_are_rotated,
    credentials::credentials_of_no_role_are_refused_as_configuration,
    credentials::a_login_by_app_role_is_made_once_and_anew_when_its_token_is_gone,
    credentials::a_wrapped_secret_id_is_good_once,
];
