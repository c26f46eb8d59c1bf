//! Rules and elements as nfnetlink messages (`linux/netfilter/nf_tables.h`).

use std::net::IpAddr;

use ipnet::IpNet;

use super::elements::Element;
use super::ruleset::{Chain, Field, Ruleset, Set, Statement, Version};
use crate::model::Protocol;
use crate::netlink::Message;

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = SUBSYSTEM;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
const NEWRULE: u16 = SUBSYSTEM | 6;
const NEWSET: u16 = SUBSYSTEM | 9;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const DELSETELEM: u16 = SUBSYSTEM | 14;
const F_CREATE: u16 = 0x400;
const F_APPEND: u16 = 0x800;

const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

const SET_ELEM_INTERVAL_END: u32 = 1;
const SET_INTERVAL: u32 = 0x4;
const SET_MAP: u32 = 0x8;

/// Registers: the first of 16 bytes, and those of 4 bytes counted from it.
const REG_1: u32 = 1;
const REG_2: u32 = 2;
const REG32_01: u32 = 9;

/// Most elements of one message: nested lengths are 16 bits.
const ELEMENTS_PER_MESSAGE: usize = 300;

/// `struct nfgenmsg`
fn nfgenmsg(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// Opens a transaction.
pub(super) fn begin() -> Message {
    Message::new(BATCH_BEGIN, 0, &nfgenmsg(0, SUBSYSTEM >> 8))
}

/// Commits it.
pub(super) fn end() -> Message {
    Message::new(BATCH_END, 0, &nfgenmsg(0, SUBSYSTEM >> 8))
}

fn request(kind: u16, flags: u16) -> Message {
    Message::new(kind, flags, &nfgenmsg(NFPROTO_INET, 0))
}

pub(super) fn add_table(table: &str) -> Message {
    request(NEWTABLE, F_CREATE).text(1, table)
}

pub(super) fn delete_table(table: &str) -> Message {
    request(DELTABLE, 0).text(1, table)
}

/// Sets, chains, then rules: each refers to the ones before.
pub(super) fn add_ruleset(ruleset: &Ruleset) -> Vec<Message> {
    let table = ruleset.table.as_str();
    let mut messages = vec![add_table(table)];
    messages.extend(Set::ALL.iter().zip(1..).map(|(set, id)| add_set(table, *set, id)));
    messages.extend(ruleset.chains.iter().map(|chain| add_chain(table, chain)));
    for chain in &ruleset.chains {
        messages.extend(chain.rules.iter().map(|rule| add_rule(table, chain.hook.name(), rule)));
    }
    messages
}

fn length(field: Field) -> u32 {
    match field {
        Field::Ipv4 => 4,
        Field::Ipv6 | Field::Interface => 16,
        Field::Protocol => 1,
        Field::Port => 2,
    }
}

/// Length of a key or value: the fields of a concatenation fill whole registers.
fn total_length(fields: &[Field]) -> u32 {
    match fields {
        [field] => length(*field),
        fields => fields.iter().map(|field| length(*field).next_multiple_of(4)).sum(),
    }
}

/// nft(8)'s own numbers for types, six bits each, so that it can list our sets.
fn type_number(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| {
        let code = match field {
            Field::Ipv4 => 7,
            Field::Ipv6 => 8,
            Field::Protocol => 12,
            Field::Port => 13,
            Field::Interface => 41,
        };
        (number << 6) | code
    })
}

fn add_set(table: &str, set: Set, id: u32) -> Message {
    let mut flags = 0;
    if set.is_interval() {
        flags |= SET_INTERVAL;
    }
    if set.value().is_some() {
        flags |= SET_MAP;
    }
    let message = request(NEWSET, F_CREATE)
        .text(1, table)
        .text(2, set.name())
        .number_be(3, flags)
        .number_be(4, type_number(set.key()))
        .number_be(5, total_length(set.key()))
        .number_be(10, id);
    // nft(8) reads names of interfaces backwards unless told the byte order (host).
    let message = match set.key() {
        [Field::Interface] => message.attribute(13, &[0, 4, 1, 0, 0, 0]),
        _ => message,
    };
    match set.value() {
        Some(value) => message
            .number_be(6, type_number(value))
            .number_be(7, total_length(value)),
        None => message,
    }
}

