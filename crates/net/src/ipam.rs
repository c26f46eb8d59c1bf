//! Addresses: choosing subnets and handing out what is in them. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::NetError;
use crate::model::Pool;

/// Predefined IPv4 pools as Docker has them: base and the size of one subnet.
const PREDEFINED: [(Ipv4Addr, u8, u8); 6] = [
    (Ipv4Addr::new(172, 17, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 18, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 19, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 20, 0, 0), 14, 16),
    (Ipv4Addr::new(172, 24, 0, 0), 13, 16),
    (Ipv4Addr::new(192, 168, 0, 0), 16, 20),
];

/// Subnets tried in the instance's unique local prefix.
const IPV6_SUBNETS: u128 = 1 << 16;

/// Whether two subnets share an address.
pub(crate) fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// The first predefined IPv4 subnet that meets nothing in `taken`.
pub(crate) fn choose_ipv4(taken: &[IpNet]) -> Result<Ipv4Net, NetError> {
    PREDEFINED
        .iter()
        .flat_map(|(base, length, size)| {
            let pool = Ipv4Net::new(*base, *length).expect("invariant: the predefined lengths are valid");
            pool.subnets(*size)
                .expect("invariant: a predefined size is not shorter than its pool")
        })
        .find(|subnet| !taken.iter().any(|other| overlap(&IpNet::V4(*subnet), other)))
        .ok_or(NetError::PoolsExhausted)
}

/// The first /64 of the instance's unique local prefix that meets nothing in `taken`.
pub(crate) fn choose_ipv6(instance: &str, taken: &[IpNet]) -> Result<Ipv6Net, NetError> {
    let prefix = 0xfd_u128 << 120 | u128::from(fingerprint(instance) & 0xff_ffff_ffff) << 80;
    (0..IPV6_SUBNETS)
        .map(|number| {
            let address = Ipv6Addr::from(prefix | number << 64);
            Ipv6Net::new(address, 64).expect("invariant: 64 is a valid length")
        })
        .find(|subnet| !taken.iter().any(|other| overlap(&IpNet::V6(*subnet), other)))
        .ok_or(NetError::PoolsExhausted)
}

