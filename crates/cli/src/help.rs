//! Help texts in the layout of Docker's: usage, aliases, options in two columns.

use crate::flags::{Flag, Kind};
use crate::verb::Verb;

/// Columns when the terminal does not say.
const DEFAULT_WIDTH: usize = 80;

/// The help text of one verb.
pub(crate) fn of_verb(program: &str, name: &str, verb: &Verb) -> String {
    let mut text = format!("Usage:  {}\n\n{}\n", verb.usage_line(program, name), verb.about);
    if verb.names.len() > 1 {
        let names: Vec<String> = verb.names.iter().map(|name| format!("{program} {name}")).collect();
        text.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
    }
    let flags = verb.all_flags();
    if !flags.is_empty() {
        text.push_str(&format!("\nOptions:\n{}", options(flags, terminal_width())));
    }
    text
}

/// The columns of the terminal.
fn terminal_width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 0)
        .unwrap_or(DEFAULT_WIDTH)
}

/// The options in two columns, sorted, wrapped to `width`.
pub(crate) fn options(mut flags: Vec<&'static Flag>, width: usize) -> String {
    flags.retain(|flag| !flag.hidden);
    flags.sort_by_key(|flag| flag.long);
    let heads: Vec<String> = flags.iter().map(|flag| head(flag)).collect();
    let column = heads.iter().map(|head| head.chars().count()).max().unwrap_or(0) + 3;
    let mut text = String::new();
    for (head, flag) in heads.iter().zip(&flags) {
        let lines = wrap(&described(flag), width.saturating_sub(column + 5).max(24));
        text.push_str(&format!("{head:column$}{}\n", lines[0]));
        for line in &lines[1..] {
            text.push_str(&format!("{:column$}{line}\n", ""));
        }
    }
    text
}

fn head(flag: &Flag) -> String {
    let letter = flag
        .short
        .map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
    let value = if flag.kind == Kind::Bool {
        String::new()
    } else {
        format!(" {}", flag.shown_as)
    };
    format!("  {letter}--{}{value}", flag.long)
}

fn described(flag: &Flag) -> String {
    match flag.default {
        "" => flag.help.to_owned(),
        default => format!("{} (default {default})", flag.help),
    }
}

/// Breaks a text at blanks, keeping its own line breaks.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// The help text of a group such as `container`.
pub(crate) fn of_group(program: &str, group: &str, about: &str, verbs: &[&Verb]) -> String {
    let mut rows: Vec<(String, &str)> = verbs
        .iter()
        .filter_map(|verb| {
            let full = verb.names.iter().find(|name| first_word(name) == group)?;
            Some(((*full).split_once(' ')?.1.to_owned(), verb.about))
        })
        .collect();
    rows.sort();
    format!(
        "Usage:  {program} {group} COMMAND\n\n{about}\n\nCommands:\n{}\nRun '{program} {group} COMMAND --help' for more information on a command.\n",
        columns(&rows)
    )
}

/// The help text of the program.
pub(crate) fn of_program(program: &str, groups: &[(&str, &str)], verbs: &[&Verb]) -> String {
    const COMMON: [&str; 12] = [
        "run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info",
    ];
    let short = |verb: &&Verb| -> Option<(String, &'static str)> {
        let name = verb.names.iter().find(|name| !name.contains(' '))?;
        Some(((*name).to_owned(), verb.about))
    };
    let mut others: Vec<(String, &str)> = verbs.iter().filter_map(short).collect();
    let common: Vec<(String, &str)> = COMMON
        .iter()
        .filter_map(|name| others.iter().find(|(other, _)| other == name).cloned())
        .collect();
    others.retain(|(name, _)| !COMMON.contains(&name.as_str()));
    others.sort();
    let groups: Vec<(String, &str)> = groups
        .iter()
        .map(|(name, about)| ((*name).to_owned(), *about))
        .collect();
    format!(
        "Usage:  {program} [OPTIONS] COMMAND\n\nA complete container engine for Linux\n\nCommon Commands:\n{}\nManagement Commands:\n{}\nCommands:\n{}\nGlobal Options:\n{}\nRun '{program} COMMAND --help' for more information on a command.\n",
        columns(&common),
        columns(&groups),
        columns(&others),
        options(crate::session::GLOBAL_FLAGS.iter().collect(), terminal_width()),
    )
}

fn columns(rows: &[(String, &str)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(11);
    rows.iter()
        .map(|(name, about)| format!("  {name:width$} {about}\n"))
        .collect()
}

fn first_word(name: &str) -> &str {
    name.split(' ').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_sorted_and_wrapped() {
        static FLAGS: [Flag; 3] = [
            Flag::string("name", "A name that is long enough to be wrapped at this width")
                .short('n')
                .default("\"x\""),
            Flag::switch("all", "Everything").short('a'),
            Flag::switch("secret", "Nothing").hidden(),
        ];
        let text = options(FLAGS.iter().collect(), 60);
        let expected = "  -a, --all           Everything\n  -n, --name string   A name that is long enough to be\n                      wrapped at this width (default\n                      \"x\")\n";
        assert_eq!(text, expected);
    }
}
