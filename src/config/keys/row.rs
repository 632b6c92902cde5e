//! The row of a key: its name, form, help, how it is read, and what a reload does with a change.

use super::actions;
use super::draft::{EmperorDraft, VassalDraft};
use super::read::Reader;
use crate::config::plan::VassalPlan;

/// One option: a key of a file and an option of the command line alike.
#[derive(Debug, Clone, Copy)]
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
    /// A new value of this part of the jail only counts for a fresh instance.
    FreshJail(JailPart),
}

/// A part of the jail that a running instance cannot change.
#[derive(Debug, Clone, Copy)]
pub struct JailPart {
    /// The part's name, for the log: "`what` changed, which needs a fresh jail".
    pub what: &'static str,
    /// The changes that are meant, for help: "A change `which` takes a fresh jail"; empty for all changes.
    pub which: &'static str,
    /// Whether the part differs between the plan that the instance was started with and a new one.
    pub differs: Differs,
}

/// Whether a part of the jail differs between two plans.
pub type Differs = fn(&VassalPlan, &VassalPlan) -> bool;

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

/// What kind of value an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Yes or no; its name alone means yes.
    Flag,
    /// A value, with the name that help has for it.
    Value(&'static str),
}

/// The headings of the help text, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Options that come before a command, and are not keys of files.
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
    /// Sockets.
    Sockets,
    /// How many instances, and when one is ready.
    Replicas,
    /// The stop.
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
    pub const ALL: [Self; 14] = [
        Self::Command,
        Self::App,
        Self::Vassals,
        Self::User,
        Self::Jail,
        Self::Hooks,
        Self::Mountpoints,
        Self::Sockets,
        Self::Replicas,
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
            Self::Replicas => "Replicas and readiness",
            Self::Stop => "Stopping",
            Self::Limits => "Limits",
            Self::Operation => "Operation",
            Self::Timing => "Timing",
            Self::Language => "Configuration files",
        }
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
        // Most keys count for the next app, so help does not repeat it for each.
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

    /// Whether the part of the jail that it shapes differs between two plans.
    pub(super) const fn differs(&self) -> Option<Differs> {
        match self.reload {
            Some(Reload::FreshJail(part)) => Some(part.differs),
            _ => None,
        }
    }

    fn parts(&self) -> (&'static str, &'static str) {
        self.text.split_once('\n').unwrap_or((self.text, ""))
    }
}
