//! Hooks: the phases, the families of keys that fill them (`hook-PHASE`, `exec-PHASE`), and the actions.

use std::path::PathBuf;

use super::bytes::split_once;
use super::plan::{Action, Phase};
use super::suggest;
use super::values::{self, Parsed, quoted};

/// What turns a value into an action.
type Parser = fn(&[u8]) -> Parsed<Action>;

/// The phases by name, in the order they come.
pub(super) const PHASES: &[(&str, Phase)] = &[
    ("asap", Phase::Asap),
    ("pre-jail", Phase::PreJail),
    ("post-jail", Phase::PostJail),
    ("in-jail", Phase::InJail),
    ("as-root", Phase::AsRoot),
    ("as-user", Phase::AsUser),
    ("pre-app", Phase::PreApp),
    ("post-app", Phase::PostApp),
    ("as-user-atexit", Phase::AsUserAtexit),
];

/// Phases that only uWSGI can run, inside the app.
const UWSGI_PHASES: &[&str] = &[
    "accepting",
    "accepting-once",
    "accepting1",
    "accepting1-once",
    "as-emperor",
    "as-gateway",
    "as-mule",
    "as-vassal",
    "emperor-lost",
    "emperor-reload",
    "emperor-start",
    "emperor-stop",
    "master-start",
    "post-fork",
    "touch",
];

/// The families of keys, in the order in which uWSGI runs them within a phase.
pub(super) const FAMILIES: &[Family] =
    &[Family { prefix: "hook-", parse: action }, Family { prefix: "exec-", parse: exec }];

/// The actions of `hook-PHASE = action:argument`.
const ACTIONS: &[(&str, Parser)] =
    &[("callret", callret), ("cd", chdir), ("chdir", chdir), ("exec", exec), ("print", print)];

/// Keys that start alike and take a phase.
pub(super) struct Family {
    /// What the keys start with.
    pub prefix: &'static str,
    /// What the value means.
    pub parse: Parser,
}

/// What a key says about hooks.
pub(super) enum HookKey {
    /// Nothing: it belongs to no family.
    No,
    /// A phase of ours, and the family's place in [`FAMILIES`].
    Ours(Phase, usize),
    /// A phase that uWSGI runs.
    Uwsgi,
    /// A phase that nobody has, with the key it was probably meant to be.
    Unknown {
        /// The phase as written.
        phase: String,
        /// The whole key.
        suggestion: Option<String>,
    },
}

impl HookKey {
    /// Takes a key apart.
    pub fn of(key: &[u8]) -> Self {
        let found = FAMILIES.iter().enumerate().find_map(|(index, family)| {
            key.strip_prefix(family.prefix.as_bytes()).map(|phase| (index, family, phase))
        });
        let Some((index, family, phase)) = found else { return Self::No };
        if let Some((_, phase)) = PHASES.iter().find(|(name, _)| name.as_bytes() == phase) {
            return Self::Ours(*phase, index);
        }
        if UWSGI_PHASES.iter().any(|name| name.as_bytes() == phase) {
            return Self::Uwsgi;
        }
        let close = suggest::closest(phase, PHASES.iter().map(|(name, _)| *name));
        Self::Unknown {
            phase: String::from_utf8_lossy(phase).into_owned(),
            suggestion: close.map(|name| format!("{}{name}", family.prefix)),
        }
    }
}

/// The phases' names, for a message.
pub(super) fn phase_names() -> String {
    PHASES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// `action:argument`.
fn action(value: &[u8]) -> Parsed<Action> {
    let Some((name, argument)) = split_once(value, b':') else {
        return Err(format!("{} is not action:argument", quoted(value)));
    };
    let Some((_, parse)) = ACTIONS.iter().find(|(known, _)| known.as_bytes() == name) else {
        let names: Vec<_> = ACTIONS.iter().map(|(known, _)| *known).collect();
        let close = suggest::closest(name, names.iter().copied());
        let close = close.map_or(String::new(), |close| format!(", did you mean '{close}'?"));
        return Err(format!("unknown action {}{close} (there are {})", quoted(name), names.join(", ")));
    };
    parse(argument)
}

fn exec(argument: &[u8]) -> Parsed<Action> {
    values::text(argument).map(Action::Exec)
}

fn chdir(argument: &[u8]) -> Parsed<Action> {
    values::text(argument).map(|path| Action::Chdir(PathBuf::from(path)))
}

fn print(argument: &[u8]) -> Parsed<Action> {
    Ok(Action::Print(String::from_utf8_lossy(argument).into_owned()))
}

/// `callret:chdir PATH`: uWSGI calls the C function of that name; `chdir` is the one that hooks need.
fn callret(argument: &[u8]) -> Parsed<Action> {
    match argument.strip_prefix(b"chdir ") {
        Some(path) => chdir(path.trim_ascii()),
        None => Err(format!("'callret' calls only 'chdir PATH', not {}", quoted(argument))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions() {
        assert_eq!(action(b"exec:a:b c"), Ok(Action::Exec("a:b c".into())));
        assert_eq!(action(b"callret:chdir /"), Ok(Action::Chdir("/".into())));
        assert_eq!(action(b"cd:/x"), Ok(Action::Chdir("/x".into())));
        assert_eq!(action(b"print:"), Ok(Action::Print(String::new())));
        assert!(
            action(b"exec:").is_err() && action(b"callret:exit 1").is_err() && action(b"exec /x").is_err()
        );
        let message = action(b"chidr:/").unwrap_err();
        assert_eq!(
            message,
            "unknown action 'chidr', did you mean 'chdir'? (there are callret, cd, chdir, exec, print)"
        );
    }

    #[test]
    fn keys() {
        assert!(matches!(HookKey::of(b"exec-as-user"), HookKey::Ours(Phase::AsUser, 1)));
        assert!(matches!(HookKey::of(b"hook-as-user-atexit"), HookKey::Ours(Phase::AsUserAtexit, 0)));
        assert!(matches!(HookKey::of(b"hook-touch"), HookKey::Uwsgi));
        assert!(matches!(HookKey::of(b"http-socket"), HookKey::No));
        let HookKey::Unknown { phase, suggestion } = HookKey::of(b"exec-as-usr") else { panic!("known") };
        assert_eq!((phase.as_str(), suggestion.as_deref()), ("as-usr", Some("exec-as-user")));
    }
}
