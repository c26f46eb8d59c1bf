//! Bridges, endpoints and the rules between them, on a private host.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::{address, id, inside, lan, on_host, pool, sh, try_sh};
use wharf_net::{EndpointRequest, NetError, NetworkRequest};

#[test]
fn containers_of_one_network_reach_each_other_and_their_gateway() {
    on_host(|host| {
        let network = host.default_network();
        let one = host.run(&network, "one");
        let two = host.run(&network, "two");
        assert_eq!(
            (one.interface.as_str(), address(&one).to_string().as_str()),
            ("eth0", "172.17.0.2")
        );
        assert_eq!(address(&two).to_string(), "172.17.0.3");
        assert!(host.reaches("one", address(&two)));
        assert!(host.reaches("two", address(&one)));
        assert!(host.reaches("one", "172.17.0.1"));
        assert!(host.reaches("one", "127.0.0.1"));
        assert!(sh("busybox ping -c1 -W1 172.17.0.2").contains("1 packets received"));
        assert_eq!(one.mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!(host.net.host_gateway()[0].to_string(), "172.17.0.1");
    });
}

#[test]
fn outgoing_connections_take_the_hosts_address_unless_told_otherwise() {
    on_host(|host| {
        let lan = lan();
        let seen = |container: &str| {
            let listener = inside(&lan, || std::net::TcpListener::bind("0.0.0.0:81").unwrap());
            let path = host.net.namespace_path(container);
            inside(&path, || std::net::TcpStream::connect("192.0.2.2:81").unwrap());
            listener.accept().unwrap().1.ip().to_string()
        };
        let network = host.default_network();
        host.run(&network, "plain");
        assert_eq!(seen("plain"), "192.0.2.1");
        let options = BTreeMap::from([(
            "com.docker.network.bridge.enable_ip_masquerade".to_owned(),
            "false".to_owned(),
        )]);
        let request = NetworkRequest {
            id: id(2),
            name: "raw".to_owned(),
            options,
            ..NetworkRequest::default()
        };
        let raw = host.network(request);
        let endpoint = host.run(&raw, "routed");
        assert_eq!(seen("routed"), address(&endpoint).to_string());
    });
}

#[test]
fn networks_are_closed_to_each_other_and_to_neighbours() {
    on_host(|host| {
        let lan = lan();
        let one = host.run(&host.user_network(1, "one"), "a");
        let two = host.run(&host.user_network(2, "two"), "b");
        assert!(!host.reaches("a", address(&two)));
        assert!(!host.reaches("b", address(&one)));
        assert!(host.reaches("a", "192.0.2.2"));
        sh(&format!("ip -n lan route add {} via 192.0.2.1", address(&one)));
        let _ = lan;
        assert!(
            !try_sh(&format!("ip netns exec lan busybox ping -c1 -W1 {}", address(&one)))
                .status
                .success()
        );
    });
}

#[test]
fn an_internal_network_has_no_way_out_and_none_in() {
    on_host(|host| {
        lan();
        let request = NetworkRequest {
            id: id(1),
            name: "in".to_owned(),
            internal: true,
            ..NetworkRequest::default()
        };
        let network = host.network(request);
        let one = host.run(&network, "one");
        let two = host.run(&network, "two");
        assert!(host.reaches("one", address(&two)));
        assert_eq!(host.inside("one", "ip route").matches("default").count(), 0);
        let gateway = network.pools[0].gateway;
        host.inside("one", &format!("ip route add default via {gateway}"));
        assert!(!host.reaches("one", "192.0.2.2"));
        assert!(one.gateway4.is_none());
        let ports = [wharf_net::PortRequest::parse("80/tcp", "", "8080").unwrap()];
        assert!(host.net.publish("one", &ports).unwrap().is_empty());
    });
}

#[test]
fn without_icc_containers_reach_their_gateway_but_not_each_other() {
    on_host(|host| {
        for filtered in ["0", "1"] {
            sh(&format!(
                "sysctl -qw net.bridge.bridge-nf-call-iptables={filtered} || true"
            ));
            let options = BTreeMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())]);
            let request = NetworkRequest {
                id: id(1),
                name: "quiet".to_owned(),
                options,
                ..NetworkRequest::default()
            };
            let network = host.network(request);
            host.run(&network, "one");
            let two = host.run(&network, "two");
            assert!(
                host.reaches("one", network.pools[0].gateway),
                "bridge-nf-call-iptables={filtered}"
            );
            assert!(
                !host.reaches("one", address(&two)),
                "bridge-nf-call-iptables={filtered}"
            );
            // Nor by way of the gateway.
            let (gateway, two) = (network.pools[0].gateway, address(&two));
            host.inside("one", &format!("ip route add {two}/32 via {gateway}"));
            assert!(!host.reaches("one", two), "bridge-nf-call-iptables={filtered}");
            host.net.remove_namespace("one").unwrap();
            host.net.remove_namespace("two").unwrap();
            host.net.remove_network(&network.id).unwrap();
        }
    });
}

#[test]
fn a_running_container_joins_and_leaves_networks() {
    on_host(|host| {
        let front = host.user_network(1, "front");
        let back = host.user_network(2, "back");
        host.run(&front, "a");
        let b = host.run(&back, "b");
        let second = host.connect(&back, "a");
        assert_eq!(second.interface, "eth1");
        assert!(host.reaches("a", address(&b)));
        // Equal priorities: the first name gives the default route.
        let gateway = back.pools[0].gateway.to_string();
        assert!(host.inside("a", "ip route show default").contains(&gateway));
        let again = EndpointRequest {
            container_id: "a".to_owned(),
            ..EndpointRequest::default()
        };
        assert!(matches!(
            host.net.connect(&back.id, &again),
            Err(NetError::EndpointExists { .. })
        ));
        host.net.disconnect(&back.id, "a").unwrap();
        assert!(!host.reaches("a", address(&b)));
        assert!(
            host.inside("a", "ip route show default")
                .contains(&front.pools[0].gateway.to_string())
        );
        assert_eq!(
            host.inside("a", "ls /sys/class/net 2>/dev/null; ip -o link | wc -l")
                .trim()
                .lines()
                .last(),
            Some("2")
        );
        assert!(matches!(
            host.net.disconnect(&back.id, "a"),
            Err(NetError::NotConnected { .. })
        ));
        // The interface name is free again.
        assert_eq!(host.connect(&back, "a").interface, "eth1");
    });
}

