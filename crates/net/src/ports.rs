//! Host ports: what a binding asks for and which port it gets.

use crate::error::NetError;
use crate::model::PortRequest;

/// See [`PortRequest::parse`].
pub(crate) fn parse_request(key: &str, host_ip: &str, host_port: &str) -> Result<PortRequest, NetError> {
    let invalid = |text: &str| NetError::InvalidPort { text: text.to_owned() };
    let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    let container_port = port
        .parse::<u16>()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| invalid(key))?;
    let host_ip = match host_ip.trim_matches(['[', ']']) {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|_| NetError::InvalidAddress { text: text.to_owned() })?,
        ),
    };
    Ok(PortRequest {
        container_port,
        protocol: protocol.parse()?,
        host_ip,
        host_ports: parse_range(host_port)?,
    })
}

/// `""` and `"0"` are any port, `"80"` is one, `"80-90"` a choice.
fn parse_range(text: &str) -> Result<Option<(u16, u16)>, NetError> {
    let invalid = || NetError::InvalidPort { text: text.to_owned() };
    if text.is_empty() {
        return Ok(None);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first: u16 = first.parse().map_err(|_| invalid())?;
    let last: u16 = last.parse().map_err(|_| invalid())?;
    match (first, last) {
        (0, 0) => Ok(None),
        (first, last) if first == 0 || last < first => Err(invalid()),
        range => Ok(Some(range)),
    }
}
