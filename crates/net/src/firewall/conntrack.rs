//! Forgetting datagram flows that were judged before a port was (un)published:
//! a client that goes on sending would otherwise stay where its first datagram
//! went for as long as it sends.

use std::io;

use crate::model::{Protocol, PublishedPort};
use crate::netlink::{Attributes, Family, Message, Socket};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

const TUPLE_ORIG: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
const UDP: u8 = 17;

/// Length of `struct nfgenmsg`.
const NFGENMSG: usize = 4;

/// Forgets every UDP flow to one of these host ports.
pub(crate) fn forget_datagrams(ports: &[PublishedPort]) -> io::Result<()> {
    let wanted: Vec<u16> = ports
        .iter()
        .filter(|port| port.protocol == Protocol::Udp)
        .map(|port| port.host_port)
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut socket = Socket::open(Family::Netfilter)?;
    for flow in socket.dump(&Message::new(GET, 0, &[0; NFGENMSG]))? {
        if let Some(tuple) = matching_tuple(&flow, &wanted) {
            let family = [flow[0], 0, 0, 0];
            let delete = Message::new(DELETE, 0, &family).nest(TUPLE_ORIG, |nest| nest.raw(tuple));
            // Ended by itself meanwhile: as good.
            let _ = socket.batch(&[delete]);
        }
    }
    Ok(())
}

/// The flow's first direction, if that is UDP to one of the ports.
fn matching_tuple<'a>(flow: &'a [u8], ports: &[u16]) -> Option<&'a [u8]> {
    let tuple = Attributes::after(flow, NFGENMSG).value(TUPLE_ORIG)?;
    let protocol = Attributes::after(Attributes::after(tuple, 0).value(TUPLE_PROTO)?, 0);
    let port = u16::from_be_bytes(protocol.value(PROTO_DST_PORT)?.try_into().ok()?);
    (protocol.value(PROTO_NUMBER)? == [UDP] && ports.contains(&port)).then_some(tuple)
}