fn add_chain(table: &str, chain: &Chain) -> Message {
    let hook = chain.hook;
    add_chain_with(table, hook.name(), (hook.number(), hook.priority()), hook.kind())
}

fn add_chain_with(table: &str, name: &str, (hook, priority): (u32, i32), kind: &str) -> Message {
    const POLICY_ACCEPT: u32 = 1;
    request(NEWCHAIN, F_CREATE)
        .text(1, table)
        .text(3, name)
        .nest(4, |nest| nest.number_be(1, hook).attribute(2, &priority.to_be_bytes()))
        .number_be(5, POLICY_ACCEPT)
        .text(7, kind)
}

fn add_rule(table: &str, chain: &str, rule: &[Statement]) -> Message {
    request(NEWRULE, F_CREATE | F_APPEND)
        .text(1, table)
        .text(2, chain)
        .nest(4, |list| {
            rule.iter()
                .fold(list, |list, statement| add_statement(list, *statement))
        })
}

/// One expression: `NFTA_LIST_ELEM` of a name and its data.
fn expression(list: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    list.nest(1, |element| element.text(1, name).nest(2, data))
}

const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;

fn compare(list: Message, operation: u32, value: &[u8]) -> Message {
    expression(list, "cmp", |data| {
        data.number_be(1, REG_1)
            .number_be(2, operation)
            .nest(3, |nest| nest.attribute(1, value))
    })
}

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;

fn meta(list: Message, key: u32, register: u32) -> Message {
    expression(list, "meta", |data| data.number_be(1, register).number_be(2, key))
}

fn is_version(list: Message, version: Version) -> Message {
    let family = match version {
        Version::V4 => NFPROTO_IPV4,
        Version::V6 => NFPROTO_IPV6,
    };
    compare(meta(list, META_NFPROTO, REG_1), CMP_EQ, &[family])
}

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

fn payload(list: Message, register: u32, header: u32, offset: u32, bytes: u32) -> Message {
    expression(list, "payload", |data| {
        data.number_be(1, register)
            .number_be(2, header)
            .number_be(3, offset)
            .number_be(4, bytes)
    })
}

fn source(list: Message, version: Version) -> Message {
    match version {
        Version::V4 => payload(list, REG_1, NETWORK_HEADER, 12, 4),
        Version::V6 => payload(list, REG_1, NETWORK_HEADER, 8, 16),
    }
}

fn destination(list: Message, version: Version) -> Message {
    match version {
        Version::V4 => payload(list, REG_1, NETWORK_HEADER, 16, 4),
        Version::V6 => payload(list, REG_1, NETWORK_HEADER, 24, 16),
    }
}

fn lookup(list: Message, set: Set, flags: u32) -> Message {
    expression(list, "lookup", |data| {
        data.text(1, set.name()).number_be(2, REG_1).number_be(5, flags)
    })
}

fn verdict(list: Message, code: u32) -> Message {
    expression(list, "immediate", |data| {
        data.number_be(1, 0)
            .nest(2, |nest| nest.nest(2, |verdict| verdict.number_be(1, code)))
    })
}

/// Conntrack's `key`, of which one of the bits must be set.
fn conntrack(list: Message, key: u32, bits: u32) -> Message {
    let list = expression(list, "ct", |data| data.number_be(1, REG_1).number_be(2, key));
    let list = expression(list, "bitwise", |data| {
        data.number_be(1, REG_1)
            .number_be(2, REG_1)
            .number_be(3, 4)
            .nest(4, |mask| mask.attribute(1, &bits.to_ne_bytes()))
            .nest(5, |xor| xor.attribute(1, &[0; 4]))
    });
    compare(list, CMP_NEQ, &[0; 4])
}

