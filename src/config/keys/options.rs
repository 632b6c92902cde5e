//! The row of a key: its name, form, help, how it is read, and what a reload does with a change.
//!
//! The rows are in [`vassal`](super::vassal) and [`emperor`](super::emperor). Parser, help, man pages,
//! completions, the reload's verdict and its documentation are made from them.

use super::actions;
use super::draft::{EmperorDraft, VassalDraft};
use super::hooks::{FAMILIES, HookKey, PHASES};
use super::read::Reader;
use crate::config::plan::{Phase, VassalPlan};

/// One option: a key of a file and an option of the command line alike.
#[derive(Debug)]
pub struct Row {
    /// Its name; `PHASE` in it stands for a phase.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// The heading that help lists it under.
    pub group: Group,
    /// What it does, in one line; further help in a second line.
    pub(super) text: &'static str,
    /// What a reload of a vassal does with a change of it; `None` for keys that are not in a vassal's plan.
    pub reload: Option<Reload>,
    /// How its value is read.
    pub(crate) read: Read,
}

/// What a reload does with a changed key.
#[derive(Debug, Clone, Copy)]
pub enum Reload {
    /// The new value counts as soon as the vassal is reloaded, also for what the reload leaves running.
    Live,
    /// The new value counts for the app that the reload starts, and for the hooks that run with it.
    NextApp,
    /// If this part of the jail differs, only a fresh instance can follow the file.
    FreshJail(JailPart),
}

/// A part of the jail that a running instance cannot change.
#[derive(Debug, Clone, Copy)]
pub struct JailPart {
    /// What it is, for the log: "`what` changed, which needs a fresh jail".
    pub what: &'static str,
    /// Which changes those are, for help: "A change `which` takes a fresh jail"; empty for all of them.
    pub which: &'static str,
    /// Whether it differs between the plan that the instance was started by and a new one.
    pub differs: fn(&VassalPlan, &VassalPlan) -> bool,
}

