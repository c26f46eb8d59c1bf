//! Whole builds against a real store: what ends up in the image, what the cache does, what is
//! left behind. Needs root (overlay mounts) and a static `/bin/busybox`.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use support::Sandbox;
use wharf_build::{BuildCache, BuildRequest, ErrorKind, Event};
use wharf_store::GcScope;

#[test]
fn stages_pass_files_and_unused_ones_are_built_too() {
    let sandbox = Sandbox::new();
    let outcome = sandbox.build(
        "ARG BASE=busybox\nFROM $BASE AS first\nRUN echo from-first > /f\nFROM ${BASE}:latest AS second\n\
         COPY --from=first /f /g\nCOPY --from=0 /f /h\nRUN cat /g /h > /both\nFROM scratch\n\
         COPY --from=second /both /\nCOPY --from=busybox /bin/busybox /bin/cat\nCMD [\"/bin/cat\", \"/both\"]\n",
    );
    let image = outcome.image();
    let files = sandbox.files(&image);
    assert_eq!(files["/both"], "644 0:0 from-first\nfrom-first");
    assert_eq!(files.keys().collect::<Vec<_>>(), ["/bin", "/bin/cat", "/both"]);
    assert_eq!(sandbox.layers(&image), 2);
    assert_eq!(sandbox.config(&image).config.cmd.unwrap(), ["/bin/cat", "/both"]);
    assert!(
        outcome
            .text
            .contains("Step 1/11 : ARG BASE=busybox\nStep 2/11 : FROM $BASE AS first\n ---> "),
        "{}",
        outcome.text
    );
    assert!(sandbox.leftovers().is_empty());
}

