//! Every place of a configuration that refers to a secret.

use secrets::Reference;
use secrets::vault::Login;

use super::model::{
    CertificateSource, Config, SecretReference, SecretStore, StoreOpener, TokenSigner, UpstreamCredentials,
};

/// Every secret that a configuration refers to, with the field that does; stores first, since the rest needs them.
#[must_use]
pub fn references(config: &Config) -> Vec<(String, SecretReference)> {
    let mut found = Vec::new();
    for (name, store) in &config.stores {
        of_store(store, &format!("secrets.stores.{name}"), &mut found);
    }
    for (name, source) in &config.certificates {
        match source {
            CertificateSource::Held { certificate, key } => {
                found.push((format!("certificates.{name}.files.certificate"), certificate.clone()));
                found.push((format!("certificates.{name}.files.key"), key.clone()));
            }
            CertificateSource::Acme(acme) => found.extend(acme.external_account.iter().map(|account| {
                (format!("certificates.{name}.acme.external_account.key"), account.key.clone())
            })),
            CertificateSource::Files(_) | CertificateSource::Pki(_) => {}
        }
    }
    for (name, upstream) in &config.upstreams {
        let credentials = format!("upstreams.{name}.credentials");
        match &upstream.credentials {
            Some(UpstreamCredentials::Bearer(token)) => {
                found.push((format!("{credentials}.bearer"), token.clone()));
            }
            Some(UpstreamCredentials::Basic { username, password }) => {
                found.push((format!("{credentials}.basic.username"), username.clone()));
                found.push((format!("{credentials}.basic.password"), password.clone()));
            }
            Some(UpstreamCredentials::Field { value, .. }) => {
                found.push((format!("{credentials}.field.value"), value.clone()));
            }
            None => {}
        }
    }
    for (name, tokens) in &config.tokens {
        match &tokens.signer {
            TokenSigner::Key(key) => {
                found.push((format!("identity.tokens.{name}.sign_with.key"), key.clone()));
            }
            TokenSigner::Local | TokenSigner::Transit { .. } => {}
        }
    }
    found
}

fn of_store(store: &SecretStore, at: &str, found: &mut Vec<(String, SecretReference)>) {
    let cluster = match store {
        SecretStore::Embedded(embedded) => {
            found.push(match &embedded.opener {
                StoreOpener::Key(key) => (format!("{at}.embedded.key"), key.clone()),
                StoreOpener::Passphrase(text) => (format!("{at}.embedded.passphrase"), text.clone()),
            });
            return;
        }
        SecretStore::Vault(cluster) => cluster,
    };
    let mut show = |field: &str, reference: &Reference| {
        let reference = SecretReference { reference: reference.clone(), span: cluster.at.0 };
        found.push((format!("{at}.vault.login.{field}"), reference));
    };
    match &cluster.login {
        Login::Token { token } => show("token", token),
        Login::AppRole { role_id, secret_id, .. } => {
            show("app_role.role_id", role_id);
            if let Some(secret_id) = secret_id {
                show("app_role.secret_id", secret_id);
            }
        }
        Login::Kubernetes { token, .. } => show("kubernetes.token", token),
        Login::Jwt { token, .. } => show("jwt.token", token),
        Login::Certificate { .. } => {}
    }
}
