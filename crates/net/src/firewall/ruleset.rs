//! The rules of an instance as a value; its `Display` is nft(8)'s language.

use std::fmt;

/// IP version of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

impl Version {
    fn keyword(self) -> &'static str {
        match self {
            Version::V4 => "ip",
            Version::V6 => "ip6",
        }
    }
}

/// Type of one field of a key or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    Interface,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Field::Ipv4 => "ipv4_addr",
            Field::Ipv6 => "ipv6_addr",
            Field::Protocol => "inet_proto",
            Field::Port => "inet_service",
            Field::Interface => "ifname",
        }
    }
}

/// The sets and maps of the table; each is named as in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Set {
    /// Every bridge of the instance.
    Bridges,
    /// Bridges of internal networks.
    Internal,
    /// Bridges whose containers may talk to each other, paired with themselves.
    Open,
    /// IPv4 subnets that leave with the host's address.
    Masquerade4,
    /// The same for IPv6.
    Masquerade6,
    /// IPv4 subnets of all networks: a published port reached from inside.
    Subnets4,
    /// The same for IPv6.
    Subnets6,
    /// Ports published on one IPv4 address.
    Publish4,
    /// Ports published on every IPv4 address.
    PublishAny4,
    /// Ports published on one IPv6 address.
    Publish6,
    /// Ports published on every IPv6 address.
    PublishAny6,
}

impl Set {
    /// All of them, in the order they are made.
    pub(crate) const ALL: [Set; 11] = [
        Set::Bridges,
        Set::Internal,
        Set::Open,
        Set::Masquerade4,
        Set::Masquerade6,
        Set::Subnets4,
        Set::Subnets6,
        Set::Publish4,
        Set::PublishAny4,
        Set::Publish6,
        Set::PublishAny6,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Set::Bridges => "bridges",
            Set::Internal => "internal",
            Set::Open => "open",
            Set::Masquerade4 => "masquerade4",
            Set::Masquerade6 => "masquerade6",
            Set::Subnets4 => "subnets4",
            Set::Subnets6 => "subnets6",
            Set::Publish4 => "publish4",
            Set::PublishAny4 => "publish_any4",
            Set::Publish6 => "publish6",
            Set::PublishAny6 => "publish_any6",
        }
    }

    /// Fields of the key.
    pub(crate) fn key(self) -> &'static [Field] {
        match self {
            Set::Bridges | Set::Internal => &[Field::Interface],
            Set::Open => &[Field::Interface, Field::Interface],
            Set::Masquerade4 | Set::Subnets4 => &[Field::Ipv4],
            Set::Masquerade6 | Set::Subnets6 => &[Field::Ipv6],
            Set::Publish4 => &[Field::Ipv4, Field::Protocol, Field::Port],
            Set::Publish6 => &[Field::Ipv6, Field::Protocol, Field::Port],
            Set::PublishAny4 | Set::PublishAny6 => &[Field::Protocol, Field::Port],
        }
    }

    /// Fields of the value of a map.
    pub(crate) fn value(self) -> Option<&'static [Field]> {
        match self {
            Set::Publish4 | Set::PublishAny4 => Some(&[Field::Ipv4, Field::Port]),
            Set::Publish6 | Set::PublishAny6 => Some(&[Field::Ipv6, Field::Port]),
            _ => None,
        }
    }

    /// Whether elements are ranges.
    pub(crate) fn is_interval(self) -> bool {
        matches!(
            self,
            Set::Masquerade4 | Set::Masquerade6 | Set::Subnets4 | Set::Subnets6
        )
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |fields: &[Field]| fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(" . ");
        match self.value() {
            Some(value) => write!(
                f,
                "map {} {{ type {} : {};",
                self.name(),
                fields(self.key()),
                fields(value)
            )?,
            None => write!(f, "set {} {{ type {};", self.name(), fields(self.key()))?,
        }
        f.write_str(if self.is_interval() { " flags interval; }" } else { " }" })
    }
}

/// One part of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statement {
    /// The destination is an address of this host.
    ToLocalAddress,
    /// The destination is not a loopback address of this version.
    NotLoopback(Version),
    /// The packet is of this version, its source in the set.
    SourceIn(Version, Set),
    /// It came in through an interface of the set.
    FromInterface(Set),
    /// It leaves through an interface of the set.
    ToInterface(Set),
    /// It does not leave through an interface of the set.
    NotToInterface(Set),
    /// Both interfaces, as a pair, are in the set.
    BetweenInterfaces(Set),
    /// It belongs to a connection that exists or is related to one.
    Established,
    /// A published port translated its destination.
    Translated,
    /// Translate the destination to what the map says of it.
    TranslateByMap(Version, Set),
    /// Take the address of the interface it leaves through.
    Masquerade,
    Accept,
    Drop,
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::ToLocalAddress => f.write_str("fib daddr type local"),
            Statement::NotLoopback(Version::V4) => f.write_str("ip daddr != 127.0.0.0/8"),
            Statement::NotLoopback(Version::V6) => f.write_str("ip6 daddr != ::1"),
            Statement::SourceIn(version, set) => write!(f, "{} saddr @{}", version.keyword(), set.name()),
            Statement::FromInterface(set) => write!(f, "iifname @{}", set.name()),
            Statement::ToInterface(set) => write!(f, "oifname @{}", set.name()),
            Statement::NotToInterface(set) => write!(f, "oifname != @{}", set.name()),
            Statement::BetweenInterfaces(set) => write!(f, "iifname . oifname @{}", set.name()),
            Statement::Established => f.write_str("ct state established,related"),
            Statement::Translated => f.write_str("ct status dnat"),
            Statement::TranslateByMap(version, set) => {
                let address = match set.key() {
                    [Field::Ipv4, ..] => "ip daddr . ",
                    [Field::Ipv6, ..] => "ip6 daddr . ",
                    _ => "",
                };
                write!(
                    f,
                    "dnat {} to {address}meta l4proto . th dport map @{}",
                    version.keyword(),
                    set.name()
                )
            }
            Statement::Masquerade => f.write_str("masquerade"),
            Statement::Accept => f.write_str("accept"),
            Statement::Drop => f.write_str("drop"),
        }
    }
}

