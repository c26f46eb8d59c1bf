//! A new engine finds what the old one left; a reset leaves nothing.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{TcpListener, TcpStream};

use support::{Host, inside, on_host, sh, soon};
use wharf_net::{Desired, DesiredContainer, NamespaceRequest, Net, NetworkRecord, PortRequest};

/// A container with a name, a port and its records, as an engine keeps them.
fn recorded(host: &Host, network: &NetworkRecord, container: &str, port: &str) -> DesiredContainer {
    let endpoint = host.run(network, container);
    let listener = inside(&host.net.namespace_path(container), || {
        TcpListener::bind("0.0.0.0:80").unwrap()
    });
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let ports = host
        .net
        .publish(container, &[PortRequest::parse("80/tcp", "", port).unwrap()])
        .unwrap();
    let namespace = NamespaceRequest {
        container_id: container.to_owned(),
        ..NamespaceRequest::default()
    };
    DesiredContainer {
        namespace,
        endpoints: vec![endpoint],
        ports,
    }
}

fn ruleset() -> String {
    sh("nft list ruleset")
}

fn sorted(text: &str) -> Vec<String> {
    // Elements of hashed sets are listed in any order.
    let mut words: Vec<String> = text.split([',', '\n']).map(|word| word.trim().to_owned()).collect();
    words.sort();
    words
}

#[test]
fn a_new_engine_takes_over_without_disturbing_anything() {
    on_host(|host| {
        let network = host.user_network(1, "front");
        let containers = vec![
            recorded(host, &network, "one", "8081"),
            recorded(host, &network, "two", "8082"),
        ];
        let stray = host.run(&network, "stray");
        let before = ruleset();
        let connection = TcpStream::connect("127.0.0.1:8081").unwrap();
        let pid = std::fs::read_to_string(host.config.run.join("keeper/pid")).unwrap();

        // The old engine is gone without a word; its records did not have the last container.
        let successor = Net::open(host.config.clone()).unwrap();
        let desired = Desired {
            networks: vec![network.clone()],
            containers,
        };
        let found = successor.reconcile(&desired).unwrap();
        assert!(found.lost.is_empty() && found.ports_lost.is_empty(), "{found:?}");
        assert!(found.removed.contains(&stray.host_interface) && found.removed.contains(&"netns/stray".to_owned()));
        assert_eq!(sorted(&ruleset()), sorted(&before));
        assert_eq!(
            std::fs::read_to_string(host.config.run.join("keeper/pid")).unwrap(),
            pid,
            "the keeper was adopted"
        );
        drop(connection);
        assert!(TcpStream::connect("127.0.0.1:8081").is_ok() && TcpStream::connect("127.0.0.1:8082").is_ok());
        assert!(host.reaches("one", support::address(&desired.containers[1].endpoints[0])));
        // Addresses and ports of the old engine are known to be taken.
        let taken = PortRequest::parse("80/tcp", "", "8081").unwrap();
        assert!(
            successor
                .publish("two", &[taken])
                .unwrap_err()
                .to_string()
                .contains("port is already allocated")
        );
        successor
            .create_namespace(&NamespaceRequest {
                container_id: "three".to_owned(),
                ..Default::default()
            })
            .unwrap();
        let request = wharf_net::EndpointRequest {
            container_id: "three".to_owned(),
            ..Default::default()
        };
        let next = successor.connect(&network.id, &request).unwrap();
        assert_eq!(support::address(&next).to_string(), "172.17.0.4");
    });
}

#[test]
fn what_was_destroyed_meanwhile_is_rebuilt_or_reported() {
    on_host(|host| {
        let network = host.user_network(1, "front");
        let containers = vec![
            recorded(host, &network, "one", "8081"),
            recorded(host, &network, "two", "8082"),
            recorded(host, &network, "three", "8083"),
        ];
        let before = ruleset();
        sh("nft flush ruleset");
        sh(&format!("ip link del {}", network.bridge));
        let unplugged = containers[1].endpoints[0].host_interface.clone();
        sh(&format!("ip link del {unplugged}"));
        sh(&format!("umount -l {}", host.net.namespace_path("three").display()));
        let successor = Net::open(host.config.clone()).unwrap();
        let found = successor
            .reconcile(&Desired {
                networks: vec![network],
                containers,
            })
            .unwrap();
        assert_eq!((found.lost, found.plugged), (vec!["three".to_owned()], vec![unplugged]));
        assert!(before.contains("8083") && !ruleset().contains("8083"));
        for port in [8081, 8082] {
            assert!(
                TcpStream::connect(("127.0.0.1", port)).is_ok(),
                "{port} is connected again"
            );
        }
        assert!(TcpStream::connect("127.0.0.1:8083").is_err());
    });
}

#[test]
fn a_reset_leaves_nothing_with_or_without_records() {
    on_host(|host| {
        let network = host.user_network(1, "front");
        let default = host.default_network();
        recorded(host, &network, "one", "8081");
        recorded(host, &default, "two", "8082");
        // The engine is gone; one of another name stands in, so that the host has one.
        let other = wharf_net::NetConfig {
            instance: "other".to_owned(),
            ..host.config.clone()
        };
        drop(std::mem::replace(&mut host.net, Net::open(other).unwrap()));
        // As a crash between making and marking a bridge leaves it.
        sh(&format!("ip link add {}-abc type bridge", host.config.instance));
        sh("ip link add unrelated type bridge");
        wharf_net::reset(&host.config.instance, &host.config.run).unwrap();
        soon("only lo and a stranger are left", || {
            sh("ip -o link | wc -l").trim() == "2"
        });
        assert!(sh("ip -o link").contains("unrelated"));
        assert_eq!(ruleset().trim(), "");
        assert!(TcpStream::connect("127.0.0.1:8081").is_err());
        let left: Vec<_> = std::fs::read_dir(&host.config.run).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(
            !std::fs::read_to_string("/proc/self/mountinfo")
                .unwrap()
                .contains(host.config.run.to_str().unwrap())
        );
        wharf_net::reset(&host.config.instance, &host.config.run).unwrap();
    });
}
