//! The keys of hooks: the phases, and the families of keys that fill them (`hook-PHASE`, `mount-PHASE`, …).

use super::actions::{self, ParsedAction};
use super::read::Reader;
use super::suggest;
use super::values::Parsed;
use crate::config::plan::{Hook, Phase};
use crate::names;
use crate::names::Names;

/// The phases by name, in their order. The kinds of `accepting` differ only for an app with workers.
pub(crate) static PHASES: Names<Phase> = names![
    ("as-vassal", Phase::AsVassal),
    ("asap", Phase::Asap),
    ("pre-jail", Phase::PreJail),
    ("post-jail", Phase::PostJail),
    ("in-jail", Phase::InJail),
    ("as-root", Phase::AsRoot),
    ("as-user", Phase::AsUser),
    ("pre-app", Phase::PreApp),
    ("post-app", Phase::PostApp),
    ("accepting", Phase::Accepting),
    ("accepting-once", Phase::Accepting),
    ("accepting1", Phase::Accepting),
    ("accepting1-once", Phase::Accepting),
    ("as-user-atexit", Phase::AsUserAtexit),
];

/// Phases that only uWSGI can run, in the app or in its own emperor.
const UWSGI_PHASES: &str = "\
    as-emperor as-emperor1 as-emperor2 as-emperor4 as-gateway as-mule as-vassal1 as-vassal3 emperor-lost \
    emperor-reload emperor-start emperor-stop master-start post-fork touch";

/// The family whose values name their action.
const HOOK: Family = Family { prefix: "hook-", action: "" };

/// The families of keys, in the order in which uWSGI runs them within a phase.
pub(crate) const FAMILIES: &[Family] = &[
    HOOK,
    Family { prefix: "mount-", action: "mount" },
    Family { prefix: "umount-", action: "umount" },
    Family { prefix: "exec-", action: "exec" },
    Family { prefix: "call-", action: "call" },
];

/// Keys with the same prefix, followed by a phase.
pub(crate) struct Family {
    /// The prefix.
    pub prefix: &'static str,
    /// The action that the values are arguments of; empty if each value names its action itself.
    action: &'static str,
}

impl Family {
    /// Whether the values name their actions: the only family that uWSGI has for all phases.
    pub fn is_hook(&self) -> bool {
        self.action.is_empty()
    }

    /// A value as messages show it: with its action, except for a command.
    pub fn text(&self, value: &[u8]) -> String {
        let value = String::from_utf8_lossy(value);
        match self.action {
            "" | "exec" => value.into_owned(),
            action => format!("{action}:{value}"),
        }
    }

    /// The hook that a setting of this family is in a phase.
    pub fn hook(&self, it: &mut Reader<'_>, phase: Phase) -> Option<Hook> {
        let is_private = self.is_hook() && it.text().starts_with(b"!");
        let parsed = checked(it, is_private, self.parse(it.text()))?;
        Some(as_hook(it, phase, parsed, self.text(it.text())))
    }

    /// Parses a value.
    pub fn parse(&self, value: &[u8]) -> Parsed<ParsedAction> {
        match self.action {
            "" => actions::parse(value),
            action => actions::named(action.as_bytes(), value),
        }
    }
}

/// The hook that `action:argument` is in a phase.
pub(crate) fn hook(it: &mut Reader<'_>, phase: Phase, action: &[u8]) -> Option<Hook> {
    let parsed = checked(it, action.starts_with(b"!"), actions::parse(action))?;
    Some(as_hook(it, phase, parsed, String::from_utf8_lossy(action).into_owned()))
}

/// Takes a parsed action. The message about a mistake in a private one does not show its text.
fn checked(it: &mut Reader<'_>, is_private: bool, parsed: Parsed<ParsedAction>) -> Option<ParsedAction> {
    if is_private && parsed.is_err() {
        let message = format!("'{}': a mistake in what follows the '!'", it.setting.key.escape_ascii());
        it.found
            .error(&it.setting.at, message)
            .hide()
            .hint("it is private, so nothing of it is shown: try it without the '!'");
        return None;
    }
    it.checked(parsed)
}

/// An action in its phase; `text` is how it was written, and is shown unless it is private.
fn as_hook(it: &Reader<'_>, phase: Phase, parsed: ParsedAction, text: String) -> Hook {
    let private = parsed.private.is_some();
    let source = it.setting.locate(parsed.private.unwrap_or(text));
    Hook { phase, action: parsed.action, tolerant: parsed.tolerant, private, source }
}

/// What a key says about hooks.
pub(crate) enum HookKey {
    /// Nothing: the key belongs to no family.
    No,
    /// A phase of `vassal-init`, and the index of the family in [`FAMILIES`].
    Ours(Phase, usize),
    /// A phase that uWSGI runs.
    Uwsgi,
    /// An unknown phase, with the key that was probably meant.
    Unknown {
        /// The phase as written.
        phase: String,
        /// The whole key.
        suggestion: Option<String>,
    },
}

impl HookKey {
    /// Splits a key into family and phase.
    pub fn of(key: &[u8]) -> Self {
        // The only option that has the prefix of a family and is not a hook.
        if key == b"hook-timeout" {
            return Self::No;
        }
        let found = FAMILIES.iter().enumerate().find_map(|(index, family)| {
            key.strip_prefix(family.prefix.as_bytes()).map(|phase| (index, family, phase))
        });
        let Some((index, family, phase)) = found else { return Self::No };
        if let Some(phase) = PHASES.find(phase) {
            return Self::Ours(phase, index);
        }
        if names::contains(UWSGI_PHASES, phase) {
            return Self::Uwsgi;
        }
        let close = suggest::closest(phase, &PHASES.names());
        if close.is_none() && !matches!(family.prefix, "hook-" | "exec-") {
            // 'mount-check' is another option, and 'mount-dir' may be a placeholder.
            return Self::No;
        }
        Self::Unknown {
            phase: String::from_utf8_lossy(phase).into_owned(),
            suggestion: close.map(|name| format!("{}{name}", family.prefix)),
        }
    }
}

/// The phases' names, for a message.
pub(crate) fn phase_names() -> String {
    PHASES.names().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert!(matches!(HookKey::of(b"exec-as-user"), HookKey::Ours(Phase::AsUser, 3)));
        assert!(matches!(HookKey::of(b"umount-as-root"), HookKey::Ours(Phase::AsRoot, 2)));
        assert!(matches!(HookKey::of(b"hook-as-user-atexit"), HookKey::Ours(Phase::AsUserAtexit, 0)));
        assert!(matches!(HookKey::of(b"hook-accepting1-once"), HookKey::Ours(Phase::Accepting, 0)));
        assert!(matches!(HookKey::of(b"hook-touch"), HookKey::Uwsgi));
        assert!(matches!(HookKey::of(b"call-as-vassal3"), HookKey::Uwsgi));
        for key in ["http-socket", "hook-timeout", "mount-check", "mount-dir", "mount", "call-me"] {
            assert!(matches!(HookKey::of(key.as_bytes()), HookKey::No), "{key}");
        }
        for (key, expected) in [("exec-as-usr", "exec-as-user"), ("mount-as-rooot", "mount-as-root")] {
            let HookKey::Unknown { suggestion, .. } = HookKey::of(key.as_bytes()) else { panic!("known") };
            assert_eq!(suggestion.as_deref(), Some(expected));
        }
    }

    #[test]
    fn phases_are_in_order() {
        assert!(PHASES.meanings.is_sorted());
    }
}
