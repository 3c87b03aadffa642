//! `portcullis schema`.

use clap::Args;

use super::{Exit, Outcome, out};
use crate::config::schema;

/// Print the JSON Schema of the configuration, for editors
#[derive(Args, Debug)]
#[command(
    long_about = "Prints the JSON Schema of the configuration file. Editors check and complete the file by it.",
    after_long_help = "Example:\n  portcullis schema > portcullis.schema.json\n  \
                       # and in the first line of portcullis.yaml:\n  \
                       # yaml-language-server: $schema=./portcullis.schema.json"
)]
pub(super) struct Schema {
    /// Print the reference of the configuration as Markdown
    #[arg(long, hide = true)]
    markdown: bool,
}

impl Schema {
    pub(super) fn run(self) -> Outcome {
        if self.markdown {
            out::raw(schema::markdown())?
        } else {
            out::line(format!("{:#}", schema::json()))?
        }
        Ok(Exit::Done)
    }
}
