//! Here-documents: `<<WORD`, `<<-WORD`, `<<"WORD"`.

use crate::dockerfile::words::split_words;

/// One here-document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it; the file's name for COPY and ADD.
    pub name: String,
    /// The body, each line with its newline.
    pub body: String,
    /// Whether variables in the body are expanded (the word was not quoted).
    pub expands: bool,
    /// `<<-`: leading tabs of each line do not count.
    pub strips_tabs: bool,
    /// File descriptor written before `<<`, 0 when none.
    pub fd: u32,
}

impl Heredoc {
    /// The body as the user means it: without leading tabs after `<<-`.
    pub fn content(&self) -> String {
        if !self.strips_tabs {
            return self.body.clone();
        }
        self.body
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

/// The here-documents that a statement's arguments announce, in order, with empty bodies.
pub(super) fn heredocs_of(args: &str, escape: char) -> Vec<Heredoc> {
    split_words(args, escape)
        .iter()
        .filter_map(|word| parse_heredoc(word))
        .collect()
}

/// Reads `[fd]<<[-]WORD` where that is the whole word.
pub(super) fn parse_heredoc(word: &str) -> Option<Heredoc> {
    let (fd, rest) = word.split_once("<<")?;
    if !fd.chars().all(|c| c.is_ascii_digit()) || rest.contains('<') {
        return None;
    }
    let (rest, strips_tabs) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let name: String = unquote(rest)?;
    (!name.is_empty()).then(|| Heredoc {
        expands: name == rest,
        name,
        body: String::new(),
        strips_tabs,
        fd: fd.parse().unwrap_or(0),
    })
}

/// The word without its quotes, `None` when they do not match or it has odd characters.
fn unquote(word: &str) -> Option<String> {
    let mut name = String::new();
    let mut quote = None;
    for ch in word.chars() {
        match quote {
            Some(open) if open == ch => quote = None,
            None if ch == '"' || ch == '\'' => quote = Some(ch),
            None if "|&;()>\\`$".contains(ch) => return None,
            _ => name.push(ch),
        }
    }
    quote.is_none().then_some(name)
}
