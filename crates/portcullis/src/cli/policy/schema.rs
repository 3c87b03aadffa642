//! `portcullis policy schema`.

use ::policy::schema_text;
use clap::Args;

use super::Place;
use crate::cli::exit::{CliError, Report};

/// Print the Cedar schema that policies are validated against
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis policy schema -c portcullis.yaml > policies/portcullis.cedarschema")]
pub(super) struct Schema {
    #[command(flatten)]
    place: Place,
}

impl Schema {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        Ok(Report::ok(schema_text(&self.place.read()?.claims)))
    }
}
