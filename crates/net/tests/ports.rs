//! Published ports: from outside, from the host itself, from containers.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use support::{Host, inside, lan, on_host, sh};
use wharf_net::{NetError, PortRequest, PublishedPort};

/// A TCP server in a container that says who has connected.
fn serve(host: &Host, container: &str, port: u16) {
    let listener = inside(&host.net.namespace_path(container), || {
        TcpListener::bind(("0.0.0.0", port)).unwrap()
    });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip();
            stream.write_all(peer.to_string().as_bytes()).unwrap();
        }
    });
}

/// A UDP server in a container that echoes.
fn echo(host: &Host, container: &str, port: u16) {
    let socket = inside(&host.net.namespace_path(container), || {
        UdpSocket::bind(("0.0.0.0", port)).unwrap()
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], peer);
        }
    });
}

/// Connects and reads what the server says.
fn ask(address: &str) -> std::io::Result<String> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    if text.is_empty() {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(text)
    }
}

fn publish(
    host: &Host,
    container: &str,
    host_ip: &str,
    host_port: &str,
    key: &str,
) -> Result<Vec<PublishedPort>, NetError> {
    host.net
        .publish(container, &[PortRequest::parse(key, host_ip, host_port).unwrap()])
}

#[test]
fn a_published_port_is_reached_from_everywhere_it_should_be() {
    on_host(|host| {
        let network = host.default_network();
        host.run(&network, "web");
        host.run(&network, "other");
        let lan = lan();
        serve(host, "web", 80);
        let published = publish(host, "web", "", "8080", "80/tcp").unwrap();
        assert_eq!(published.len(), 2, "one per family: {published:?}");
        // From outside, with the client's own address.
        assert_eq!(inside(&lan, || ask("192.0.2.1:8080")).unwrap(), "192.0.2.2");
        // From the host itself: its own address, loopback in both families.
        assert_eq!(ask("192.0.2.1:8080").unwrap(), "192.0.2.1");
        assert_eq!(ask("127.0.0.1:8080").unwrap(), "172.17.0.1");
        assert_eq!(ask("[::1]:8080").unwrap(), "172.17.0.1");
        assert_eq!(ask("172.17.0.1:8080").unwrap(), "172.17.0.1");
        // From a container of the same network and from the container itself.
        for container in ["other", "web"] {
            let path = host.net.namespace_path(container);
            assert_eq!(
                inside(&path, || ask("172.17.0.1:8080")).unwrap(),
                "172.17.0.1",
                "{container}"
            );
            assert_eq!(
                inside(&path, || ask("192.0.2.1:8080")).unwrap(),
                "172.17.0.1",
                "{container}"
            );
        }
        // An unpublished port is closed from outside, even by a neighbour that routes to the container.
        assert!(inside(&lan, || ask("172.17.0.2:80")).is_err());
        host.net.unpublish("web").unwrap();
        for address in ["127.0.0.1:8080", "192.0.2.1:8080", "[::1]:8080"] {
            assert_eq!(
                ask(address).unwrap_err().kind(),
                std::io::ErrorKind::ConnectionRefused,
                "{address}"
            );
        }
        assert!(inside(&lan, || ask("192.0.2.1:8080")).is_err());
    });
}

#[test]
fn a_port_published_on_loopback_is_the_hosts_alone() {
    on_host(|host| {
        let network = host.default_network();
        host.run(&network, "web");
        let lan = lan();
        serve(host, "web", 80);
        let published = publish(host, "web", "127.0.0.1", "8080", "80/tcp").unwrap();
        assert_eq!(published.len(), 1);
        assert!(ask("127.0.0.1:8080").is_ok());
        assert!(ask("192.0.2.1:8080").is_err());
        assert!(inside(&lan, || ask("192.0.2.1:8080")).is_err());
        // A neighbour that sends packets for 127.0.0.1 our way gets nothing either.
        sh("ip -n lan route add 127.0.0.1 via 192.0.2.1 table 99; ip -n lan rule add to 127.0.0.1 lookup 99 pref 1");
        sh(
            "ip netns exec lan sh -c 'echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip addr del 127.0.0.1/8 dev lo'",
        );
        assert!(inside(&lan, || ask("127.0.0.1:8080")).is_err());
        assert!(!sh("sysctl -n net.ipv4.conf.all.route_localnet").contains('1'));
    });
}

#[test]
fn datagrams_find_their_way_and_back() {
    on_host(|host| {
        let network = host.default_network();
        host.run(&network, "dns");
        let lan = lan();
        echo(host, "dns", 53);
        publish(host, "dns", "", "5353", "53/udp").unwrap();
        let exchange = |target: &str| {
            let local = if target.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(local).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.connect(target).unwrap();
            let mut buffer = [0; 16];
            for text in [b"one", b"two"] {
                socket.send(text).unwrap();
                let length = socket
                    .recv(&mut buffer)
                    .unwrap_or_else(|error| panic!("{target}: {error}"));
                assert_eq!(&buffer[..length], text, "{target}");
            }
        };
        exchange("127.0.0.1:5353");
        exchange("[::1]:5353");
        exchange("192.0.2.1:5353");
        inside(&lan, || exchange("192.0.2.1:5353"));
    });
}

