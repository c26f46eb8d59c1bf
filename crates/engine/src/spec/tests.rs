//! Generated configurations, as snapshots and tables.
use std::collections::BTreeMap;

use super::*;
use crate::model::*;

pub(super) fn record() -> ContainerRecord {
    ContainerRecord {
        id: ContainerId::new("a".repeat(64)),
        name: "web".into(),
        created: Timestamp::from_nanos(0),
        config: ContainerConfig {
            hostname: "aaaaaaaaaaaa".into(),
            ..Default::default()
        },
        host: HostConfig {
            network_mode: "bridge".into(),
            ipc_mode: "private".into(),
            ..Default::default()
        },
        image_id: String::new(),
        manifest_digest: String::new(),
        layers: vec![],
        platform: "linux/amd64".into(),
        path: "sleep".into(),
        args: vec!["60".into()],
        mounts: vec![],
        endpoints: BTreeMap::new(),
        published: vec![],
        upstream: vec![],
        state: State::default(),
        restart_count: 0,
        manually_stopped: false,
        story: Story::default(),
        shut_down: false,
        dir: "/root/containers/a".into(),
    }
}

pub(super) fn facts() -> HostFacts {
    HostFacts {
        cgroup_path: "/wharf/a".into(),
        netns: Some("/run/wharf/netns/a".into()),
        files_dir: "/root/containers/a".into(),
        known_capabilities: names_of_mask(0x1ff_ffff_ffff),
        default_pids_limit: 4096,
        recursive_read_only: true,
        init_binary: "/usr/bin/wharf-shim".into(),
        ..HostFacts::default()
    }
}

/// A specification without its long and tested lists.
fn snapshot(record: &ContainerRecord, facts: &HostFacts) -> String {
    let mut spec = generate(record, facts).expect("generates");
    if let Some(linux) = &mut spec.linux {
        linux.seccomp = None;
    }
    serde_json::to_string_pretty(&spec).expect("serialises")
}

#[test]
fn an_apparmor_profile_is_set_only_where_there_is_apparmor() {
    let mut record = record();
    record.host.security_opt = Some(vec!["apparmor=mine".into()]);
    let profile_on = |apparmor| {
        let facts = HostFacts { apparmor, ..facts() };
        generate(&record, &facts)
            .expect("generates")
            .process
            .and_then(|p| p.apparmor_profile)
    };
    assert_eq!(profile_on(true).as_deref(), Some("mine"));
    assert_eq!(profile_on(false), None);
}

#[test]
fn a_plain_container_gets_dockers_defaults() {
    insta::assert_snapshot!(snapshot(&record(), &facts()));
}

#[test]
fn limits_and_mounts_reach_the_specification() {
    let mut record = record();
    record.host.resources = Resources {
        memory: 64 << 20,
        memory_swap: 128 << 20,
        nano_cpus: 500_000_000,
        cpu_shares: 512,
        pids_limit: Some(33),
        cpuset_cpus: "0".into(),
        ulimits: Some(vec![Ulimit {
            name: "nofile".into(),
            soft: 100,
            hard: -1,
        }]),
        ..Resources::default()
    };
    record.host.binds = Some(vec!["/data:/d:ro".into()]);
    record.host.tmpfs = Some(BTreeMap::from([("/t".into(), "size=64k,exec".into())]));
    let planned = crate::containers::create::mounts::plan_mounts(&record.host, &record.config, vec![]);
    record.mounts = planned.expect("valid").into_iter().map(|p| p.point).collect();
    let spec = generate(&record, &facts()).expect("generates");
    let linux = spec.linux.as_ref().expect("linux");
    let resources = linux.resources.as_ref().expect("limits");
    assert_eq!(resources.memory.as_ref().and_then(|m| m.limit), Some(64 << 20));
    assert_eq!(resources.memory.as_ref().and_then(|m| m.swap), Some(128 << 20));
    assert_eq!(resources.cpu.as_ref().and_then(|c| c.quota), Some(50_000));
    assert_eq!(resources.pids.and_then(|p| p.limit), Some(33));
    let find = |path: &str| {
        spec.mounts
            .iter()
            .find(|m| m.destination == Path::new(path))
            .expect(path)
    };
    assert_eq!(find("/d").options, ["rbind", "ro", "rro", "rprivate"]);
    assert_eq!(find("/t").options, ["nosuid", "nodev", "size=64k", "exec"]);
    let limit = &spec.process.as_ref().expect("process").rlimits[0];
    assert_eq!(
        (limit.kind.as_str(), limit.soft, limit.hard),
        ("RLIMIT_NOFILE", 100, u64::MAX)
    );
}

