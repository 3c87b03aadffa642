//! `portcullis policy explain`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ::policy::cases::{CaseClaim, CasePrincipal, CaseRequest};
use ::policy::{RouteFacts, Subject};
use clap::Args;

use super::Place;
use crate::cli::decision::Decision;
use crate::cli::exit::{CliError, Exit, Report};
use crate::cli::out::{Format, Rows};
use crate::cli::principal::PrincipalNote;
use crate::gateway;

/// Show which policies decide about somebody, and where they stand
///
/// The principal is taken at its word here; `portcullis explain` proves it by a token or certificate. Exits with 5 if
/// the request is denied.
#[derive(Args, Debug)]
#[command(after_long_help = "Example:
  portcullis policy explain -c portcullis.yaml --route orders --method PUT --path /orders/1 \\
      --principal jwt:https://id.example.com#alice --role orders-admin --claim department=sales")]
pub(super) struct Explain {
    #[command(flatten)]
    place: Place,
    /// The route's name
    #[arg(long, value_name = "NAME")]
    route: String,
    /// A label of the route; those of a configured route are known
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Who asks, as in the logs: `jwt:ISSUER#SUBJECT`, `spiffe://DOMAIN/PATH`, `dns:TRUST#NAME`, `subject:TRUST#DN`
    #[arg(long, value_name = "ID", default_value = "anonymous")]
    principal: String,
    /// A role of the principal
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// A scope of the principal
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A mapped claim; the value is JSON, or else text
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = pair)]
    claims: Vec<(String, String)>,
    /// The method
    #[arg(long, default_value = "GET")]
    method: String,
    /// The canonical path
    #[arg(long, default_value = "/")]
    path: String,
    /// The query, without `?`
    #[arg(long)]
    query: Option<String>,
    /// The canonical host [default: localhost]
    #[arg(long)]
    host: Option<String>,
    /// The client's address [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// The time, as RFC 3339 writes it [default: now]
    #[arg(long)]
    time: Option<String>,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Explain {
    pub(super) fn run(&self) -> Result<Report, CliError> {
        let policies = self.place.read()?;
        let known = policies.routes.iter().find(|route| route.name == self.route);
        if known.is_none() && !policies.routes.is_empty() {
            let names: Vec<&str> = policies.routes.iter().map(|route| route.name.as_str()).collect();
            let message = format!("there is no route `{}`; expected one of {}", self.route, names.join(", "));
            return Err(CliError::Usage(message));
        }
        let mut labels: BTreeMap<_, _> = known.map(|route| route.labels.clone()).unwrap_or_default();
        labels.extend(self.labels.iter().cloned());
        let engine = policies.engine(vec![RouteFacts { name: self.route.clone(), labels }])?;
        let missing = || CliError::Usage(format!("policies can't speak of a route `{}`", self.route));
        let route = engine.route(&self.route).ok_or_else(missing)?;
        let principal = self.principal().principal().map_err(CliError::Usage)?;
        let request = self.request();
        let facts = request.facts().map_err(CliError::Usage)?;
        let decision = Decision::new(&engine.explain(&Subject::new(&principal), route, &facts));
        let text = match self.format {
            Format::Json => format!("{:#}\n", serde_json::json!(decision)),
            Format::Text => {
                let mut rows = Rows::default();
                rows.add("principal", PrincipalNote::new(&principal).text());
                rows.add("request", format!("{} {} on route `{}`", self.method, self.path, self.route));
                decision.add_to(&mut rows);
                rows.to_string()
            }
        };
        Ok(Report::ok(text).ending(if decision.allowed { Exit::Ok } else { Exit::No }))
    }

    fn principal(&self) -> CasePrincipal {
        let claim =
            |text: &String| serde_json::from_str(text).unwrap_or_else(|_| CaseClaim::String(text.clone()));
        CasePrincipal {
            id: self.principal.clone(),
            roles: self.roles.clone(),
            scopes: self.scopes.clone(),
            claims: self.claims.iter().map(|(name, value)| (name.clone(), claim(value))).collect(),
        }
    }

    fn request(&self) -> CaseRequest {
        CaseRequest {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            host: self.host.clone(),
            address: self.address,
            time: self.time.clone().or_else(|| Some(crate::cli::time::timestamp(gateway::wall_clock()))),
            tls: None,
        }
    }
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("expected a name, `=` and a value")?;
    Ok((name.to_owned(), value.to_owned()))
}
