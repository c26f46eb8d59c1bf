//! Who is called what on which network: the table the engine hands over. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// One container on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// All its names; the first one is the answer to a reverse query.
    pub names: Vec<String>,
    /// All its addresses.
    pub addresses: Vec<IpAddr>,
    /// Names that only it knows, in lower case, and which name each means.
    pub links: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
struct Network {
    name: String,
    members: BTreeMap<String, Member>,
    by_name: HashMap<String, BTreeSet<String>>,
}

/// The whole table.
#[derive(Debug, Default)]
pub struct Names {
    networks: BTreeMap<String, Network>,
    /// Networks of each container, by their ids.
    joined: HashMap<String, BTreeSet<String>>,
}

impl Names {
    /// Says what a container is called on a network, instead of what it was.
    pub fn insert(&mut self, network: &str, network_name: &str, container: &str, member: Member) {
        self.remove(network, container);
        let entry = self.networks.entry(network.to_owned()).or_default();
        entry.name = network_name.to_lowercase();
        for name in &member.names {
            entry
                .by_name
                .entry(name.to_lowercase())
                .or_default()
                .insert(container.to_owned());
        }
        entry.members.insert(container.to_owned(), member);
        self.joined
            .entry(container.to_owned())
            .or_default()
            .insert(network.to_owned());
    }

    /// Forgets a container on a network.
    pub fn remove(&mut self, network: &str, container: &str) {
        if let Some(entry) = self.networks.get_mut(network)
            && let Some(member) = entry.members.remove(container)
        {
            for name in &member.names {
                entry.forget(&name.to_lowercase(), container);
            }
            if entry.members.is_empty() {
                self.networks.remove(network);
            }
        }
        if let Some(joined) = self.joined.get_mut(container) {
            joined.remove(network);
            if joined.is_empty() {
                self.joined.remove(container);
            }
        }
    }

    /// Networks of a container.
    fn networks_of(&self, container: &str) -> impl Iterator<Item = &Network> {
        self.joined
            .get(container)
            .into_iter()
            .flatten()
            .filter_map(|id| self.networks.get(id))
    }

    /// Addresses behind a name as this container sees it: `name` on one of its
    /// networks, or `name.network`. `None` when nobody is called so.
    pub fn lookup(&self, container: &str, name: &str) -> Option<Vec<IpAddr>> {
        let plain = self
            .networks_of(container)
            .find_map(|network| network.linked(container, name).or_else(|| network.lookup(name)));
        plain.or_else(|| {
            let (short, network_name) = name.rsplit_once('.')?;
            let mut named = self
                .networks_of(container)
                .filter(|network| network.name == network_name);
            named.find_map(|network| network.lookup(short))
        })
    }

    /// Name of an address as this container sees it.
    pub fn reverse(&self, container: &str, address: IpAddr) -> Option<String> {
        self.networks_of(container).find_map(|network| {
            let owner = network
                .members
                .values()
                .find(|member| member.addresses.contains(&address))?;
            Some(format!("{}.{}", owner.names.first()?, network.name))
        })
    }
}

impl Network {
    /// Addresses behind a name that only this container knows.
    fn linked(&self, container: &str, name: &str) -> Option<Vec<IpAddr>> {
        let target = self.members.get(container)?.links.get(name)?;
        self.lookup(&target.to_lowercase())
    }

    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        let owners = self.by_name.get(name)?;
        let members = owners.iter().filter_map(|container| self.members.get(container));
        Some(members.flat_map(|member| member.addresses.iter().copied()).collect())
    }

    fn forget(&mut self, name: &str, container: &str) {
        if let Some(owners) = self.by_name.get_mut(name) {
            owners.remove(container);
            if owners.is_empty() {
                self.by_name.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(names: &[&str], address: &str) -> Member {
        Member {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: vec![address.parse().unwrap()],
            links: BTreeMap::new(),
        }
    }

    fn table() -> Names {
        let mut names = Names::default();
        names.insert("n1", "front", "web", member(&["Web", "www"], "10.1.0.2"));
        names.insert("n1", "front", "api", member(&["api", "www"], "10.1.0.3"));
        names.insert("n2", "back", "api", member(&["api"], "10.2.0.3"));
        names.insert("n2", "back", "db", member(&["db"], "10.2.0.4"));
        names
    }

    fn check(names: &Names, container: &str, name: &str, expected: Option<&[&str]>) {
        let expected = expected.map(|all| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>());
        assert_eq!(names.lookup(container, name), expected, "{name} as {container} sees it");
    }

    #[test]
    fn a_link_is_a_name_for_one_container_alone() {
        let mut names = table();
        let links = BTreeMap::from([("store".to_owned(), "API".to_owned())]);
        let linking = Member {
            links,
            ..member(&["job"], "10.1.0.9")
        };
        names.insert("n1", "front", "job", linking);
        let wanted: Vec<IpAddr> = vec!["10.1.0.3".parse().unwrap()];
        assert_eq!(names.lookup("job", "store"), Some(wanted));
        assert_eq!(names.lookup("web", "store"), None);
    }

    #[test]
    fn names_are_seen_on_shared_networks_only() {
        let names = table();
        check(&names, "web", "api", Some(&["10.1.0.3"]));
        check(&names, "web", "web", Some(&["10.1.0.2"]));
        check(&names, "web", "db", None);
        check(&names, "api", "db", Some(&["10.2.0.4"]));
        check(&names, "stranger", "web", None);
    }

    #[test]
    fn a_shared_alias_has_every_address_and_a_network_can_be_named() {
        let names = table();
        check(&names, "web", "www", Some(&["10.1.0.3", "10.1.0.2"]));
        check(&names, "api", "api.back", Some(&["10.2.0.3"]));
        check(&names, "web", "db.back", None);
    }

    #[test]
    fn a_name_given_up_is_forgotten() {
        let mut names = table();
        names.insert("n1", "front", "web", member(&["site"], "10.1.0.2"));
        check(&names, "api", "web", None);
        check(&names, "api", "site", Some(&["10.1.0.2"]));
        check(&names, "api", "www", Some(&["10.1.0.3"]));
        for (network, container) in [("n1", "web"), ("n1", "api"), ("n2", "api"), ("n2", "db")] {
            names.remove(network, container);
        }
        assert!(names.networks.is_empty() && names.joined.is_empty());
    }

    #[test]
    fn an_address_has_its_first_name_on_the_network() {
        let names = table();
        let reverse = |container, address: &str| names.reverse(container, address.parse().unwrap());
        assert_eq!(reverse("api", "10.1.0.2").as_deref(), Some("Web.front"));
        assert_eq!(reverse("web", "10.2.0.4"), None);
    }
}
