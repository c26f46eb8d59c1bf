//! The parser as a whole: what is accepted, and what is refused on which line with which words.

use super::*;
use crate::dockerfile::instruction::{CommandLine, Run};

fn stage(text: &str) -> Stage {
    let mut dockerfile = parse(&format!("FROM x\n{text}")).unwrap();
    dockerfile.stages.pop().unwrap()
}

fn originals(text: &str) -> Vec<String> {
    stage(text).steps.into_iter().map(|s| s.original).collect()
}

fn run(text: &str) -> Run {
    match stage(text).steps.remove(0).instruction {
        Instruction::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn malformed_dockerfiles_are_refused_with_their_line() {
    let table = [
        ("FROM busybox\nBOGUS x", 2, "unknown instruction: BOGUS"),
        (
            "FROM busybox\n\n\nCPY a b",
            4,
            "unknown instruction: CPY (did you mean COPY?)",
        ),
        ("RUN true", 1, "no build stage in current context"),
        ("ARG A\n# c\nRUN true", 3, "no build stage in current context"),
        ("FROM", 1, "FROM requires either one or three arguments"),
        ("FROM a b", 1, "FROM requires either one or three arguments"),
        (
            "FROM a AS 1b",
            1,
            "invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        ("FROM a\nENV", 2, "ENV requires at least one argument"),
        ("FROM a\nENV x", 2, "ENV must have two arguments"),
        ("FROM a\nENV =x", 2, "ENV names can not be blank"),
        (
            "FROM a\nLABEL a=b c",
            2,
            "Syntax error - can't find = in \"c\". Must be of the form: name=value",
        ),
        (
            "FROM a\nCOPY x",
            2,
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        (
            "FROM a\nADD",
            2,
            "ADD requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("FROM a\nCOPY --frm=b x y", 2, "unknown flag: --frm"),
        (
            "FROM a\nCOPY --from=b --from=c x y",
            2,
            "duplicate flag specified: --from",
        ),
        ("FROM a\nCOPY --chown x y", 2, "missing a value on flag: --chown"),
        (
            "FROM a\nCOPY --link=x y z",
            2,
            "expecting boolean value for flag --link, not: x",
        ),
        ("FROM a\nWORKDIR", 2, "WORKDIR requires exactly one argument"),
        ("FROM a\nUSER", 2, "USER requires exactly one argument"),
        ("FROM a\nSTOPSIGNAL", 2, "STOPSIGNAL requires exactly one argument"),
        ("FROM a\nEXPOSE", 2, "EXPOSE requires at least one argument"),
        (
            "FROM a\nVOLUME [\"\"]",
            2,
            "VOLUME specified can not be an empty string",
        ),
        ("FROM a\nSHELL sh", 2, "SHELL requires the arguments to be in JSON form"),
        ("FROM a\nSHELL []", 2, "SHELL requires at least one argument"),
        ("FROM a\nONBUILD", 2, "ONBUILD requires at least one argument"),
        (
            "FROM a\nONBUILD ONBUILD RUN x",
            2,
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        ("FROM a\nONBUILD FROM b", 2, "FROM isn't allowed as an ONBUILD trigger"),
        ("FROM a\nONBUILD BOGUS", 2, "unknown instruction: BOGUS"),
        ("FROM a\nHEALTHCHECK", 2, "HEALTHCHECK requires at least one argument"),
        ("FROM a\nHEALTHCHECK NONE x", 2, "HEALTHCHECK NONE takes no arguments"),
        (
            "FROM a\nHEALTHCHECK EXEC x",
            2,
            "Unknown type \"EXEC\" in HEALTHCHECK (try CMD)",
        ),
        ("FROM a\nHEALTHCHECK CMD", 2, "Missing command after HEALTHCHECK CMD"),
        (
            "FROM a\nHEALTHCHECK --interval=1us CMD x",
            2,
            "Interval \"interval\" cannot be less than 1ms",
        ),
        (
            "FROM a\nHEALTHCHECK --retries=-1 CMD x",
            2,
            "--retries cannot be negative (-1)",
        ),
        ("FROM a\nRUN", 2, "RUN requires at least one argument"),
        (
            "FROM a\nCMD [1]",
            2,
            "when using JSON array syntax, arrays must be comprised of strings only",
        ),
        ("FROM a\nRUN \\\n  x\nRUN <<EOF\nx", 4, "unterminated heredoc"),
        ("FROM a\nRUN --mount=type=odd x", 2, "unsupported mount type \"odd\""),
        (
            "FROM a\nRUN --mount=type=cache x",
            2,
            "invalid mount config \"type=cache\": target is required",
        ),
        ("FROM a\nRUN --network=x y", 2, "invalid network mode: x"),
        ("# escape=x\nFROM a", 1, "invalid ESCAPE 'x'. Must be ` or \\"),
        (
            "# escape=`\n# escape=`\nFROM a",
            2,
            "only one escape parser directive can be used",
        ),
    ];
    for (text, line, words) in table {
        let error = parse(text).map(|_| ()).expect_err(text);
        let want = format!("dockerfile parse error on line {line}: {words}");
        assert_eq!(error.to_string(), want, "{text:?}");
    }
}

#[test]
fn files_without_instructions_or_stages_are_refused() {
    let text = |t| parse(t).map(|_| ()).unwrap_err().to_string();
    assert_eq!(text("# only a comment\n\n"), "file with no instructions");
    assert_eq!(text("ARG a"), "dockerfile contains no stages to build");
}

#[test]
fn continuations_join_and_comments_inside_vanish() {
    let check = |text: &str, want: &[&str]| assert_eq!(originals(text), want, "{text:?}");
    check("RUN a \\\n  b", &["RUN a   b"]);
    check("RUN a \\\n# comment\n  # another\n  b", &["RUN a   b"]);
    check("RUN a \\ \t\n\n  b\nRUN c", &["RUN a   b", "RUN c"]);
    check("RUN a \\\\\nRUN b", &["RUN a \\\\", "RUN b"]);
    check("  RUN a\t\n", &["RUN a"]);
    check("RUN a # not a comment", &["RUN a # not a comment"]);
    check("RUN a\r\nRUN b\r\n", &["RUN a", "RUN b"]);
    check("RUN a \\", &["RUN a"]);
    check("run a\nRuN b", &["run a", "RuN b"]);
}

#[test]
fn lines_are_counted_through_continuations_and_heredocs() {
    let stage = stage("RUN a \\\n b\n\nRUN <<EOF\nx\nEOF\nRUN c");
    let lines: Vec<usize> = stage.steps.iter().map(|s| s.line).collect();
    assert_eq!(lines, [2, 5, 8]);
}

#[test]
fn directives_count_only_at_the_very_top() {
    let escape = |text: &str| parse(text).unwrap().directives.escape;
    assert_eq!(escape("# escape=`\nFROM a"), '`');
    assert_eq!(escape("#ESCAPE = `\nFROM a"), '`');
    assert_eq!(escape("# syntax=docker/dockerfile:1\n# escape=`\nFROM a"), '`');
    assert_eq!(escape("\u{feff}# escape=`\nFROM a"), '`');
    assert_eq!(escape("\n# escape=`\nFROM a"), '\\');
    assert_eq!(escape("# comment\n# escape=`\nFROM a"), '\\');
    assert_eq!(escape("# unknown=1\n# escape=`\nFROM a"), '\\');
    assert_eq!(escape("FROM a\n# escape=`"), '\\');
    let error = parse("# syntax=example.com/other:1\nFROM a").unwrap_err();
    assert!(error.to_string().contains("example.com/other:1"), "{error}");
}

#[test]
fn heredocs_are_scripts_files_or_parts_of_a_command() {
    let shell = vec!["/bin/sh".to_string(), "-c".to_string()];
    let argv = |text: &str| run(text).argv(&shell);
    let (script, file) = argv("RUN <<EOF\necho $a\necho b\nEOF");
    assert_eq!((script[2].as_str(), file), ("echo $a\necho b\n", None));
    let (script, _) = argv("RUN <<-EOF\n\techo a\n\tEOF");
    assert_eq!(script[2], "echo a\n");
    let (path, file) = argv("RUN <<EOF\n#!/bin/awk -f\nBEGIN{}\nEOF");
    assert_eq!(path, ["/dev/pipes/EOF"]);
    assert_eq!(file.unwrap().1, "#!/bin/awk -f\nBEGIN{}\n");
    let (script, _) = argv("RUN cat <<A <<B > /x\n1\nA\n2\nB");
    assert_eq!(script[2], "cat <<A <<B > /x\n1\nA\n2\nB");

    let stage = stage("COPY --chmod=755 <<A <<'B' c /d/\n$x\nA\n$y\nB");
    let Instruction::Copy(copy) = &stage.steps[0].instruction else {
        panic!("not a COPY")
    };
    let transfer = copy.transfer.clone();
    assert_eq!(
        (transfer.sources.as_slice(), transfer.target.as_str()),
        (&["c".to_string()][..], "/d/")
    );
    let files: Vec<_> = transfer
        .heredocs
        .iter()
        .map(|h| (h.name.as_str(), h.body.as_str(), h.expands))
        .collect();
    assert_eq!(files, [("A", "$x\n", true), ("B", "$y\n", false)]);
}

#[test]
fn a_shift_operator_is_no_heredoc() {
    assert_eq!(originals("RUN echo $((1<<2))\nRUN b"), ["RUN echo $((1<<2))", "RUN b"]);
    assert_eq!(originals("ENV a <<EOF\nRUN b"), ["ENV a <<EOF", "RUN b"]);
}

#[test]
fn json_and_shell_forms_differ() {
    assert_eq!(
        run("RUN [\"a\", \"b\"]").command,
        CommandLine::Exec(vec!["a".into(), "b".into()])
    );
    assert_eq!(run("RUN ['a']").command, CommandLine::Shell("['a']".into()));
    assert_eq!(
        run("RUN --network=none [\"a\"]").command,
        CommandLine::Exec(vec!["a".into()])
    );
}

#[test]
fn every_instruction_is_read_in_any_case() {
    let text = "ARG g=1\nfrom a as B\nadd a b\narg x\ncmd x\ncopy a b\nentrypoint x\nenv a=b\nexpose 80\n\
        healthcheck none\nlabel a=b\nmaintainer me\nonbuild run x\nrun x\nshell [\"x\"]\nstopsignal 9\nuser u\nvolume /v\nworkdir /w\n";
    let dockerfile = parse(text).unwrap();
    assert_eq!(dockerfile.stages[0].from.name.as_deref(), Some("b"));
    assert_eq!(
        (dockerfile.stages[0].steps.len(), dockerfile.global_args.len()),
        (17, 1)
    );
}

#[test]
fn ports_are_ranges_with_protocols() {
    let ports = |text: &str| match stage(&format!("EXPOSE {text}")).steps.remove(0).instruction {
        Instruction::Expose(expose) => expose.numbers().map_err(|e| e.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(ports("80 53/UDP").unwrap(), ["53/udp", "80/tcp"]);
    assert_eq!(ports("8000-8002/tcp").unwrap(), ["8000/tcp", "8001/tcp", "8002/tcp"]);
    assert_eq!(ports("x").unwrap_err(), "invalid containerPort: x");
    assert_eq!(ports("9-8").unwrap_err(), "invalid containerPort: 9-8");
    assert_eq!(ports("80/icmp").unwrap_err(), "invalid proto: icmp");
}

#[test]
fn no_text_makes_the_parser_panic() {
    let pieces = [
        "FROM a", "RUN", "<<E", "\\", "\n", "--", "=", "\"", "'", "[", "$", "{", "é", "#", " ", "COPY", "E",
    ];
    let mut seed = 1u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            text.push_str(pieces[(seed >> 33) as usize % pieces.len()]);
        }
        let _ = parse(&text);
        let _ = crate::dockerfile::expand::Expander::new('\\', &|_: &str| None).word(&text);
        let _ = crate::dockerfile::glob::matches(&text, &text);
    }
}
