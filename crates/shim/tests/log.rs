//! What a log promises, whatever is written to it: nothing is lost, reordered or invented.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use wharf_shim::log::{LogReader, LogWriter, ReadOptions, Record, Stream, pack};
use wharf_shim::plan::LogPlan;

/// A piece that a process writes at once.
#[derive(Clone, Debug)]
struct Write {
    stream: Stream,
    bytes: Vec<u8>,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let bytes = prop_oneof![
        8 => proptest::collection::vec(prop_oneof![4 => 32u8..127, 1 => Just(b'\n')], 0..200),
        2 => proptest::collection::vec(any::<u8>(), 0..300),
        1 => (1usize..50_000).prop_map(|length| vec![b'x'; length]),
        1 => "[äöü€😀\n]{0,40}".prop_map(String::into_bytes),
    ];
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    let write = (stream, bytes).prop_map(|(stream, bytes)| Write { stream, bytes });
    proptest::collection::vec(write, 0..60)
}

fn plan(path: &Path, max_bytes: u64, max_files: u32) -> LogPlan {
    LogPlan {
        max_bytes,
        max_files,
        ..LogPlan::new(path)
    }
}

fn log_path(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("c-json.log")
}

fn write_all(plan: LogPlan, writes: &[Write]) {
    let mut writer = LogWriter::new(plan);
    for (time, write) in (1i64..).zip(writes) {
        writer.append(write.stream, &write.bytes, time);
    }
    writer.flush();
}

fn read_all(path: &Path, options: ReadOptions) -> Vec<Record> {
    let mut reader = LogReader::open(path, options).expect("a reader");
    std::iter::from_fn(|| reader.next_record().expect("readable")).collect()
}

fn content(records: &[Record], stream: Stream) -> Vec<u8> {
    records
        .iter()
        .filter(|record| record.stream == stream)
        .flat_map(|record| record.line.clone())
        .collect()
}

fn written(writes: &[Write], stream: Stream) -> Vec<u8> {
    writes
        .iter()
        .filter(|write| write.stream == stream)
        .flat_map(|write| write.bytes.clone())
        .collect()
}

/// PROPTEST_CASES of them, for machines that are slow.
fn cases() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(48),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_byte_comes_back_across_rotations(writes in writes(), max_bytes in 500u64..20_000) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = log_path(&dir);
        write_all(plan(&path, max_bytes, 900), &writes);
        let records = read_all(&path, ReadOptions::default());
        for stream in [Stream::Stdout, Stream::Stderr] {
            prop_assert_eq!(content(&records, stream), written(&writes, stream));
        }
        prop_assert!(records.is_sorted_by_key(|record| record.time_ns));
        prop_assert!(records.iter().all(|record| record.line.len() <= (16 << 10) + 1));
    }

    #[test]
    fn a_tail_is_the_end_of_the_whole(writes in writes(), max_bytes in 500u64..20_000, tail in 0u64..80) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = log_path(&dir);
        write_all(plan(&path, max_bytes, 900), &writes);
        let all = read_all(&path, ReadOptions::default());
        let last = read_all(&path, ReadOptions { tail: Some(tail), ..ReadOptions::default() });
        let skipped = all.len().saturating_sub(usize::try_from(tail).expect("small"));
        prop_assert_eq!(&last[..], &all[skipped..]);
    }

    #[test]
    fn since_and_until_choose_by_time(writes in writes(), max_bytes in 500u64..20_000, since in 0i64..70, length in 0i64..70) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = log_path(&dir);
        write_all(plan(&path, max_bytes, 900), &writes);
        let until = since + length;
        let options = ReadOptions { since_ns: Some(since), until_ns: Some(until), ..ReadOptions::default() };
        let chosen = read_all(&path, options);
        let mut all = read_all(&path, ReadOptions::default());
        all.retain(|record| (since..=until).contains(&record.time_ns));
        prop_assert_eq!(chosen, all);
    }

    #[test]
    fn what_is_kept_after_rotation_is_the_newest_and_bounded(writes in writes(), max_bytes in 40_000u64..80_000) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = log_path(&dir);
        write_all(plan(&path, max_bytes, 3), &writes);
        let records = read_all(&path, ReadOptions::default());
        for stream in [Stream::Stdout, Stream::Stderr] {
            prop_assert!(written(&writes, stream).ends_with(&content(&records, stream)));
        }
        let files: Vec<_> = std::fs::read_dir(dir.path()).expect("a listing").map(|entry| entry.expect("an entry")).collect();
        prop_assert!(files.len() <= 3);
        for file in files {
            let content = std::fs::read(file.path()).expect("a file");
            let lines = content.iter().filter(|byte| **byte == b'\n').count();
            prop_assert!(content.len() as u64 <= max_bytes || lines == 1);
        }
    }

    #[test]
    fn a_follower_sees_everything_however_often_files_rotate(writes in writes(), reads in proptest::collection::vec(any::<bool>(), 60)) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = log_path(&dir);
        let mut writer = LogWriter::new(plan(&path, 1000, 900));
        let mut reader = LogReader::open(&path, ReadOptions::default()).expect("a reader");
        let mut seen = Vec::new();
        for ((time, write), read) in (1i64..).zip(&writes).zip(reads) {
            writer.append(write.stream, &write.bytes, time);
            while read && let Some(record) = reader.next_record().expect("readable") {
                seen.push(record);
            }
        }
        writer.flush();
        seen.extend(std::iter::from_fn(|| reader.next_record().expect("readable")));
        prop_assert_eq!(seen, read_all(&path, ReadOptions::default()));
    }

    #[test]
    fn a_writer_that_was_killed_in_a_line_costs_that_line_alone(cut in 1usize..60) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = log_path(&dir);
        let line = |text: &[u8]| Write { stream: Stream::Stdout, bytes: text.to_vec() };
        write_all(plan(&path, 0, 1), &[line(b"first\n"), line(b"second\n")]);
        let whole = std::fs::read(&path).expect("the log");
        std::fs::write(&path, &whole[..whole.len() - cut]).expect("torn");
        write_all(plan(&path, 0, 1), &[line(b"third\n")]);
        let texts: Vec<_> = read_all(&path, ReadOptions::default()).into_iter().map(|record| record.line).collect();
        let expected: Vec<Vec<u8>> = if cut == 1 {
            // Only the newline was missing, and it was put back.
            vec![b"first\n".into(), b"second\n".into(), b"third\n".into()]
        } else {
            vec![b"first\n".into(), b"third\n".into()]
        };
        prop_assert_eq!(texts, expected);
    }
}

