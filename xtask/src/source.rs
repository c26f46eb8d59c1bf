//! A Rust file as `tidy` sees it: its lines, which of them are test code, and its functions.

use std::path::{Path, PathBuf};

/// One source file of the repository.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) lines: Vec<String>,
    /// A file that holds only tests (by its place or name).
    pub(crate) is_test: bool,
}

/// A function's name and extent; lines count from 1.
#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) length: usize,
}

impl Source {
    pub(crate) fn new(path: &Path, text: &str) -> Self {
        let shown = path.to_string_lossy();
        let is_test = shown.contains("/tests/")
            || shown.starts_with("tests/")
            || shown.ends_with("tests.rs")
            || shown.contains("testkit");
        Self {
            path: path.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            is_test,
        }
    }

    /// The lines before the file's own test module: what ships.
    pub(crate) fn production(&self) -> &[String] {
        let is_gate = |l: &String| matches!(l.trim(), "#[cfg(test)]");
        let cut = self.lines.iter().enumerate().position(|(i, l)| {
            is_gate(l)
                && self
                    .lines
                    .get(i + 1)
                    .is_some_and(|next| next.trim_start().starts_with("mod ") && next.trim_end().ends_with('{'))
        });
        &self.lines[..cut.unwrap_or(self.lines.len())]
    }

    /// Functions of the production lines, found by indentation (the code is formatted by rustfmt).
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut open: Vec<(String, String, usize)> = Vec::new();
        let mut found = Vec::new();
        for (i, line) in self.production().iter().enumerate() {
            if let Some(name) = function_name(line) {
                let indent = line[..line.len() - line.trim_start().len()].to_owned();
                if !(line.trim_end().ends_with('}') || line.trim_end().ends_with(';')) {
                    open.push((name.to_owned(), indent, i));
                }
                continue;
            }
            if let Some((name, indent, start)) = open.last()
                && line.strip_prefix(indent.as_str()) == Some("}")
            {
                found.push(Function {
                    name: name.clone(),
                    line: start + 1,
                    length: i - start + 1,
                });
                open.pop();
            } else if open.last().is_some_and(|(_, indent, _)| {
                line.strip_prefix(indent.as_str())
                    .is_some_and(|l| l.ends_with(';') && l.starts_with(')'))
            }) {
                open.pop(); // a trait method without a body, its signature over several lines
            }
        }
        found
    }
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    loop {
        let before = rest;
        for word in [
            "pub ",
            "pub(crate) ",
            "pub(super) ",
            "async ",
            "const ",
            "unsafe ",
            "extern \"C\" ",
        ] {
            rest = rest.strip_prefix(word).unwrap_or(rest);
        }
        if rest == before {
            break;
        }
    }
    let name = rest.strip_prefix("fn ")?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(&name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_by_their_braces() {
        let text = "//! x\npub(crate) async fn one() {\n    two();\n}\nimpl A {\n    fn two(\n        a: u8,\n    ) -> u8 {\n        a\n    }\n}\n";
        let lengths: Vec<_> = Source::new(Path::new("a.rs"), text)
            .functions()
            .into_iter()
            .map(|f| (f.name, f.length))
            .collect();
        assert_eq!(lengths, [("one".to_owned(), 3), ("two".to_owned(), 5)]);
    }

    #[test]
    fn the_test_module_does_not_count_as_production() {
        let text = "//! x\nfn a() {}\n#[cfg(test)]\nmod tests {\n}\n";
        assert_eq!(Source::new(Path::new("a.rs"), text).production().len(), 2);
    }
}
