//! What a person sees once the development setting stands: coloured on a terminal, plain elsewhere.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::builder::styling::{AnsiColor, Style};

use super::commands::{Example, examples};
use super::directory::Directory;
use super::sample::{CONFIG, Sample};

/// The gateway serves: where everything is, and what to paste.
pub(super) fn whole(directory: &Directory, sample: &Sample) {
    let mut page = String::new();
    let mut facts = vec![
        ("gateway", format!("https://localhost:{}", sample.edge.port())),
        ("services", services(sample)),
        ("directory", format!("{} (kept; remove it to start anew)", directory.root().display())),
        ("to edit", format!("{CONFIG}, policies/*.cedar: what you save is served at once")),
        ("requests", format!("tail -f {}", directory.path("access.log").display())),
    ];
    facts.extend(sample.metrics.map(|address| ("metrics", format!("http://{address}/metrics"))));
    facts.extend(sample.probes.map(|address| ("probes", format!("http://{address}/readyz"))));
    list(&mut page, &facts);
    let _ = writeln!(
        page,
        "\n{STRONG}Paste these into another terminal{STRONG:#} (Ctrl-C here ends everything):"
    );
    for (number, Example { shows, status, line }) in (1..).zip(examples(directory.root(), sample.edge.port()))
    {
        let style = if status < 400 { GOOD } else { REFUSED };
        let _ = writeln!(page, "\n  {number}. {shows}: {style}{status}{style:#}\n{line}");
    }
    show(&page);
}

/// The services serve: how to start the gateway on them.
pub(super) fn services_only(directory: &Directory, sample: &Sample) {
    let mut page = String::new();
    let gateway = format!("portcullis run -c {}", directory.path(CONFIG).display());
    list(&mut page, &[("services", services(sample)), ("gateway", gateway)]);
    show(&page);
}

fn services(sample: &Sample) -> String {
    format!("orders http://{}, reports http://{}", sample.orders, sample.reports)
}

fn list(page: &mut String, facts: &[(&str, String)]) {
    page.push('\n');
    for (name, fact) in facts {
        let _ = writeln!(page, "  {FAINT}{name:<10}{FAINT:#} {fact}");
    }
}

/// A terminal that is gone stops no gateway.
fn show(page: &str) {
    let mut out = anstream::stdout().lock();
    if let Err(error) = writeln!(out, "{page}").and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads the commands");
    }
}

const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const REFUSED: Style = AnsiColor::Yellow.on_default().bold();