#[test]
fn copy_follows_dockers_rules() {
    let sandbox = Sandbox::new();
    sandbox.write("a.txt", "1\n");
    sandbox.write("b.txt", "2\n");
    sandbox.write("dir/sub/x", "3\n");
    symlink("a.txt", sandbox.context.join("link")).unwrap();
    symlink("x", sandbox.context.join("dir/sub/inner")).unwrap();
    fs::set_permissions(sandbox.context.join("a.txt"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::create_dir(sandbox.context.join("dir/empty")).unwrap();
    fs::set_permissions(&sandbox.context, fs::Permissions::from_mode(0o700)).unwrap();
    let image = sandbox
        .build(
            "FROM busybox\nCOPY a.txt /one\nCOPY *.txt /many/\nCOPY dir /d\nCOPY dir/sub/x link /e/\n\
             COPY --chown=33:100 b.txt /owned/\nCOPY [\"a.txt\", \"/sp ace/f\"]\nCOPY --chown=www dir /named\n\
             COPY --chown=www:staff --chmod=600 a.txt /n\nWORKDIR /w\nCOPY a.txt .\nCOPY dir lib/\nCOPY dir/sub /lib\n\
             COPY --parents dir/sub/x /p/\nCOPY --parents dir/./sub/x /q/\nCOPY --exclude=sub dir /x\n\
             COPY <<A <<\"B\" /here/\n\\${A} is ${NONE:-A}\nA\n$x\nB\nADD . /all/\nCOPY . /new\n",
        )
        .image();
    let files = sandbox.new_files(&image);
    let check = |path: &str, want: &str| assert_eq!(files.get(path).map(String::as_str), Some(want), "{path}");
    check("/one", "751 0:0 1");
    check("/many/a.txt", "751 0:0 1");
    check("/many/b.txt", "644 0:0 2");
    check("/d/empty", "755 0:0 dir");
    check("/d/sub/x", "644 0:0 3");
    check("/d/sub/inner", "777 0:0 -> x");
    check("/e/link", "751 0:0 1");
    check("/owned", "755 33:100 dir");
    check("/owned/b.txt", "644 33:100 2");
    check("/sp ace/f", "751 0:0 1");
    check("/named/sub/x", "644 33:55 3");
    check("/named", "755 33:55 dir");
    check("/n", "600 33:50 1");
    check("/w/a.txt", "751 0:0 1");
    check("/w/lib/sub/x", "644 0:0 3");
    check("/usr/lib/x", "644 0:0 3");
    check("/p/dir/sub/x", "644 0:0 3");
    check("/q/sub/x", "644 0:0 3");
    check("/x/empty", "755 0:0 dir");
    assert!(!files.contains_key("/x/sub"));
    assert!(!files.contains_key("/lib"), "the link of the base image stays");
    check("/here/A", "644 0:0 ${A} is A");
    check("/here/B", "644 0:0 $x");
    check("/all/dir/sub/x", "644 0:0 3");
    check("/new", "755 0:0 dir");
}

#[test]
fn copies_that_cannot_be_done_are_named() {
    let sandbox = Sandbox::new();
    sandbox.write("a", "1");
    sandbox.write("b", "1");
    symlink("/etc/passwd", sandbox.context.join("out")).unwrap();
    symlink("../../../../etc", sandbox.context.join("up")).unwrap();
    let table = [
        (
            "COPY nosuch /",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat nosuch: file does not exist",
        ),
        ("COPY *.none /x/", "COPY failed: no source files were specified"),
        (
            "COPY ../etc /x",
            "COPY failed: forbidden path outside the build context: ../etc ()",
        ),
        (
            "COPY a b /single",
            "When using COPY with more than one source file, the destination must be a directory and end with a /",
        ),
        (
            "COPY out /x",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat out: file does not exist",
        ),
        (
            "COPY up/passwd /x",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat up/passwd: file does not exist",
        ),
        (
            "COPY --chown=nobody a /x",
            "unable to convert uid/gid chown string to host mapping: can't find uid for user nobody: no such user: nobody",
        ),
        (
            "COPY --chmod=9 a /x",
            "invalid chmod parameter: '9'. it should be octal string and between 0 and 07777",
        ),
        (
            "COPY a /etc/passwd/x",
            "opening directory etc/passwd: Not a directory (os error 20)",
        ),
        (
            "COPY --from=0 a /x",
            "invalid from flag value 0: refers to current build block",
        ),
        (
            "COPY --from=busybox /nosuch /x",
            "COPY failed: stat nosuch: file does not exist",
        ),
        ("COPY --from=none:1 /x /x", "pull access denied for none:1"),
        (
            "ADD https://example.com/x.git /x",
            "ADD https://example.com/x.git: such remote sources are not supported by this builder; fetch it in a RUN step or put it into the build context",
        ),
        (
            "ADD --checksum=sha256:00 http://h/x /x",
            "digest mismatch sha256:86ca99740210faa002c7e540649a2601947e24afbb48775eddb3870bc9b97601: sha256:00",
        ),
        (
            "ADD --checksum=sha256:00 a /x",
            "checksum can't be specified for non-HTTP(S) sources: sha256:00",
        ),
        (
            "RUN --mount=type=secret,id=s,required cat /run/secrets/s",
            "secret s: not found",
        ),
    ];
    for (line, want) in table {
        let outcome = sandbox.build(&format!("FROM busybox\n{line}\n"));
        assert_eq!(outcome.error(), want, "{line}");
        assert!(sandbox.leftovers().is_empty(), "{line}");
    }
}

#[test]
fn a_failing_command_ends_the_build_with_its_code() {
    let sandbox = Sandbox::new();
    let request = BuildRequest {
        tags: vec!["t:bad".into()],
        ..sandbox.request("FROM busybox\nRUN echo hello; exit 3\nRUN never\n")
    };
    let outcome = sandbox.build_request(&request);
    assert_eq!(
        outcome.error(),
        "The command '/bin/sh -c echo hello; exit 3' returned a non-zero code: 3"
    );
    let error = outcome.result.as_ref().unwrap_err();
    assert_eq!((error.exit_code(), error.kind()), (Some(3), ErrorKind::StepFailed));
    assert!(
        outcome.text.contains("\nhello\n") && !outcome.text.contains("never\n ---> Running"),
        "{}",
        outcome.text
    );
    assert!(sandbox.store.resolve("t:bad").is_err());
    assert!(sandbox.leftovers().is_empty());
}

#[test]
fn requests_that_cannot_be_built_say_nothing_before_their_error() {
    let sandbox = Sandbox::new();
    let ask = |change: &dyn Fn(&mut BuildRequest)| {
        let mut request = sandbox.request("FROM busybox\n");
        change(&mut request);
        let outcome = sandbox.build_request(&request);
        assert!(outcome.events.is_empty());
        outcome.error()
    };
    assert_eq!(
        ask(&|r| r.dockerfile_text = None),
        "Cannot locate specified Dockerfile: Dockerfile"
    );
    assert_eq!(
        ask(&|r| {
            r.dockerfile_text = None;
            r.dockerfile = "none".into()
        }),
        "Cannot locate specified Dockerfile: none"
    );
    assert_eq!(
        ask(&|r| r.dockerfile_text = Some(String::new())),
        "the Dockerfile (Dockerfile) cannot be empty"
    );
    assert_eq!(
        ask(&|r| r.dockerfile = "../x".into()),
        "the Dockerfile (../x) must be within the build context"
    );
    assert_eq!(
        ask(&|r| r.target = Some("nosuch".into())),
        "target stage \"nosuch\" could not be found"
    );
    assert_eq!(
        ask(&|r| r.tags = vec!["UPPER".into()]),
        "invalid reference format: repository name (library/UPPER) must be lowercase"
    );
    assert_eq!(
        ask(&|r| r.squash = true),
        "squashing an image is not supported by this builder"
    );
    assert_eq!(
        ask(&|r| r.dockerfile_text = Some("FROM busybox\nBOGUS x\n".into())),
        "dockerfile parse error on line 2: unknown instruction: BOGUS"
    );
    let outcome = sandbox.build("FROM none:1\n");
    assert_eq!(outcome.error(), "pull access denied for none:1");
    assert_eq!(outcome.text, "Step 1/1 : FROM none:1\n");
    let outcome = sandbox.build("FROM scratch\n");
    assert_eq!(outcome.error(), "No image was generated. Is your Dockerfile empty?");
}

#[test]
fn the_cache_goes_by_content() {
    let sandbox = Sandbox::new();
    sandbox.write("f", "one\n");
    let dockerfile = "FROM busybox\nCOPY f /f\nRUN cat /f; date +%s%N > /stamp\nENV A=1\n";
    let first = sandbox.build(dockerfile);
    let again = sandbox.build(dockerfile);
    assert_eq!((first.hits(), again.hits()), (0, 3));
    assert_eq!(first.image(), again.image());
    assert!(
        again.text.contains("Step 2/4 : COPY f /f\n ---> Using cache\n ---> "),
        "{}",
        again.text
    );

    let file = fs::File::open(sandbox.context.join("f")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(100)).unwrap();
    assert_eq!(sandbox.build(dockerfile).image(), first.image(), "times do not matter");

    sandbox.write("f", "two\n");
    let edited = sandbox.build(dockerfile);
    assert_eq!(edited.hits(), 0);
    assert_ne!(edited.image(), first.image());

    fs::set_permissions(sandbox.context.join("f"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(sandbox.build(dockerfile).hits(), 0, "modes matter");

    sandbox.write("f", "one\n");
    fs::set_permissions(sandbox.context.join("f"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        sandbox.build(dockerfile).image(),
        first.image(),
        "the old result is still known"
    );

    let fresh = sandbox.build_request(&BuildRequest {
        no_cache: true,
        ..sandbox.request(dockerfile)
    });
    assert_eq!(fresh.hits(), 0);
    assert_ne!(fresh.image(), first.image());

    let labelled = sandbox.build_request(&BuildRequest {
        labels: [("l".into(), "v".into())].into(),
        ..sandbox.request(dockerfile)
    });
    assert_ne!(labelled.image(), first.image());
    assert_eq!(sandbox.config(&labelled.image()).labels()["l"], "v");
}

#[test]
fn arguments_count_in_the_cache_only_where_they_are_declared() {
    let sandbox = Sandbox::new();
    let dockerfile = "FROM busybox\nRUN echo before > /x\nARG V=dflt\nRUN echo $V > /v\n";
    let with = |value: &str| {
        let build_args = [
            ("V".to_string(), Some(value.to_string())),
            ("HTTP_PROXY".into(), Some(format!("http://{value}"))),
        ];
        sandbox.build_request(&BuildRequest {
            build_args: build_args.into(),
            ..sandbox.request(dockerfile)
        })
    };
    let plain = sandbox.build(dockerfile).image();
    let given = with("given");
    assert_eq!(sandbox.files(&plain)["/v"], "644 0:0 dflt");
    assert_eq!(sandbox.files(&given.image())["/v"], "644 0:0 given");
    assert_eq!(given.hits(), 2, "{}", given.text);
    assert_eq!(with("given").hits(), 3);
    let history = sandbox.config(&given.image()).history;
    assert_eq!(
        history.last().unwrap().created_by.as_deref(),
        Some("|1 V=given /bin/sh -c echo $V > /v")
    );
    let unused = sandbox.build_request(&BuildRequest {
        build_args: [("NOPE".to_string(), Some("1".to_string()))].into(),
        ..sandbox.request(dockerfile)
    });
    assert!(
        unused
            .text
            .contains("[Warning] One or more build-args [NOPE] were not consumed\n"),
        "{}",
        unused.text
    );
}

#[test]
fn removed_files_are_gone_in_the_layers_above() {
    let sandbox = Sandbox::new();
    let image = sandbox
        .build(
            "FROM busybox\nRUN mkdir -p /d/e && echo 1 > /d/e/f && echo 2 > /d/g && ln /d/g /d/h\n\
             RUN rm /d/g && rm -r /d/e && mkdir /d/e && echo new > /d/e/n\nRUN rm -r /d/e && echo file > /d/e\nRUN rm /etc/group\n",
        )
        .image();
    let files = sandbox.files(&image);
    let below: Vec<_> = files.keys().filter(|path| path.starts_with("/d/")).collect();
    assert_eq!(below, ["/d/e", "/d/h"]);
    assert_eq!(
        (files["/d/e"].as_str(), files["/d/h"].as_str()),
        ("644 0:0 file", "644 0:0 2")
    );
    assert!(!files.contains_key("/etc/group"));
    assert_eq!(sandbox.layers(&image), 5);
}

#[test]
fn a_step_without_changes_makes_no_layer_and_leaves_no_mount_point() {
    let sandbox = Sandbox::new();
    let dockerfile =
        "FROM scratch\nCOPY --from=busybox /bin /bin\nRUN --mount=type=tmpfs,target=/mnt/t echo > /mnt/t/x\n";
    let image = sandbox.build(dockerfile).image();
    assert_eq!(sandbox.layers(&image), 1);
    assert!(sandbox.config(&image).history[1].empty_layer);
    assert!(sandbox.files(&image).keys().all(|path| path.starts_with("/bin")));
}

#[test]
fn mounts_show_files_that_do_not_end_up_in_the_image() {
    let sandbox = Sandbox::new();
    sandbox.write("src/data", "data\n");
    let dockerfile = "FROM busybox AS tool\nRUN echo tool > /usr/lib/t\nFROM busybox\n\
        RUN --mount=from=tool,source=/lib,target=/t --mount=from=tool,source=/usr/lib/t,target=/one --mount=target=/w,rw \
        cat /t/t /one > /tools && echo x > /w/x && cat /w/x >> /tools\nRUN --mount=target=/ctx,source=src cat /ctx/data > /copy\n\
        RUN --mount=type=cache,target=/cache echo $((1 + $(cat /cache/n 2>/dev/null || echo 0))) > /cache/n && cat /cache/n > /count\n\
        RUN <<EOF\necho heredoc > /h\nEOF\nRUN <<EOF\n#!/bin/busybox sh\necho script > /s\nEOF\n";
    let image = sandbox.build(dockerfile).image();
    let files = sandbox.new_files(&image);
    assert_eq!(files["/copy"], "644 0:0 data");
    assert_eq!(files["/tools"], "644 0:0 tool\ntool\nx");
    assert!(!sandbox.context.join("x").exists(), "writes are discarded");
    assert_eq!(
        (files["/h"].as_str(), files["/s"].as_str()),
        ("644 0:0 heredoc", "644 0:0 script")
    );
    assert!(
        !files.contains_key("/ctx") && !files.contains_key("/cache"),
        "{files:?}"
    );
    assert_eq!(sandbox.build(dockerfile).hits(), 6);
    sandbox.write("src/data", "changed\n");
    assert_eq!(
        sandbox.files(&sandbox.build(dockerfile).image())["/copy"],
        "644 0:0 changed"
    );
    let fresh = sandbox.build_request(&BuildRequest {
        no_cache: true,
        ..sandbox.request(dockerfile)
    });
    assert_eq!(
        sandbox.files(&fresh.image())["/count"],
        "644 0:0 3",
        "the cache outlives builds"
    );
}

#[test]
fn a_locked_cache_is_used_by_one_build_at_a_time() {
    let sandbox = Sandbox::new();
    let line = "test ! -e /c/busy && touch /c/busy && for i in 1 2 3 4 5 6 7 8 9; do date > /c/at; done && rm /c/busy";
    let dockerfile = format!("FROM busybox\nRUN --mount=type=cache,sharing=locked,id=one,target=/c {line}\n");
    let request = BuildRequest {
        no_cache: true,
        ..sandbox.request(&dockerfile)
    };
    std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| sandbox.build_request(&request).image()))
            .collect();
        assert!(builds.into_iter().all(|build| build.join().is_ok()));
    });
}

#[test]
fn archives_are_unpacked_by_add_alone() {
    let sandbox = Sandbox::new();
    let tar = |args: &[&str]| {
        assert!(
            Command::new("tar")
                .args(args)
                .current_dir(&sandbox.context)
                .status()
                .unwrap()
                .success()
        )
    };
    sandbox.write("t", "t\n");
    for (flags, name) in [
        ("cf", "p.tar"),
        ("czf", "p.tar.gz"),
        ("cjf", "p.tar.bz2"),
        ("cJf", "p.tar.xz"),
    ] {
        tar(&[flags, name, "--owner=7", "--group=8", "t"]);
    }
    sandbox.write("plain.gz", "plain\n");
    sandbox.write("empty", "");
    let image = sandbox
        .build(
            "FROM busybox\nADD p.tar /a/\nADD p.tar.gz /b\nADD p.tar.bz2 /c/\nADD p.tar.xz /d/\nADD plain.gz empty /e/\n\
             COPY p.tar /f/\nADD --chown=1:2 p.tar /g/\nADD --unpack=false p.tar /h/\n",
        )
        .image();
    let files = sandbox.new_files(&image);
    for dir in ["/a", "/b", "/c", "/d"] {
        assert_eq!(files[&format!("{dir}/t")], "644 7:8 t");
    }
    assert_eq!(files["/e/plain.gz"], "644 0:0 plain");
    assert_eq!(files["/e/empty"], "644 0:0 ");
    assert!(files.contains_key("/f/p.tar") && files.contains_key("/h/p.tar"));
    assert_eq!(files["/g/t"], "644 1:2 t");
}

#[test]
fn fetched_files_are_added_as_they_are() {
    let sandbox = Sandbox::new();
    sandbox.write("a", "1");
    let image = sandbox
        .build("FROM busybox\nADD http://h/p/f?q=1 a /d/\nADD --chmod=644 --chown=www http://h/x /y\n")
        .image();
    let files = sandbox.new_files(&image);
    assert_eq!(files["/d/f"], "600 0:0 http://h/p/f?q=1");
    assert_eq!(files["/d/a"], "644 0:0 1");
    assert_eq!(files["/y"], "644 33:55 http://h/x");
}

#[test]
fn a_hostile_archive_cannot_leave_its_directory() {
    let sandbox = Sandbox::new();
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..10].copy_from_slice(b"../../evil");
    header.set_size(2);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, &b"x\n"[..]).unwrap();
    fs::write(sandbox.context.join("evil.tar"), builder.into_inner().unwrap()).unwrap();
    let outcome = sandbox.build("FROM busybox\nADD evil.tar /a/b/c/\n");
    assert!(
        outcome
            .error()
            .starts_with("ADD failed: unpacking evil.tar: archive entry"),
        "{}",
        outcome.error()
    );
    assert!(sandbox.leftovers().is_empty());
}