/// Does what the compressing process does.
fn pack_all(writer: &mut LogWriter, most: usize) {
    for _ in 0..most {
        let Some(job) = writer.next_to_pack() else { return };
        let mut source = std::fs::File::open(job.source()).expect("the file");
        let mut packed = std::fs::File::create(job.packed()).expect("a file");
        pack(&mut source, &mut packed, job.origin()).expect("compressed");
        writer.packed(&job, true);
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn compression_changes_nothing_for_readers(
        writes in writes(),
        moves in proptest::collection::vec((any::<bool>(), 0usize..4), 60),
        tail in 0u64..80,
        since in 0i64..70,
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = log_path(&dir);
        let mut writer = LogWriter::new(LogPlan { compress: true, ..plan(&path, 8000, 900) });
        let mut follower = LogReader::open(&path, ReadOptions::default()).expect("a reader");
        let mut seen = Vec::new();
        for ((time, write), (reads, packs)) in (1i64..).zip(&writes).zip(moves) {
            writer.append(write.stream, &write.bytes, time);
            pack_all(&mut writer, packs);
            while reads && let Some(record) = follower.next_record().expect("readable") {
                seen.push(record);
            }
        }
        writer.flush();
        seen.extend(std::iter::from_fn(|| follower.next_record().expect("readable")));
        let plain = dir.path().join("plain.log");
        write_all(plan(&plain, 0, 1), &writes);
        let all = read_all(&plain, ReadOptions::default());
        prop_assert_eq!(&seen, &all);
        prop_assert_eq!(&read_all(&path, ReadOptions::default()), &all);
        for options in [
            ReadOptions { tail: Some(tail), ..ReadOptions::default() },
            ReadOptions { since_ns: Some(since), ..ReadOptions::default() },
        ] {
            prop_assert_eq!(read_all(&path, options.clone()), read_all(&plain, options));
        }
    }
}

#[test]
fn a_shim_that_was_killed_while_it_replaced_a_file_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = log_path(&dir);
    let compressing = LogPlan {
        compress: true,
        ..plan(&path, 100, 9)
    };
    let mut writer = LogWriter::new(compressing.clone());
    for number in 1..=5 {
        writer.append(Stream::Stdout, format!("line {number}\n").as_bytes(), number);
    }
    // Killed after the compressed file got its name and before the original was removed.
    let job = writer.next_to_pack().expect("a job");
    let mut packed = std::fs::File::create(job.source().with_extension("4.gz")).expect("a file");
    pack(
        &mut std::fs::File::open(job.source()).expect("the file"),
        &mut packed,
        job.origin(),
    )
    .expect("compressed");
    drop(writer);
    let texts = |path: &Path| -> Vec<_> {
        let records = read_all(path, ReadOptions::default()).into_iter();
        records
            .map(|record| String::from_utf8(record.line).expect("text"))
            .collect()
    };
    let expected = ["line 1\n", "line 2\n", "line 3\n", "line 4\n", "line 5\n"];
    assert_eq!(texts(&path), expected);
    let mut writer = LogWriter::new(compressing);
    pack_all(&mut writer, 1);
    assert_eq!(texts(&path), expected);
    pack_all(&mut writer, 9);
    writer.append(Stream::Stdout, b"line 6\n", 6);
    assert_eq!(texts(&path)[..5], expected);
    assert!(!path.with_extension("log.pack").exists());
}

