//! `COPY [--from=..] [--chown=..] [--chmod=..] [--link] [--parents] [--exclude=..] source... target`.

use crate::BuildError;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::flags::Flags;
use crate::dockerfile::heredoc::parse_heredoc;
use crate::dockerfile::words::{parse_json_list, split_words};
use crate::dockerfile::{Heredoc, Statement};

/// Copies files of the context, a stage or an image into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Stage name or index, or image; the context when absent.
    pub from: Option<String>,
    /// What goes where.
    pub transfer: Transfer,
}

/// The part that COPY and ADD share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Paths or patterns, in order.
    pub sources: Vec<String>,
    /// Files written in the Dockerfile itself.
    pub heredocs: Vec<Heredoc>,
    /// Where to.
    pub target: String,
    /// `user[:group]`, names or numbers.
    pub chown: Option<String>,
    /// Mode, octal or symbolic.
    pub chmod: Option<String>,
    /// Whether the sources' parent directories are kept.
    pub parents: bool,
    /// Patterns of what is left out.
    pub excludes: Vec<String>,
}

impl Copy {
    /// Reads the statement.
    pub fn parse(statement: &Statement) -> Result<Self, BuildError> {
        let mut flags = Flags::new(&statement.flags);
        let from = flags.text("from")?;
        let parents = flags.switch("parents")?.unwrap_or(false);
        let transfer = Transfer::parse("COPY", statement, flags)?;
        Ok(Self {
            from,
            transfer: Transfer { parents, ..transfer },
        })
    }

    /// Expands paths and flags.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        Ok(Self {
            from: self.from.as_ref().map(|f| expander.word(f)).transpose()?,
            transfer: self.transfer.expand(expander)?,
        })
    }
}

impl Transfer {
    /// Reads the flags and arguments that both instructions have; `flags` must hold no others.
    pub fn parse(keyword: &str, statement: &Statement, mut flags: Flags) -> Result<Self, BuildError> {
        let chown = flags.text("chown")?;
        let chmod = flags.text("chmod")?;
        // COMPAT: an independent layer gives the same files, so the flag changes nothing here.
        flags.switch("link")?;
        let excludes = flags.texts("exclude")?;
        flags.finish()?;
        let mut words = match parse_json_list(&statement.args)? {
            Some(list) => list,
            None => split_words(&statement.args, statement.escape),
        };
        if words.len() < 2 {
            return Err(BuildError::invalid(format!(
                "{keyword} requires at least two arguments, but only one was provided. Destination could not be determined"
            )));
        }
        let target = words.pop().expect("invariant: two words are there");
        let (heredocs, sources) = split_heredocs(words, &statement.heredocs);
        Ok(Self {
            sources,
            heredocs,
            target,
            chown,
            chmod,
            parents: false,
            excludes,
        })
    }

    /// Expands paths, flags and the bodies of here-documents.
    pub fn expand(&self, expander: &Expander<'_>) -> Result<Self, BuildError> {
        let expand = |text: &String| expander.word(text);
        let heredocs = self.heredocs.iter().map(|heredoc| {
            let content = heredoc.content();
            let body = match heredoc.expands {
                true => expander.heredoc(&content)?,
                false => content,
            };
            Ok::<_, BuildError>(Heredoc {
                body,
                expands: false,
                strips_tabs: false,
                ..heredoc.clone()
            })
        });
        Ok(Self {
            sources: self.sources.iter().map(expand).collect::<Result<_, _>>()?,
            heredocs: heredocs.collect::<Result<_, _>>()?,
            target: expand(&self.target)?,
            chown: self.chown.as_ref().map(expand).transpose()?,
            chmod: self.chmod.as_ref().map(expand).transpose()?,
            parents: self.parents,
            excludes: self.excludes.iter().map(expand).collect::<Result<_, _>>()?,
        })
    }
}

/// Separates the words that announce here-documents from ordinary sources.
fn split_heredocs(words: Vec<String>, bodies: &[Heredoc]) -> (Vec<Heredoc>, Vec<String>) {
    let mut left = bodies.iter();
    let mut heredocs = Vec::new();
    let mut sources = Vec::new();
    for word in words {
        match parse_heredoc(&word).and_then(|_| left.next()) {
            Some(heredoc) => heredocs.push(heredoc.clone()),
            None => sources.push(word),
        }
    }
    (heredocs, sources)
}
