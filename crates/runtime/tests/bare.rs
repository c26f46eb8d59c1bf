//! Init that begins in a bare mount namespace: containers do not differ by it. Needs root.

mod bundle;

use bundle::{Bundle, has_mount_setattr};
use rustix::mount::{UnmountFlags, unmount};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use wharf_sys::namespace::{self, CLONE_NEWNS};

/// What makes a configuration a case.
type Change<'a> = &'a dyn Fn(&mut Bundle);

fn launch(bundle: &Bundle, is_bare: bool) -> String {
    bundle.launch(json!({ "bare": is_bare })).ok()
}

/// What a mount table says that is no number of the moment: place, options, kinds of propagation, file system; sorted,
/// as the order is that in which mounts were made.
fn without_numbers(table: &str) -> Vec<String> {
    let line = |line: &str| {
        let words = line.split(' ').skip(3);
        let words = words.map(|word| match word.split_once(':') {
            Some((kind @ ("master" | "shared" | "propagate_from"), _)) => kind.to_owned(),
            _ => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = table.lines().map(line).collect();
    lines.sort();
    lines
}

#[test]
fn the_mounts_are_the_same_as_those_of_a_copy_of_the_host_s() {
    let mut bundle = Bundle::new("cat /proc/self/mountinfo; cat /proc/kcore /proc/keys; ls /sys/firmware /proc/1/fd");
    let shared = bundle.path().join("shared");
    std::fs::create_dir(&shared).expect("a directory");
    for options in [
        json!(["rbind", "rshared"]),
        json!(["bind", "ro"]),
        json!(["rbind", "rslave"]),
    ] {
        let place = format!(
            "/mnt/{}",
            options.as_array().map_or(0, Vec::len) + options.to_string().len()
        );
        bundle.add_mount(json!({ "destination": place, "type": "bind", "source": shared, "options": options }));
    }
    bundle.add_mount(json!({ "destination": "/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"] }));
    for propagation in [json!(null), json!("shared"), json!("rslave"), json!("private")] {
        bundle.set("/linux/rootfsPropagation", propagation.clone());
        let (plain, bare) = (launch(&bundle, false), launch(&bundle, true));
        let (plain, bare) = (without_numbers(&plain), without_numbers(&bare));
        assert!(plain.len() > 12, "{plain:?}");
        assert_eq!(plain, bare, "{propagation}");
    }
}

#[test]
fn parameters_of_the_kernel_are_set_whatever_the_container_s_proc_is() {
    let (parameter, value) = ("net.ipv4.ip_unprivileged_port_start", "7");
    let script = format!("cat /proc/sys/{}", parameter.replace('.', "/"));
    let check = |change: Change<'_>| {
        let mut bundle = Bundle::new(&script);
        bundle.set("/linux/sysctl", json!({ parameter: value }));
        change(&mut bundle);
        assert_eq!(launch(&bundle, true), value);
    };
    check(&|_| {});
    check(&|bundle| {
        bundle.set("/mounts/0/options", json!(["ro"]));
    });
    check(&|bundle| {
        let kinds = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
        kinds.retain(|kind| kind["type"] != "pid");
    });
}

#[test]
fn what_needs_the_host_s_mounts_or_a_user_namespace_has_them() {
    let hooks =
        json!({ "createContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", "ls /etc/passwd >/dev/null"] }] });
    let below = |bundle: &mut Bundle| {
        let source = bundle.rootfs().join("etc");
        std::fs::create_dir_all(&source).expect("a directory");
        bundle.add_mount(json!({ "destination": "/mnt", "type": "bind", "source": source, "options": ["bind"] }));
    };
    let cases: [(&str, Change<'_>); 5] = [
        ("hooks", &|bundle| {
            bundle.set("/hooks", hooks.clone());
        }),
        ("a user namespace", &|bundle| {
            bundle.map_users(100_000, 65_536);
        }),
        ("the caller's mounts", &|bundle| {
            let kinds = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
            kinds.retain(|kind| kind["type"] != "mount");
            for key in ["maskedPaths", "readonlyPaths"] {
                bundle.config["linux"].as_object_mut().expect("an object").remove(key);
            }
            bundle.config["mounts"] = Value::Array(Vec::new());
        }),
        ("a bind of what is below the root", &below),
        ("a file system with a source", &|bundle| {
            let layers = ["one", "other"].map(|name| bundle.path().join(name));
            layers
                .iter()
                .for_each(|layer| std::fs::create_dir(layer).expect("a directory"));
            let option = format!("lowerdir={}:{}", layers[0].display(), layers[1].display());
            bundle.add_mount(json!({
                "destination": "/mnt", "type": "overlay", "source": "overlay", "options": [option],
            }));
        }),
    ];
    for (what, change) in cases {
        let mut bundle = Bundle::new("echo here");
        change(&mut bundle);
        assert_eq!(launch(&bundle, true), "here", "{what}");
    }
}

/// The names in the root of a process's mount namespace once its topmost root is taken away, in that namespace itself:
/// for a process that is ended afterwards.
fn below_the_root_of(pid: &str) -> BTreeSet<String> {
    let path = format!("/proc/{pid}/ns/mnt");
    let look = move || {
        let place = namespace::open(path.as_ref()).expect("its mount namespace");
        namespace::unshare_directory().expect("a root of its own");
        namespace::enter(&place, CLONE_NEWNS).expect("to enter");
        unmount("/", UnmountFlags::DETACH).expect("to take the root away");
        namespace::enter(&place, CLONE_NEWNS).expect("to enter again");
        let writable = rustix::mount::mount_remount("/", rustix::mount::MountFlags::empty(), "");
        assert_eq!(
            writable,
            Err(rustix::io::Errno::ROFS),
            "nothing is left there for other containers"
        );
        let all = |path: &str| std::fs::read_dir(path).expect("a directory").flatten();
        let names = all("/")
            .chain(all("/root"))
            .map(|entry| entry.path().display().to_string());
        names.collect()
    };
    std::thread::spawn(look).join().expect("a look")
}

#[test]
fn below_the_root_there_is_nothing_of_the_host() {
    if !has_mount_setattr() {
        return;
    }
    let bundle = Bundle::new("touch /there; cat; true");
    bundle.write();
    let launch = json!({ "bundle": bundle.path(), "bare": true }).to_string();
    let mut child = std::process::Command::new(bundle::program("launch"))
        .arg(launch)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("launch");
    bundle.await_file("there");
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).expect("its children");
    let found = below_the_root_of(children.trim());
    drop(child.stdin.take());
    child.wait().expect("its end");
    assert_eq!(found, BTreeSet::from(["/root".to_owned()]));
}
