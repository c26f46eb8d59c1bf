//! Where systemd listens: D-Bus addresses (D-Bus specification, "Server Addresses").

use super::error::SystemdError;
use rustix::net::SocketAddrUnix;
use std::path::{Path, PathBuf};

/// Which systemd is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Instance {
    /// The one that is the machine's first process.
    System,
    /// The one of the calling user.
    User,
}

/// A place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) place: Place,
    /// systemd itself is at the other end, no bus between.
    pub(crate) is_direct: bool,
}

/// A unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

impl Place {
    pub(crate) fn socket_address(&self) -> rustix::io::Result<SocketAddrUnix> {
        match self {
            Self::Path(path) => SocketAddrUnix::new(path),
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
        }
    }
}

/// What of the environment decides over the addresses.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    /// `DBUS_SYSTEM_BUS_ADDRESS` or `DBUS_SESSION_BUS_ADDRESS`.
    pub(crate) bus: Option<String>,
    /// `XDG_RUNTIME_DIR`.
    pub(crate) runtime_dir: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn read(instance: Instance) -> Self {
        let name = match instance {
            Instance::System => "DBUS_SYSTEM_BUS_ADDRESS",
            Instance::User => "DBUS_SESSION_BUS_ADDRESS",
        };
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            bus: set(name).and_then(|value| value.into_string().ok()),
            runtime_dir: set("XDG_RUNTIME_DIR").map(PathBuf::from),
        }
    }
}

/// The addresses to try, in order. As `systemctl` does, systemd's own socket comes before the bus,
/// unless an address is asked for: it spares the way over the broker, and works without one.
pub(crate) fn plan_addresses(instance: Instance, around: &Surroundings) -> Result<Vec<Address>, SystemdError> {
    let at = |path: PathBuf, is_direct| Address {
        place: Place::Path(path),
        is_direct,
    };
    if let (Instance::System, Some(text)) = (instance, &around.bus) {
        return parse_addresses(text);
    }
    if instance == Instance::System {
        return Ok(vec![
            at("/run/systemd/private".into(), true),
            at("/run/dbus/system_bus_socket".into(), false),
        ]);
    }
    let mut all = Vec::new();
    if let Some(directory) = &around.runtime_dir {
        all.push(at(directory.join("systemd/private"), true));
    }
    match (&around.bus, &around.runtime_dir) {
        (Some(text), _) => all.extend(parse_addresses(text)?),
        (None, Some(directory)) => all.push(at(directory.join("bus"), false)),
        (None, None) => {
            let why = "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR says where the user's is".to_owned();
            return Err(SystemdError::Absent { why });
        }
    }
    Ok(all)
}

fn parse_addresses(text: &str) -> Result<Vec<Address>, SystemdError> {
    let found: Vec<Address> = text.split(';').filter_map(parse_address).collect();
    if found.is_empty() {
        let why = format!("no unix socket is in the address {text:?}");
        return Err(SystemdError::Absent { why });
    }
    Ok(found)
}

fn parse_address(text: &str) -> Option<Address> {
    let options = text.trim().strip_prefix("unix:")?;
    let place = options.split(',').find_map(|option| match option.split_once('=')? {
        ("path", value) => Some(Place::Path(bytes_path(unescape(value)))),
        ("abstract", value) => Some(Place::Abstract(unescape(value))),
        _ => None,
    })?;
    let is_direct = matches!(&place, Place::Path(path) if path.ends_with(Path::new("systemd/private")));
    Some(Address { place, is_direct })
}

fn bytes_path(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Undoes `%20` style escapes.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(instance: Instance, bus: Option<&str>, runtime_dir: Option<&str>, expected: &[(&str, bool)]) {
        let around = Surroundings {
            bus: bus.map(str::to_owned),
            runtime_dir: runtime_dir.map(PathBuf::from),
        };
        let planned = plan_addresses(instance, &around).expect("addresses");
        let shown: Vec<_> = planned.iter().map(|a| (a.place.to_string(), a.is_direct)).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(place, direct)| ((*place).to_owned(), *direct))
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn systemd_s_own_socket_comes_first_unless_an_address_is_given() {
        check(
            Instance::System,
            None,
            Some("/run/user/0"),
            &[("/run/systemd/private", true), ("/run/dbus/system_bus_socket", false)],
        );
        check(
            Instance::System,
            Some("unix:path=/b%20c,guid=1;unix:abstract=x"),
            None,
            &[("/b c", false), ("@x", false)],
        );
        check(
            Instance::User,
            None,
            Some("/run/user/5"),
            &[("/run/user/5/systemd/private", true), ("/run/user/5/bus", false)],
        );
        check(Instance::User, Some("unix:path=/b"), None, &[("/b", false)]);
    }

    #[test]
    fn nothing_to_go_by_is_an_error_that_says_so() {
        let none = Surroundings::default();
        assert!(plan_addresses(Instance::User, &none).is_err_and(|e| e.to_string().contains("XDG_RUNTIME_DIR")));
        let around = Surroundings {
            bus: Some("tcp:host=x".into()),
            runtime_dir: None,
        };
        assert!(plan_addresses(Instance::System, &around).is_err_and(|e| e.to_string().contains("tcp:host=x")));
    }
}
