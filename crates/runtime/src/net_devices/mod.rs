//! Network devices of the host that move into the container
//! (config-linux.md#network-devices).
//!
//! A moved device keeps its permanent addresses and is switched on. It is
//! never moved back: when the namespace ends, the kernel returns physical
//! devices to the host and removes virtual ones.

mod netlink;

use crate::RuntimeError;
use crate::spec::{Linux, NamespaceKind, NetDevice};
use netlink::{Link, Socket};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use wharf_sys::namespace::{self, CLONE_NEWNET};

const FIELD: &str = "linux.netDevices";

fn invalid(name: &str, why: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::invalid(FIELD, format!("{FIELD}[{name:?}]: {why}"))
}

fn failed(name: &str, what: &str) -> impl FnOnce(Errno) -> RuntimeError {
    let text = format!("{FIELD}[{name:?}]: {what}");
    move |errno| RuntimeError::system(FIELD, text, errno)
}

/// Checks the names, and that there is a namespace to move to.
pub(crate) fn validate(linux: &Linux) -> Result<(), RuntimeError> {
    let Some(first) = linux.net_devices.keys().next() else {
        return Ok(());
    };
    let has = |kind| linux.namespaces.iter().any(|namespace| namespace.kind == kind);
    if !has(NamespaceKind::Network) {
        return Err(invalid(first, "needs a network namespace of the container's own"));
    }
    for (name, device) in &linux.net_devices {
        if !is_device_name(name) {
            return Err(invalid(name, "is not a name of a device"));
        }
        if let Some(inside) = device.name.as_deref().filter(|inside| !inside.is_empty())
            && !is_device_name(inside)
        {
            return Err(invalid(name, format!("name: {inside:?} is not a name of a device")));
        }
    }
    Ok(())
}

/// As the kernel judges it: up to 15 bytes without slash, colon and blanks.
fn is_device_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 16
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace())
}

/// Moves the devices into the network namespace of a process.
///
/// The caller has one thread; it goes into that namespace and back.
pub(crate) fn move_all(devices: &BTreeMap<String, NetDevice>, pid: i32) -> Result<(), RuntimeError> {
    let open = |path: &str| {
        namespace::open(Path::new(path))
            .map_err(|errno| RuntimeError::system(FIELD, format!("{FIELD}: open {path}"), errno))
    };
    let (own, target) = (open("/proc/self/ns/net")?, open(&format!("/proc/{pid}/ns/net"))?);
    let step = |what: &str| {
        let text = format!("{FIELD}: {what}");
        move |errno: Errno| RuntimeError::system(FIELD, text, errno)
    };
    let outside = Socket::open().map_err(step("open a netlink socket"))?;
    namespace::enter(&target, CLONE_NEWNET).map_err(step("enter the container's network namespace"))?;
    let inside = Socket::open();
    namespace::enter(&own, CLONE_NEWNET).map_err(step("go back to the runtime's network namespace"))?;
    let inside = inside.map_err(step("open a netlink socket"))?;
    for (name, device) in devices {
        let wanted = device.name.as_deref().filter(|inside| !inside.is_empty());
        move_one(&outside, &inside, target.as_fd(), (name, wanted.unwrap_or(name)))?;
    }
    Ok(())
}

/// Switches `lo` on, which a new network namespace has switched off.
///
/// COMPAT: every runtime does it, and programs expect 127.0.0.1 to work.
pub(crate) fn bring_up_loopback() -> Result<(), RuntimeError> {
    /// The first device of every network namespace.
    const LOOPBACK: i32 = 1;
    Socket::open()
        .and_then(|socket| socket.set_up(LOOPBACK))
        .map_err(|errno| RuntimeError::system("network", "switch the loopback device on", errno))
}

fn move_one(
    outside: &Socket,
    inside: &Socket,
    target: BorrowedFd<'_>,
    (name, wanted): (&str, &str),
) -> Result<(), RuntimeError> {
    let links = outside.links().map_err(failed(name, "list the host's devices"))?;
    let Some(Link { index, .. }) = links.iter().find(|link| link.name == name) else {
        return Err(failed(name, "find it on the host")(Errno::NODEV));
    };
    let before = inside.links().map_err(failed(name, "list the container's devices"))?;
    if before.iter().any(|link| link.name == wanted) {
        return Err(failed(name, &format!("move it to {wanted} in the container"))(
            Errno::EXIST,
        ));
    }
    let addresses = outside
        .permanent_addresses(*index)
        .map_err(failed(name, "read its addresses"))?;
    outside.set_down(*index).map_err(failed(name, "switch it off"))?;
    outside
        .move_link(*index, target, wanted)
        .map_err(failed(name, &format!("move it to {wanted} in the container")))?;
    // Its number may be another there, and a pattern's name is the kernel's choice.
    let after = inside.links().map_err(failed(name, "list the container's devices"))?;
    let moved = after
        .iter()
        .find(|link| link.name == wanted || !before.contains(link))
        .ok_or_else(|| failed(name, "find it in the container")(Errno::NODEV))?;
    for address in &addresses {
        inside
            .add_address(moved.index, address)
            .map_err(failed(name, "give it its addresses"))?;
    }
    inside.set_up(moved.index).map_err(failed(name, "switch it on"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Namespace;

    #[test]
    fn wrong_names_and_a_missing_namespace_are_errors() {
        let check = |name: &str, inside: Option<&str>, own: bool, expected: Option<&str>| {
            let device = NetDevice {
                name: inside.map(str::to_owned),
            };
            let network = Namespace {
                kind: NamespaceKind::Network,
                path: None,
            };
            let linux = Linux {
                net_devices: BTreeMap::from([(name.to_owned(), device)]),
                namespaces: if own { vec![network] } else { Vec::new() },
                ..Linux::default()
            };
            let found = validate(&linux).map_err(|error| error.message()).err();
            assert_eq!(found.as_deref(), expected, "{name:?} {inside:?}");
        };
        check("eth0", None, true, None);
        check("eth0", Some("net%d"), true, None);
        check("eth0", Some(""), true, None);
        check(
            "eth0",
            None,
            false,
            Some("linux.netDevices[\"eth0\"]: needs a network namespace of the container's own"),
        );
        check(
            "a/b",
            None,
            true,
            Some("linux.netDevices[\"a/b\"]: is not a name of a device"),
        );
        check(
            "eth0",
            Some("0123456789abcdef"),
            true,
            Some("linux.netDevices[\"eth0\"]: name: \"0123456789abcdef\" is not a name of a device"),
        );
        check(
            "eth0",
            Some(".."),
            true,
            Some("linux.netDevices[\"eth0\"]: name: \"..\" is not a name of a device"),
        );
    }
}
