//! The tables of verbs and flags in clap's form, from which completions and manual pages are
//! made. Arguments are not parsed through it.

use clap::{Arg, ArgAction, Command};

use crate::flags::{Flag, Kind};
use crate::verb::Verb;
use crate::verbs::{GROUPS, VERBS};

/// The whole program.
pub(crate) fn command() -> Command {
    let mut program = Command::new("wharf")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A complete container engine for Linux")
        .disable_help_subcommand(true)
        .args(
            crate::session::GLOBAL_FLAGS
                .iter()
                .filter(|flag| !matches!(flag.long, "help" | "version"))
                .map(argument),
        );
    for verb in VERBS {
        if let Some(name) = verb.names.iter().find(|name| !name.contains(' ')) {
            program = program.subcommand(subcommand(name, verb));
        }
    }
    for (group, about) in GROUPS {
        program = program.subcommand(group_command(group, about));
    }
    program
}

fn group_command(group: &'static str, about: &'static str) -> Command {
    let mut command = Command::new(group).about(about).disable_help_subcommand(true);
    for verb in VERBS {
        let mut names = verb
            .names
            .iter()
            .filter_map(|name| name.strip_prefix(group)?.strip_prefix(' '));
        if let Some(first) = names.next() {
            command = command.subcommand(subcommand(first, verb).aliases(names));
        }
    }
    command
}

fn subcommand(name: &'static str, verb: &'static Verb) -> Command {
    let mut command = Command::new(name)
        .about(verb.about)
        .override_usage(format!("wharf {name} {}", verb.usage))
        .disable_help_flag(true)
        .args(
            verb.all_flags()
                .into_iter()
                .filter(|flag| flag.long != "help")
                .map(argument),
        );
    if !verb.usage.trim_start_matches("[OPTIONS]").trim().is_empty() {
        command = command.arg(Arg::new("args").num_args(0..).help("See the usage line"));
    }
    command
}

fn argument(flag: &'static Flag) -> Arg {
    let argument = Arg::new(flag.long).long(flag.long).help(flag.help).hide(flag.hidden);
    let argument = match flag.short {
        Some(letter) => argument.short(letter),
        None => argument,
    };
    match flag.kind {
        Kind::Bool => argument.action(ArgAction::SetTrue),
        _ if flag.is_repeatable() => argument.action(ArgAction::Append).value_name(flag.shown_as),
        _ => argument.value_name(flag.shown_as),
    }
}