/// How the value of a key is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Read {
    /// Into the plan of a vassal.
    Vassal(fn(&mut VassalDraft, &mut Reader<'_>)),
    /// Into the plan of an emperor.
    Emperor(fn(&mut EmperorDraft, &mut Reader<'_>)),
    /// As an action of the phase that the key names, by [`hooks`](super::hooks).
    Hook,
    /// By the language, while files are expanded.
    Language,
    /// By the command line, for a command.
    Command,
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Yes or no; its name alone means yes.
    Flag,
    /// A value, by the name it has in help.
    Value(&'static str),
}

/// One of the two programs, as far as its options differ. A program that does not name a table does not
/// contain it.
#[derive(Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its purpose, and how to call it.
    pub usage: &'static str,
    /// The options that only it reads.
    pub(super) own: &'static [Row],
    /// Whether it hands hooks to vassals (`hook-as-vassal` and its kin) instead of running its own.
    pub(super) hooks_for_vassals: bool,
    /// The options that only count for a command in place of a file.
    pub(super) of_commands: &'static [Row],
}

/// The headings of the help text, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Only before a command, and no keys of files.
    Command,
    /// What runs.
    App,
    /// Which vassals, and how they are started.
    Vassals,
    /// The user, and its privileges.
    User,
    /// Namespaces and root directory.
    Jail,
    /// Hooks.
    Hooks,
    /// Checked mountpoints.
    Mountpoints,
    /// What it listens on.
    Sockets,
    /// How it stops.
    Stop,
    /// How much the vassal and the app may use.
    Limits,
    /// Logs, status and commands.
    Operation,
    /// Intervals and delays.
    Timing,
    /// The language of the files.
    Language,
}

impl Group {
    /// All of them, in order.
    pub const ALL: [Self; 13] = [
        Self::Command,
        Self::App,
        Self::Vassals,
        Self::User,
        Self::Jail,
        Self::Hooks,
        Self::Mountpoints,
        Self::Sockets,
        Self::Stop,
        Self::Limits,
        Self::Operation,
        Self::Timing,
        Self::Language,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Command => "Command (options of the command line only)",
            Self::App => "App",
            Self::Vassals => "Vassals",
            Self::User => "User and privileges",
            Self::Jail => "Namespaces and root",
            Self::Hooks => "Hooks",
            Self::Mountpoints => "Mountpoints",
            Self::Sockets => "Sockets",
            Self::Stop => "Stopping",
            Self::Limits => "Limits",
            Self::Operation => "Operation",
            Self::Timing => "Timing",
            Self::Language => "Configuration files",
        }
    }
}

impl Program {
    /// The options it reads: its own, and the language of the files.
    pub fn rows(&self) -> impl Iterator<Item = &'static Row> {
        self.own.iter().chain(LANGUAGE)
    }

    /// The options that only it reads.
    pub fn own_rows(&self) -> impl Iterator<Item = &'static Row> {
        self.own.iter()
    }

    /// The options of its command line: those of [`Program::rows`], and those for commands only.
    pub fn options(&self) -> impl Iterator<Item = &'static Row> {
        self.of_commands.iter().chain(self.rows())
    }

    /// Whether it takes a command in place of a file.
    pub fn runs_commands(&self) -> bool {
        !self.of_commands.is_empty()
    }

    /// The row of an option of the command line.
    pub fn find_option(&self, name: &str) -> Option<&'static Row> {
        self.find(name.as_bytes())
            .or_else(|| self.options().find(|row| row.name == name && row.group == Group::Command))
    }

    /// The row of a key, if this program reads it.
    pub fn find(&self, key: &[u8]) -> Option<&'static Row> {
        let named = |name: &[u8]| self.rows().find(|row| row.name.as_bytes() == name);
        named(key).or_else(|| match HookKey::of(key) {
            HookKey::Ours(Phase::AsVassal, _) if self.hooks_for_vassals => named(b"hook-as-vassal"),
            HookKey::Ours(_, family) => {
                let prefix = FAMILIES.get(family)?.prefix;
                self.rows().find(|row| row.name.strip_suffix("PHASE") == Some(prefix))
            }
            _ => None,
        })
    }

    /// The keys that a row stands for: one for each phase, or its name.
    pub fn keys(&self, row: &Row) -> Vec<String> {
        let Some(prefix) = row.name.strip_suffix("PHASE") else { return vec![row.name.to_owned()] };
        let phases = PHASES.iter().filter(|(_, phase)| *phase != Phase::AsVassal);
        phases.map(|(phase, _)| format!("{prefix}{phase}")).collect()
    }
}

impl Row {
    /// What the option does, in one line.
    pub fn doc(&self) -> &'static str {
        self.parts().0
    }

    /// The rest of the help, with what a reload does; may be empty.
    pub fn more(&self) -> String {
        let more = self.parts().1;
        let actions = match self.read {
            Read::Hook if self.name == "hook-PHASE" => format!("The actions are {}.", actions::list()),
            _ => String::new(),
        };
        // Most keys count for the next app; that is not repeated for each.
        let reload = match self.reload {
            Some(Reload::Live) => "A reload changes it at once.".to_owned(),
            Some(Reload::FreshJail(JailPart { which: "", .. })) => "A change takes a fresh jail.".to_owned(),
            Some(Reload::FreshJail(part)) => format!("A change {} takes a fresh jail.", part.which),
            Some(Reload::NextApp) | None => String::new(),
        };
        let mut parts = vec![more, &actions, &reload];
        parts.retain(|part| !part.is_empty());
        parts.join(" ")
    }

    fn parts(&self) -> (&'static str, &'static str) {
        self.text.split_once('\n').unwrap_or((self.text, ""))
    }
}

use Takes::{Flag, Value};

/// What both programs read.
#[rustfmt::skip]
static LANGUAGE: &[Row] = &[
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