#[test]
fn the_ignore_file_hides_the_builders_own_files() {
    let sandbox = Sandbox::new();
    sandbox.write("Dockerfile", "FROM busybox\nCOPY . /c\n");
    sandbox.write("kept", "1");
    let build = || {
        sandbox
            .build_request(&BuildRequest {
                dockerfile_text: None,
                ..sandbox.request("")
            })
            .image()
    };
    let names = |image: &str| -> Vec<String> {
        let files = sandbox.files(image);
        files.keys().filter(|path| path.starts_with("/c/")).cloned().collect()
    };
    assert_eq!(names(&build()), ["/c/Dockerfile", "/c/kept"]);
    sandbox.write(".dockerignore", "Dockerfile\n");
    assert_eq!(names(&build()), ["/c/.dockerignore", "/c/kept"]);
    sandbox.write(".dockerignore", "Dockerfile\n.dockerignore\n");
    assert_eq!(names(&build()), ["/c/kept"]);
}

#[test]
fn triggers_run_in_the_next_build_only() {
    let sandbox = Sandbox::new();
    sandbox.write("f", "1");
    let base = BuildRequest {
        tags: vec!["base".into()],
        ..sandbox.request("FROM busybox\nONBUILD COPY f /f\nONBUILD RUN echo x > /x\n")
    };
    let image = sandbox.build_request(&base).image();
    assert_eq!(
        sandbox.config(&image).config.on_build.unwrap(),
        ["COPY f /f", "RUN echo x > /x"]
    );
    assert!(sandbox.new_files(&image).is_empty());
    let child = sandbox.build("FROM base\nLABEL a=b\n");
    assert!(child.text.contains("# Executing 2 build triggers\n"), "{}", child.text);
    let files = sandbox.new_files(&child.image());
    assert_eq!((files["/f"].as_str(), files["/x"].as_str()), ("644 0:0 1", "644 0:0 x"));
    assert_eq!(sandbox.config(&child.image()).config.on_build, None);
}