fn add_statement(list: Message, statement: Statement) -> Message {
    const LOOKUP_INVERT: u32 = 1;
    const CT_STATE: (u32, u32) = (0, 0x2 | 0x4);
    const CT_STATUS_DNAT: (u32, u32) = (2, 0x20);
    const NF_DROP: u32 = 0;
    const NF_ACCEPT: u32 = 1;
    match statement {
        Statement::ToLocalAddress => to_local_address(list),
        Statement::NotLoopback(Version::V4) => {
            let list = payload(is_version(list, Version::V4), REG_1, NETWORK_HEADER, 16, 1);
            compare(list, CMP_NEQ, &[127])
        }
        Statement::NotLoopback(Version::V6) => {
            let list = destination(is_version(list, Version::V6), Version::V6);
            compare(list, CMP_NEQ, &std::net::Ipv6Addr::LOCALHOST.octets())
        }
        Statement::SourceIn(version, set) => lookup(source(is_version(list, version), version), set, 0),
        Statement::FromInterface(set) => lookup(meta(list, META_IIFNAME, REG_1), set, 0),
        Statement::ToInterface(set) => lookup(meta(list, META_OIFNAME, REG_1), set, 0),
        Statement::NotToInterface(set) => lookup(meta(list, META_OIFNAME, REG_1), set, LOOKUP_INVERT),
        Statement::BetweenInterfaces(set) => lookup(meta(meta(list, META_IIFNAME, REG_1), META_OIFNAME, REG_2), set, 0),
        Statement::Established => conntrack(list, CT_STATE.0, CT_STATE.1),
        Statement::Translated => conntrack(list, CT_STATUS_DNAT.0, CT_STATUS_DNAT.1),
        Statement::TranslateByMap(version, map) => translate(list, version, map),
        Statement::Masquerade => expression(list, "masq", |data| data),
        Statement::Accept => verdict(list, NF_ACCEPT),
        Statement::Drop => verdict(list, NF_DROP),
    }
}

fn to_local_address(list: Message) -> Message {
    const RESULT_ADDRTYPE: u32 = 3;
    const FLAG_DADDR: u32 = 1 << 1;
    const RTN_LOCAL: u32 = 2;
    let list = expression(list, "fib", |data| {
        data.number_be(1, REG_1)
            .number_be(2, RESULT_ADDRTYPE)
            .number_be(3, FLAG_DADDR)
    });
    compare(list, CMP_EQ, &RTN_LOCAL.to_ne_bytes())
}

/// Loads the key, looks the target up, translates to it.
fn translate(list: Message, version: Version, map: Set) -> Message {
    const NAT_DNAT: u32 = 1;
    const RANGE_MAP_IPS: u32 = 1;
    const RANGE_PROTO_SPECIFIED: u32 = 2;
    let mut list = is_version(list, version);
    let mut register = REG_1;
    if matches!(map.key()[0], Field::Ipv4 | Field::Ipv6) {
        list = destination(list, version);
        register = if version == Version::V4 { REG32_01 } else { REG_2 };
    }
    // Register 1 counts in 16 bytes, the ones behind it in 4; 8 is the same as 1.
    let next = match register {
        REG_1 => REG32_01,
        REG_2 => REG32_01 + 4,
        other => other + 1,
    };
    let list = payload(meta(list, META_L4PROTO, register), next, TRANSPORT_HEADER, 2, 2);
    let list = expression(list, "lookup", |data| {
        data.text(1, map.name())
            .number_be(2, REG_1)
            .number_be(3, REG_1)
            .number_be(5, 0)
    });
    let (family, port_register) = match version {
        Version::V4 => (NFPROTO_IPV4, REG32_01),
        Version::V6 => (NFPROTO_IPV6, REG_2),
    };
    expression(list, "nat", |data| {
        data.number_be(1, NAT_DNAT)
            .number_be(2, u32::from(family))
            .number_be(3, REG_1)
            .number_be(4, REG_1)
            .number_be(5, port_register)
            .number_be(6, port_register)
            .number_be(7, RANGE_MAP_IPS | RANGE_PROTO_SPECIFIED)
    })
}

pub(super) fn add_elements(table: &str, elements: &[Element]) -> Vec<Message> {
    element_messages(NEWSETELEM, F_CREATE, table, elements)
}

pub(super) fn delete_elements(table: &str, elements: &[Element]) -> Vec<Message> {
    element_messages(DELSETELEM, 0, table, elements)
}

/// Elements of one set go together.
fn element_messages(kind: u16, flags: u16, table: &str, elements: &[Element]) -> Vec<Message> {
    let mut messages = Vec::new();
    for set in Set::ALL {
        let members: Vec<&Element> = elements.iter().filter(|element| element.set() == set).collect();
        for part in members.chunks(ELEMENTS_PER_MESSAGE) {
            let message = request(kind, flags).text(1, table).text(2, set.name());
            messages.push(message.nest(3, |list| {
                part.iter().fold(list, |list, element| add_element(list, element))
            }));
        }
    }
    messages
}

