//! From text to statements: parser directives, comments, continuations, heredocs.

use crate::BuildError;
use crate::dockerfile::directives::{Directives, take_directives};
use crate::dockerfile::heredoc::{Heredoc, heredocs_of};
use crate::dockerfile::words::take_flags;

/// One instruction as written, continuation lines joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// Line of its first character, counted from 1.
    pub line: usize,
    /// The keyword as written.
    pub keyword: String,
    /// Leading `--flag` words, without quotes.
    pub flags: Vec<String>,
    /// Everything after the flags, trimmed.
    pub args: String,
    /// The whole joined line, trimmed; shown to the user.
    pub original: String,
    /// Bodies of the here-documents it announces, in order.
    pub heredocs: Vec<Heredoc>,
    /// The escape character in force.
    pub escape: char,
}

impl Statement {
    /// Reads one joined line. `heredocs` are filled by the caller.
    pub fn parse(text: &str, line: usize, escape: char) -> Self {
        let original = text.trim();
        let (keyword, rest) = match original.split_once(char::is_whitespace) {
            Some((keyword, rest)) => (keyword, rest),
            None => (original, ""),
        };
        let (flags, args) = take_flags(rest, escape);
        Self {
            line,
            keyword: keyword.into(),
            flags,
            args: args.trim().into(),
            original: original.into(),
            heredocs: Vec::new(),
            escape,
        }
    }

    /// Whether `<<WORD` means something here: RUN, COPY, ADD and ONBUILD of these.
    fn takes_heredocs(&self) -> bool {
        let takes = |word: &str| ["RUN", "COPY", "ADD"].iter().any(|k| word.eq_ignore_ascii_case(k));
        if self.keyword.eq_ignore_ascii_case("ONBUILD") {
            return takes(self.args.split_whitespace().next().unwrap_or(""));
        }
        takes(&self.keyword)
    }
}

/// A Dockerfile cut into statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statements {
    /// What the directives at the top say.
    pub directives: Directives,
    /// In order.
    pub statements: Vec<Statement>,
    /// Mistakes that are accepted, for the user.
    pub warnings: Vec<String>,
}

/// Cuts a Dockerfile into statements. Errors carry the line at fault.
pub fn parse_statements(text: &str) -> Result<Statements, BuildError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let directives = take_directives(text)?;
    let mut reader = Reader {
        lines: text.split('\n').map(trim_carriage_return).collect(),
        at: 0,
        escape: directives.escape,
        empty_continuations: Vec::new(),
    };
    let mut statements = Vec::new();
    while let Some(statement) = reader.next_statement()? {
        statements.push(statement);
    }
    let warnings = reader.warnings();
    Ok(Statements {
        directives,
        statements,
        warnings,
    })
}

/// A line without its carriage return.
fn trim_carriage_return(line: &str) -> &str {
    line.strip_suffix('\r').unwrap_or(line)
}

/// Walks over physical lines.
struct Reader<'a> {
    lines: Vec<&'a str>,
    at: usize,
    escape: char,
    empty_continuations: Vec<usize>,
}

impl Reader<'_> {
    /// The next physical line.
    fn next_line(&mut self) -> Option<&str> {
        let line = self.lines.get(self.at)?;
        self.at += 1;
        Some(line)
    }

    /// The next statement with its here-documents, or `None` at the end.
    fn next_statement(&mut self) -> Result<Option<Statement>, BuildError> {
        let escape = self.escape;
        while let Some(line) = self.next_line() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (part, continues) = cut_continuation(line, escape);
            let mut joined = part.to_string();
            let first = self.at;
            if continues {
                self.join_continuations(&mut joined);
            }
            if joined.trim().is_empty() {
                continue;
            }
            let mut statement = Statement::parse(&joined, first, escape);
            self.read_heredocs(&mut statement)?;
            return Ok(Some(statement));
        }
        Ok(None)
    }

    /// Appends the lines that continue a statement. Comments inside are left out; so are empty
    /// lines, with a warning.
    fn join_continuations(&mut self, joined: &mut String) {
        let escape = self.escape;
        let mut warned = false;
        while let Some(line) = self.next_line() {
            if line.trim_start().starts_with('#') {
                continue;
            }
            if line.trim().is_empty() {
                if !warned && self.at < self.lines.len() {
                    self.empty_continuations.push(self.at);
                    warned = true;
                }
                continue;
            }
            let (part, continues) = cut_continuation(line, escape);
            joined.push_str(part);
            if !continues {
                return;
            }
        }
    }

    /// Reads the bodies of the here-documents that `statement` announces.
    fn read_heredocs(&mut self, statement: &mut Statement) -> Result<(), BuildError> {
        if !statement.takes_heredocs() {
            return Ok(());
        }
        for mut heredoc in heredocs_of(&statement.args, self.escape) {
            let mut ended = false;
            while let Some(line) = self.next_line() {
                let candidate = if heredoc.strips_tabs {
                    line.trim_start_matches('\t')
                } else {
                    line
                };
                if candidate == heredoc.name {
                    ended = true;
                    break;
                }
                heredoc.body.push_str(line);
                heredoc.body.push('\n');
            }
            if !ended {
                return Err(BuildError::invalid("unterminated heredoc").on_line(statement.line));
            }
            statement.heredocs.push(heredoc);
        }
        Ok(())
    }

    /// What to tell about empty continuation lines.
    fn warnings(&self) -> Vec<String> {
        self.empty_continuations
            .iter()
            .map(|line| format!("[WARNING]: Empty continuation line found before line {line}"))
            .collect()
    }
}

/// Cuts the escape character (and blanks after it) off the end of a line that goes on. A doubled
/// escape does not continue.
fn cut_continuation(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(before) if !before.ends_with(escape) => (before, true),
        _ => (line, false),
    }
}
