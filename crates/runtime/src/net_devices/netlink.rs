//! The little of rtnetlink(7) that moving a device takes: links and addresses
//! of the network namespace that a socket was opened in.

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_DUMP: u16 = 0x300;
const F_CREATE_EXCLUSIVE: u16 = 0x600;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_PERMANENT: u8 = 0x80;
const IFF_UP: u32 = 1;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Length of `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
/// The kernel makes at most 32 KiB at once.
const RECEIVE_BUFFER: usize = 64 << 10;
/// An acknowledgement, with the request in it.
const ONE_ANSWER: usize = 4 << 10;

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: i32,
    pub(super) name: String,
}

/// One address of a link, to be set again as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A socket of one network namespace.
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Opens one in the calling thread's namespace.
    pub(super) fn open() -> Result<Self, Errno> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, 0))?;
        Ok(Self(fd))
    }

    /// All links.
    pub(super) fn links(&self) -> Result<Vec<Link>, Errno> {
        let answers = self.exchange(RTM_GETLINK, F_DUMP, &[0; LINK_HEADER])?;
        Ok(answers.iter().filter_map(|body| parse_link(body)).collect())
    }

    /// The addresses of a link that were given by hand and hold everywhere:
    /// others come and go by themselves.
    pub(super) fn permanent_addresses(&self, index: i32) -> Result<Vec<Address>, Errno> {
        let answers = self.exchange(RTM_GETADDR, F_DUMP, &[0; ADDRESS_HEADER])?;
        Ok(answers.iter().filter_map(|body| parse_address(body, index)).collect())
    }

    /// Moves a link into another namespace, where it gets this name (which may be a pattern such as `eth%d`).
    pub(super) fn move_link(&self, index: i32, namespace: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        let mut body = link_header(index, 0, 0);
        put_attribute(&mut body, IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        put_attribute(&mut body, IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        self.exchange(RTM_NEWLINK, F_ACK, &body).map(drop)
    }

    /// Switches a link on.
    pub(super) fn set_up(&self, index: i32) -> Result<(), Errno> {
        self.exchange(RTM_NEWLINK, F_ACK, &link_header(index, IFF_UP, IFF_UP))
            .map(drop)
    }

    /// Switches a link off.
    pub(super) fn set_down(&self, index: i32) -> Result<(), Errno> {
        self.exchange(RTM_NEWLINK, F_ACK, &link_header(index, 0, IFF_UP))
            .map(drop)
    }

    /// Gives a link an address.
    pub(super) fn add_address(&self, index: i32, address: &Address) -> Result<(), Errno> {
        let mut body = vec![address.family, address.prefix, IFA_F_PERMANENT, 0];
        body.extend(index.to_ne_bytes());
        for (kind, value) in &address.attributes {
            put_attribute(&mut body, *kind, value);
        }
        self.exchange(RTM_NEWADDR, F_ACK | F_CREATE_EXCLUSIVE, &body).map(drop)
    }

    /// Sends one request and collects the bodies of its answers.
    fn exchange(&self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::MSGSIZE)?;
        let mut request = Vec::with_capacity(HEADER + body.len());
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend((flags | F_REQUEST).to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        rustix::net::send(&self.0, &request, SendFlags::empty())?;
        let mut answers = Vec::new();
        let size = if flags & F_DUMP == 0 {
            ONE_ANSWER
        } else {
            RECEIVE_BUFFER
        };
        let mut buffer = vec![0u8; size];
        loop {
            let received =
                rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty()))?;
            for (kind, body) in messages(buffer.get(..received.0).unwrap_or_default()) {
                match kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => return error_of(body).map(|()| answers),
                    _ => answers.push(body.to_vec()),
                }
            }
        }
    }
}

fn link_header(index: i32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0u8; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(change.to_ne_bytes());
    body
}

/// An attribute, filled up to four bytes.
fn put_attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], offset: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// Kind and body of each message; what is cut off is left out.
fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (i32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = usize::try_from(length).unwrap_or(0);
        let Some(body) = bytes.get(HEADER..length) else { break };
        found.push((kind, body));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// An acknowledgement is an error with number 0.
fn error_of(body: &[u8]) -> Result<(), Errno> {
    match i32_at(body, 0) {
        Some(0) => Ok(()),
        Some(number) => Err(Errno::from_raw_os_error(number.saturating_neg())),
        None => Err(Errno::BADMSG),
    }
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (u16_at(bytes, 0), u16_at(bytes, 2)) {
        let length = usize::from(length);
        let Some(value) = bytes.get(4..length) else { break };
        found.push((kind, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let attributes = attributes(body.get(LINK_HEADER..)?);
    let (_, name) = attributes.iter().find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some(Link {
        index: i32_at(body, 4)?,
        name: String::from_utf8_lossy(name).into_owned(),
    })
}

fn parse_address(body: &[u8], index: i32) -> Option<Address> {
    const SCOPE_UNIVERSE: u8 = 0;
    let [family, prefix, flags, scope, ..] = *body else {
        return None;
    };
    let is_kept = i32_at(body, 4) == Some(index) && flags & IFA_F_PERMANENT != 0 && scope == SCOPE_UNIVERSE;
    if !is_kept {
        return None;
    }
    let attributes = attributes(body.get(ADDRESS_HEADER..)?);
    let kept = attributes
        .into_iter()
        .filter(|(kind, _)| matches!(*kind, IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST))
        .map(|(kind, value)| (kind, value.to_vec()));
    Some(Address {
        family,
        prefix,
        attributes: kept.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_back_from_what_is_written() {
        let mut body = link_header(7, IFF_UP, 0);
        put_attribute(&mut body, 99, &[1]);
        put_attribute(&mut body, IFLA_IFNAME, b"eth0\0");
        assert_eq!(
            parse_link(&body),
            Some(Link {
                index: 7,
                name: "eth0".into()
            })
        );
    }

    #[test]
    fn only_permanent_global_addresses_of_the_link_are_kept() {
        let address = |flags, scope| {
            let mut body = vec![2, 24, flags, scope];
            body.extend(5i32.to_ne_bytes());
            put_attribute(&mut body, IFA_LOCAL, &[192, 0, 2, 1]);
            put_attribute(&mut body, 3, b"eth0\0");
            body
        };
        let kept = parse_address(&address(IFA_F_PERMANENT, 0), 5).expect("kept");
        assert_eq!(kept.attributes, [(IFA_LOCAL, vec![192, 0, 2, 1])]);
        assert_eq!(parse_address(&address(IFA_F_PERMANENT, 0), 6), None);
        assert_eq!(parse_address(&address(0, 0), 5), None);
        assert_eq!(parse_address(&address(IFA_F_PERMANENT, 253), 5), None);
    }

    #[test]
    fn messages_that_are_cut_off_end_the_list() {
        let mut bytes = Vec::new();
        for length in [20u32, 40] {
            bytes.extend(length.to_ne_bytes());
            bytes.extend(NLMSG_ERROR.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend((-17i32).to_ne_bytes());
        }
        let found = messages(&bytes);
        assert_eq!(found.len(), 1);
        assert_eq!(error_of(found[0].1), Err(Errno::EXIST));
        assert_eq!(error_of(&[]), Err(Errno::BADMSG));
    }
}