/// FNV-1a: names made from it must stay the same for ever.
pub(crate) fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Address number one of a subnet: its usual gateway.
pub(crate) fn first_address(subnet: &IpNet) -> IpAddr {
    address(
        subnet,
        number(subnet.network()) + u128::from(subnet.prefix_len() < subnet.max_prefix_len()),
    )
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn address(subnet: &IpNet, number: u128) -> IpAddr {
    match subnet {
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// Who has which address of one pool.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pool: Pool,
    used: BTreeSet<u128>,
    /// No lower one of the range is free.
    lowest: u128,
}

impl Addresses {
    /// All free but the gateway and the auxiliary addresses.
    pub(crate) fn new(pool: &Pool) -> Addresses {
        let used = pool
            .auxiliary
            .values()
            .copied()
            .chain([pool.gateway])
            .map(number)
            .collect();
        Addresses {
            pool: pool.clone(),
            used,
            lowest: 0,
        }
    }

    /// The subnet these addresses are in.
    pub(crate) fn subnet(&self) -> &IpNet {
        &self.pool.subnet
    }

    /// Numbers that may be handed out: all of the range, without the subnet's
    /// own address and, for IPv4, its broadcast address.
    fn bounds(&self) -> (u128, u128) {
        let subnet = &self.pool.subnet;
        let range = self.pool.ip_range.as_ref().unwrap_or(subnet);
        let (mut first, mut last) = (number(range.network()), number(range.broadcast()));
        let has_reserved = subnet.prefix_len() + 1 < subnet.max_prefix_len();
        if has_reserved {
            first = first.max(number(subnet.network()) + 1);
        }
        if has_reserved && subnet.addr().is_ipv4() {
            last = last.min(number(subnet.broadcast()) - 1);
        }
        (first, last)
    }

    /// Takes the lowest free address; `None` when there is none.
    pub(crate) fn take_any(&mut self) -> Option<IpAddr> {
        let (first, last) = self.bounds();
        let mut candidate = first.max(self.lowest);
        if candidate > last {
            return None;
        }
        for used in self.used.range(candidate..=last) {
            if *used != candidate {
                break;
            }
            candidate += 1;
        }
        self.lowest = candidate;
        if candidate > last {
            return None;
        }
        self.used.insert(candidate);
        Some(address(&self.pool.subnet, candidate))
    }

    /// Takes this very address, inside the range or not.
    pub(crate) fn take(&mut self, wanted: IpAddr) -> Result<(), NetError> {
        if !self.pool.subnet.contains(&wanted) {
            return Err(NetError::AddressOutsideSubnets { address: wanted });
        }
        let subnet = &self.pool.subnet;
        let reserved = subnet.prefix_len() + 1 < subnet.max_prefix_len()
            && (wanted == subnet.network() || (wanted.is_ipv4() && wanted == subnet.broadcast()));
        if reserved || !self.used.insert(number(wanted)) {
            return Err(NetError::AddressInUse { address: wanted });
        }
        Ok(())
    }

    /// Gives an address back; never the gateway or an auxiliary one.
    pub(crate) fn release(&mut self, address: IpAddr) {
        if address != self.pool.gateway && !self.pool.auxiliary.values().any(|reserved| *reserved == address) {
            let number = number(address);
            self.used.remove(&number);
            self.lowest = self.lowest.min(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn pool(subnet: &str, range: Option<&str>) -> Pool {
        let subnet: IpNet = subnet.parse().unwrap();
        let ip_range = range.map(|range| range.parse().unwrap());
        Pool {
            gateway: first_address(&subnet),
            subnet,
            ip_range,
            auxiliary: BTreeMap::new(),
            user_defined: true,
        }
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn subnets_are_chosen_in_dockers_order_around_what_is_taken() {
        let check = |taken: &[&str], expected: &str| {
            assert_eq!(
                choose_ipv4(&nets(taken)).unwrap().to_string(),
                expected,
                "with {taken:?}"
            );
        };
        check(&[], "172.17.0.0/16");
        check(&["172.17.0.0/16"], "172.18.0.0/16");
        check(&["172.17.3.0/24", "172.18.0.1/32"], "172.19.0.0/16");
        check(&["172.16.0.0/12"], "192.168.0.0/20");
        check(&["172.16.0.0/12", "192.168.1.0/24"], "192.168.16.0/20");
        check(&["fd00::/8"], "172.17.0.0/16");
        assert!(matches!(
            choose_ipv4(&nets(&["0.0.0.0/0"])),
            Err(NetError::PoolsExhausted)
        ));
    }

    #[test]
    fn the_unique_local_prefix_differs_by_instance_and_steps_over_what_is_taken() {
        let first = choose_ipv6("one", &[]).unwrap();
        assert!(first.addr().segments()[0] >> 8 == 0xfd);
        assert_ne!(first, choose_ipv6("two", &[]).unwrap());
        assert_ne!(first, choose_ipv6("one", &[IpNet::V6(first)]).unwrap());
    }

    #[test]
    fn the_lowest_free_address_is_taken_first_and_again_after_release() {
        let mut addresses = Addresses::new(&pool("172.17.0.0/16", None));
        let two: IpAddr = "172.17.0.2".parse().unwrap();
        assert_eq!(addresses.take_any(), Some(two));
        assert_eq!(addresses.take_any(), Some("172.17.0.3".parse().unwrap()));
        addresses.release(two);
        assert_eq!(addresses.take_any(), Some(two));
    }

    #[test]
    fn a_range_limits_choice_but_not_fixed_addresses() {
        let mut addresses = Addresses::new(&pool("10.0.0.0/24", Some("10.0.0.128/30")));
        addresses.take("10.0.0.7".parse().unwrap()).unwrap();
        let taken: Vec<String> = std::iter::from_fn(|| addresses.take_any())
            .map(|ip| ip.to_string())
            .collect();
        assert_eq!(taken, ["10.0.0.128", "10.0.0.129", "10.0.0.130", "10.0.0.131"]);
    }

    #[test]
    fn the_lowest_free_address_is_taken_whatever_was_taken_and_given_back_before() {
        let mut addresses = Addresses::new(&pool("10.0.0.0/28", None));
        let take = |addresses: &mut Addresses| addresses.take_any().map(|a| a.to_string());
        let all: Vec<_> = std::iter::from_fn(|| take(&mut addresses)).collect();
        assert_eq!(all.len(), 13);
        assert_eq!(take(&mut addresses), None);
        for back in ["10.0.0.9", "10.0.0.4", "10.0.0.12"] {
            addresses.release(back.parse().unwrap());
        }
        addresses.take("10.0.0.4".parse().unwrap()).unwrap();
        assert_eq!(take(&mut addresses).as_deref(), Some("10.0.0.9"));
        assert_eq!(take(&mut addresses).as_deref(), Some("10.0.0.12"));
        assert_eq!(take(&mut addresses), None);
        addresses.release("10.0.0.1".parse().unwrap()); // the gateway stays taken
        assert_eq!(take(&mut addresses), None);
    }

    #[test]
    fn reserved_and_foreign_addresses_are_refused() {
        let mut addresses = Addresses::new(&pool("10.0.0.0/24", None));
        for refused in ["10.0.0.0", "10.0.0.255", "10.0.0.1"] {
            let result = addresses.take(refused.parse().unwrap());
            assert!(matches!(result, Err(NetError::AddressInUse { .. })), "{refused}");
        }
        let result = addresses.take("10.0.1.1".parse().unwrap());
        assert!(matches!(result, Err(NetError::AddressOutsideSubnets { .. })));
        addresses.release("10.0.0.1".parse().unwrap());
        assert!(
            addresses.take("10.0.0.1".parse().unwrap()).is_err(),
            "the gateway is never free"
        );
    }

    #[test]
    fn tiny_subnets_use_every_address() {
        let mut addresses = Addresses::new(&pool("10.0.0.0/31", None));
        assert_eq!(addresses.take_any(), Some("10.0.0.0".parse().unwrap()));
        assert_eq!(addresses.take_any(), None);
    }

    proptest! {
        #[test]
        fn no_address_is_handed_out_twice_and_all_are_inside(
            length in 24u8..31, steps in proptest::collection::vec((any::<bool>(), any::<u8>()), 0..300)
        ) {
            let pool = pool(&format!("10.1.2.0/{length}"), None);
            let mut addresses = Addresses::new(&pool);
            let mut held: Vec<IpAddr> = Vec::new();
            for (take, pick) in steps {
                if take {
                    if let Some(address) = addresses.take_any() {
                        prop_assert!(!held.contains(&address) && address != pool.gateway);
                        prop_assert!(pool.subnet.contains(&address));
                        prop_assert!(address != pool.subnet.network() && address != pool.subnet.broadcast());
                        held.push(address);
                    } else {
                        prop_assert_eq!(held.len(), pool.subnet.hosts().count() - 1);
                    }
                } else if !held.is_empty() {
                    addresses.release(held.remove(usize::from(pick) % held.len()));
                }
            }
        }

        #[test]
        fn a_chosen_subnet_meets_nothing_taken(taken in proptest::collection::vec((any::<u32>(), 8u8..=32), 0..20)) {
            let taken: Vec<IpNet> = taken
                .into_iter()
                .map(|(bits, length)| IpNet::new(Ipv4Addr::from(0xac10_0000 | bits >> 12).into(), length).unwrap())
                .collect();
            if let Ok(subnet) = choose_ipv4(&taken) {
                prop_assert!(!taken.iter().any(|other| overlap(&IpNet::V4(subnet), other)));
            }
        }
    }
}
