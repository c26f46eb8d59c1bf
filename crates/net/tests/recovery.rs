//! A new engine finds what the old one left; a reset leaves nothing.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;

use support::{Host, inside, on_host, sh, soon};
use wharf_net::{Desired, DesiredContainer, NamespaceRequest, Net, NetworkRecord, Pinning, PortRequest};
use wharf_sys::namespace::{CLONE_NEWNS, enter, open, unshare_directory};

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

/// Takes a pin away from where all of them are.
fn unpin(host: &Host, container: &str) {
    let pins = open(&host.config.run.join("pins/namespace")).unwrap();
    let work = || {
        unshare_directory().unwrap();
        enter(&pins, CLONE_NEWNS).unwrap();
        rustix::mount::unmount(format!("/ns/{container}"), rustix::mount::UnmountFlags::DETACH).unwrap();
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
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
        unpin(host, "three");
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

/// Lines of this thread's mount table that name the run directory.
fn mounts_in_run(host: &Host) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let run = host.config.run.to_str().unwrap();
    table
        .lines()
        .filter(|line| line.contains(run))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_hosts_mount_table_does_not_grow_with_containers() {
    on_host(|host| {
        let network = host.default_network();
        host.run(&network, "one");
        let before = mounts_in_run(host).len();
        for number in 0..5 {
            host.run(&network, &format!("more{number}"));
        }
        assert_eq!(mounts_in_run(host).len(), before, "{:#?}", mounts_in_run(host));
        assert!(host.reaches("one", "172.17.0.1"));
        // Nothing of the host is kept busy by the namespace of the pins.
        let pins = open(&host.config.run.join("pins/namespace")).unwrap();
        let work = || {
            unshare_directory().unwrap();
            enter(&pins, CLONE_NEWNS).unwrap();
            std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
        };
        let table = std::thread::scope(|scope| scope.spawn(work).join().unwrap());
        let strange: Vec<_> = table
            .lines()
            .filter(|line| {
                !["proc ", "tmpfs ", "nsfs "]
                    .iter()
                    .any(|kind| line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with(kind)))
            })
            .collect();
        assert!(strange.is_empty(), "{strange:#?}");
    });
}

#[test]
fn no_bind_takes_the_place_of_the_pins_along() {
    on_host(|host| {
        let network = host.default_network();
        host.run(&network, "one");
        let place = host.config.run.join("pins");
        let is_apart = || {
            let own = format!(" {} ", place.display());
            let mounts = mounts_in_run(host);
            mounts.iter().any(|m| m.contains(&own) && m.contains(" unbindable "))
        };
        assert!(is_apart(), "{:#?}", mounts_in_run(host));
        // As an earlier version has left it.
        sh(&format!("mount --make-private {}", place.display()));
        assert!(!is_apart());
        let successor = Net::open(host.config.clone()).unwrap();
        let nothing = Desired {
            networks: Vec::new(),
            containers: Vec::new(),
        };
        successor.reconcile(&nothing).unwrap();
        assert!(is_apart(), "{:#?}", mounts_in_run(host));
    });
}

#[test]
fn a_pin_of_an_earlier_version_is_taken_over_and_removed() {
    on_host(|host| {
        let network = host.default_network();
        let path = host.net.namespace_path("old");
        // As that version has made it: the mount is where the host sees it.
        let request = NamespaceRequest {
            container_id: "old".to_owned(),
            pinning: Pinning::InPlace,
            ..NamespaceRequest::default()
        };
        assert_eq!(host.net.create_namespace(&request).unwrap().path(), path);
        let endpoint = host.connect(&network, "old");
        let namespace = NamespaceRequest {
            pinning: Pinning::Apart,
            ..request
        };
        let desired = Desired {
            networks: vec![network],
            containers: vec![DesiredContainer {
                namespace: namespace.clone(),
                endpoints: vec![endpoint],
                ports: Vec::new(),
            }],
        };
        let successor = Net::open(host.config.clone()).unwrap();
        assert!(successor.reconcile(&desired).unwrap().lost.is_empty());
        assert!(host.reaches("old", "172.17.0.1"));
        // Started again, it is in the same namespace; a process in it changes nothing about the pin.
        assert_eq!(successor.create_namespace(&namespace).unwrap().path(), path);
        successor.show_namespace("old", 1).unwrap();
        assert!(!path.is_symlink());
        successor.remove_namespace("old").unwrap();
        assert!(!path.exists() && !mounts_in_run(host).iter().any(|line| line.contains("/netns/old")));
    });
}

#[test]
fn the_path_of_a_namespace_leads_there_through_a_process_and_nowhere_afterwards() {
    on_host(|host| {
        let network = host.default_network();
        host.run(&network, "one");
        let path = host.net.namespace_path("one");
        let inode = |path: &std::path::Path| std::fs::metadata(path).map(|stat| stat.ino());
        let own = inode(&path).unwrap();
        let mut process = std::process::Command::new("nsenter")
            .arg(format!("--net={}", path.display()))
            .args(["sleep", "60"])
            .spawn()
            .unwrap();
        let pid = i32::try_from(process.id()).unwrap();
        soon("it is in the namespace", || {
            inode(format!("/proc/{pid}/ns/net").as_ref()).is_ok_and(|ino| ino == own)
        });
        host.net.show_namespace("one", pid).unwrap();
        assert_eq!(
            std::fs::read_link(&path).unwrap(),
            std::path::PathBuf::from(format!("/proc/{pid}/ns/net"))
        );
        assert_eq!(inode(&path).unwrap(), own);
        process.kill().unwrap();
        process.wait().unwrap();
        host.net.hide_namespace("one");
        assert!(path.symlink_metadata().is_err());
        // It is still pinned: the next run of the container is in it.
        let request = NamespaceRequest {
            container_id: "one".to_owned(),
            ..NamespaceRequest::default()
        };
        let hold = host.net.create_namespace(&request).unwrap();
        assert_eq!((inode(&hold.path()).unwrap(), inode(&path).unwrap()), (own, own));
        assert!(host.reaches("one", "172.17.0.1"));
        host.net.remove_namespace("one").unwrap();
        assert!(path.symlink_metadata().is_err());
        assert!(host.net.hold_namespace("one").is_err());
    });
}