#[test]
fn a_long_line_is_split_between_characters() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = log_path(&dir);
    let text = "é".repeat(20_000) + "\n";
    write_all(
        plan(&path, 0, 1),
        &[Write {
            stream: Stream::Stdout,
            bytes: text.clone().into_bytes(),
        }],
    );
    let records = read_all(&path, ReadOptions::default());
    assert!(records.len() > 1);
    let pieces: Vec<_> = records
        .into_iter()
        .map(|record| String::from_utf8(record.line).expect("whole characters"))
        .collect();
    assert_eq!(pieces.concat(), text);
    assert!(pieces[..pieces.len() - 1].iter().all(|piece| !piece.ends_with('\n')));
}

#[test]
fn only_the_wanted_stream_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = log_path(&dir);
    let write = |stream, text: &str| Write {
        stream,
        bytes: text.as_bytes().to_vec(),
    };
    write_all(
        plan(&path, 0, 1),
        &[write(Stream::Stdout, "out\n"), write(Stream::Stderr, "err\n")],
    );
    let records = read_all(
        &path,
        ReadOptions {
            stdout: false,
            ..ReadOptions::default()
        },
    );
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].line, b"err\n");
}

#[test]
fn a_missing_log_is_empty_and_fills_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = log_path(&dir);
    let mut reader = LogReader::open(&path, ReadOptions::default()).expect("a reader");
    reader.changes().expect("a watch");
    assert_eq!(reader.next_record().expect("readable"), None);
    write_all(
        plan(&path, 0, 1),
        &[Write {
            stream: Stream::Stdout,
            bytes: b"hi\n".to_vec(),
        }],
    );
    assert_eq!(reader.next_record().expect("readable").expect("a record").line, b"hi\n");
}

/// A file system of a few pages, mounted over a directory and unmounted on drop.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(c"tmpfs", dir.path(), c"tmpfs", flags, Some(c"size=16k")).expect("mounted");
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).expect("unmounted");
    }
}

#[test]
fn a_full_disk_costs_lines_and_the_log_says_how_many() {
    let disk = SmallDisk::new();
    let path = disk.0.path().join("c-json.log");
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0u8; 8 << 10]).expect("ballast");
    let mut writer = LogWriter::new(plan(&path, 0, 1));
    for number in 0..200 {
        writer.append(Stream::Stdout, format!("line {number:03}\n").as_bytes(), number + 1);
    }
    let dropped = writer.dropped();
    assert!(dropped > 0);
    std::fs::remove_file(&ballast).expect("room again");
    writer.append(Stream::Stdout, b"after\n", 1000);
    assert_eq!(writer.dropped(), 0);
    let records = read_all(&path, ReadOptions::default());
    let text = |record: &Record| String::from_utf8(record.line.clone()).expect("text");
    assert_eq!(records.len() as u64, 200 - dropped + 2, "no torn line");
    assert_eq!(text(&records[records.len() - 1]), "after\n");
    let notice = text(&records[records.len() - 2]);
    assert!(
        notice.starts_with(&format!("wharf: {dropped} log lines were lost")),
        "{notice}"
    );
}

/// The claim is about ten gigabytes; a sparse file stands in for what is never read.
#[test]
fn the_tail_of_an_enormous_log_comes_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = log_path(&dir);
    let file = std::fs::File::create(&path).expect("a file");
    file.set_len(10 << 30).expect("a hole");
    write_all(
        plan(&path, 0, 1),
        &[Write {
            stream: Stream::Stdout,
            bytes: b"a\nb\nc\n".to_vec(),
        }],
    );
    let begin = std::time::Instant::now();
    let records = read_all(
        &path,
        ReadOptions {
            tail: Some(2),
            ..ReadOptions::default()
        },
    );
    assert!(begin.elapsed().as_millis() < 50, "{:?}", begin.elapsed());
    assert_eq!(
        records.iter().map(|record| record.line.clone()).collect::<Vec<_>>(),
        [b"b\n", b"c\n"]
    );
}