#[test]
fn variables_expand_with_the_values_from_before() {
    let sandbox = Sandbox::new();
    let image = sandbox
        .build(
            "FROM busybox\nARG X=x\nENV Y=${X}y Z=${NOPE:-def} W=${X:+alt} Q='$X' E=\\$X\nARG X2=$Y\n\
             RUN echo \"$Y|$Z|$W|$Q|$E|$X2\" > /o\nENV Y=changed P2=$Y\nRUN echo \"$Y|$P2\" >> /o\nWORKDIR /w$X\nWORKDIR sub\nRUN echo here > f\n",
        )
        .image();
    let files = sandbox.files(&image);
    assert_eq!(files["/o"], "644 0:0 xy|def|alt|$X|$X|xy\nchanged|xy");
    assert_eq!(files["/wx/sub/f"], "644 0:0 here");
    let config = sandbox.config(&image).config;
    assert_eq!(config.working_dir, "/wx/sub");
    assert!(config.env.unwrap().iter().all(|entry| !entry.starts_with("X=")));
}

#[test]
fn the_result_has_its_names_and_is_told_last() {
    let sandbox = Sandbox::new();
    let request = BuildRequest {
        tags: vec!["a:1".into(), "b".into(), "a:1".into()],
        ..sandbox.request("FROM busybox\nRUN echo x > /x\n")
    };
    let outcome = sandbox.build_request(&request);
    let id = outcome.image();
    assert_eq!(sandbox.store.resolve("b:latest").unwrap().id.to_string(), id);
    let hex = &id["sha256:".len()..][..12];
    assert!(
        outcome.text.ends_with(&format!(
            " ---> {hex}\nSuccessfully built {hex}\nSuccessfully tagged a:1\nSuccessfully tagged b:latest\n"
        )),
        "{}",
        outcome.text
    );
    assert!(outcome.events.contains(&Event::StageDone { image: id.clone() }));
    let plain = sandbox.build_request(&BuildRequest {
        tags: vec!["c".into()],
        ..sandbox.request("FROM busybox\n")
    });
    assert_eq!(plain.image(), sandbox.store.resolve("busybox").unwrap().id.to_string());
    let history = sandbox.config(&id).history;
    assert_eq!(history[0].created_by.as_deref(), Some("/bin/sh -c echo x > /x"));
}

