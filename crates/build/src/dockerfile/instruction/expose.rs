//! `EXPOSE port[-port][/protocol] ...`.

use crate::BuildError;
use crate::dockerfile::Statement;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{at_least_one, no_flags};
use crate::dockerfile::words::split_words;

/// Declares ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expose {
    /// As written, sorted.
    pub ports: Vec<String>,
}

impl Expose {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        no_flags(statement)?;
        let mut ports = split_words(&statement.args, statement.escape);
        if ports.is_empty() {
            return Err(at_least_one("EXPOSE"));
        }
        ports.sort();
        Ok(Self { ports })
    }

    /// Expands; one variable may hold several ports.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        let mut ports = Vec::new();
        for port in &self.ports {
            ports.extend(expander.words(port)?);
        }
        Ok(Self { ports })
    }

    /// Every single port as `80/tcp`.
    pub fn numbers(&self) -> Result<Vec<String>, BuildError> {
        let mut all = Vec::new();
        for text in &self.ports {
            all.extend(parse_ports(text)?);
        }
        Ok(all)
    }

    /// As the image's history shows it.
    pub fn describe(&self) -> String {
        format!("EXPOSE {}", self.ports.join(" "))
    }
}

/// `[[address:]host:]port[-port][/protocol]` to single ports; only the container's side counts.
fn parse_ports(text: &str) -> Result<Vec<String>, BuildError> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(BuildError::invalid(format!("invalid proto: {protocol}")));
    }
    let range = range.rsplit(':').next().unwrap_or(range);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |digits: &str| digits.parse::<u16>().ok();
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => {
            Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
        }
        _ => Err(BuildError::invalid(format!("invalid containerPort: {range}"))),
    }
}
