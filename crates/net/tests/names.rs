//! The name service as containers see it.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use support::{Host, address, inside, on_host, soon};
use wharf_net::{EndpointRequest, NamespaceRequest, NetworkRecord, Upstream};
use wharf_shim::keeper::dns::{self, Code, Record, TYPE_A, TYPE_AAAA, TYPE_PTR};

/// What came back: the code, how many answers, and the data of the last one.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    code: u8,
    count: u16,
    last: Vec<u8>,
}

fn read(message: &[u8]) -> Reply {
    let count = u16::from_be_bytes([message[6], message[7]]);
    let length = if count == 0 { 0 } else { 4 };
    Reply {
        code: message[3] & 15,
        count,
        last: message[message.len() - length..].to_vec(),
    }
}

/// Asks the name service from inside a container, over UDP.
fn ask(host: &Host, container: &str, name: &str, kind: u16) -> Reply {
    let query = dns::query_bytes(7, name, kind);
    inside(&host.net.namespace_path(container), || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        socket.send(&query).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        read(&buffer[..length])
    })
}

/// The same over TCP.
fn ask_tcp(host: &Host, container: &str, name: &str) -> Reply {
    let query = dns::query_bytes(7, name, TYPE_A);
    inside(&host.net.namespace_path(container), || {
        let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&query).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut message).unwrap();
        read(&message)
    })
}

fn found(address: std::net::IpAddr) -> Reply {
    let std::net::IpAddr::V4(address) = address else {
        panic!("an IPv4 address")
    };
    Reply {
        code: 0,
        count: 1,
        last: address.octets().to_vec(),
    }
}

fn named(host: &Host, network: &NetworkRecord, container: &str, names: &[&str]) -> wharf_net::EndpointRecord {
    if !host.net.namespace_path(container).exists() {
        host.container(container);
    }
    let request = EndpointRequest {
        container_id: container.to_owned(),
        dns_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..EndpointRequest::default()
    };
    host.net.connect(&network.id, &request).unwrap()
}

/// A name server on the host that knows one name, over UDP and TCP.
fn upstream(at: SocketAddr) {
    let reply = |request: &[u8]| {
        let query = dns::parse_query(request).unwrap();
        let records = [Record::Address(Ipv4Addr::new(192, 0, 2, 99).into())];
        let known = query.name == "outside.test";
        dns::answer(&query, request, Code::NoError, if known { &records } else { &[] }, 4096)
    };
    let socket = UdpSocket::bind(at).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(&reply(&buffer[..length]), peer).unwrap();
        }
    });
    let listener = std::net::TcpListener::bind(at).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut request = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut request).unwrap();
            let answer = reply(&request);
            stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
}

#[test]
fn containers_find_each_other_by_every_name_on_shared_networks() {
    on_host(|host| {
        let front = host.user_network(1, "front");
        let back = host.user_network(2, "back");
        let web = named(host, &front, "web", &["web", "www", "0123456789ab"]);
        let db = named(host, &back, "db", &["db"]);
        named(host, &front, "client", &["client"]);
        for name in ["web", "WWW", "0123456789ab", "web.front"] {
            assert_eq!(ask(host, "client", name, TYPE_A), found(address(&web)), "{name}");
        }
        assert_eq!(ask_tcp(host, "client", "web"), found(address(&web)));
        assert_eq!(
            ask(host, "client", "web", TYPE_AAAA),
            Reply {
                code: 0,
                count: 0,
                last: vec![]
            }
        );
        assert_eq!(ask(host, "client", "db", TYPE_A).code, 2, "nobody else to ask");
        let reverse = address(&web).to_string().split('.').rev().collect::<Vec<_>>().join(".") + ".in-addr.arpa";
        assert_eq!(ask(host, "client", &reverse, TYPE_PTR).count, 1);

        host.connect(&back, "client");
        assert_eq!(ask(host, "client", "db", TYPE_A), found(address(&db)));
        host.net.rename(&back.id, "db", &["postgres".to_owned()]).unwrap();
        assert_eq!(ask(host, "client", "postgres", TYPE_A), found(address(&db)));
        assert_eq!(ask(host, "client", "db", TYPE_A).code, 2);
        host.net.disconnect(&back.id, "client").unwrap();
        assert_eq!(ask(host, "client", "postgres", TYPE_A).code, 2);
    });
}

#[test]
fn a_container_may_serve_names_itself_on_every_address() {
    on_host(|host| {
        let network = host.user_network(1, "front");
        let server = named(host, &network, "server", &["server"]);
        named(host, &network, "client", &["client"]);
        let (udp, tcp) = inside(&host.net.namespace_path("server"), || {
            (
                UdpSocket::bind("0.0.0.0:53").unwrap(),
                std::net::TcpListener::bind("0.0.0.0:53").unwrap(),
            )
        });
        assert_eq!(
            ask(host, "server", "server", TYPE_A),
            found(address(&server)),
            "ours still answers at 127.0.0.11"
        );
        inside(&host.net.namespace_path("client"), || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket
                .send_to(b"to the container's own", (address(&server), 53))
                .unwrap();
            TcpStream::connect((address(&server), 53)).unwrap();
        });
        udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(udp.recv(&mut [0; 64]).unwrap(), 22);
        tcp.accept().unwrap();
    });
}

