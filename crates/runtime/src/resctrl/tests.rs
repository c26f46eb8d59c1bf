//! Classes over a directory that looks like a mounted resctrl.

use super::*;

/// Files as the kernel shows them on a machine with one cache.
fn tree() -> (tempfile::TempDir, Resctrl) {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in [
        ("schemata", "    MB:0=100\n    L3:0=fffff\n"),
        ("tasks", ""),
        ("info/L3/cbm_mask", "fffff\n"),
        ("info/L3/min_cbm_bits", "1\n"),
        ("info/L3/num_closids", "16\n"),
        ("info/last_cmd_status", "ok\n"),
        ("mon_groups/x", ""),
        ("mon_data/mon_L3_00/llc_occupancy", "4096\n"),
        ("mon_data/mon_L3_00/mbm_total_bytes", "7\n"),
        ("mon_data/mon_L3_00/mbm_local_bytes", "5\n"),
        ("gold/schemata", "L3:0=0000f\nMB:0= 50\n"),
        ("gold/mon_groups/x", ""),
    ] {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(path, text).expect("a file");
    }
    let root = directory.path().to_owned();
    (directory, Resctrl { root })
}

fn config(class: Option<&str>, l3: Option<&str>, schemata: &[&str]) -> IntelRdt {
    IntelRdt {
        clos_id: class.map(str::to_owned),
        l3_cache_schema: l3.map(str::to_owned),
        schemata: schemata.iter().map(|line| (*line).to_owned()).collect(),
        ..IntelRdt::default()
    }
}

#[test]
fn a_container_without_class_gets_one_of_its_own_that_goes_with_it() {
    let (directory, resctrl) = tree();
    let mut wanted = config(None, Some("L3:0=ff\nMB:0=20"), &["L2:0=3"]);
    wanted.mem_bw_schema = Some("MB:0=70".into());
    let guard = resctrl.create_group(&wanted, "c1").expect("a group");
    let class = directory.path().join("c1");
    let written = std::fs::read_to_string(class.join("schemata")).expect("schemata");
    assert_eq!(written, "L3:0=ff\nMB:0=70\nL2:0=3\n");
    guard.group().expect("a group").add(77).expect("tasks");
    assert_eq!(std::fs::read_to_string(class.join("tasks")).expect("tasks"), "77");
    // In resctrl the kernel's files go with the directory.
    for file in ["schemata", "tasks"] {
        std::fs::remove_file(class.join(file)).expect("the kernel's part");
    }
    drop(guard);
    assert!(!class.exists());
}

#[test]
fn a_class_that_exists_is_used_if_it_is_the_one_asked_for() {
    let (directory, resctrl) = tree();
    let guard = resctrl.create_group(&config(Some("gold"), Some("L3:0=F"), &["MB:0=50"]), "c1");
    drop(guard.expect("the same but for zeros and case"));
    assert!(directory.path().join("gold").exists(), "what was there stays");
    let error = resctrl
        .create_group(&config(Some("gold"), Some("L3:0=ff"), &[]), "c1")
        .map_err(|error| error.message())
        .err();
    let expected = "linux.intelRdt.closID: the class gold exists and differs from \"L3:0=ff\"";
    assert_eq!(error.as_deref(), Some(expected));
    let error = resctrl
        .create_group(&config(Some("silver"), None, &[]), "c1")
        .map_err(|error| error.message())
        .err();
    assert!(error.is_some_and(|text| text.starts_with("linux.intelRdt.closID: the class silver does not exist")));
    let root = resctrl
        .create_group(&config(Some("/"), None, &[]), "c1")
        .expect("the default class");
    assert_eq!(root.group().map(|group| group.class.as_path()), Some(directory.path()));
}

#[test]
fn monitoring_makes_a_group_below_the_class_and_only_that_goes() {
    let (directory, resctrl) = tree();
    let mut wanted = config(Some("gold"), None, &[]);
    wanted.enable_monitoring = true;
    let guard = resctrl.create_group(&wanted, "c1").expect("a group");
    let monitor = directory.path().join("gold/mon_groups/c1");
    assert_eq!(
        guard.group().expect("a group").made.as_slice(),
        std::slice::from_ref(&monitor)
    );
    drop(guard);
    assert!(!monitor.exists() && directory.path().join("gold").exists());
}

#[test]
fn names_and_lines_that_mean_nothing_are_errors() {
    for class in ["", "..", "a/b", "x\n"] {
        assert!(check_config(&config(Some(class), None, &[])).is_err(), "{class:?}");
    }
    let error = check_config(&config(None, None, &["nonsense"])).map_err(|error| error.message());
    let expected = "linux.intelRdt.schemata[0]: \"nonsense\" is not a line such as L3:0=f";
    assert_eq!(error, Err(expected.to_owned()));
    assert_eq!(check_config(&config(Some("/"), None, &["L3:0=f"])), Ok(()));
}

#[test]
fn figures_have_the_names_that_runc_gives_them() {
    let (directory, _) = tree();
    let group = ResctrlGroup {
        class: directory.path().join("gold"),
        monitor: Some(directory.path().to_owned()),
        made: Vec::new(),
    };
    let figures = read_figures(directory.path(), &group);
    assert_eq!(
        figures,
        serde_json::json!({
            "l3_cache_info": { "cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 16 },
            "l3_cache_schema_root": "L3:0=fffff", "l3_cache_schema": "L3:0=0000f",
            "mem_bw_schema_root": "MB:0=100", "mem_bw_schema": "MB:0= 50",
            "schemata": ["L3:0=0000f", "MB:0= 50"],
            "mbm_stats": [{ "mbm_total_bytes": 7, "mbm_local_bytes": 5 }],
            "cmt_stats": [{ "llc_occupancy": 4096 }],
        })
    );
}
