//! Published ports: from outside, from the host itself, from containers.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use support::{Host, on_host, sh, try_sh};
use wharf_net::{NetError, PortRequest, PublishedPort};
use wharf_sys::namespace::{CLONE_NEWNET, enter, open};

/// Runs `work` in another namespace of this host.
fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| {
            enter(open(path).unwrap(), CLONE_NEWNET).unwrap();
            work()
        });
        entered.join().unwrap()
    })
}

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

/// A neighbour on the host's LAN, 192.0.2.2; the host is 192.0.2.1.
fn lan() -> std::path::PathBuf {
    let file = Path::new("/run/netns/lan");
    sh("mkdir -p /run/netns; ip netns add lan");
    sh("ip link add lan0 type veth peer name eth0 netns lan");
    sh("ip addr add 192.0.2.1/24 dev lan0; ip link set lan0 up");
    sh("ip -n lan addr add 192.0.2.2/24 dev eth0; ip -n lan link set eth0 up; ip -n lan link set lo up");
    sh("ip -n lan route add default via 192.0.2.1");
    file.to_owned()
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
