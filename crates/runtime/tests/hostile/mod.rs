//! Hostile configurations, made from sound ones: shared by the tests and the
//! fuzz targets.

use crate::random::Random;
use serde_json::{Value, json};
use std::path::Path;
use wharf_runtime::check::check;
use wharf_runtime::spec;

/// What the runtime says to a configuration's text; none if it would make the
/// container.
pub(crate) fn verdict(text: &[u8]) -> Option<String> {
    use std::error::Error as _;
    match spec::parse(Path::new("config.json"), text) {
        Ok(spec) => check(Path::new("/bundle"), &spec).err().map(|error| error.message()),
        Err(error) => Some(format!(
            "{error}: {}",
            error.source().map_or_else(String::new, ToString::to_string)
        )),
    }
}

/// A configuration with every section of the specification in it.
pub(crate) fn rich_config() -> Value {
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    json!({
        "ociVersion": "1.3.0", "hostname": "h", "domainname": "d",
        "process": {
            "terminal": false, "consoleSize": {"height": 24, "width": 80}, "cwd": "/", "args": ["sh", "-c", "true"],
            "env": ["PATH=/bin", "TERM=xterm"], "noNewPrivileges": true, "oomScoreAdj": 100,
            "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4]},
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": [], "ambient": []},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}],
            "scheduler": {"policy": "SCHED_BATCH", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
            "execCPUAffinity": {"initial": "0-1", "final": "0"}
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
            {"destination": "/data", "source": "/srv", "options": ["rbind", "rro", "rprivate"]}
        ],
        "hooks": {"poststop": [{"path": "/bin/true", "args": ["true"], "env": ["A=B"], "timeout": 5}]},
        "annotations": {"a": "b"},
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "user"}, {"type": "time"}],
            "uidMappings": ids, "gidMappings": ids,
            "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}},
            "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}],
            "cgroupsPath": "/a/b", "rootfsPropagation": "rslave", "sysctl": {"kernel.shmmax": "1"},
            "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "mountLabel": "",
            "personality": {"domain": "LINUX"}, "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": []},
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"}],
                "memory": {"limit": 1_000_000, "reservation": 1, "swap": -1, "swappiness": 10, "checkBeforeUpdate": true},
                "cpu": {"shares": 100, "quota": 1000, "period": 1000, "cpus": "0-1", "mems": "0", "idle": 1, "burst": 1},
                "pids": {"limit": 10},
                "blockIO": {"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 500}],
                            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 9}],
                "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 5}]},
                "rdma": {"mlx": {"hcaHandles": 3, "hcaObjects": 4}}, "unified": {"memory.high": "5"}
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                             {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
                              "args": [{"index": 0, "value": 2, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}]
            }
        }
    })
}

/// Where in a value something stands: names and indices from the top.
pub(crate) type Place = Vec<String>;

/// The places of everything in `value`.
pub(crate) fn places(value: &Value) -> Vec<Place> {
    let mut found = Vec::new();
    collect(value, &mut Vec::new(), &mut found);
    found
}

fn collect(value: &Value, here: &mut Place, found: &mut Vec<Place>) {
    if !here.is_empty() {
        found.push(here.clone());
    }
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, child)| (name.clone(), child)).collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(n, child)| (n.to_string(), child))
            .collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        here.push(name);
        collect(child, here, found);
        here.pop();
    }
}

/// What stands at a place.
pub(crate) fn at<'a>(value: &'a mut Value, place: &Place) -> &'a mut Value {
    let pointer: String = place
        .iter()
        .map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1")))
        .collect();
    value.pointer_mut(&pointer).expect("a place of this value")
}

/// A value that no field expects, or expects no further.
pub(crate) fn hostile_value(random: &mut Random) -> Value {
    let nested = |depth: usize| (0..depth).fold(Value::Null, |inner, _| json!([inner]));
    match random.below(18) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(i64::MIN),
        5 => json!(1.5),
        6 => json!(""),
        7 => json!("\0"),
        8 => json!("a\0b"),
        9 => json!("x".repeat(1 << random.below(17))),
        10 => json!([]),
        11 => json!({}),
        12 => nested(random.below(120)),
        13 => json!(vec![json!(0); random.below(5000)]),
        14 => json!(vec![json!({}); random.below(5000)]),
        15 => json!({"": {"": ""}}),
        16 => json!("../../.."),
        _ => json!(random.number() >> random.below(64)),
    }
}

/// A text with one to three things done to it that no program that writes
/// JSON does.
pub(crate) fn mangle(text: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        let position = random.below(text.len() + 1);
        match random.below(7) {
            0 => text.truncate(position),
            1 if position < text.len() => text[position] ^= 1 << random.below(8),
            2 => drop(text.splice(position..position, vec![b'['; random.below(100_000)])),
            3 => drop(text.splice(position..position, *b"\\u0000")),
            4 => drop(text.splice(position..position, *b"\xff\0\x7f")),
            5 => {
                let copy = text[position..].to_vec();
                text.extend(copy);
            }
            _ => {
                let digits = vec![b'9'; random.below(400)];
                drop(text.splice(position..position, digits));
            }
        }
    }
}