fn add_element(list: Message, element: &Element) -> Message {
    let key = |bytes: &[u8], list: Message| list.nest(1, |item| item.nest(1, |key| key.attribute(1, bytes)));
    match element {
        Element::Interface(_, name) => key(&interface_bytes(name), list),
        Element::Pair(_, name) => key(&[interface_bytes(name), interface_bytes(name)].concat(), list),
        Element::Subnet(_, subnet) => {
            let list = key(&address_bytes(subnet.network()), list);
            match behind(*subnet) {
                Some(end) => list.nest(1, |item| {
                    let item = item.nest(1, |key| key.attribute(1, &address_bytes(end)));
                    item.number_be(3, SET_ELEM_INTERVAL_END)
                }),
                None => list,
            }
        }
        Element::Port {
            address,
            protocol,
            port,
            target,
            target_port,
            ..
        } => {
            let mut bytes = address.map(address_bytes).unwrap_or_default();
            bytes.extend(register_bytes(&[protocol_number(*protocol)]));
            bytes.extend(register_bytes(&port.to_be_bytes()));
            let mut data = address_bytes(*target);
            data.extend(register_bytes(&target_port.to_be_bytes()));
            list.nest(1, |item| {
                item.nest(1, |key| key.attribute(1, &bytes))
                    .nest(2, |value| value.attribute(1, &data))
            })
        }
    }
}

fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn register_bytes(value: &[u8]) -> [u8; 4] {
    let mut bytes = [0; 4];
    bytes[..value.len()].copy_from_slice(value);
    bytes
}

fn interface_bytes(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let used = name.len().min(15);
    bytes[..used].copy_from_slice(&name.as_bytes()[..used]);
    bytes
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The first address after a subnet; none after the last of all.
fn behind(subnet: IpNet) -> Option<IpAddr> {
    match subnet.broadcast() {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

/// A chain that looks at every packet a container sends.
pub(super) fn add_output_filter(table: &str) -> Message {
    add_chain_with(table, "output", (3, -300), "filter")
}

/// Port 53 of `address` is port `port` there, to whom it may concern: rewritten
/// without connection tracking, which a container's namespace is spared.
pub(super) fn add_port_alias(table: &str, address: std::net::Ipv4Addr, protocol: Protocol, port: u16) -> [Message; 2] {
    const DNS_PORT: u16 = 53;
    const ADDRESS: [u32; 2] = [16, 12];
    const PORT: [u32; 2] = [2, 0];
    let rule = |way: usize, from: u16, to: u16| {
        request(NEWRULE, F_CREATE | F_APPEND)
            .text(1, table)
            .text(2, "output")
            .nest(4, |list| {
                let list = is_version(list, Version::V4);
                let list = compare(
                    payload(list, REG_1, NETWORK_HEADER, ADDRESS[way], 4),
                    CMP_EQ,
                    &address.octets(),
                );
                let list = compare(meta(list, META_L4PROTO, REG_1), CMP_EQ, &[protocol_number(protocol)]);
                let list = compare(
                    payload(list, REG_1, TRANSPORT_HEADER, PORT[way], 2),
                    CMP_EQ,
                    &from.to_be_bytes(),
                );
                let list = expression(list, "immediate", |data| {
                    data.number_be(1, REG_1)
                        .nest(2, |value| value.attribute(1, &to.to_be_bytes()))
                });
                write_port(list, PORT[way], protocol)
            })
    };
    [rule(0, DNS_PORT, port), rule(1, port, DNS_PORT)]
}

/// Writes register 1 over a port of the packet and mends its checksum.
fn write_port(list: Message, offset: u32, protocol: Protocol) -> Message {
    const CHECKSUM_INET: u32 = 1;
    let checksum_offset = if protocol == Protocol::Tcp { 16 } else { 6 };
    expression(list, "payload", |data| {
        data.number_be(5, REG_1)
            .number_be(2, TRANSPORT_HEADER)
            .number_be(3, offset)
            .number_be(4, 2)
            .number_be(6, CHECKSUM_INET)
            .number_be(7, checksum_offset)
    })
}