/// Where a base chain hooks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Prerouting,
    Output,
    Forward,
    Postrouting,
}

impl Hook {
    /// Number of the hook (`NF_INET_*`).
    pub(crate) fn number(self) -> u32 {
        match self {
            Hook::Prerouting => 0,
            Hook::Forward => 2,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        }
    }

    /// Priority: dstnat, srcnat or filter.
    pub(crate) fn priority(self) -> i32 {
        match self {
            Hook::Prerouting | Hook::Output => -100,
            Hook::Forward => 0,
            Hook::Postrouting => 100,
        }
    }

    /// Type of the chain.
    pub(crate) fn kind(self) -> &'static str {
        if self == Hook::Forward { "filter" } else { "nat" }
    }

    /// Name of the hook and of our chain on it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Hook::Prerouting => "prerouting",
            Hook::Output => "output",
            Hook::Forward => "forward",
            Hook::Postrouting => "postrouting",
        }
    }
}

/// A base chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub hook: Hook,
    pub rules: Vec<Vec<Statement>>,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub table: String,
    pub chains: Vec<Chain>,
}

impl Ruleset {
    /// The one ruleset every instance has; see the module above for why.
    pub(crate) fn standard(table: &str) -> Ruleset {
        let chains = vec![
            Chain {
                hook: Hook::Prerouting,
                rules: translations(&[]),
            },
            Chain {
                hook: Hook::Output,
                rules: translations(&[Version::V4, Version::V6]),
            },
            Chain {
                hook: Hook::Forward,
                rules: forwarding(),
            },
            Chain {
                hook: Hook::Postrouting,
                rules: masquerading(),
            },
        ];
        Ruleset {
            table: table.to_owned(),
            chains,
        }
    }
}

/// A port published on one address goes before one published on all.
fn translations(except_loopback: &[Version]) -> Vec<Vec<Statement>> {
    let maps = [
        (Version::V4, Set::Publish4),
        (Version::V4, Set::PublishAny4),
        (Version::V6, Set::Publish6),
        (Version::V6, Set::PublishAny6),
    ];
    let rule = |(version, map)| {
        let mut rule = Vec::new();
        // SECURITY: loopback is the proxy's, so no route_localnet is ever needed.
        if except_loopback.contains(&version) {
            rule.push(Statement::NotLoopback(version));
        }
        rule.extend([Statement::ToLocalAddress, Statement::TranslateByMap(version, map)]);
        rule
    };
    maps.into_iter().map(rule).collect()
}

fn forwarding() -> Vec<Vec<Statement>> {
    use Statement::{Accept, BetweenInterfaces, Drop, Established, FromInterface, ToInterface, Translated};
    vec![
        vec![Established, Accept],
        vec![BetweenInterfaces(Set::Open), Accept],
        vec![FromInterface(Set::Internal), Drop],
        vec![ToInterface(Set::Internal), Drop],
        vec![ToInterface(Set::Bridges), Translated, Accept],
        vec![ToInterface(Set::Bridges), Drop],
    ]
}

fn masquerading() -> Vec<Vec<Statement>> {
    use Statement::{Masquerade, NotToInterface, SourceIn, ToInterface, Translated};
    let mut rules = Vec::new();
    for (version, masquerade, subnets) in [
        (Version::V4, Set::Masquerade4, Set::Subnets4),
        (Version::V6, Set::Masquerade6, Set::Subnets6),
    ] {
        rules.push(vec![
            NotToInterface(Set::Bridges),
            SourceIn(version, masquerade),
            Masquerade,
        ]);
        // A container that comes back through a published port would otherwise
        // get its answer past the translation.
        rules.push(vec![
            ToInterface(Set::Bridges),
            Translated,
            SourceIn(version, subnets),
            Masquerade,
        ]);
    }
    rules
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {} {{", self.table)?;
        for set in Set::ALL {
            writeln!(f, "  {set}")?;
        }
        for chain in &self.chains {
            let hook = chain.hook;
            writeln!(f, "  chain {} {{", hook.name())?;
            let (kind, priority) = (hook.kind(), hook.priority());
            writeln!(
                f,
                "    type {kind} hook {} priority {priority}; policy accept;",
                hook.name()
            )?;
            for rule in &chain.rules {
                let text: Vec<String> = rule.iter().map(Statement::to_string).collect();
                writeln!(f, "    {}", text.join(" "))?;
            }
            writeln!(f, "  }}")?;
        }
        f.write_str("}\n")
    }
}
