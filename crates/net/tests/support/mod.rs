//! A private "host" for each test: its own network and mount namespace on a
//! thread of its own, so that the machine's network is never touched and
//! everything is gone when the thread ends.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // not every test file uses every part

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mount::{MountPropagationFlags, mount_change};
use wharf_net::{
    EndpointRecord, EndpointRequest, NamespaceRequest, Net, NetConfig, NetworkRecord, NetworkRequest, PoolRequest,
};
use wharf_sys::namespace::{CLONE_NEWNET, CLONE_NEWNS, enter, open, unshare};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// One instance on one private host.
pub struct Host {
    // ORDER: the engine ends before the reset, as it does in life.
    pub net: Net,
    pub config: NetConfig,
    _reset: Reset,
}

/// Takes away what the test leaves: the keeper is a process, it would outlive
/// the thread's namespaces.
struct Reset {
    config: NetConfig,
    _run: tempfile::TempDir,
}

impl Drop for Reset {
    fn drop(&mut self) {
        let result = wharf_net::reset(&self.config.instance, &self.config.run);
        assert!(result.is_ok() || std::thread::panicking(), "{result:?}");
    }
}

/// Runs a test on a fresh host with an open, reconciled instance.
pub fn on_host(test: impl FnOnce(&mut Host) + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            unshare(CLONE_NEWNET | CLONE_NEWNS).expect("these tests need root");
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
            // ip(8) keeps named namespaces there.
            rustix::mount::mount("tmpfs", "/run", "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
            sh("ip link set lo up");
            let run = tempfile::tempdir().unwrap();
            let instance = format!("t{}", COUNTER.fetch_add(1, Ordering::Relaxed));
            let config = NetConfig {
                instance,
                run: run.path().to_owned(),
                shim_binary: shim_binary(),
            };
            let net = Net::open(config.clone()).unwrap();
            net.reconcile(&wharf_net::Desired::default()).unwrap();
            let reset = Reset {
                config: config.clone(),
                _run: run,
            };
            let mut host = Host {
                net,
                config,
                _reset: reset,
            };
            test(&mut host);
        });
    });
}

/// The keeper that cargo builds beside this test.
pub fn shim_binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples/keeper")
}

/// Runs a shell command on this host; its output must be a success.
pub fn sh(command: &str) -> String {
    let output = try_sh(command);
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same, whatever comes of it.
pub fn try_sh(command: &str) -> Output {
    Command::new("sh").args(["-c", command]).output().unwrap()
}

/// Runs `work` in another namespace of this host.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let entered = scope.spawn(|| {
            enter(open(path).unwrap(), CLONE_NEWNET).unwrap();
            work()
        });
        entered.join().unwrap()
    })
}

/// Waits until something is so, at most ten seconds.
pub fn soon(what: &str, is_so: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed().as_secs() < 10, "not in ten seconds: {what}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A neighbour on the host's LAN, 192.0.2.2; the host is 192.0.2.1.
pub fn lan() -> PathBuf {
    sh("mkdir -p /run/netns; ip netns add lan");
    sh("ip link add lan0 type veth peer name eth0 netns lan");
    sh("ip addr add 192.0.2.1/24 dev lan0; ip link set lan0 up");
    sh("ip -n lan addr add 192.0.2.2/24 dev eth0; ip -n lan link set eth0 up; ip -n lan link set lo up");
    sh("ip -n lan route add default via 192.0.2.1");
    PathBuf::from("/run/netns/lan")
}

impl Host {
    pub fn network(&self, request: NetworkRequest) -> NetworkRecord {
        let record = self.net.plan_network(&request).unwrap();
        self.net.create_network(&record).unwrap();
        record
    }

    pub fn default_network(&self) -> NetworkRecord {
        self.network(self.net.default_network_request(&id(0)))
    }

    pub fn user_network(&self, number: u32, name: &str) -> NetworkRecord {
        self.network(NetworkRequest {
            id: id(number),
            name: name.to_owned(),
            ..NetworkRequest::default()
        })
    }

    pub fn container(&self, name: &str) -> PathBuf {
        let request = NamespaceRequest {
            container_id: name.to_owned(),
            ..NamespaceRequest::default()
        };
        self.net.create_namespace(&request).unwrap().path()
    }

    pub fn connect(&self, network: &NetworkRecord, container: &str) -> EndpointRecord {
        let request = EndpointRequest {
            container_id: container.to_owned(),
            dns_names: vec![container.to_owned()],
            ..EndpointRequest::default()
        };
        self.net.connect(&network.id, &request).unwrap()
    }

    /// Makes a container with one endpoint.
    pub fn run(&self, network: &NetworkRecord, container: &str) -> EndpointRecord {
        self.container(container);
        self.connect(network, container)
    }

    /// Runs a command inside a container's namespace.
    pub fn try_inside(&self, container: &str, command: &str) -> Output {
        let path = self.net.namespace_path(container);
        Command::new("nsenter")
            .arg(format!("--net={}", path.display()))
            .args(["sh", "-c", command])
            .output()
            .unwrap()
    }

    pub fn inside(&self, container: &str, command: &str) -> String {
        let output = self.try_inside(container, command);
        assert!(
            output.status.success(),
            "{container}: {command}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn reaches(&self, container: &str, address: impl std::fmt::Display) -> bool {
        self.try_inside(container, &format!("busybox ping -c1 -W2 {address}"))
            .status
            .success()
    }
}

pub fn address(endpoint: &EndpointRecord) -> std::net::IpAddr {
    endpoint.ipv4.expect("an IPv4 address").addr()
}

pub fn id(number: u32) -> String {
    format!("{number:08x}").repeat(8)
}

pub fn pool(subnet: &str) -> Vec<PoolRequest> {
    vec![PoolRequest {
        subnet: Some(subnet.to_owned()),
        ..PoolRequest::default()
    }]
}
