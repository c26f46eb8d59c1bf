//! Tests of the records.
use std::collections::BTreeMap;

use super::*;
use crate::error::ErrorKind;
use crate::model::*;
use crate::operations::OperationKind;

fn open() -> (tempfile::TempDir, Db) {
    let dir = tempfile::tempdir().expect("temp dir");
    let db = Db::open(&dir.path().join("wharf.db")).expect("open");
    (dir, db)
}

fn container(name: &str) -> ContainerRecord {
    ContainerRecord {
        id: ContainerId::random(),
        name: name.into(),
        created: Timestamp::now(),
        config: ContainerConfig::default(),
        host: HostConfig::default(),
        image_id: "sha256:aa".into(),
        manifest_digest: String::new(),
        layers: vec![],
        platform: "linux/amd64".into(),
        path: "true".into(),
        args: vec![],
        mounts: vec![],
        endpoints: BTreeMap::new(),
        published: vec![],
        upstream: vec![],
        state: State::default(),
        restart_count: 0,
        manually_stopped: false,
        story: Story::default(),
        shut_down: false,
        dir: "/nowhere".into(),
    }
}

#[test]
fn a_record_reads_back_as_it_was_written() {
    let (_dir, db) = open();
    let record = container("a");
    db.put_container(&record).expect("put");
    assert_eq!(db.containers().expect("read"), vec![record.clone()]);
    db.delete_container(&record.id).expect("delete");
    assert!(db.containers().expect("read").is_empty());
}

#[test]
fn a_name_belongs_to_one_container() {
    let (_dir, db) = open();
    db.put_container(&container("a")).expect("put");
    let err = db.put_container(&container("a")).expect_err("taken");
    assert_eq!(err.kind(), ErrorKind::Conflict);
}

#[test]
fn the_journal_keeps_unfinished_operations_in_order() {
    let (_dir, db) = open();
    let args = serde_json::json!({"name": "x"});
    let first = db
        .journal_begin(OperationKind::Start, "c1", Timestamp::now(), &args)
        .expect("begin");
    let second = db
        .journal_begin(OperationKind::Remove, "c2", Timestamp::now(), &args)
        .expect("begin");
    db.journal_step(second, 3).expect("step");
    db.journal_end(first).expect("end");
    let left = db.journal().expect("read");
    assert_eq!(left.len(), 1);
    assert_eq!(
        (left[0].kind, left[0].target.as_str(), left[0].step),
        (OperationKind::Remove, "c2", 3)
    );
    assert_eq!(left[0].args, args);
}

#[test]
fn events_of_an_earlier_version_are_read_and_forgotten() {
    let (_dir, db) = open();
    assert!(db.events().expect("none").is_empty());
    let event = Event {
        seq: 7,
        kind: EventKind::Container,
        action: "start".into(),
        actor: "c".into(),
        attributes: BTreeMap::new(),
        time: Timestamp::now(),
    };
    let table = "CREATE TABLE events (seq INTEGER PRIMARY KEY, record TEXT NOT NULL)";
    db.lock().execute_batch(table).expect("table");
    let json = serde_json::to_string(&event).expect("json");
    let insert = "INSERT INTO events (seq, record) VALUES (7, ?1)";
    db.lock().execute(insert, [json]).expect("insert");
    assert_eq!(db.events().expect("read"), vec![event]);
    db.forget_events().expect("forget");
    assert!(db.events().expect("none").is_empty());
}

#[test]
fn tables_of_a_newer_engine_are_refused() {
    let (dir, db) = open();
    db.lock()
        .execute("UPDATE engine_meta SET value = 99 WHERE key = 'schema'", [])
        .expect("update");
    drop(db);
    let err = Db::open(&dir.path().join("wharf.db")).expect_err("newer");
    assert!(err.message().contains("newer engine"), "{err}");
}
