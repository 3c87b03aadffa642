//! The promises that Portcullis makes, each shown against the program itself over real sockets.
//!
//! One module per promise, named after it, so that the list below reads as the specification. Every test has a gateway
//! of its own on ports that the system chose; `testkit` holds what they stand on.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests: a panic is a failed test"
)]

mod name_server;
mod scene;
mod vault_scene;

mod promise_01_identity_headers_cannot_be_forged;
mod promise_02_client_address_only_from_trusted_cidrs;
mod promise_03_mtls_cannot_be_side_stepped;
mod promise_04_resumption_is_no_bypass;
mod promise_05_one_canonical_path;
mod promise_06_no_request_smuggling;
mod promise_07_default_deny_and_errors_deny;
mod promise_08_jwt_checks_are_strict_by_default;
mod promise_09_jwks_life_cycle;
mod promise_10_failed_renewal_keeps_what_is_valid;
mod promise_11_reload_of_material_is_one_atomic_generation;
mod promise_12_authority_ends_connections;
mod promise_13_revocation;
mod promise_14_unresolved_secret_stops_the_config;
mod promise_15_vault_outage_contract;
mod promise_16_token_and_lease_renewal;
mod promise_17_starts_without_its_dependencies;
mod promise_18_bad_config_changes_nothing;
mod promise_19_reload_loses_nothing;
mod promise_20_nothing_grows;
mod promise_22_upstream_pools_never_mix_identity;
mod promise_23_retries_are_safe;
mod promise_24_secrets_stay_out_of_sight;
mod promise_25_clean_stop_and_upgrade;

mod a_browser_streams;
mod answers_are_compressed;
mod attacks;
mod certificates_over_acme;
#[cfg(feature = "waf")]
mod core_rule_set;
mod dev_prints_commands_that_work;
mod eight_connections_spread_over_cores;
mod endpoints_by_name;
mod endpoints_that_fail;
mod grpc_clients_stream;
mod http2_by_the_book;
mod keys_do_a_request_once;
mod least_privilege_policy;
mod minted_tokens_narrow_the_caller;
mod mirrors_change_nothing;
mod other_proxies_ask;
mod proxy_protocol;
mod real_clients;
mod routes_do_what_they_say;
mod slow_readers_hold_nothing;
mod trust_from_vault_pki;
mod uploads_end_with_their_proof;
mod upstream_credentials_stay_with_the_gateway;
mod upstreams_are_told_the_client;
mod upstreams_speak_http2;
mod upstreams_under_pressure;
mod vault_contract;
mod vault_issues_tokens;
mod vault_logins;
mod vault_pki_renews_under_load;
mod vault_secrets_stay_out_of_sight;
mod websockets_pass;