#[test]
fn an_unmodified_resolver_is_satisfied() {
    on_host(|host| {
        let network = host.user_network(1, "front");
        let web = named(host, &network, "web", &["web"]);
        named(host, &network, "client", &["client"]);
        let text = host.inside("client", "busybox nslookup web 127.0.0.11");
        assert!(text.contains(&address(&web).to_string()), "{text}");
    });
}

#[test]
fn unknown_names_are_asked_from_the_right_namespace() {
    on_host(|host| {
        support::lan();
        upstream("127.0.0.1:53".parse().unwrap());
        upstream("192.0.2.1:53".parse().unwrap());
        let network = host.user_network(1, "front");
        let with = |container: &str, upstream: &[(&str, bool)]| {
            let upstream = upstream
                .iter()
                .map(|(address, from_host)| Upstream {
                    address: address.parse().unwrap(),
                    from_host: *from_host,
                })
                .collect();
            let request = NamespaceRequest {
                container_id: container.to_owned(),
                upstream,
                ..NamespaceRequest::default()
            };
            host.net.create_namespace(&request).unwrap();
            named(host, &network, container, &[container]);
        };
        let outside = found(Ipv4Addr::new(192, 0, 2, 99).into());
        with("host", &[("127.0.0.1", true)]);
        assert_eq!(ask(host, "host", "outside.test", TYPE_A), outside);
        assert_eq!(ask_tcp(host, "host", "outside.test"), outside);
        with("routed", &[("192.0.2.1", false)]);
        assert_eq!(ask(host, "routed", "outside.test", TYPE_A), outside);
        // The container's own loopback is not the host's, and a silent server is left for the next.
        with("own", &[("127.0.0.1", false)]);
        assert_eq!(ask(host, "own", "outside.test", TYPE_A).code, 2);
        with("second", &[("192.0.2.77", false), ("192.0.2.1", false)]);
        assert_eq!(ask(host, "second", "outside.test", TYPE_A), outside);
        assert_eq!(
            ask(host, "second", "nowhere.test", TYPE_A),
            Reply {
                code: 0,
                count: 0,
                last: vec![]
            }
        );
    });
}

#[test]
fn hostile_queries_do_not_disturb_the_service() {
    on_host(|host| {
        let network = host.user_network(1, "front");
        let web = named(host, &network, "web", &["web"]);
        inside(&host.net.namespace_path("web"), || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect("127.0.0.11:53").unwrap();
            let query = dns::query_bytes(1, "some.name.test", TYPE_A);
            for length in 0..query.len() {
                let _ = socket.send(&query[..length]);
            }
            for _ in 0..500 {
                let _ = socket.send(&query);
            }
            // Clients that connect and say nothing, or half a length.
            let idle: Vec<TcpStream> = (0..200)
                .filter_map(|_| TcpStream::connect("127.0.0.11:53").ok())
                .collect();
            for mut stream in &idle {
                let _ = stream.write_all(&[0xff]);
            }
        });
        assert_eq!(ask(host, "web", "web", TYPE_A), found(address(&web)));
    });
}

fn keeper_pid(host: &Host) -> Option<i32> {
    let text = std::fs::read_to_string(host.config.run.join("keeper/pid")).ok()?;
    text.split(' ').next()?.parse().ok()
}

fn keeper_log(host: &Host) -> PathBuf {
    host.config.run.join("keeper/log")
}

#[test]
fn a_killed_keeper_is_replaced_with_everything_it_held() {
    on_host(|host| {
        let network = host.user_network(1, "front");
        let web = named(host, &network, "web", &["web"]);
        let port = wharf_net::PortRequest::parse("80/tcp", "127.0.0.1", "8080").unwrap();
        host.net.publish("web", &[port]).unwrap();
        let first = keeper_pid(host).unwrap();
        assert!(
            std::process::Command::new("kill")
                .args(["-9", &first.to_string()])
                .status()
                .unwrap()
                .success()
        );
        soon("another keeper", || keeper_pid(host).is_some_and(|pid| pid != first));
        soon("its work", || TcpStream::connect("127.0.0.1:8080").is_ok());
        assert_eq!(ask(host, "web", "web", TYPE_A), found(address(&web)));
    });
}

#[test]
fn a_keeper_without_work_ends_by_itself() {
    on_host(|host| {
        let network = host.user_network(1, "front");
        named(host, &network, "web", &["web"]);
        assert!(keeper_pid(host).is_some());
        host.net.remove_namespace("web").unwrap();
        soon("no keeper", || keeper_pid(host).is_none());
        assert!(!keeper_log(host).exists());
        named(host, &network, "again", &["again"]);
        assert!(keeper_pid(host).is_some());
    });
}
