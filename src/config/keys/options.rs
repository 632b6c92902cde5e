//! The options of a program, from the rows of its tables.
//!
//! The rows are in [`vassal`](super::vassal) and [`emperor`](super::emperor). Parser, help, man pages,
//! completions, the reload's verdict and its documentation are made from them.

use super::hooks::{FAMILIES, HookKey, PHASES};
use super::row::{Group, Read, Row, Takes};
use super::table::{self, Table, table};
use crate::config::plan::Phase;

/// One of the two programs, as far as its options differ. A program contains only the tables that it names.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its purpose, and how to call it.
    pub usage: &'static str,
    /// The commands for one that is running, separated by blanks.
    pub commands: &'static str,
    /// The options that only it reads.
    pub(super) own: &'static Table,
    /// Whether the program passes hooks to vassals (`hook-as-vassal` and its kin) instead of running its own.
    pub(super) hooks_for_vassals: bool,
    /// The options that only count for a command in place of a file.
    pub(super) of_commands: Option<&'static Table>,
}

impl Program {
    /// The options it reads: its own, and the language of the files.
    pub fn rows(&self) -> Vec<Row> {
        rows(&[self.own, &LANGUAGE])
    }

    /// The options that only it reads.
    pub fn own_rows(&self) -> Vec<Row> {
        rows(&[self.own])
    }

    /// The options of its command line: those of [`Program::rows`], and those for commands only.
    pub fn options(&self) -> Vec<Row> {
        match self.of_commands {
            Some(table) => rows(&[table, self.own, &LANGUAGE]),
            None => self.rows(),
        }
    }

    /// The names of the options it reads.
    pub fn names(&self) -> Vec<&'static str> {
        self.own.names().chain(LANGUAGE.names()).collect()
    }

    /// Whether it takes a command in place of a file.
    pub fn runs_commands(&self) -> bool {
        self.of_commands.is_some()
    }

    /// The row of an option of the command line.
    pub fn find_option(&self, name: &str) -> Option<Row> {
        let name = name.as_bytes();
        self.find(name).or_else(|| self.of_commands?.find(name))
    }

    /// The row of a key, if this program reads it.
    pub fn find(&self, key: &[u8]) -> Option<Row> {
        let named = |name: &[u8]| self.own.find(name).or_else(|| LANGUAGE.find(name));
        named(key).or_else(|| match HookKey::of(key) {
            HookKey::Ours(Phase::AsVassal, _) if self.hooks_for_vassals => named(b"hook-as-vassal"),
            HookKey::Ours(_, family) => {
                self.own.find(&[FAMILIES.get(family)?.prefix, "PHASE"].concat().into_bytes())
            }
            _ => None,
        })
    }

    /// The keys that a row stands for: one for each phase, or its name.
    pub fn keys(&self, row: &Row) -> Vec<String> {
        let Some(prefix) = row.name.strip_suffix("PHASE") else { return vec![row.name.to_owned()] };
        let mut phases = PHASES.names();
        phases.retain(|phase| *phase != "as-vassal");
        phases.iter().map(|phase| format!("{prefix}{phase}")).collect()
    }
}

fn rows(tables: &[&'static Table]) -> Vec<Row> {
    let mut rows = Vec::new();
    for table in tables {
        table.push_rows(&mut rows);
    }
    rows
}

use Takes::{Flag, Value};

/// The keys that both programs read.
#[rustfmt::skip]
static LANGUAGE: Table = table![
    key("include", Value("FILE[:SECTION]"), "read the options of a file here"),
    key("inherit", Value("FILE[:SECTION]"), "read the options of a file behind all others\n\
        Placeholders in it stay as they are."),
    key("ini", Value("FILE[:SECTION]"), "read the options of a file here, as include"),
    key("set", Value("KEY=VALUE"), "set an option or a placeholder"),
    key("set-ph", Value("NAME=VALUE"), "the same as set-placeholder"),
    key("set-placeholder", Value("NAME=VALUE"), "set what %(NAME) stands for"),
    key("strict", Flag, "an unknown option is a mistake"),
];

const fn key(name: &'static str, takes: Takes, text: &'static str) -> Row {
    Row { name, takes, group: Group::Language, text, reload: None, read: Read::Language }
}
