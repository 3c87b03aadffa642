//! The account: made once for a directory, kept with its key, shared by all entries with the same state directory.

use instant_acme::{Account, AccountCredentials, NewAccount};
use serde::{Deserialize, Serialize};

use super::state::slug;
use super::{AcmeCertificate, AcmeError};

#[derive(Deserialize, Serialize)]
struct KeptAccount {
    contact: Vec<String>,
    credentials: AccountCredentials,
}

impl AcmeCertificate {
    /// The kept account, else a new one, with today's contacts.
    pub(super) async fn account(&self) -> Result<Account, AcmeError> {
        let file = format!("account-{}.json", slug(&self.directory));
        let _lock = self.state.lock(&format!("account-{}.lock", slug(&self.directory))).await?;
        let account = match self.state.read::<KeptAccount>(&file)? {
            Some(kept) if kept.contact == self.contact => self.restored(kept).await,
            Some(kept) => self.with_contacts(kept, &file).await,
            None => self.created(&file).await,
        };
        account.map_err(|error| error.after(self.transport.retry_after()))
    }

    /// The server does not know it any more.
    pub(super) fn forget_account(&self) -> Result<(), AcmeError> {
        tracing::warn!(entry = %self.entry, directory = %self.directory,
            "the ACME server does not know the account that is kept: a new one is made");
        self.state.remove(&format!("account-{}.json", slug(&self.directory)))
    }

    async fn restored(&self, kept: KeptAccount) -> Result<Account, AcmeError> {
        let builder = Account::builder_with_http(Box::new(self.transport.clone()));
        Ok(builder.from_credentials(kept.credentials).await?)
    }

    async fn with_contacts(&self, kept: KeptAccount, file: &str) -> Result<Account, AcmeError> {
        let account = self.restored(kept).await?;
        match account.update_contacts(&self.contacts()).await.map_err(AcmeError::from) {
            Ok(()) => {
                if let Some(kept) = self.state.read::<KeptAccount>(file)? {
                    self.state.write(file, &KeptAccount { contact: self.contact.clone(), ..kept })?;
                }
                Ok(account)
            }
            // The order will find the same and make a new account with these contacts.
            Err(error) if error.is_unknown_account() => Ok(account),
            Err(error) => Err(error),
        }
    }

    async fn created(&self, file: &str) -> Result<Account, AcmeError> {
        let contact = self.contacts();
        let wanted =
            NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let builder = Account::builder_with_http(Box::new(self.transport.clone()));
        let (account, credentials) =
            builder.create(&wanted, self.directory.clone(), self.external_account.as_ref()).await?;
        self.state.write(file, &KeptAccount { contact: self.contact.clone(), credentials })?;
        tracing::info!(entry = %self.entry, directory = %self.directory, "an ACME account was made");
        Ok(account)
    }

    fn contacts(&self) -> Vec<&str> {
        self.contact.iter().map(String::as_str).collect()
    }
}