#[test]
fn builds_at_once_beside_a_prune_all_succeed() {
    let sandbox = Sandbox::new();
    sandbox.write("f", "1");
    let dockerfile = "FROM busybox AS one\nCOPY f /f\nRUN echo $$ > /pid\nFROM busybox\nCOPY --from=one /f /pid /x/\nRUN cat /x/f > /y\n";
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pruner = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Acquire) {
                BuildCache::new(&sandbox.store).prune(None).unwrap();
                sandbox.store.gc(GcScope::Unreferenced).unwrap();
                rounds += 1;
            }
            rounds
        });
        let builders: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| (0..5).map(|_| sandbox.build(dockerfile).image()).collect::<Vec<_>>()))
            .collect();
        let images: Vec<String> = builders.into_iter().flat_map(|b| b.join().unwrap()).collect();
        done.store(true, Ordering::Release);
        assert!(pruner.join().unwrap() > 0);
        for image in images {
            assert_eq!(sandbox.files(&image)["/y"], "644 0:0 1");
        }
    });
    assert!(sandbox.leftovers().is_empty());
}

#[test]
fn a_pruned_cache_frees_its_layers() {
    let sandbox = Sandbox::new();
    let request = BuildRequest {
        tags: vec!["t".into()],
        ..sandbox.request("FROM busybox AS a\nRUN echo big > /big\nFROM busybox\nCOPY --from=a /big /small\n")
    };
    sandbox.build_request(&request).image();
    let cache = BuildCache::new(&sandbox.store);
    assert_eq!(cache.records().unwrap().len(), 2);
    let before = sandbox.store.layer_sizes().unwrap().len();
    assert!(
        sandbox.store.gc(GcScope::Everything).unwrap().layers.is_empty(),
        "the cache keeps its layers"
    );
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    assert!(cache.prune(Some(hour_ago)).unwrap().ids.is_empty());
    let pruned = cache.prune(None).unwrap();
    assert_eq!(pruned.ids.len(), 2);
    sandbox.store.gc(GcScope::Everything).unwrap();
    assert_eq!(
        sandbox.store.layer_sizes().unwrap().len(),
        before - 1,
        "the other one is the image's"
    );
    assert_eq!(sandbox.build_request(&request).hits(), 0);
}

#[test]
fn a_cancelled_build_stops_between_steps() {
    let sandbox = Sandbox::new();
    let request = sandbox.request("FROM busybox\nRUN true\n");
    request.cancel.cancel();
    let outcome = sandbox.build_request(&request);
    assert_eq!(outcome.result.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(sandbox.leftovers().is_empty());
}
