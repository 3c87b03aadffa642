//! `portcullis secret init`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use secrets::embedded::{Embedded, Opener};
use secrets::{ExposeSecret, Reference, SecretString};

use super::Place;
use crate::cli::exit::{CliError, Report};
use crate::cli::out::{self, paint};
use crate::config::model::{SecretReference, StoreOpener};
use crate::gateway;

/// Make an embedded store, empty, and the file of its key
///
/// The key is 32 random bytes in base64, in a file that only its owner can read. Whoever has it can open the store, and
/// without it nobody can: keep a copy somewhere else. Nothing is overwritten. If the configuration names a passphrase, or a
/// variable as the key, that has to be there already and only the store is made.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis secret init -c portcullis.yaml
  portcullis secret init --directory /var/lib/portcullis/secrets --key-file /etc/portcullis/store.key")]
pub(super) struct Init {
    #[command(flatten)]
    place: Place,
}

impl Init {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let (name, store) = self.place.store()?;
        let path = store.directory.display();
        if Embedded::is_in(&store.directory) {
            return Err(CliError::Unreadable(format!("there is a store in `{path}` already")));
        }
        let made = format!("{}: an empty store in `{path}`", paint(out::GOOD, "made"));
        let file = match &store.opener {
            StoreOpener::Key(SecretReference { reference: Reference::File { path }, .. }) => path,
            StoreOpener::Key(_) | StoreOpener::Passphrase(_) => {
                self.place.open()?.create()?;
                return Ok(Report::ok(made + "\n"));
            }
        };
        let key = Opener::generate();
        write_key(file, &key).map_err(|reason| match reason.kind() {
            ErrorKind::AlreadyExists => CliError::read(file, &"is there already and is not overwritten"),
            _ => CliError::Write { path: file.clone(), reason },
        })?;
        let clock = Arc::new(gateway::wall_clock);
        let created = Embedded::open(&name, store.directory.clone(), Opener::Key(key), clock)
            .and_then(|store| store.create());
        if created.is_err() {
            // A key that opens nothing would only be in the way of the next try.
            fs::remove_file(file).ok();
        }
        created?;
        Ok(Report::ok(format!("{made}, opened by the key in `{}`: keep a copy of it\n", file.display())))
    }
}

fn write_key(path: &Path, key: &SecretString) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.expose_secret().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