#[test]
fn a_client_that_sent_datagrams_before_the_port_was_published_gets_through() {
    on_host(|host| {
        let network = host.default_network();
        host.run(&network, "dns");
        let lan = lan();
        let server = inside(&host.net.namespace_path("dns"), || {
            UdpSocket::bind("0.0.0.0:53").unwrap()
        });
        std::thread::spawn(move || {
            while let Ok((_, peer)) = server.recv_from(&mut [0; 16]) {
                let _ = server.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        });
        // Something that tracks connections, so that the first datagram is remembered.
        publish(host, "dns", "", "1", "1/udp").unwrap();
        let client = inside(&lan, || UdpSocket::bind("0.0.0.0:4000").unwrap());
        client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut buffer = [0; 16];
        let mut exchange = || {
            client.send_to(b"hello", "192.0.2.1:5353").unwrap();
            let length = client.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
        };
        assert_eq!(exchange(), None);
        publish(host, "dns", "", "5353", "53/udp").unwrap();
        assert_eq!(
            exchange().as_deref(),
            Some("192.0.2.2"),
            "translated, not copied by the keeper"
        );
        host.net.unpublish("dns").unwrap();
        assert_eq!(exchange(), None);
    });
}

#[test]
fn the_hosts_own_forward_rules_decide_over_published_ports() {
    on_host(|host| {
        let network = host.default_network();
        host.run(&network, "web");
        let lan = lan();
        serve(host, "web", 80);
        publish(host, "web", "", "8080", "80/tcp").unwrap();
        assert!(inside(&lan, || ask("192.0.2.1:8080")).is_ok());
        for priority in [-10, 10] {
            sh(&format!(
                "nft add table inet host; \
                 nft 'add chain inet host f {{ type filter hook forward priority {priority}; policy drop; }}'"
            ));
            assert!(
                inside(&lan, || ask("192.0.2.1:8080")).is_err(),
                "dropped by the host at {priority}"
            );
            sh("nft delete table inet host");
        }
        // Loopback is carried by the proxy, so the host's input chain decides there.
        sh("nft add table inet host; nft 'add chain inet host i { type filter hook input priority 0; }'");
        sh("nft add rule inet host i tcp dport 8080 drop");
        assert!(ask("127.0.0.1:8080").is_err());
    });
}

#[test]
fn taken_ports_are_refused_in_dockers_words_and_others_see_ours() {
    on_host(|host| {
        let network = host.default_network();
        host.run(&network, "one");
        host.run(&network, "two");
        publish(host, "one", "", "8080", "80/tcp").unwrap();
        let error = publish(host, "two", "127.0.0.1", "8080", "81/tcp")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "Bind for 127.0.0.1:8080 failed: port is already allocated");
        let _listener = TcpListener::bind("127.0.0.1:9090").unwrap();
        let error = publish(host, "two", "", "9090", "80/tcp").unwrap_err().to_string();
        let expected = "failed to bind host port for 0.0.0.0:9090:172.17.0.3:80/tcp: address already in use";
        assert_eq!(error, expected);
        let refused = TcpListener::bind("127.0.0.1:8080").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
        // Nothing of the refused ones is left.
        assert!(sh("nft list ruleset").matches(" . 80 }").count() <= 1);
        host.net.remove_namespace("one").unwrap();
        publish(host, "two", "", "8080", "80/tcp").unwrap();
    });
}

#[test]
fn large_transfers_through_the_proxy_arrive_whole_in_both_directions() {
    on_host(|host| {
        let network = host.default_network();
        host.run(&network, "web");
        let listener = inside(&host.net.namespace_path("web"), || {
            TcpListener::bind("0.0.0.0:80").unwrap()
        });
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received.reverse();
            stream.write_all(&received).unwrap();
        });
        publish(host, "web", "127.0.0.1", "8080", "80/tcp").unwrap();
        let sent: Vec<u8> = (0..20_000_000u32).map(|number| (number % 251) as u8).collect();
        let mut stream = TcpStream::connect("127.0.0.1:8080").unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        back.reverse();
        assert!(back == sent, "{} of {} bytes came back", back.len(), sent.len());
        server.join().unwrap();
    });
}

#[test]
fn ipv6_ports_are_translated_when_the_container_has_ipv6() {
    on_host(|host| {
        let request = wharf_net::NetworkRequest {
            id: support::id(6),
            name: "six".to_owned(),
            enable_ipv6: Some(true),
            ..Default::default()
        };
        let network = host.network(request);
        let web = host.run(&network, "web");
        let lan = lan();
        sh("ip addr add 2001:db8::1/64 dev lan0 nodad; ip -n lan addr add 2001:db8::2/64 dev eth0 nodad");
        sh("ip -n lan route add default via 2001:db8::1");
        let listener = inside(&host.net.namespace_path("web"), || {
            TcpListener::bind("[::]:80").unwrap()
        });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip().to_canonical();
                stream.write_all(peer.to_string().as_bytes()).unwrap();
            }
        });
        publish(host, "web", "", "8080", "80/tcp").unwrap();
        assert_eq!(inside(&lan, || ask("[2001:db8::1]:8080")).unwrap(), "2001:db8::2");
        assert_eq!(inside(&lan, || ask("192.0.2.1:8080")).unwrap(), "192.0.2.2");
        assert_eq!(ask("[2001:db8::1]:8080").unwrap(), "2001:db8::1");
        assert!(ask("[::1]:8080").is_ok());
        // Outgoing traffic takes the host's address.
        let peer = inside(&lan, || TcpListener::bind("[::]:81").unwrap());
        inside(&host.net.namespace_path("web"), || {
            TcpStream::connect("[2001:db8::2]:81").unwrap()
        });
        assert_eq!(peer.accept().unwrap().1.ip().to_string(), "2001:db8::1");
        assert!(inside(&lan, || ask(&format!("[{}]:80", web.ipv6.unwrap().addr()))).is_err());
    });
}