#[test]
fn read_only_reaches_below_where_the_kernel_can() {
    let check = |(non_recursive, forced), recursive_read_only: bool, expected: bool| {
        let mut record = record();
        record.host.mounts = Some(vec![crate::model::mounts::MountSpec {
            kind: "bind".into(),
            source: "/data".into(),
            target: "/d".into(),
            read_only: true,
            bind: Some(BindOptions {
                read_only_non_recursive: non_recursive,
                read_only_force_recursive: forced,
                propagation: "rprivate".into(),
                ..BindOptions::default()
            }),
            ..crate::model::mounts::MountSpec::default()
        }]);
        let planned = crate::containers::create::mounts::plan_mounts(&record.host, &record.config, vec![]);
        record.mounts = planned.expect("valid").into_iter().map(|p| p.point).collect();
        let facts = HostFacts {
            recursive_read_only,
            ..facts()
        };
        let spec = generate(&record, &facts).expect("generates");
        let found = spec.mounts.iter().find(|m| m.destination == Path::new("/d"));
        let is_recursive = found.expect("a mount").options.iter().any(|word| word == "rro");
        let case = format!("non-recursive {non_recursive}, forced {forced}, kernel can {recursive_read_only}");
        assert_eq!(is_recursive, expected, "{case}");
    };
    check((false, false), true, true);
    check((false, false), false, false);
    // Forced, it is an error of the runtime's where the kernel cannot.
    check((false, true), false, true);
    check((true, false), true, false);
}

#[test]
fn a_privileged_container_is_not_confined() {
    let mut record = record();
    record.host.privileged = true;
    let spec = generate(&record, &facts()).expect("generates");
    let linux = spec.linux.as_ref().expect("linux");
    assert!(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty() && linux.seccomp.is_none());
    let bounding = &spec
        .process
        .as_ref()
        .and_then(|p| p.capabilities.as_ref())
        .expect("sets")
        .bounding;
    assert_eq!(bounding.len(), 41);
    let sys = spec
        .mounts
        .iter()
        .find(|m| m.destination == Path::new("/sys"))
        .expect("/sys");
    assert!(sys.options.iter().any(|o| o == "rw"));
}

#[test]
fn cgroups_are_writable_to_the_privileged_and_those_who_ask() {
    let check = |privileged: bool, option: Option<&str>, expected: &str| {
        let mut record = record();
        record.host.privileged = privileged;
        record.host.security_opt = option.map(|option| vec![option.to_owned()]);
        let spec = generate(&record, &facts()).expect("generates");
        let mount = spec
            .mounts
            .iter()
            .find(|m| m.destination == Path::new("/sys/fs/cgroup"));
        assert_eq!(mount.expect("a mount").options[0], expected, "{privileged} {option:?}");
    };
    check(false, None, "ro");
    check(true, None, "rw");
    check(false, Some("writable-cgroups=true"), "rw");
    check(true, Some("writable-cgroups=false"), "ro");
}

#[test]
fn joined_and_host_namespaces_are_not_made() {
    let mut record = record();
    record.host.network_mode = "host".into();
    record.host.pid_mode = "container:x".into();
    record.host.ipc_mode = "host".into();
    record.host.uts_mode = "host".into();
    let facts = HostFacts {
        netns: None,
        pid_of_pid_container: Some(77),
        ..facts()
    };
    let spec = generate(&record, &facts).expect("generates");
    let made: Vec<_> = spec
        .linux()
        .namespaces
        .iter()
        .map(|n| (n.kind, n.path.as_ref().map(|p| p.to_string_lossy().into_owned())))
        .collect();
    use wharf_runtime::spec::NamespaceKind as K;
    assert_eq!(made, [(K::Mount, None), (K::Pid, Some("/proc/77/ns/pid".into()))]);
    assert_eq!(spec.hostname, None);
}

#[test]
fn variables_of_the_container_replace_the_defaults() {
    let mut record = record();
    record.config.env = Some(vec!["PATH=/x".into(), "A=1".into(), "HOSTNAME".into()]);
    assert_eq!(environment(&record), ["PATH=/x", "A=1"]);
}

#[test]
fn init_is_put_before_the_command() {
    let mut record = record();
    record.host.resources.init = Some(true);
    let spec = generate(&record, &facts()).expect("generates");
    assert_eq!(
        spec.process.as_ref().expect("process").args,
        ["/sbin/docker-init", "--", "sleep", "60"]
    );
    let init = spec
        .mounts
        .iter()
        .find(|m| m.destination == Path::new(INIT_PATH))
        .expect("mounted");
    assert_eq!(init.source.as_deref(), Some(Path::new("/usr/bin/wharf-shim")));
}