#[test]
fn a_higher_gateway_priority_wins_the_default_route() {
    on_host(|host| {
        let one = host.user_network(1, "one");
        let two = host.user_network(2, "two");
        host.run(&one, "a");
        let request = EndpointRequest {
            container_id: "a".to_owned(),
            gateway_priority: 5,
            ..EndpointRequest::default()
        };
        host.net.connect(&two.id, &request).unwrap();
        assert!(
            host.inside("a", "ip route show default")
                .contains(&two.pools[0].gateway.to_string())
        );
    });
}

#[test]
fn fixed_addresses_are_honoured_and_refused_when_taken_or_foreign() {
    on_host(|host| {
        let request = NetworkRequest {
            id: id(1),
            name: "n".to_owned(),
            pools: pool("10.231.7.0/24"),
            ..NetworkRequest::default()
        };
        let network = host.network(request);
        let with = |container: &str, ipv4: &str| {
            host.container(container);
            let request = EndpointRequest {
                container_id: container.to_owned(),
                ipv4: Some(ipv4.to_owned()),
                mac: Some("02:11:22:33:44:55".to_owned()),
                ..EndpointRequest::default()
            };
            host.net.connect(&network.id, &request)
        };
        let endpoint = with("a", "10.231.7.77").unwrap();
        assert_eq!(endpoint.ipv4.unwrap().to_string(), "10.231.7.77/24");
        assert!(host.inside("a", "ip link show eth0").contains("02:11:22:33:44:55"));
        assert_eq!(
            with("b", "10.231.7.77").unwrap_err().to_string(),
            "Address already in use"
        );
        let error = with("c", "10.99.0.1").unwrap_err().to_string();
        assert_eq!(error, "no configured subnet contains IP address 10.99.0.1");
        assert!(matches!(with("d", "banana"), Err(NetError::InvalidAddress { .. })));
        host.net.remove_namespace("a").unwrap();
        with("e", "10.231.7.77").unwrap();
        let auto = host.user_network(2, "auto");
        let request = EndpointRequest {
            container_id: "b".to_owned(),
            ipv4: Some(address(&host.run(&auto, "f")).to_string()),
            ..EndpointRequest::default()
        };
        assert!(matches!(
            host.net.connect(&auto.id, &request),
            Err(NetError::FixedAddressUnsupported)
        ));
    });
}

#[test]
fn a_chosen_subnet_avoids_the_hosts_and_other_instances_networks() {
    on_host(|host| {
        sh(
            "ip link add d0 type veth peer name d1; ip addr add 172.17.9.1/24 dev d0; ip link set d0 up; ip link set d1 up",
        );
        sh("ip route add 172.18.0.0/15 dev d0");
        assert_eq!(host.default_network().pools[0].subnet.to_string(), "172.20.0.0/16");
    });
}

#[test]
fn mtu_and_bridge_name_options_take_effect() {
    on_host(|host| {
        let options = [
            ("com.docker.network.driver.mtu", "1400"),
            ("com.docker.network.bridge.name", "mine0"),
        ];
        let options = options
            .map(|(option, value)| (option.to_owned(), value.to_owned()))
            .into();
        let network = host.network(NetworkRequest {
            id: id(1),
            name: "n".to_owned(),
            options,
            ..NetworkRequest::default()
        });
        host.run(&network, "a");
        assert!(host.inside("a", "ip link show eth0").contains("mtu 1400"));
        assert!(sh("ip link show mine0").contains("mtu 1400"));
    });
}

#[test]
fn three_hundred_endpoints_are_added_and_removed_in_bounded_time() {
    on_host(|host| {
        let network = host.default_network();
        let names: Vec<String> = (0..300).map(|number| format!("c{number}")).collect();
        let mut connects = Duration::ZERO;
        let start = Instant::now();
        for name in &names {
            host.container(name);
            let before = Instant::now();
            host.connect(&network, name);
            connects += before.elapsed();
        }
        let added = start.elapsed();
        assert!(host.reaches("c299", "172.17.0.2"));
        let start = Instant::now();
        for name in &names {
            host.net.remove_namespace(name).unwrap();
        }
        let removed = start.elapsed();
        eprintln!("300 endpoints: {added:?} with namespaces, of that {connects:?} connecting; removed in {removed:?}");
        assert!(added < Duration::from_secs(30) && removed < Duration::from_secs(60));
        support::soon("every link is gone", || sh("ip -o link | wc -l").trim() == "2");
    });
}

#[test]
fn a_network_in_use_is_not_removed() {
    on_host(|host| {
        let network = host.user_network(1, "busy");
        host.run(&network, "a");
        let error = host.net.remove_network(&network.id).unwrap_err();
        assert!(error.to_string().contains("active endpoints"), "{error}");
        host.net.remove_namespace("a").unwrap();
        host.net.remove_network(&network.id).unwrap();
        host.net.remove_network(&network.id).unwrap();
        assert!(!sh("ip -o link").contains(&network.bridge));
        assert!(!sh("nft list ruleset").contains(&network.bridge));
    });
}
