//! `portcullis schema`.

use clap::Args;

use super::exit::Report;
use crate::config::schema;

/// Print the JSON Schema of the configuration
///
/// It comes from the very types that read the file. Give it to an editor, and the editor knows every key.
#[derive(Args, Debug)]
#[command(after_long_help = "Examples:
  portcullis schema > portcullis.schema.json
      and in the first line of portcullis.yaml:
      # yaml-language-server: $schema=portcullis.schema.json
  portcullis schema --markdown > CONFIG.md")]
pub(super) struct Schema {
    /// Print the reference for people instead, as Markdown
    #[arg(long)]
    markdown: bool,
}

impl Schema {
    pub(super) fn run(&self) -> Report {
        Report::ok(if self.markdown { schema::markdown() } else { format!("{:#}\n", schema::json()) })
    }
}
